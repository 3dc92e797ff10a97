"""A family that the recipe has never heard of is trained by it."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import SimpleTrainer
from detectron2.structures import Boxes, Instances
from toy import ToyDetector, ToyFamily

from soft_teacher import add_soft_teacher_config
from soft_teacher.engine.ema import EMAHook
from soft_teacher.modeling import SoftTeacher

BURN_IN, STEPS = 100, 200
# In the quarters of an image stand objects of one colour each.
QUARTERS = [[8, 8, 40, 40], [56, 8, 88, 40], [8, 24, 40, 56], [56, 24, 88, 56]]


def picture(generator):
    """An image of 64 x 96, and the class and the box of its one object."""
    label, place = torch.randint(3, (2,), generator=generator).tolist()
    box = QUARTERS[place]
    image = torch.randint(60, (3, 64, 96), generator=generator, dtype=torch.uint8)
    image[label, box[1] : box[3], box[0] : box[2]] += 180
    return image, label, box


def labeled(generator):
    image, label, box = picture(generator)
    boxes = Boxes(torch.tensor([box]).float())
    return {
        "image": image,
        "instances": Instances((64, 96), gt_boxes=boxes, gt_classes=torch.tensor([label])),
    }


def unlabeled(generator):
    """The strong view is the weak one turned around."""
    image, label, box = picture(generator)
    flip = torch.tensor([[-1.0, 0, 96], [0, 1, 0], [0, 0, 1]])
    return {"image": image.flip(2), "weak_image": image, "weak_to_strong": flip, "seed": 0}


@pytest.fixture(scope="module")
def trained():
    """(model, scalars) after a training by the config's name of the detector."""
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.SOFT_TEACHER.DETECTOR = "ToyDetector"
    cfg.SOFT_TEACHER.JITTER.ENABLED = False
    torch.manual_seed(0)
    model = SoftTeacher(cfg).train()
    g = torch.Generator().manual_seed(0)
    batches = [
        [labeled(g) for _ in range(4)] + [unlabeled(g) for _ in range(4 if n >= BURN_IN else 0)]
        for n in range(STEPS)
    ]
    optimizer = torch.optim.Adam(model.student.parameters(), lr=0.003)
    trainer = SimpleTrainer(model, batches, optimizer)
    trainer.register_hooks([EMAHook(model.student, model.teacher, momentum=0.9)])
    trainer.train(0, STEPS)
    return model, trainer.storage


def test_it_is_wrapped_by_its_name(trained):
    model, _ = trained
    assert isinstance(model.student, ToyDetector) and isinstance(model.family, ToyFamily)


def values(storage, name):
    return [value for value, _ in storage.history(name).values()]


@pytest.mark.parametrize("name", ["sup/loss_cls", "sup/loss_box"])
def test_losses_fall(trained, name):
    found = values(trained[1], name)
    assert sum(found[-20:]) < 0.5 * sum(found[:20])


def test_pseudo_boxes_come_with_the_training(trained):
    _, storage = trained
    counts = values(storage, "pseudo/num_cls_boxes")
    assert sum(counts[:20]) / 20 < 0.5 < 0.9 < sum(counts[-20:]) / 20
    losses = values(storage, "unsup/loss_box")
    assert not any(losses[:BURN_IN]) and all(losses[-20:])


def test_the_teacher_finds_objects(trained):
    model, _ = trained
    g = torch.Generator().manual_seed(1)
    pictures = [picture(g) for _ in range(20)]
    found = model.eval()([{"image": image} for image, _, _ in pictures])
    right = [
        x["instances"].pred_classes.tolist() == [label] for x, (_, label, _) in zip(found, pictures)
    ]
    assert sum(right) >= 18
