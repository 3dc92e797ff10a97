"""Images, teachers and losses for the tests of a training step of SoftTeacher."""

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

SIZE = (64, 96)
BOXES = [[10, 10, 40, 40], [50, 20, 90, 60], [4, 40, 24, 60], [70, 2, 94, 22]]
CLASSES = [0, 2, 1, 2]
NAN = float("nan")

RPN_LOSSES = {"loss_rpn_cls", "loss_rpn_loc"}
LOSSES = RPN_LOSSES | {"loss_cls", "loss_box_reg"}
ALL_LOSSES = {f"{s}/{k}" for s in ("sup", "unsup") for k in LOSSES}
LENIENT = ("SOFT_TEACHER.JITTER.VARIANCE_THRESH", 0.9)
WITHOUT_SAMPLING = (
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 4096),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 256),
)
CASCADE = (
    *("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
    *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
    # So that untrained stages move boxes little.
    *("MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS", ((200.0, 200.0, 100.0, 100.0),) * 3),
)
# Bias of the teacher's classifier, whose weights are set to 0: what it predicts for every box.
NOTHING = (0.0, 0.0, 0.0, 30.0)
EVERYTHING = (0.0, 30.0, 0.0, 0.0)
UNSURE = (0.0, 1.6, 0.0, 0.0)  # 62 %: a candidate for regression, none for classification
# Labeled and unlabeled images of a batch.
COMPOSITIONS = {
    "one labeled": (1, 0),
    "labeled only": (2, 0),
    "one unlabeled": (0, 1),
    "unlabeled only": (0, 2),
    "one of each": (1, 1),
    "both": (2, 3),
}


def boxes_of(rows) -> Boxes:
    return Boxes(torch.as_tensor(np.array(rows, dtype=np.float32)).reshape(-1, 4))


def targets(boxes=(), classes=(), size=SIZE) -> Instances:
    """Ground truth."""
    classes = torch.tensor(classes, dtype=torch.int64)
    return Instances(size, gt_boxes=boxes_of(boxes), gt_classes=classes)


def detections(boxes=(), classes=(), scores=(), size=SIZE) -> Instances:
    """What a teacher detects."""
    classes = torch.tensor(classes, dtype=torch.int64)
    scores = torch.tensor(scores, dtype=torch.float32)
    return Instances(size, pred_boxes=boxes_of(boxes), pred_classes=classes, scores=scores)


def labeled(key=0, **fields) -> dict:
    """A labeled image with two objects, different for every key."""
    return {
        "image": _random_image(np.random.default_rng((1, key)), SIZE),
        "instances": targets([[8, 8, 40, 40], [50, 20, 90, 60]], [0, 2]),
        **fields,
    }


def unlabeled(key=0, weak_to_strong=None, size=SIZE, weak_size=None, **fields) -> dict:
    """An unlabeled image, different for every key; both views show the same by default."""
    rng = np.random.default_rng((2, key))
    matrix = np.eye(3) if weak_to_strong is None else weak_to_strong
    return {
        "image": _random_image(rng, size),
        "weak_image": _random_image(rng, weak_size or size),
        "weak_to_strong": torch.as_tensor(matrix, dtype=torch.float32),
        "seed": key,
        **fields,
    }


def batch_of(n_labeled, n_unlabeled) -> list[dict]:
    return [*map(labeled, range(n_labeled)), *map(unlabeled, range(n_unlabeled))]


def teach(model, bias) -> None:
    """The teacher predicts the same for every box."""
    predictor = model.teacher.roi_heads.box_predictor
    predictor.cls_score.weight.zero_()
    predictor.cls_score.bias.copy_(torch.tensor(bias))


def inject(model, per_image) -> None:
    """The teacher detects these, whatever it sees."""
    model.teacher.roi_heads.forward = lambda *args: (per_image, {})


def known_variances(model, per_image) -> list[tuple]:
    """Sets the outcome of box jittering; returns the arguments of its calls."""
    results, calls = [torch.tensor(v, dtype=torch.float32) for v in per_image], []
    model.family.jitter.variances = lambda *args: calls.append(args) or results
    return calls


def losses_of(model, batch, seed=0) -> dict[str, float]:
    torch.manual_seed(seed)
    return {key: loss.item() for key, loss in model(batch).items()}


def step_views(model, batch) -> list:
    """What observers see of a step."""
    seen = []
    model.observers.append(seen.append)
    model(batch)
    model.observers.clear()
    return seen


def count_calls(module) -> list[tuple]:
    calls = []
    module.register_forward_hook(lambda module, args, output: calls.append((args, output)))
    return calls


def _random_image(rng, size):
    return torch.as_tensor(rng.integers(0, 256, (3, *size), dtype=np.uint8))
