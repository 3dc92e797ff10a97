"""What is found wrong with the pseudo boxes and losses of some steps."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from soft_teacher.modeling import PseudoLabeler
from soft_teacher.monitoring.diagnosis import Settings, compared, declined, diagnose, score_for
from soft_teacher.monitoring.statistics import ONE, Totals

SETTINGS = Settings(score_thresh=0.9, variance_thresh=0.02, alpha=4.0, class_names=["cat", "dog"])
SCORE = "PseudoLabeler.score_thresh, now 0.9"
VARIANCE = "PseudoLabeler.variance_thresh, now 0.02"
LONGER = "or let the teacher learn longer from labels alone (BatchSchedule.burn_in)"


def scores(**bins):
    """Detections per bin, by the lower edge in percent: ``at_90=5`` are from 0.90 to 0.95."""
    return tuple(bins.get(f"at_{5 * n}", 0) for n in range(20))


# 100 images with 20 detections, 3 pseudo boxes and 5 candidates each, of which half are stable;
# 50 labeled images with 4 objects each. Losses of unlabeled images weigh twice.
HEALTHY = Totals(
    images=100, detections=2000, confident=300, candidates=500, stable=250, measured=500,
    variance=15 * ONE, best_score=0.99, scores=scores(at_5=1600, at_80=100, at_90=300),
    classes=(100, 200), labeled_images=50, labeled_classes=(80, 120), labeled_loss=100 * ONE,
    unlabeled_loss=200 * ONE,
)  # fmt: skip
UNKNOWN = dict(labeled_images=0, labeled_classes=())


# what differs from a healthy run -> for each condition that is found, words of its line
CASES = {
    "healthy": ({}, {}),
    "no detections": (
        dict(detections=0, confident=0, candidates=0, stable=0, scores=()),
        {"no pseudo boxes": f": lower {SCORE}, {LONGER}"},
    ),
    # 100 detections above 0.8, where labels have 400
    "no pseudo boxes": (
        dict(confident=0, best_score=0.61, scores=scores(at_5=1900, at_80=100)),
        {
            "no pseudo boxes": "no detection is a pseudo box, the teacher's best score is 0.61 "
            f"(0.99 since the start): lower {SCORE}, to 0.8"
        },
    ),
    "no pseudo boxes, and no labels to compare": (
        dict(confident=0, best_score=0.61, **UNKNOWN),
        {"no pseudo boxes": f"(0.99 since the start): lower {SCORE}, {LONGER}"},
    ),
    "50 per image": (dict(detections=9000, confident=5000, **UNKNOWN), {}),
    "51 per image": (
        dict(detections=9000, confident=5100, **UNKNOWN),
        {
            "many pseudo boxes": f"51 pseudo boxes per image: raise {SCORE}, "
            "unless there are as many objects"
        },
    ),
    "51 per image, as the labels have": (
        dict(detections=9000, confident=5100, labeled_classes=(1200, 1400)),
        {},
    ),
    "51 per image, the labels have fewer": (
        dict(detections=9000, confident=5100, classes=(100, 5000)),
        {
            "pseudo boxes unlike labels": "51.0 pseudo boxes per image where labeled images hold "
            f"4.0 (dog 50.0 for 2.4): raise {SCORE}"
        },
    ),
    "95 of 100 detections": (dict(detections=100, confident=95, **UNKNOWN), {}),
    "96 of 100 detections": (
        dict(detections=100, confident=96, **UNKNOWN),
        {
            "nearly every detection": "96% of the teacher's detections are pseudo boxes: raise "
            f"{SCORE}, unless the teacher is right as often"
        },
    ),
    "all of few detections": (dict(detections=49, confident=49, **UNKNOWN), {}),
    "many and all": (
        dict(detections=6000, confident=6000, **UNKNOWN),
        {"many pseudo boxes": ""},
    ),
    "all, and too few": (
        dict(detections=100, confident=100, classes=(40, 60)),
        {"pseudo boxes unlike labels": f": lower {SCORE}, {LONGER}"},
    ),
    "no candidate is stable": (
        dict(stable=0),
        {
            "few stable boxes": "0 of 500 jittered boxes are pseudo boxes for regression, "
            f"mean variance 0.03: raise {VARIANCE}, to 0.03"
        },
    ),
    "4.8 % are stable": (dict(stable=24), {"few stable boxes": "24 of 500"}),
    "5 % are stable": (dict(stable=25), {}),
    "95 % are stable": (dict(stable=475), {}),
    "95.2 % are stable": (
        dict(stable=476, variance=5 * ONE),
        {
            "many stable boxes": "476 of 500 jittered boxes are pseudo boxes for regression, "
            f"mean variance 0.01: lower {VARIANCE}, to 0.01"
        },
    ),
    "few are stable, though their mean variance is low": (
        dict(stable=0, variance=9 * ONE),
        {"few stable boxes": f"mean variance 0.018: raise {VARIANCE}"},
    ),
    "all are stable but one, of a large variance": (
        dict(stable=499),
        {"many stable boxes": f"mean variance 0.03: lower {VARIANCE}"},
    ),
    "a mean variance that is no threshold": (
        dict(stable=0, variance=500 * ONE),
        {"few stable boxes": f"mean variance 1: raise {VARIANCE}"},
    ),
    "no variance is finite": (
        dict(stable=0, measured=0, variance=0),
        {"few stable boxes": f"none finite: raise {VARIANCE}"},
    ),
    "few candidates, none stable": (dict(candidates=49, stable=0), {}),
    "few candidates, all stable": (dict(candidates=49, stable=49), {}),
    "neither kind": (
        dict(confident=0, stable=0, classes=()),
        {"no pseudo boxes": "", "few stable boxes": ""},
    ),
    "no loss of labeled images": (dict(labeled_loss=0), {}),
    "8 times the loss": (dict(unlabeled_loss=800 * ONE), {}),
    "10 times the loss": (
        dict(unlabeled_loss=1000 * ONE),
        {
            "losses of unlabeled images": "the losses of unlabeled images are 10.0 times those of "
            "labeled ones: lower SoftTeacher.alpha, now 4, to 0.4, where both weigh the same"
        },
    ),
}


def ends_where(text: str, part: str) -> bool:
    """Whether a line has a part, and nothing after it that the part would name."""
    return part in text and (not part.endswith(VARIANCE) or text.endswith(part))


@pytest.mark.parametrize("changes, expected", CASES.values(), ids=CASES.keys())
def test_conditions_and_lines_that_name_the_numbers_and_what_to_change(changes, expected):
    found = diagnose(replace(HEALTHY, **changes), SETTINGS, best_score=0.99)
    assert list(found) == list(expected)
    for condition, text in expected.items():
        assert ends_where(found[condition], text) and "\n" not in found[condition]


def test_without_unlabeled_images_nothing_is_wrong():
    assert diagnose(Totals(), SETTINGS, best_score=0.0) == {}
    assert diagnose(Totals(labeled_images=9), SETTINGS, best_score=0.0) == {}


def test_without_jitter_stability_is_not_judged():
    totals = replace(HEALTHY, stable=0)
    assert diagnose(totals, replace(SETTINGS, variance_thresh=None), best_score=0.99) == {}


@pytest.mark.parametrize(
    "changes, line",
    [
        (dict(detections=300), None),  # all pass, as precomputed labels do
        (
            dict(detections=6000, confident=6000, **UNKNOWN),
            f"60 pseudo boxes per image: raise {SCORE}, unless there are as many objects",
        ),
        (
            dict(confident=0, **UNKNOWN),
            "no precomputed pseudo label is a pseudo box, the best score is 0.99: lower " + SCORE,
        ),
    ],
)
def test_of_precomputed_pseudo_labels_most_may_pass_and_no_teacher_can_learn(changes, line):
    settings = replace(SETTINGS, given=True)
    found = diagnose(replace(HEALTHY, **changes), settings, best_score=0.99)
    assert list(found.values()) == [line] * (line is not None)


def test_the_old_defaults_on_photographs_of_blood_cells_are_found_wrong():
    """13 objects an image and 2 pseudo boxes at a threshold of 0.9; 4 of 533 boxes are stable."""
    cells = ["RBC", "WBC", "Platelets"]
    totals = Totals(
        images=100, detections=2000, confident=200, candidates=533, stable=4, measured=533,
        variance=32 * ONE, best_score=0.98, classes=(150, 50),
        scores=scores(at_10=600, at_50=200, at_60=700, at_75=300, at_90=200),
        labeled_images=100, labeled_classes=(1160, 100, 80),
    )  # fmt: skip
    settings = Settings(score_thresh=0.9, variance_thresh=0.02, alpha=4.0, class_names=cells)
    assert diagnose(totals, settings, best_score=0.98) == {
        "pseudo boxes unlike labels": "2.0 pseudo boxes per image where labeled images hold 13.4 "
        f"(RBC 1.5 for 11.6, Platelets 0.00 for 0.80): lower {SCORE}, to 0.5",
        "few stable boxes": "4 of 533 jittered boxes are pseudo boxes for regression, mean "
        f"variance 0.06: raise {VARIANCE}, to 0.06",
    }


# --- pseudo boxes and labeled boxes


def measured(images, classes, labeled_images, labeled_classes):
    return Totals(
        images=images, detections=9999, confident=sum(classes), classes=classes,
        labeled_images=labeled_images, labeled_classes=labeled_classes,
    )  # fmt: skip


@pytest.mark.parametrize(
    "totals, expected",
    [
        (Totals(), ""),
        (measured(0, (), 9, (90,)), ""),
        (measured(9, (90,), 0, ()), ""),
        # A third and three times are near.
        (measured(100, (100,), 100, (300,)), ""),
        (measured(100, (300,), 100, (100,)), ""),
        (measured(100, (99,), 100, (300,)), "1.0 pseudo boxes per image where labeled images hold "
         f"3.0 (cat 0.99 for 3.0): lower {SCORE}"),
        (measured(100, (301,), 100, (100,)), "3.0 pseudo boxes per image where labeled images hold "
         f"1.0 (cat 3.0 for 1.0): raise {SCORE}"),
        # Fewer than 50 boxes could be chance, whichever of the images there are fewer of.
        (measured(100, (0,), 100, (49,)), ""),
        (measured(10, (0,), 100, (499,)), ""),
        (measured(10, (0,), 100, (500,)), "(cat 0.00 for 5.0)"),
        (measured(100, (1000,), 4, (4,)), ""),
        (measured(100, (1300,), 4, (4,)), "(cat 13.0 for 1.0)"),
        # A class alone by a factor of ten, though the sums agree; the largest difference decides.
        (measured(100, (400, 10), 100, (350, 100)), ""),
        (measured(100, (400, 9), 100, (350, 100)), "(dog 0.09 for 1.0): lower"),
        (measured(100, (0, 200), 100, (100, 10)), "(dog 2.0 for 0.10, cat 0.00 for 1.0): raise"),
        # The sum alone: 2 boxes in all, where 200 classes have 0.04 each
        (measured(100, (1,) * 200, 100, (4,) * 200), "2.0 pseudo boxes per image where labeled "
         f"images hold 8.0: lower {SCORE}"),
        # Of many classes some always differ.
        (measured(100, (100,) * 19 + (0,), 100, (100,) * 20), "(class 19 0.00 for 1.0): lower"),
        (measured(100, (100,) * 20 + (0,), 100, (100,) * 21), ""),
        (measured(100, (1,) * 21, 100, (100,) * 21),
         "(cat 0.01 for 1.0, dog 0.01 for 1.0, class 2 0.01 for 1.0, 18 more): lower"),
    ],
)  # fmt: skip
def test_pseudo_boxes_per_image_are_compared_with_labeled_boxes_per_image(totals, expected):
    found = compared(totals, SETTINGS)
    assert expected in found and bool(expected) == bool(found)


def test_classes_that_an_older_checkpoint_did_not_count_are_not_compared():
    totals = replace(measured(100, (10,), 100, (300,)), confident=300)
    assert compared(totals, SETTINGS) == ""


# 4 detections an image: 1 above 0.9, another above 0.5, another above 0.3, another above 0.1
SPREAD = Totals(
    images=10, detections=40, confident=10,
    scores=scores(at_90=10, at_50=10, at_30=10, at_10=10),
)  # fmt: skip


@pytest.mark.parametrize(
    "changes, aim, now, lower, expected",
    [
        (dict(detections=0, confident=0, scores=()), 2, 0.9, True, None),
        ({}, 2, 0.9, True, 0.5),
        ({}, 1.4, 0.9, True, None),  # as good as it gets
        ({}, 4, 0.9, True, 0.5),  # not below the half of 0.9
        ({}, 4, 0.5, True, 0.3),
        (dict(confident=30), 2, 0.3, False, 0.35),  # the nearest of those that are as good
        (dict(confident=30), 0, 0.3, False, 0.95),
        (dict(confident=10), 0.9, 0.9, False, None),
        (dict(detections=50), 2, 0.9, True, None),  # not all of the scores are known
    ],
)
def test_the_threshold_that_leaves_so_many_boxes(changes, aim, now, lower, expected):
    assert score_for(replace(SPREAD, **changes), aim, now, lower=lower) == expected


# --- the teacher's AP


@pytest.mark.parametrize(
    "ap, expected",
    [
        (35.0, ""),
        (29.0, ""),
        (28.9, "the teacher's AP is 28.9, it was 30.0 after 300 steps: lower SoftTeacher.alpha, "
         f"now 4, to 1, or try another {SCORE}"),
        (float("nan"), "the teacher's AP is nan, it was 30.0"),
    ],
)  # fmt: skip
def test_an_ap_that_fell_by_more_than_one_is_no_noise(ap, expected):
    found = declined(ap, 30.0, 300, SETTINGS)
    assert found.startswith(expected) and bool(found) == bool(expected)


def test_where_unlabeled_images_have_no_weight_they_have_no_part_in_it():
    assert declined(1.0, 30.0, 300, replace(SETTINGS, alpha=0.0)) == ""


def test_thresholds_by_density_are_raised_for_more_boxes_and_have_no_score():
    by_density = replace(SETTINGS, density=0.8)
    few = replace(HEALTHY, confident=30, classes=(10, 20))
    many = replace(HEALTHY, confident=1900, classes=(900, 1000))
    for totals, verb in ((few, "raise"), (many, "lower")):
        text = diagnose(totals, by_density, best_score=0.99)["pseudo boxes unlike labels"]
        assert f": {verb} DensityThresholds.foreground, now 0.8" in text
        assert "score_thresh" not in text
    assert "another DensityThresholds.foreground" in declined(30.0, 40.0, 100, by_density)


@pytest.mark.parametrize("share, known", [(0.0, 0.02), (0.7, None)])
def test_the_variance_threshold_is_not_blamed_where_a_share_is_kept(share, known):
    labeler = PseudoLabeler(stable_share=share)
    model = SimpleNamespace(pseudo_labeler=labeler, alpha=1.0, label_source="teacher")
    assert Settings.of(model).variance_thresh == known
