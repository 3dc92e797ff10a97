"""G_cls by score, G_reg by box regression variance, and their way to the student's view."""

import numpy as np
import pytest
import torch
from by_hand import warp
from steps import BOXES, CLASSES, NAN, SIZE, detections, targets

from soft_teacher import ConfigError
from soft_teacher.experiment.words import YAML_WORDS
from soft_teacher.modeling import DensityThresholds, PseudoLabeler
from soft_teacher.modeling.families.base import MeasuresStability, TeacherPass
from soft_teacher.modeling.pseudo_labels import rows_where
from soft_teacher.modeling.views import ViewTransport

BELOW, ABOVE = np.float32(-1), np.float32(2)


def next_to(value, towards):
    """The float32 next to ``value``."""
    return float(np.nextafter(np.float32(value), towards))


class KnownVariances(TeacherPass, MeasuresStability):
    """A pass with given results, one per candidate in order of its image."""

    def __init__(self, detections, variances):
        super().__init__(detections)
        self.known = [torch.tensor(v, dtype=torch.float32) for v in variances]
        self.asked = []

    def variances(self, rows, seeds):
        self.asked.append(([r.tolist() for r in rows], seeds))
        assert [len(v) for v in self.known] == [len(r) for r in rows]
        return self.known


def found(scores):
    return detections(BOXES[: len(scores)], CLASSES[: len(scores)], scores)


def label(labeler, seen, seeds=None, matrices=None, sizes=None):
    """What the labeler makes of a pass; the student sees the teacher's views by default."""
    weak = [d.image_size for d in seen.detections]
    matrices = torch.eye(3).expand(len(weak), 3, 3) if matrices is None else matrices
    transport = ViewTransport(matrices, weak, sizes or weak, torch.device("cpu"))
    return labeler(seen, transport, [0] * len(weak) if seeds is None else seeds)


def as_lists(labels):
    return labels.gt_boxes.tensor.tolist(), labels.gt_classes.tolist()


def rows(*indices):
    return [list(map(float, BOXES[i])) for i in indices], [CLASSES[i] for i in indices]


# --- thresholds

# scores, rows above 0.9
BY_SCORE = {
    "no detections": ([], []),
    "one detection below": ([0.5], []),
    "one detection above": ([0.95], [0]),
    "at the threshold": ([0.9], []),
    "just above": ([next_to(0.9, ABOVE)], [0]),
    "just below": ([next_to(0.9, BELOW)], []),
    "certain": ([1.0, 0.0, 1.0], [0, 2]),
    "some": ([0.95, 0.9, 0.05, 0.91], [0, 3]),
}
every_score = pytest.mark.parametrize("scores, chosen", BY_SCORE.values(), ids=BY_SCORE.keys())


@every_score
def test_g_cls_is_what_is_scored_strictly_above_its_threshold(scores, chosen):
    seen = KnownVariances([found(scores)], [[0.5] * sum(s > 0.5 for s in scores)])
    (g_cls,) = label(PseudoLabeler(), seen).classification
    assert as_lists(g_cls) == rows(*chosen)
    assert g_cls.image_size == SIZE and set(g_cls.get_fields()) == set(targets().get_fields())


@every_score
def test_without_box_jittering_g_reg_is_g_cls(scores, chosen):
    labels = label(PseudoLabeler(measure_stability=False), TeacherPass([found(scores)]))
    for (boxes,) in (labels.classification, labels.regression):
        assert as_lists(boxes) == rows(*chosen)


# scores, measured rows (above 0.5), their variances, rows below 0.02
BY_VARIANCE = {
    "no detections": ([], [], [], []),
    "none is a candidate": ([0.4, 0.1], [], [], []),
    "one stable": ([0.6], [0], [0.01], [0]),
    "one unstable": ([0.6], [0], [0.03], []),
    "at the score": ([0.5], [], [], []),
    "just above the score": ([next_to(0.5, ABOVE)], [0], [0.01], [0]),
    "just below the score": ([next_to(0.5, BELOW)], [], [], []),
    "at the variance": ([0.6], [0], [0.02], []),
    "just below the variance": ([0.6], [0], [next_to(0.02, BELOW)], [0]),
    "just above the variance": ([0.6], [0], [next_to(0.02, ABOVE)], []),
    "no spread": ([0.6], [0], [0.0], [0]),
    "no extent": ([0.6], [0], [float("inf")], []),
    "not a number": ([0.6], [0], [NAN], []),
    "a high score does not help": ([0.99, 0.6, 0.3, 0.7], [0, 1, 3], [0.5, 0.01, 0.019], [1, 3]),
}


