"""Detections for the tests of predictions, and a predictor that makes them of nothing."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from soft_teacher.data.images.image import UnreadableImage, read_image
from soft_teacher.deploy.confidence import Confidence
from soft_teacher.deploy.detections import Detections
from soft_teacher.deploy.outputs import About
from soft_teacher.deploy.predictor import Prediction

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "big dog"}]
NAMES = [category["name"] for category in CATEGORIES]


def instances(boxes=(), classes=(), scores=(), size=(40, 60), variances=None, masks=None):
    """Detectron2's Instances on an image of (height, width)."""
    found = Instances(
        size,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float32),
    )
    if variances is not None:
        found.variances = torch.tensor(variances, dtype=torch.float32)
    if masks is not None:
        found.pred_masks = torch.as_tensor(np.array(masks, dtype=bool).reshape(-1, *size))
    return found


def photo(path: Path, size=(40, 60), seed=0) -> Path:
    """Writes an image of noise; PNG and BMP keep it as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def rows_in(root: Path, **found: Instances) -> list[Detections]:
    """Detections in new images of a folder, by their names."""
    return [
        Detections.of(i, str(photo(root / f"{name}.png", i.image_size)), name)
        for name, i in found.items()
    ]


def about(folder: Path, root: Path, **changes) -> About:
    folder.mkdir(exist_ok=True)
    return About(folder, str(root), CATEGORIES, **changes)


class FakePredictor:
    """Finds in each image two boxes that depend on its first pixel; counts what it looked at."""

    categories, class_names, image_format = CATEGORIES, NAMES, "BGR"
    variance_thresh, lowest, weights = 0.02, 0.05, "model.pth"

    def __init__(self):
        self.seen = []
        self.mapper = SimpleNamespace()

    def read(self, image):
        return image if isinstance(image, np.ndarray) else read_image(image)

    def stream(self, images):
        for image in images:
            try:
                pixels = self.read(image)
            except UnreadableImage as error:
                yield Prediction(image, error=str(error))
                continue
            self.seen.append(image)
            x = float(pixels[0, 0, 0] % 16)
            boxes = [[x, 2, x + 20, 30.5], [x + 4, 5, x + 30, 38]]
            yield Prediction(image, pixels, instances(boxes, [0, 1], [0.9, 0.45], pixels.shape[:2]))


def confidence(*thresholds: float) -> Confidence:
    return Confidence(thresholds or (0.5, 0.5))
