"""The number of a step's host-device syncs does not depend on the number of images."""

import pytest
import torch
from bench_reads import DeviceReads
from steps import BOXES, batch_of, detections, inject


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize(
    "settings, own",
    [
        ([], 2),
        (["SOFT_TEACHER.JITTER.ENABLED", False], 1),
        (["SOFT_TEACHER.REG_NORMALIZER", "samples", "SOFT_TEACHER.CLS_FORMULA", "reference"], 2),
        (["SOFT_TEACHER.INDICATOR", "pred_diff", "SOFT_TEACHER.AVERAGE", "gpu"], 2),
        # For the boxes inside the view, those to be measured, and those chosen.
        (["SOFT_TEACHER.DETECTOR", "RetinaNet"], 3),
    ],
    ids=["paper", "no box jittering", "released losses", "other indicator", "RetinaNet"],
)
def test_own_code_syncs_as_often_for_many_images_as_for_one(build, images, settings, own):
    model = build(*settings)
    if "RetinaNet" not in settings:
        inject(model, [detections(BOXES[:3], [0, 1, 2], [0.95, 0.7, 0.99])] * images)
    with DeviceReads() as reads:
        sum(model(batch_of(1, images)).values()).backward()
    assert reads.of("soft_teacher") == own
    assert reads.of("detectron2") > 3 * images


SYNCS = {
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "float": lambda x: float(x[0]),
    "if": lambda x: bool((x > 0).any()),
    "nonzero": lambda x: torch.nonzero(x),
    "read by mask": lambda x: x[x > 0],
    "write by mask": lambda x: x.__setitem__(x > 0, x[:2].clone()),
    "cpu": lambda x: x.cpu(),
}
FREE = {
    "arithmetic": lambda x: (x * 2).sum().clamp(min=1),
    "rows": lambda x: x[torch.tensor([0, 2])],
    "a slice": lambda x: x[1:],
    "one value written": lambda x: x.__setitem__(x > 0, 0.0),
    "choice": lambda x: torch.where(x > 0, x, -x),
    "sorting": lambda x: torch.argsort(x, stable=True)[:2],
}


@pytest.mark.parametrize("name", [*SYNCS, *FREE])
def test_calls_that_need_a_value_on_the_host_are_counted(name):
    with DeviceReads() as reads:
        (SYNCS | FREE)[name](torch.tensor([1.0, -1.0, 2.0]))
    assert sum(reads.by_file.values()) == (name in SYNCS)