@pytest.mark.parametrize(
    "scores, measured, variances, chosen", BY_VARIANCE.values(), ids=BY_VARIANCE.keys()
)
def test_g_reg_is_what_scores_above_a_half_and_varies_strictly_less_than_its_threshold(
    scores, measured, variances, chosen
):
    seen = KnownVariances([found(scores)], [variances])
    (g_reg,) = label(PseudoLabeler(), seen, [17]).regression
    assert as_lists(g_reg) == rows(*chosen)
    assert g_reg.image_size == SIZE and set(g_reg.get_fields()) == set(targets().get_fields())
    assert seen.asked == [([measured], [17])]


def test_other_thresholds_are_obeyed():
    labeler = PseudoLabeler(score_thresh=0.5, candidate_thresh=0.2, variance_thresh=0.3)
    labels = label(labeler, KnownVariances([found([0.9, 0.6, 0.3, 0.1])], [[0.5, 0.2, 0.1]]))
    assert as_lists(labels.classification[0]) == rows(0, 1)
    assert as_lists(labels.regression[0]) == rows(1, 2)


def test_the_two_sets_are_chosen_independently():
    """And what observers see is complete, though all boxes have left the student's view."""
    image = found([0.95, 0.6, 0.93, 0.2])
    seen = KnownVariances([image], [[0.5, 0.01, 0.01]])
    labels = label(PseudoLabeler(), seen)
    assert as_lists(labels.classification[0]) == rows(0, 2)
    assert as_lists(labels.regression[0]) == rows(1, 2)
    far = torch.tensor([[[1.0, 0, 500], [0, 1, 500], [0, 0, 1]]])
    labels = label(PseudoLabeler(), seen, matrices=far)
    assert len(labels.classification[0]) == len(labels.regression[0]) == 0
    (shown,) = labels.chosen_from
    assert shown.detections is image and image.pred_boxes.tensor.tolist() == BOXES
    assert shown.confident.tolist() == [0, 2]
    assert shown.candidates.tolist() == [0, 1, 2]
    np.testing.assert_allclose(shown.variances, [0.5, 0.01, 0.01])
    assert shown.stable.tolist() == [1, 2]


def test_no_images_have_no_labels():
    labels = label(PseudoLabeler(), KnownVariances([], []))
    assert labels.classification == [] and labels.regression == [] and labels.chosen_from == []


def test_images_are_labeled_and_logged_each_by_its_own(storage):
    images = [found([]), found([0.95, 0.6, 0.3, 0.99]), found([0.92])]
    seen = KnownVariances(images, [[], [0.01, 0.5, 0.01], [0.5]])
    labels = label(PseudoLabeler(), seen, [5, 6, 7])
    assert [as_lists(g) for g in labels.classification] == [rows(), rows(0, 3), rows(0)]
    assert [as_lists(g) for g in labels.regression] == [rows(), rows(0, 3), rows()]
    assert seen.asked == [([[], [0, 1, 3], [0]], [5, 6, 7])]
    assert {key: value for key, (value, _) in storage.latest().items()} == {
        "num_detections": pytest.approx(5 / 3),
        "num_cls_boxes": 3 / 3,
        "num_reg_candidates": pytest.approx(4 / 3),
        "num_reg_boxes": pytest.approx(2 / 3),
    }


# --- a share of the candidates

INF = float("inf")
# share, variances of the candidates, those that are stable
BY_SHARE = {
    "no candidates": (0.5, [], []),
    "one": (0.01, [0.7], [0]),
    "one without extent": (1.0, [INF], []),
    "half": (0.5, [0.4, 0.1, 0.3, 0.2], [1, 3]),
    "half, rounded up": (0.5, [0.4, 0.1, 0.3], [1, 2]),
    "all": (1.0, [0.4, 0.1, 90.0], [0, 1, 2]),
    "what ties with the last one": (0.25, [0.3, 0.1, 0.1, 0.2], [1, 2]),
    "all alike": (0.25, [0.2, 0.2, 0.2, 0.2], [0, 1, 2, 3]),
    "no extent counts but is not stable": (0.75, [INF, 0.3, INF, 0.2], [1, 3]),
    "nor is what is not a number": (0.75, [NAN, 0.3, 0.2, INF], [1, 2]),
    "a number that is not, last of all": (1.0, [NAN, 0.3], [1]),
}


