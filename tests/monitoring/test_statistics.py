"""Sums over steps, and what is logged of them."""

import json
from dataclasses import replace

import pytest

from soft_teacher.evaluation.pseudo_label_quality import Matches
from soft_teacher.monitoring.statistics import ONE, Totals, scalars

SOME = Totals(
    images=1,
    detections=3,
    scores=(1, 2),
    confident=2,
    classes=(0, 2),
    variance=5,
    best_score=0.95,
    masks=(0, 1),
    mask_iou=(0, ONE // 2),
    labeled_images=1,
    labeled_classes=(1,),
)

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
        masks=(0, 3, 1),
        mask_iou=(0, 2 * ONE, ONE),
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
            "pseudo/mask_iou": 0.75,
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


def test_the_iou_of_pseudo_masks_of_every_class_that_has_some_and_a_name():
    totals = Totals(masks=(2, 0, 1), mask_iou=(ONE, 0, ONE))
    found = scalars(totals, ["cat", "dog", "eel"])
    ious = {"pseudo/mask_iou/cat": 0.5, "pseudo/mask_iou/eel": 1.0}
    assert found == {"pseudo/mask_iou": pytest.approx(2 / 3), **ious}
    assert set(scalars(totals, [str(n) for n in range(21)])) == {"pseudo/mask_iou"}


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
    totals = replace(SOME, classification=Matches(1, 2, 3))
    state = totals.state_dict()
    assert Totals.from_state_dict(state) == totals
    assert Totals.from_state_dict(json.loads(json.dumps(state))) == totals
    plain = {type(v) for v in state.values()} | {type(v) for v in state["regression"].values()}
    assert plain == {int, float, tuple, dict}


def test_a_checkpoint_from_before_classes_scores_losses_and_masks_were_counted_is_taken():
    newer = ("scores", "classes", "labeled_images", "labeled_classes", "labeled_loss", "masks")
    newer = (*newer, "unlabeled_loss", "mask_iou")
    state = {k: v for k, v in SOME.state_dict().items() if k not in newer}
    changes = dict(labeled_images=0, labeled_classes=(), masks=(), mask_iou=())
    expected = replace(SOME, scores=(), classes=(), **changes)
    assert Totals.from_state_dict(state) == expected
