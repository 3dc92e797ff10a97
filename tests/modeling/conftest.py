"""A tiny SoftTeacher on the CPU, batches for it, and reference geometry in float64."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from soft_teacher.experiment.words import YAML_WORDS
from soft_teacher.modeling import SoftTeacher

NUM_CLASSES = 3
HEIGHT, WIDTH = 64, 96


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


@pytest.fixture
def targets():
    """Ground truth: targets(boxes, classes)."""

    def targets(boxes=(), classes=(), size=(HEIGHT, WIDTH)):
        return Instances(
            size,
            gt_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
            gt_classes=torch.tensor(classes, dtype=torch.int64),
        )

    return targets


@pytest.fixture
def detections():
    """What a teacher detects: detections(boxes, classes, scores)."""

    def detections(boxes=(), classes=(), scores=(), size=(HEIGHT, WIDTH)):
        return Instances(
            size,
            pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
            pred_classes=torch.tensor(classes, dtype=torch.int64),
            scores=torch.tensor(scores, dtype=torch.float32),
        )

    return detections


@pytest.fixture
def labeled(targets):
    """A labeled image with two objects, different for every key."""

    def labeled(key=0, **fields):
        rng = np.random.default_rng((1, key))
        return {
            "image": random_image(rng, (HEIGHT, WIDTH)),
            "instances": targets([[8, 8, 40, 40], [50, 20, 90, 60]], [0, 2]),
            **fields,
        }

    return labeled


@pytest.fixture
def unlabeled():
    """An unlabeled image, different for every key; the strong view is the weak one by default."""

    def unlabeled(key=0, weak_to_strong=None, size=(HEIGHT, WIDTH), weak_size=None, **fields):
        rng = np.random.default_rng((2, key))
        matrix = np.eye(3) if weak_to_strong is None else weak_to_strong
        return {
            "image": random_image(rng, size),
            "weak_image": random_image(rng, weak_size or size),
            "weak_to_strong": torch.as_tensor(matrix, dtype=torch.float32),
            "seed": key,
            **fields,
        }

    return unlabeled


@pytest.fixture
def batch_of(labeled, unlabeled):
    """batch_of(n, m): n labeled and m unlabeled images."""
    return lambda n_labeled, n_unlabeled: [
        *map(labeled, range(n_labeled)),
        *map(unlabeled, range(n_unlabeled)),
    ]


@pytest.fixture
def inject(monkeypatch):
    """inject(model, detections): the teacher detects these, whatever it sees."""

    def inject(model, per_image):
        heads = model.teacher.roi_heads
        monkeypatch.setattr(heads, "forward", lambda *args, **kwargs: (per_image, {}))

    return inject


@pytest.fixture
def known_variances(monkeypatch):
    """known_variances(model, per_image): the outcome of box jittering; returns its calls."""

    def known_variances(model, per_image):
        results = [torch.as_tensor(v, dtype=torch.float32) for v in per_image]
        calls = []

        def variances(*args):
            calls.append(args)
            return results

        monkeypatch.setattr(model.family.jitter, "variances", variances)
        return calls

    return known_variances


@pytest.fixture(params=["same view", "flip", "resize", "flip, resize", "rotation", "shear, shift"])
def view_change(request):
    """(matrix from weak to strong view, size of the strong view); the weak one is 64 x 96."""
    return {
        "same view": (np.eye(3), (64, 96)),
        "flip": (np.array([[-1.0, 0, 96], [0, 1, 0], [0, 0, 1]]), (64, 96)),
        "resize": (np.diag([1.5, 0.75, 1]), (48, 144)),
        "flip, resize": (np.array([[-0.5, 0, 48], [0, 0.5, 0], [0, 0, 1]]), (32, 48)),
        "rotation": (rotation(25, (48, 32)), (64, 96)),
        "shear, shift": (np.array([[1, 0.4, -6], [-0.2, 1, 9], [0, 0, 1]]), (80, 100)),
    }[request.param]


@pytest.fixture
def carry_in_numpy():
    """Boxes under a matrix: four corners one at a time, enclosed, clipped, in float64."""

    def carry_in_numpy(boxes, matrix, size):
        height, width = size
        result = []
        for x0, y0, x1, y1 in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
            corners = [[x0, y0, 1], [x1, y0, 1], [x0, y1, 1], [x1, y1, 1]]
            points = np.array([np.asarray(matrix) @ corner for corner in corners])
            x, y = points[:, 0].clip(0, width), points[:, 1].clip(0, height)
            result.append([x.min(), y.min(), x.max(), y.max()])
        return np.array(result).reshape(-1, 4)

    return carry_in_numpy


def random_image(rng, size):
    return torch.as_tensor(rng.integers(0, 256, (3, *size), dtype=np.uint8))


def rotation(degrees, centre):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = centre - turn @ centre
    return matrix
