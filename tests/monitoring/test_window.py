"""Views of steps until their numbers are needed: what is counted, and when the device is read."""

import numpy as np
import pytest
import torch
from bench_reads import DeviceReads
from detectron2.structures import BitMasks, PolygonMasks
from watching import LEFT, RIGHT, SIZE, step_view, targets, teacher_boxes

from soft_teacher.evaluation.pseudo_label_quality import Matches
from soft_teacher.monitoring.statistics import ONE, Totals
from soft_teacher.monitoring.window import Window

# Three detections: two of G_cls, two jittered, one of G_reg.
SEEN = teacher_boxes(
    [LEFT, RIGHT, [0, 0, 5, 5]],
    [1, 2, 0],
    [0.95, 0.92, 0.1],
    confident=[0, 1],
    variances={0: 0.04, 1: 0.01},
    stable=[1],
)
NOTHING = teacher_boxes()


def totals_of(*views):
    window = Window()
    for view in views:
        window.add(view)
    return window.totals()


# --- sums


def test_without_detections_only_images_are_counted():
    assert totals_of() == Totals()
    assert totals_of(step_view(NOTHING)) == Totals(images=1)


def test_boxes_are_counted_by_what_becomes_of_them():
    found = totals_of(step_view(SEEN, NOTHING), step_view(NOTHING), step_view(SEEN))
    assert (found.images, found.detections) == (4, 6)
    assert (found.confident, found.candidates, found.stable) == (4, 4, 2)
    assert found.best_score == pytest.approx(0.95)
    assert found.measured == 4 and found.mean_variance == pytest.approx(0.025)


@pytest.mark.parametrize("odd", [float("inf"), float("nan")])
def test_variances_that_are_no_numbers_are_left_out_of_the_mean(odd):
    boxes = teacher_boxes([LEFT, RIGHT], [0, 0], [0.6, 0.7], variances={0: odd, 1: 0.03})
    found = totals_of(step_view(boxes))
    assert found.candidates == 2
    assert (found.measured, found.mean_variance) == (1, pytest.approx(0.03))


def test_reliabilities_are_summed_over_the_passes_that_have_one():
    views = [step_view(NOTHING, reliability=r) for r in (0.5, None, 0.75, float("nan"))]
    found = totals_of(*views)
    assert (found.passes, found.mean_reliability) == (2, pytest.approx(0.625))


def test_sums_do_not_depend_on_how_they_are_divided():
    views = [step_view(SEEN, reliability=0.1 * n) for n in range(1, 8)]
    parts = [totals_of(*views[:3]), totals_of(*views[3:4]), totals_of(*views[4:])]
    assert parts[2] + (parts[1] + parts[0]) == totals_of(*views)


# By class, and in the order of their scores.
ORDERED = teacher_boxes(
    [[5, 10, 25, 30], LEFT, LEFT], [1, 1, 2], [0.9, 0.99, 0.95], confident=[0, 1, 2], stable=[0]
)


@pytest.mark.parametrize(
    "images, truths, classification, regression",
    [
        ([SEEN], [None], (0, 0, 0), (0, 0, 0)),
        ([SEEN], [targets()], (0, 2, 0), (0, 1, 0)),
        # LEFT is found, RIGHT is no object; two objects are left
        (
            [SEEN, SEEN, NOTHING],
            [targets([LEFT, [0, 30, 10, 40]], [1, 1]), None, targets([LEFT], [0])],
            (1, 1, 2),
            (0, 1, 3),
        ),
        ([ORDERED], [targets([LEFT], [1])], (1, 2, 0), (1, 0, 0)),
    ],
)
def test_pseudo_boxes_are_compared_with_known_ground_truth(
    images, truths, classification, regression
):
    found = totals_of(step_view(*images, truths=truths))
    assert found.classification == Matches(*classification)
    assert found.regression == Matches(*regression)


def test_pseudo_boxes_are_counted_by_class_and_detections_by_score():
    found = totals_of(step_view(SEEN, NOTHING), step_view(SEEN))
    assert found.classes == (0, 2, 2)
    assert found.scores == (0, 0, 2, *[0] * 15, 4, 0)  # 0.1, 0.92 and, in float32, 0.94999999


def test_labeled_boxes_are_counted_by_class():
    labeled = [targets([LEFT, RIGHT], [0, 3]), targets()]
    found = totals_of(
        step_view(labeled=labeled), step_view(NOTHING, labeled=[targets([LEFT], [3])])
    )
    assert found == Totals(images=1, labeled_images=3, labeled_classes=(1, 0, 0, 2))


