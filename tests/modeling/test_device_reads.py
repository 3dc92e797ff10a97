"""A training step asks the device for few numbers, however many images it has."""

import pytest
import torch
from bench_reads import DeviceReads

BOXES = [[10, 10, 40, 40], [50, 20, 90, 60], [4, 40, 24, 60]]


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize(
    "settings, own",
    [
        ([], 2),
        (["SOFT_TEACHER.JITTER.ENABLED", False], 1),
        (["SOFT_TEACHER.REG_NORMALIZER", "samples", "SOFT_TEACHER.CLS_FORMULA", "reference"], 2),
        (["SOFT_TEACHER.INDICATOR", "pred_diff", "SOFT_TEACHER.AVERAGE", "gpu"], 2),
    ],
    ids=["paper", "no box jittering", "released losses", "other indicator"],
)
def test_own_code_waits_as_often_for_many_images_as_for_one(
    build, inject, labeled, unlabeled, detections, images, settings, own
):
    model = build(*settings)
    inject(model, [detections(BOXES, [0, 1, 2], [0.95, 0.7, 0.99])] * images)
    with DeviceReads() as reads:
        sum(model([labeled()] + [unlabeled(i) for i in range(images)]).values()).backward()
    assert reads.of("soft_teacher") == own
    assert reads.of("detectron2") > 10 * images


WAITING = {
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "float": lambda x: float(x[0]),
    "if": lambda x: bool((x > 0).any()),
    "nonzero": lambda x: torch.nonzero(x),
    "where to read": lambda x: x[x > 0],
    "where to write": lambda x: x.__setitem__(x > 0, x[:2].clone()),
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


@pytest.mark.parametrize("call", WAITING.values(), ids=WAITING.keys())
def test_calls_that_need_a_value_on_the_host_are_counted(call):
    with DeviceReads() as reads:
        call(torch.tensor([1.0, -1.0, 2.0]))
    assert sum(reads.by_file.values()) == 1


@pytest.mark.parametrize("call", FREE.values(), ids=FREE.keys())
def test_calls_whose_size_is_known_are_not_counted(call):
    with DeviceReads() as reads:
        call(torch.tensor([1.0, -1.0, 2.0]))
    assert sum(reads.by_file.values()) == 0
