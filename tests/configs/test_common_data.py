"""The data of every LazyConfig, with and without masks."""

import pytest
from coco import ROOT
from detectron2.config import LazyConfig

VIEW = dict(short_edge=64, max_size=128, scale_range=(0.8, 1.2), flip=True, max_angle=4.0)


@pytest.mark.parametrize(
    "options, masks, mask_format, tasks",
    [
        ({}, False, "polygon", ["bbox"]),
        ({"masks": True}, True, "polygon", ["bbox", "segm"]),
        ({"masks": True, "mask_format": "bitmask"}, True, "bitmask", ["bbox", "segm"]),
    ],
)
def test_masks_are_read_and_evaluated_together(options, masks, mask_format, tasks):
    dataloader_of = LazyConfig.load(str(ROOT / "configs/common/data.py"), "dataloader_of")
    found = dataloader_of("digits_val", VIEW, num_workers=0, **options)
    assert (found.train.masks, found.train.mask_format) == (masks, mask_format)
    assert list(found.evaluator.tasks) == tasks
