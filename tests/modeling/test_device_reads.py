"""The number of a step's host-device syncs does not depend on the number of images."""

from types import SimpleNamespace

import pytest
import tiny_fcos  # noqa: F401  registers a family
import torch
from bench_reads import DeviceReads
from mask_shapes import MASK_RCNN, with_polygons, with_pred_masks
from steps import BOXES, CASCADE, batch_of, detections, inject

from soft_teacher.engine.density import DensityThresholdsHook
from soft_teacher.modeling import DensityThresholds


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize(
    "settings, own",
    [
        ([], 2),
        (["SOFT_TEACHER.JITTER.ENABLED", False], 1),
        (["SOFT_TEACHER.REG_NORMALIZER", "samples", "SOFT_TEACHER.CLS_FORMULA", "reference"], 2),
        (["SOFT_TEACHER.INDICATOR", "pred_diff", "SOFT_TEACHER.AVERAGE", "gpu"], 2),
        # For the boxes inside the view, those to be measured, and those chosen; for the anchors of
        # each stream that are not ignored, and the points of each that learn centerness.
        (["SOFT_TEACHER.DETECTOR", "RetinaNet"], 3 + 2),
        (["SOFT_TEACHER.DETECTOR", "TinyFCOS"], 3 + 2 + 2),
        (list(MASK_RCNN), 2),
        ([*MASK_RCNN, "SOFT_TEACHER.MASK.IGNORE", 0.1, "SOFT_TEACHER.MASK.QUALITY", True], 2),
        ([*MASK_RCNN, "SOFT_TEACHER.AVERAGE", "gpu"], 2),
        # For the samples that S_cls and S_reg share.
        (list(CASCADE), 3),
        # Nothing more than the paper.
        (["SOFT_TEACHER.JITTER.STABLE_SHARE", 0.5], 2),
        (["SOFT_TEACHER.STATISTICS", "labeled"], 2),
        (["SOFT_TEACHER.DENSITY.ENABLED", True], 2),
        (["SOFT_TEACHER.DENSITY.ENABLED", True, "SOFT_TEACHER.DENSITY.IGNORE", 2.0], 2),
        (["SOFT_TEACHER.DENSITY.ENABLED", True, "SOFT_TEACHER.JITTER.ENABLED", False], 1),
    ],
    ids=[
        *("paper", "no box jittering", "released losses", "other indicator", "RetinaNet"),
        "FCOS",
        *("masks", "weighted masks", "masks as Detectron2's"),
        "cascade",
        *("share", "statistics", "density", "ignored boxes", "density without box jittering"),
    ],
)
def test_own_code_syncs_as_often_for_many_images_as_for_one(build, images, settings, own):
    model = build(*settings)
    if "SOFT_TEACHER.DETECTOR" not in settings:
        found = detections(BOXES[:3], [0, 1, 2], [0.95, 0.7, 0.99])
        inject(model, [with_pred_masks(found)] * images)
    batch = batch_of(1, images)
    batch[0]["instances"] = with_polygons(batch[0]["instances"])
    with DeviceReads() as reads:
        sum(model(batch).values()).backward()
    assert reads.of("soft_teacher") == own
    assert reads.of("detectron2") > 3 * images


class TestThresholdsByDensity:
    @pytest.mark.parametrize("ignore", [0.0, 2.0])
    def test_a_step_of_its_hook_is_no_sync_but_where_it_logs(self, ignore, storage):
        thresholds = DensityThresholds(ignore=ignore)
        thresholds.allocate(3, 0.9)
        hook = DensityThresholdsHook(thresholds, period=20)
        syncs = []
        for step in range(40):
            hook.trainer = SimpleNamespace(iter=step, storage=storage)
            with DeviceReads() as reads:
                hook.before_step()
                thresholds.count_scores([detections(BOXES[:3], [0, 1, 2], [0.95, 0.7, 0.99])] * 2)
                hook.after_step()
            syncs.append(sum(reads.by_file.values()))
        assert syncs == ([0] * 19 + [1]) * 2

    def test_labels_are_counted_where_the_loader_has_them(self):
        """No host-device sync, whatever torch.bincount is on a GPU, and one transfer."""
        thresholds = DensityThresholds()
        thresholds.allocate(3, 0.9)
        with DeviceReads() as reads:
            thresholds.count_labels(batch_of(3, 0))
        assert not reads.by_file and thresholds.pending.sum() == 3 * 2 + 3


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