@pytest.mark.parametrize("share, variances, chosen", BY_SHARE.values(), ids=BY_SHARE)
def test_g_reg_is_the_share_of_the_candidates_that_vary_least(share, variances, chosen):
    seen = KnownVariances([found([0.6] * len(variances))], [variances])
    (g_reg,) = label(PseudoLabeler(stable_share=share), seen).regression
    assert as_lists(g_reg) == rows(*chosen)


@pytest.mark.parametrize("share", [0.01, 0.07, 0.14, 0.28, 0.29, 0.55, 0.56, 0.57, 0.58, 1.0])
def test_the_share_is_rounded_up_as_the_decimal_number_that_it_is(share):
    """0.07 * 100 is 7.000000000000001 to a float."""
    many = detections([BOXES[0]] * 100, [0] * 100, [0.6] * 100)
    seen = KnownVariances([many], [list(range(100))])
    (g_reg,) = label(PseudoLabeler(stable_share=share), seen).regression
    assert len(g_reg) == round(100 * share)


def test_every_image_has_its_own_share():
    images = [found([]), found([0.6, 0.6]), found([0.6] * 4)]
    seen = KnownVariances(images, [[], [0.5, 0.1], [0.01, 0.02, 0.03, 0.04]])
    labels = label(PseudoLabeler(stable_share=0.5), seen)
    assert [as_lists(g) for g in labels.regression] == [rows(), rows(1), rows(0, 1)]


# --- thresholds for each class


def by_density(*thresholds, **settings):
    """A labeler with these thresholds for the three classes of CLASSES: upper ones, lower ones."""
    ignore = 2.0 if len(thresholds) == 2 else 0.0
    density = DensityThresholds(ignore=ignore)
    labeler = PseudoLabeler(by_density=True, density=density, **settings)
    density.allocate(3, 0.9)
    density.thresholds.copy_(torch.tensor(thresholds))
    return labeler


def ignored_of(labels):
    return [boxes.tensor.tolist() for boxes in labels.ignored]


@pytest.mark.parametrize("measure_stability", [True, False])
@pytest.mark.parametrize("levels", [1, 2])
def test_by_density_no_images_have_no_labels(levels, measure_stability):
    labeler = by_density(*[[0.5] * 3] * levels, measure_stability=measure_stability)
    labels = label(labeler, KnownVariances([], []))
    assert labels.classification == labels.regression == labels.ignored == []


# scores of boxes of the classes 0, 2, 1, 2; rows above 0.8, 0.6, 0.4; ignored rows, above
# 0.5, 0.1, 0.4
BY_CLASS = {
    "no detections": ([], [], []),
    "all above": ([0.9] * 4, [0, 1, 2, 3], []),
    "all below": ([0.09] * 4, [], []),
    "between": ([0.7, 0.3, 0.5, 0.41], [3], [0, 1]),
    "at the thresholds": ([0.5, 0.4, 0.6, 0.1], [], [1]),
    "just above": (
        [next_to(t, ABOVE) for t in (0.5, 0.4, 0.6, 0.1)],
        [1, 2],
        [0, 3],
    ),
}


@pytest.mark.parametrize("scores, chosen, ignored", BY_CLASS.values(), ids=BY_CLASS)
def test_by_density_every_class_has_its_own_thresholds(scores, chosen, ignored):
    """Of scores strictly above; what is not a pseudo box for classification is not measured."""
    upper, lower = [0.8, 0.6, 0.4], [0.5, 0.6, 0.1]
    for thresholds, left_out in (([upper], None), ([upper, lower], ignored)):
        seen = KnownVariances([found(scores)], [[0.01] * len(chosen)])
        labels = label(by_density(*thresholds), seen, [3])
        assert as_lists(labels.classification[0]) == rows(*chosen)
        assert as_lists(labels.regression[0]) == rows(*chosen)
        assert seen.asked == [([chosen], [3])]
        assert ignored_of(labels) == ([] if left_out is None else [rows(*left_out)[0]])


