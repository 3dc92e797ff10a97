"""Sums over the steps since the last log line."""

import json
from dataclasses import replace

import pytest
import torch
from watching import LEFT, RIGHT, step_view, targets, teacher_boxes

from soft_teacher.evaluation.pseudo_label_quality import Matches
from soft_teacher.monitoring.statistics import ONE, Totals, Window, scalars

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
    for _ in range(5):
        window.add(step_view(SEEN, SEEN, reliability=0.5, labeled=[targets([LEFT], [0])]))
    assert reads == []
    window.totals()
    window.totals()
    assert len(reads) == 1


# --- what is logged


def test_a_mean_over_nothing_is_not_logged():
    assert scalars(Totals()) == scalars(Totals(), ["cat"]) == {}
    found = scalars(Totals(images=3, detections=2, best_score=0.4))
    assert found == {"pseudo/best_score": 0.4, "pseudo/boxes_per_image": 0.0}


def test_means_and_shares():
    totals = Totals(
        images=10,
        detections=40,
        confident=25,
        measured=4,
        variance=ONE // 8,
        passes=5,
        reliability=9 * ONE // 2,
        best_score=0.97,
        classification=Matches(3, 1, 2),
        regression=Matches(0, 0, 5),
        labeled_images=4,
        labeled_classes=(1, 5),
    )
    assert scalars(totals) == pytest.approx(
        {
            "pseudo/best_score": 0.97,
            "pseudo/mean_variance": 0.03125,
            "unsup/mean_background_reliability": 0.9,
            "pseudo/precision_cls": 0.75,
            "pseudo/recall_cls": 0.6,
            "pseudo/recall_reg": 0.0,
            "pseudo/boxes_per_image": 2.5,
            "pseudo/labeled_boxes_per_image": 1.5,
        }
    )


def test_boxes_per_image_of_every_class_that_has_a_name():
    def by_class(totals, names):
        return {k: v for k, v in scalars(totals, names).items() if k.count("/") > 1}

    pseudo = Totals(images=10, classes=(5, 0, 20), labeled_images=4, labeled_classes=(0, 2))
    assert by_class(pseudo, []) == {}
    assert by_class(pseudo, ["cat", "dog"]) == {
        "pseudo/boxes_per_image/cat": 0.5,
        "pseudo/boxes_per_image/dog": 0.0,
        "pseudo/labeled_boxes_per_image/cat": 0.0,
        "pseudo/labeled_boxes_per_image/dog": 0.5,
    }
    assert by_class(replace(pseudo, labeled_images=0), ["cat"]) == {
        "pseudo/boxes_per_image/cat": 0.5
    }
    names = [str(number) for number in range(21)]
    assert len(by_class(pseudo, names[:20])) == 40 and by_class(pseudo, names) == {}


def test_sums_of_ranks_add_up_and_the_best_score_is_the_best():
    one = Totals(images=1, detections=2, variance=5, best_score=0.7, classes=(1, 2))
    other = Totals(images=3, confident=4, best_score=0.6, regression=Matches(1, 2, 3), classes=(5,))
    assert one + other == Totals(
        images=4,
        detections=2,
        confident=4,
        classes=(6, 2),
        variance=5,
        best_score=0.7,
        regression=Matches(1, 2, 3),
    )
    assert other + one == one + other and one + Totals() == one


def test_totals_survive_a_checkpoint():
    totals = replace(totals_of(step_view(SEEN)), classification=Matches(1, 2, 3))
    state = totals.state_dict()
    assert Totals.from_state_dict(state) == totals
    assert Totals.from_state_dict(json.loads(json.dumps(state))) == totals
    plain = {type(v) for v in state.values()} | {type(v) for v in state["regression"].values()}
    assert plain == {int, float, tuple, dict}


def test_a_checkpoint_from_before_classes_scores_and_losses_were_counted_is_taken():
    totals = totals_of(step_view(SEEN, labeled=[targets([LEFT], [0])]))
    newer = ("scores", "classes", "labeled_images", "labeled_classes", "labeled_loss")
    state = {k: v for k, v in totals.state_dict().items() if k not in (*newer, "unlabeled_loss")}
    expected = replace(totals, scores=(), classes=(), labeled_images=0, labeled_classes=())
    assert Totals.from_state_dict(state) == expected
