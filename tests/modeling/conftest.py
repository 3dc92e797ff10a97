"""A tiny SoftTeacher on the CPU, and changes of view."""

import numpy as np
import pytest
import torch
from by_hand import rotation
from detectron2.utils.events import EventStorage

from soft_teacher.experiment.words import YAML_WORDS
from soft_teacher.modeling import SoftTeacher


@pytest.fixture(autouse=True)
def storage():
    """Detectron2 logs scalars while it trains."""
    with EventStorage() as storage:
        yield storage


@pytest.fixture
def build(tiny_cfg):
    """build("KEY", value, ...): the tiny SoftTeacher in training mode, the same every time.

    Its refusals name the keys of YAML.
    """

    def build(*overrides):
        cfg = tiny_cfg.clone()
        cfg.merge_from_list(list(overrides))
        torch.manual_seed(0)
        with YAML_WORDS.spoken():
            return SoftTeacher(cfg).train()

    return build


# Matrix from the weak to the strong view, size of the strong view; the weak one is 64 x 96.
CHANGES = {
    "same view": (np.eye(3), (64, 96)),
    "flip": (np.array([[-1.0, 0, 96], [0, 1, 0], [0, 0, 1]]), (64, 96)),
    "resize": (np.diag([1.5, 0.75, 1]), (48, 144)),
    "flip, resize": (np.array([[-0.5, 0, 48], [0, 0.5, 0], [0, 0, 1]]), (32, 48)),
    "rotation": (rotation(25, (48, 32)), (64, 96)),
    "shear, shift": (np.array([[1, 0.4, -6], [-0.2, 1, 9], [0, 0, 1]]), (80, 100)),
}


@pytest.fixture(params=CHANGES.values(), ids=CHANGES.keys())
def view_change(request):
    return request.param
