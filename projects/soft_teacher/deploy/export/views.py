"""Images on which an exported detector is compared with the one it comes from."""

import torch
from torch.nn import functional as F

from ...data.datasets.dataset_dicts import dataset_reading, unlabeled_dicts
from ...utils.errors import ConfigError
from .source import Source

__all__ = ["sample_views"]

NUM_IMAGES = 3
# Height and width of the views that are made of an image, relative to the evaluation's.
SCALES = ((1.0, 1.0), (0.75, 1.25))


def sample_views(source: Source, images: str = "") -> list[torch.Tensor]:
    """Views of the first images, each in two sizes.

    Args:
        images: as unlabeled images are named (:mod:`soft_teacher.data.datasets.paths`); empty for
            those of DATASETS.TEST.

    Returns:
        uint8 (C, h, w), as the detector takes them.

    Raises:
        ConfigError: there are none, or one cannot be read.
    """
    samples = [source.mapper(d) for d in _dicts(source, images)[:NUM_IMAGES]]
    for sample in samples:
        if "unreadable" in sample:
            raise ConfigError(f"{sample['unreadable']}: name other images by --images")
    return [_resized(sample["image"], *scale) for sample in samples for scale in SCALES]


def _dicts(source: Source, images: str) -> list[dict]:
    if images:
        return unlabeled_dicts([images], hidden_labels=False)
    names = source.experiment["DATASETS.TEST"]
    if not names:
        raise ConfigError("DATASETS.TEST is empty: name sample images by --images")
    name = names if isinstance(names, str) else names[0]
    return dataset_reading("DATASETS.TEST", name).dicts


def _resized(view: torch.Tensor, height: float, width: float) -> torch.Tensor:
    if height == width == 1:
        return view
    size = [max(round(view.shape[1] * height), 1), max(round(view.shape[2] * width), 1)]
    return F.interpolate(view[None].float(), size, mode="bilinear").round()[0].byte()