@pytest.mark.parametrize("ignore", [0.0, 2.0])
def test_by_density_the_best_scores_may_train_regression_in_place_of_box_jittering(ignore):
    """Rows of the classes 0, 2, 1, 2 above 0.8, 0.6, 0.4; for regression 0.9, 0.9, 0.5."""
    density = DensityThresholds(ignore=ignore, regression=0.4)
    labeler = PseudoLabeler(measure_stability=False, by_density=True, density=density)
    density.allocate(3, 0.9)
    density.thresholds[0] = torch.tensor([0.8, 0.6, 0.4])
    density.thresholds[-1] = torch.tensor([0.9, 0.9, 0.5])
    seen = TeacherPass([found([0.85, 0.95, 0.91, 0.45]), found([])])
    labels = label(labeler, seen)
    assert [as_lists(g) for g in labels.classification] == [rows(0, 1, 2, 3), rows()]
    assert [as_lists(g) for g in labels.regression] == [rows(1, 2), rows()]
    assert [len(boxes.candidates) for boxes in labels.chosen_from] == [0, 0]


def test_two_ways_to_choose_boxes_for_regression_are_refused():
    density = DensityThresholds(regression=0.4)
    with pytest.raises(ConfigError) as error, YAML_WORDS.spoken():
        PseudoLabeler(by_density=True, density=density)
    assert str(error.value) == (
        "SOFT_TEACHER.DENSITY.REGRESSION chooses boxes in place of box jittering: set it to 0, or "
        "SOFT_TEACHER.JITTER.ENABLED to False"
    )
    PseudoLabeler(density=density)  # not in use


def test_ignored_boxes_go_to_the_student_s_view_of_their_image():
    """By hand: x -> x - 40, and what has left the view is dropped."""
    labeler = by_density([0.9] * 3, [0.1] * 3, measure_stability=False)
    images = [found([]), found([0.5, 0.6, 0.95, 0.7]), found([0.5])]
    move = torch.tensor([[1.0, 0, -40], [0, 1, 0], [0, 0, 1]])
    matrices = torch.stack([torch.eye(3), move, torch.eye(3)])
    labels = label(labeler, TeacherPass(images), matrices=matrices)
    assert ignored_of(labels) == [[], [[10, 20, 50, 60], [30, 2, 54, 22]], rows(0)[0]]


def test_by_density_the_detections_are_counted_and_change_nothing_before_the_step_ends():
    labeler = by_density([0.9] * 3, measure_stability=False)
    images = [found([]), found([0.5, 0.6, 0.95, 0.7]), found([0.95])]
    label(labeler, TeacherPass(images))
    assert labeler.density.pending.sum() == 5 + 3
    assert (labeler.density.thresholds == 0.9).all()


def test_without_an_ignored_band_or_by_score_nothing_is_ignored():
    image = found([0.95, 0.6, 0.05, 0.91])
    for labeler in (PseudoLabeler(measure_stability=False), by_density([0.9] * 3)):
        labeler.measure_stability = False
        assert label(labeler, TeacherPass([image])).ignored == []


# --- configuration

SETTINGS = {
    "JITTER.STABLE_SHARE": ("stable_share", 0.5),
    "SCORE_THRESH": ("score_thresh", 0.75),
    "JITTER.SCORE_THRESH": ("candidate_thresh", 0.25),
    "JITTER.VARIANCE_THRESH": ("variance_thresh", 0.5),
    "JITTER.ENABLED": ("measure_stability", False),
}


def test_the_paper_is_the_default(tiny_cfg):
    paper = dict(score_thresh=0.9, candidate_thresh=0.5, variance_thresh=0.02)
    expected = {**paper, "measure_stability": True, "stable_share": 0.0, "density": None}
    for labeler in (PseudoLabeler(), PseudoLabeler(tiny_cfg)):
        assert {name: getattr(labeler, name) for name in expected} == expected


