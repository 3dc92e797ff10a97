"""A family that the recipe does not know is trained by it."""

import torch
from detectron2.config import get_cfg
from detectron2.engine import SimpleTrainer
from steps import SIZE, targets
from toy import ToyDetector, ToyFamily

from soft_teacher import add_soft_teacher_config
from soft_teacher.engine.ema import EMAHook
from soft_teacher.modeling import SoftTeacher

BURN_IN, STEPS = 100, 200
# An object of one color is in a quarter of the image.
QUARTERS = [[8, 8, 40, 40], [56, 8, 88, 40], [8, 24, 40, 56], [56, 24, 88, 56]]


def picture(generator):
    """An image, and the class and the box of its one object."""
    label, place = torch.randint(3, (2,), generator=generator).tolist()
    box = QUARTERS[place]
    image = torch.randint(60, (3, *SIZE), generator=generator, dtype=torch.uint8)
    image[label, box[1] : box[3], box[0] : box[2]] += 180
    return image, label, box


def labeled(generator):
    image, label, box = picture(generator)
    return {"image": image, "instances": targets([box], [label])}


def unlabeled(generator):
    """The strong view is the weak one flipped."""
    image, _, _ = picture(generator)
    flip = torch.tensor([[-1.0, 0, 96], [0, 1, 0], [0, 0, 1]])
    return {"image": image.flip(2), "weak_image": image, "weak_to_strong": flip, "seed": 0}


def values(storage, name):
    return [value for value, _ in storage.history(name).values()]


def mean(values):
    return sum(values) / len(values)


def test_it_learns_from_labels_and_from_pseudo_labels():
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.SOFT_TEACHER.DETECTOR = "ToyDetector"
    cfg.SOFT_TEACHER.JITTER.ENABLED = False
    torch.manual_seed(0)
    model = SoftTeacher(cfg).train()
    assert isinstance(model.student, ToyDetector) and isinstance(model.family, ToyFamily)
    g = torch.Generator().manual_seed(0)
    batches = [
        [labeled(g) for _ in range(4)] + [unlabeled(g) for _ in range(4 if n >= BURN_IN else 0)]
        for n in range(STEPS)
    ]
    optimizer = torch.optim.Adam(model.student.parameters(), lr=0.003)
    trainer = SimpleTrainer(model, batches, optimizer)
    trainer.register_hooks([EMAHook(model.student, model.teacher, momentum=0.9)])
    trainer.train(0, STEPS)

    for name in ("sup/loss_cls", "sup/loss_box"):
        found = values(trainer.storage, name)
        assert mean(found[-20:]) < 0.5 * mean(found[:20])
    counts = values(trainer.storage, "pseudo/num_cls_boxes")
    assert mean(counts[:20]) < 0.5 < 0.9 < mean(counts[-20:])
    losses = values(trainer.storage, "unsup/loss_box")
    assert not any(losses[:BURN_IN]) and all(losses[-20:])

    pictures = [picture(g) for _ in range(20)]
    found = model.eval()([{"image": image} for image, _, _ in pictures])
    classes = [x["instances"].pred_classes.tolist() for x in found]
    assert sum(c == [label] for c, (_, label, _) in zip(classes, pictures)) >= 18
