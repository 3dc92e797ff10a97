"""The views of an image as in training, with the operations applied and the boxes transformed.

The views are made by training's own mappers. Boxes are absolute pixels XYXY of their view.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from detectron2.data import transforms as T

from ..data.annotations import annotated_boxes, boxed_annotations
from ..data.augmentation.instance_paste import InstancePaste
from ..data.images.image import UnreadableImage, read_image
from ..data.mapper import LabeledDatasetMapper, TwoViewDatasetMapper
from ..data.roles import LABELED, UNLABELED
from ..data.streams.dataset import seeded
from ..data.streams.seeds import sample_seed
from ..geometry import clip_boxes, nonempty, transform_boxes, transform_matrix
from ..utils.errors import ConfigError, one_line
from .transform_text import describe

__all__ = ["Policies", "View", "draw_views"]


@dataclass
class Policies:
    """The three columns of Table 2 and the channel order that their colour jitters expect.

    Attributes:
        instance_paste: moves objects of labeled images first, by their masks; None leaves them.
    """

    labeled: list[T.Augmentation]
    weak: list[T.Augmentation]
    strong: list[T.Augmentation]
    image_format: str
    instance_paste: InstancePaste | None = None


@dataclass
class View:
    """One picture of an image.

    Attributes:
        title: what kind of view it is.
        image: RGB, uint8 (H, W, 3).
        boxes: float32 (N, 4), clipped to the view.
        classes: N category ids.
        outlines: float32 (N, 4, 2), the exact corners of transformed boxes, not clipped; or empty.
        text: one phrase per operation.
    """

    title: str
    image: np.ndarray
    boxes: torch.Tensor
    classes: list[int]
    outlines: torch.Tensor = field(default_factory=lambda: torch.zeros(0, 4, 2))
    text: list[str] = field(default_factory=list)


def draw_views(
    dataset_dict: dict, policies: Policies, *, num_draws: int, seed: int, index: int = 0
) -> list[View]:
    """The original, ``num_draws`` labeled views, and as many pairs of a weak and a strong view.

    A sample depends on (seed, index, its number) alone. The weak view has the ground truth; the
    strong view the same boxes through the mapper's ``weak_to_strong``, one enclosing box each.

    Args:
        dataset_dict: in Detectron2's format, with annotations or without; with packed masks
            where ``policies.instance_paste`` is given.
        policies: to sample from.
        num_draws: of each kind.
        seed, index: not negative; of the sheet, and of the image in it.

    Raises:
        ConfigError: the image file cannot be read, or the policies cannot be used.
    """
    dataset_dict = _with_boxes_only(dataset_dict)
    try:
        views = [_original(dataset_dict, policies.image_format)]
        for stream, draw in ((LABELED, _labeled), (UNLABELED, _weak_and_strong)):
            for number in range(num_draws):
                with seeded(sample_seed(seed, index, stream, number)):
                    views += draw(dataset_dict, policies)
    except UnreadableImage as error:
        raise ConfigError(f"{error}: fix the file, or remove it from the dataset") from error
    except ConfigError:
        raise
    except ValueError as error:  # e.g. of a view that no matrix describes
        raise ConfigError(f"the augmentations cannot be used: {one_line(error)}") from error
    return views


class _Recorder(T.Augmentation):
    """Applies augmentations and keeps the sampled ``transforms``."""

    def __init__(self, augmentations: list[T.Augmentation]):
        super().__init__()
        self.augmentations = T.AugmentationList(augmentations)

    def __call__(self, aug_input: T.AugInput) -> T.TransformList:
        self.transforms = self.augmentations(aug_input)
        return self.transforms

    @property
    def text(self) -> list[str]:
        return describe(self.transforms.transforms)


class _PasteRecorder:
    """Moves objects and keeps ``text``, whether it did."""

    def __init__(self, instance_paste: InstancePaste):
        self.instance_paste = instance_paste
        self.text: list[str] = []

    def __call__(self, image: np.ndarray, *annotated):
        found = self.instance_paste(image, *annotated)
        self.text = [] if found[0] is image else ["moved objects"]
        return found


def _original(dataset_dict: dict, image_format: str) -> View:
    image = read_image(dataset_dict["file_name"], image_format)
    boxes, classes = _ground_truth(dataset_dict)
    size = f"{image.shape[1]}x{image.shape[0]}"
    return View("original", _rgb(image, image_format), boxes, classes, text=[size])


def _labeled(dataset_dict: dict, policies: Policies) -> list[View]:
    record, order, moving = _Recorder(policies.labeled), policies.image_format, {}
    if policies.instance_paste:
        paste = _PasteRecorder(policies.instance_paste)
        moving = {"mask_format": "bitmask", "instance_paste": paste}
    mapper = LabeledDatasetMapper(augmentations=[record], image_format=order, **moving)
    sample = mapper(dataset_dict)
    boxes, classes = torch.zeros(0, 4), []
    if "instances" in sample:
        boxes = sample["instances"].gt_boxes.tensor
        classes = sample["instances"].gt_classes.tolist()
    text = paste.text + record.text if moving else record.text
    return [View("labeled", _array(sample["image"], order), boxes, classes, text=text)]


def _weak_and_strong(dataset_dict: dict, policies: Policies) -> list[View]:
    weak, strong = _Recorder(policies.weak), _Recorder(policies.strong)
    order = policies.image_format
    sample = TwoViewDatasetMapper(
        weak_augmentations=[weak], strong_augmentations=[strong], image_format=order
    )(dataset_dict)
    weak_image, strong_image = (_array(sample[key], order) for key in ("weak_image", "image"))
    boxes, classes = _ground_truth(dataset_dict)
    to_weak = torch.as_tensor(transform_matrix(weak.transforms))
    boxes = clip_boxes(transform_boxes(boxes, to_weak), weak_image.shape[:2])

    matrix = sample["weak_to_strong"]
    strong_boxes = clip_boxes(transform_boxes(boxes, matrix), strong_image.shape[:2])
    kept = nonempty(strong_boxes)
    outlines = _corners(boxes[kept]) @ matrix[:2, :2].T + matrix[:2, 2]
    kept_classes = [c for c, keep in zip(classes, kept.tolist()) if keep]
    return [
        View("weak", weak_image, boxes, classes, text=weak.text),
        View("strong", strong_image, strong_boxes[kept], kept_classes, outlines, strong.text),
    ]


def _with_boxes_only(dataset_dict: dict) -> dict:
    """Crowds and annotations without a box are not drawn."""
    if "annotations" not in dataset_dict:
        return dataset_dict
    return {**dataset_dict, "annotations": boxed_annotations(dataset_dict)}


def _ground_truth(dataset_dict: dict):
    boxes, classes = annotated_boxes(dataset_dict)
    return torch.as_tensor(boxes, dtype=torch.float32), classes


def _corners(boxes: torch.Tensor) -> torch.Tensor:
    """(N, 4) boxes as (N, 4, 2) corners, clockwise."""
    return boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


def _array(tensor: torch.Tensor, image_format: str) -> np.ndarray:
    return _rgb(tensor.numpy().transpose(1, 2, 0), image_format)


def _rgb(image: np.ndarray, image_format: str) -> np.ndarray:
    return image if image_format == "RGB" else image[:, :, ::-1]