def test_losses_are_summed_over_steps():
    window = Window()
    assert window.totals().loss_ratio is None
    window.add_losses(0.0, 0.0)
    assert window.totals().loss_ratio is None
    window.add_losses(0.5, 0.25)
    window.add_losses(0.25, 2.0)
    assert window.totals() == Totals(labeled_loss=3 * ONE // 4, unlabeled_loss=9 * ONE // 4)
    assert window.totals().loss_ratio == 3


# --- masks


def polygon(box):
    x0, y0, x1, y1 = box
    return [np.array([x0, y0, x1, y0, x1, y1, x0, y1], dtype=np.float64)]


def with_masks(boxes, classes, kind=PolygonMasks, masks=None):
    """Ground truth whose masks fill ``masks``, which are the boxes by default."""
    found = targets(boxes, classes)
    if kind is PolygonMasks:
        found.gt_masks = PolygonMasks([polygon(box) for box in masks or boxes])
    else:
        bitmaps = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
        for bitmap, (x0, y0, x1, y1) in zip(bitmaps, masks or boxes):
            bitmap[y0:y1, x0:x1] = True
        found.gt_masks = BitMasks(bitmaps)
    return found


def halves(count):
    """The left half of each box."""
    masks = np.zeros((count, 28, 28), np.float32)
    masks[:, :, :14] = 0.75
    return masks


BOTH = teacher_boxes(
    [LEFT, RIGHT, [0, 0, 5, 5]], [1, 0, 1], [0.95, 0.92, 0.91], confident=[2], stable=[1, 0],
    masks=[np.ones((28, 28)), *halves(2)],
)  # fmt: skip


@pytest.mark.parametrize("kind", [PolygonMasks, BitMasks])
@pytest.mark.parametrize(
    "truth, masks, ious",
    [
        (([], []), (), ()),
        (([[0, 30, 10, 40]], [1]), (), ()),
        # Of another class; then LEFT as a whole, and a half of RIGHT; in the order of the truth.
        (([LEFT], [0]), (), ()),
        (([LEFT], [1]), (0, 1), (0, 1)),
        (([RIGHT, LEFT], [0, 1]), (1, 1), (0.5, 1)),
    ],
)
def test_masks_of_boxes_that_found_an_object_are_compared_with_its_mask(kind, truth, masks, ious):
    found = totals_of(step_view(BOTH, truths=[with_masks(*truth, kind)]))
    assert found.masks == masks
    assert [iou / ONE for iou in found.mask_iou] == pytest.approx(ious)
    assert found.regression.true_positives == sum(masks)


def test_only_masks_of_g_reg_count():
    seen = teacher_boxes([LEFT], [0], [0.95], confident=[0], masks=halves(1))
    assert totals_of(step_view(seen, truths=[with_masks([LEFT], [0])])).masks == ()


@pytest.mark.parametrize("seen, truth", [
    (BOTH, None), (BOTH, targets([LEFT], [1])), (SEEN, with_masks([RIGHT], [2])),
])  # fmt: skip
def test_without_masks_on_both_sides_there_is_nothing_to_compare(seen, truth):
    assert totals_of(step_view(seen, truths=[truth])).masks == ()


def test_masks_of_several_images_and_steps_add_up():
    truths = [with_masks([RIGHT, LEFT], [0, 1]), None, with_masks([RIGHT], [0], BitMasks)]
    views = [step_view(BOTH, NOTHING, BOTH, truths=truths), step_view(BOTH, truths=truths[2:])]
    found = totals_of(*views)
    assert (found.masks, found.mask_iou) == ((3, 1), (3 * ONE // 2, ONE))
    assert totals_of(views[0]) + totals_of(views[1]) == found


def test_bitmaps_of_the_size_of_the_view_are_not_kept():
    """Nor are masks of detections that are no pseudo boxes."""
    window, view = Window(), step_view(BOTH, truths=[with_masks([LEFT], [1], BitMasks)])
    window.add(view)
    truth = view.samples[0]["hidden_instances"]
    truth.gt_masks.tensor.zero_()
    view.teacher_boxes[0].detections.pred_masks.zero_()
    assert window.totals().mask_iou == (0, ONE)


# --- the window


def test_totals_are_kept_until_the_window_is_cleared():
    window = Window()
    window.add(step_view(SEEN))
    first = window.totals()
    assert window.totals() == first
    window.add(step_view(SEEN))
    assert window.totals() == first + first
    window.clear()
    assert window.totals() == Totals()


def test_nothing_is_read_from_the_device_before_the_totals_are(monkeypatch):
    reads = []
    read = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: reads.append(self) or read(self))
    window = Window()
    truths = [targets([LEFT], [1]), with_masks([LEFT], [1])]
    with DeviceReads() as others:
        for _ in range(5):
            labeled = [targets([LEFT], [0])]
            window.add(step_view(SEEN, BOTH, reliability=0.5, labeled=labeled, truths=truths))
    assert reads == [] and not others.by_file
    window.totals()
    window.totals()
    assert len(reads) == 1
