"""The contract's cases, one for each detector that can be wrapped, and its steps."""

import copy
from pathlib import Path

import tiny_fcos  # noqa: F401  registers a family
import tiny_htc  # noqa: F401  registers a family
import torch
import toy  # noqa: F401  registers a family
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from mask_shapes import LEARN_MASKS, MASK_RCNN
from steps import CASCADE, WITHOUT_SAMPLING

from soft_teacher.distributed.launch import leave_group
from soft_teacher.experiment.build import wrap_ddp
from soft_teacher.modeling.families.base import MeasuresStability, TeacherPass

# Images do not influence each other by normalization, nothing is sampled at random, and all have
# the same number of samples.
FASTER_RCNN = (
    *("SOFT_TEACHER.DETECTOR", "GeneralizedRCNN"),
    *("MODEL.RESNETS.NORM", "FrozenBN"),
    *("MODEL.RPN.NMS_THRESH", 1.0),
    *WITHOUT_SAMPLING,
)
# Name -> overrides of the tiny config.
CASES = {
    "Faster R-CNN": FASTER_RCNN,
    "Mask R-CNN": (*FASTER_RCNN, *MASK_RCNN),
    "Cascade R-CNN": (*FASTER_RCNN, *CASCADE),
    "Cascade Mask R-CNN": (*FASTER_RCNN, *CASCADE, *MASK_RCNN),
    "HTC": ("SOFT_TEACHER.DETECTOR", "TinyHTC", *FASTER_RCNN[2:], *LEARN_MASKS),
    "RetinaNet": ("SOFT_TEACHER.DETECTOR", "RetinaNet", "MODEL.RESNETS.NORM", "FrozenBN"),
    "FCOS": ("SOFT_TEACHER.DETECTOR", "TinyFCOS", "MODEL.RESNETS.NORM", "FrozenBN"),
    "toy": ("SOFT_TEACHER.DETECTOR", "ToyDetector", "SOFT_TEACHER.JITTER.ENABLED", False),
}


class Found(TeacherPass, MeasuresStability):
    """A pass with other detections, all of them stable; otherwise the real one."""

    def __init__(self, seen: TeacherPass, detections: list):
        super().__init__(detections)
        self._seen = seen

    def variances(self, rows, seeds):
        return [torch.zeros(len(r)) for r in rows]

    def __getattr__(self, name):
        return getattr(self._seen, name)


def let_find(model, found: list) -> None:
    """The teacher of the model detects these, whatever it sees."""
    teach = model.family.teach
    model.family.teach = lambda *args: Found(teach(*args), found)


def gradients_after(model, batch: list[dict]) -> tuple[dict, dict]:
    """Losses of a step of a copy of the model, and the gradient of each trainable parameter.

    The teacher detects what the unlabeled samples have under "found".
    """
    model = copy.deepcopy(model)
    return _step(model, model, batch)


def step_on_rank(model, parts: list[list[dict]], folder: str) -> None:
    """The same on one of several ranks, with its part of a batch; saved in the folder."""
    torch.set_num_threads(1)
    rank = comm.get_rank()
    with EventStorage():
        losses, gradients = _step(model, wrap_ddp(model), parts[rank])
    losses = {name: loss.detach() for name, loss in losses.items()}
    torch.save((losses, gradients), Path(folder) / f"{rank}.pth")
    leave_group()


def density_on_rank(steps: list[list], build, folder: str) -> None:
    """Thresholds by density on one of several ranks; their state is saved in the folder.

    Args:
        steps: a part of every step for each rank.
        build: () -> a run with ``step(part)`` and ``state()``.
    """
    torch.set_num_threads(1)
    rank, run = comm.get_rank(), build()
    for parts in steps:
        run.step(parts[rank])
    torch.save(run.state(), Path(folder) / f"{rank}.pth")
    leave_group()


def _step(model, forward, batch: list[dict]) -> tuple[dict, dict]:
    let_find(model, [x["found"] for x in batch if "found" in x])
    torch.manual_seed(0)
    losses = forward(batch)
    sum(losses.values()).backward()
    parameters = model.student.named_parameters()
    return losses, {name: p.grad for name, p in parameters if p.requires_grad}


def dealt(stream: list[dict], counts: tuple[int, ...]) -> list[list[dict]]:
    """A stream in parts, with the weights that the loader gives to images of several parts."""
    weighted = [{**x, "image_weight": len(counts) / len(stream)} for x in stream]
    return [[weighted.pop(0) for _ in range(count)] for count in counts]
