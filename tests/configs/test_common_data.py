"""The data of every LazyConfig, with and without masks."""

import pytest
from coco import ROOT
from detectron2.config import LazyConfig

VIEW = dict(short_edge=64, max_size=128, scale_range=(0.8, 1.2), flip=True, max_angle=4.0)


@pytest.mark.parametrize(
    "masks, mask_format, tasks",
    [
        (False, "polygon", ["bbox"]),
        (True, "polygon", ["bbox", "segm"]),
        (True, "bitmask", ["bbox", "segm"]),
    ],
)
def test_masks_are_read_and_evaluated_together(masks, mask_format, tasks):
    dataloader_of = LazyConfig.load(str(ROOT / "configs/common/data.py"), "dataloader_of")
    found = dataloader_of("digits_val", VIEW, num_workers=0)
    if masks:
        load_masks = LazyConfig.load(str(ROOT / "configs/common/masks.py"), "load_masks")
        load_masks(found, mask_format)
    assert (found.train.masks, found.train.mask_format) == (masks, mask_format)
    assert list(found.evaluator.tasks) == tasks