@pytest.mark.parametrize("key", SETTINGS)
def test_every_config_key_is_read_and_checked(tiny_cfg, key):
    name, value = SETTINGS[key]
    tiny_cfg.merge_from_list([f"SOFT_TEACHER.{key}", value])
    assert getattr(PseudoLabeler(tiny_cfg), name) == value
    refused = {"stable_share": [-0.1, 1.1, NAN], "measure_stability": []}
    for bad in refused.get(name, [0.0, 1.0, -0.1, 1.1, NAN]):
        tiny_cfg.merge_from_list([f"SOFT_TEACHER.{key}", bad])
        with pytest.raises(ConfigError) as error, YAML_WORDS.spoken():
            PseudoLabeler(tiny_cfg)
        assert str(error.value).startswith(f"SOFT_TEACHER.{key} must ")


def test_the_lowest_score_is_that_of_either_use():
    assert PseudoLabeler().lowest_score == 0.5
    assert PseudoLabeler(score_thresh=0.4).lowest_score == 0.4
    assert PseudoLabeler(measure_stability=False).lowest_score == 0.9
    for measures in (True, False):
        density = DensityThresholds(floor=0.3)
        labeler = PseudoLabeler(by_density=True, density=density, measure_stability=measures)
        assert labeler.lowest_score == 0.3


def test_the_thresholds_of_the_config_are_used_if_it_says_so(tiny_cfg):
    tiny_cfg.SOFT_TEACHER.DENSITY.WINDOW = 17
    assert PseudoLabeler(tiny_cfg).density is None
    tiny_cfg.SOFT_TEACHER.DENSITY.ENABLED = True
    assert PseudoLabeler(tiny_cfg).density.window == 17
    assert PseudoLabeler(by_density=True).density.window == 200
    assert PseudoLabeler(density=DensityThresholds()).density is None


# --- on to the student's view

FLIP = np.array([[-1.0, 0, 96], [0, 1, 0], [0, 0, 1]])
# matrix, size of the student's view, boxes, rows of them that stay in it
MOVES = {
    "no box": (np.eye(3), SIZE, [], []),
    **{
        name: (np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]]), SIZE, BOXES, left)
        for name, (x, y), left in (
            ("all stay", (3, -1), [0, 1, 2, 3]),
            ("the right edge touches the left border", (-40, 0), [1, 3]),
            ("one pixel is left", (-39, 0), [0, 1, 3]),
            ("the left edge touches the right border", (46, 0), [0, 2]),
            ("out below", (0, 44), [0, 3]),
            ("out above", (0, -40), [1, 2]),
            ("all leave", (200, 200), []),
        )
    },
    "flip": (FLIP, SIZE, BOXES, [0, 1, 2, 3]),
    "shrink": (np.diag([0.5, 0.5, 1]), (32, 48), BOXES, [0, 1, 2, 3]),
    "no extent": (np.eye(3), SIZE, [[5, 5, 5, 20], [5, 5, 20, 5], [5, 5, 5, 5], BOXES[0]], [3]),
}


def test_boxes_go_through_the_matrix_of_their_image_and_are_dropped_outside_the_view():
    matrices, sizes, boxes, left = zip(*MOVES.values())
    images = [detections(b, CLASSES[: len(b)], [0.95] * len(b)) for b in boxes]
    seen = KnownVariances(images, [[0.01] * len(b) for b in boxes])
    moved = torch.tensor(np.stack(matrices), dtype=torch.float32)
    labels = label(PseudoLabeler(), seen, matrices=moved, sizes=list(sizes))
    for labeled in (labels.classification, labels.regression):
        for g, matrix, size, b, rows in zip(labeled, matrices, sizes, boxes, left, strict=True):
            expected = warp([b[i] for i in rows], matrix, size)
            np.testing.assert_allclose(g.gt_boxes.tensor, expected, rtol=0, atol=1e-4)
            assert g.gt_classes.tolist() == [CLASSES[i] for i in rows] and g.image_size == size


MASKS = {
    "no masks": ([], []),
    "an empty one": ([[]], [[]]),
    "none is set": ([[0, 0]], [[]]),
    "some": ([[1, 0, 1, 1], [], [0, 1], [1]], [[0, 2, 3], [], [1], [0]]),
}


@pytest.mark.parametrize("masks, rows", MASKS.values(), ids=MASKS.keys())
def test_the_rows_of_masks_are_found_in_order(masks, rows):
    found = rows_where([torch.tensor(mask, dtype=torch.bool) for mask in masks])
    assert [r.tolist() for r in found] == rows
    assert all(r.dtype == torch.int64 for r in found)
