"""G_cls by score, G_reg by box regression variance, and their way to the student's view."""

import re

import numpy as np
import pytest
import torch

from soft_teacher import ConfigError
from soft_teacher.experiment.words import YAML_WORDS
from soft_teacher.modeling import PseudoLabeler
from soft_teacher.modeling.families.base import MeasuresStability, TeacherPass
from soft_teacher.modeling.pseudo_labels import rows_where
from soft_teacher.modeling.views import ViewTransport

BOXES = [[10, 10, 40, 40], [50, 20, 90, 60], [4, 40, 24, 60], [60, 2, 80, 12]]
CLASSES = [0, 2, 1, 2]
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


def label(labeler, seen, seeds=None, matrices=None, sizes=None):
    """What the labeler makes of a pass; the student sees the teacher's views by default."""
    weak = [found.image_size for found in seen.detections]
    matrices = torch.eye(3).expand(len(weak), 3, 3) if matrices is None else matrices
    transport = ViewTransport(matrices, weak, sizes or weak, torch.device("cpu"))
    return labeler(seen, transport, [0] * len(weak) if seeds is None else seeds)


def label_by_score(*images):
    return label(PseudoLabeler(measure_stability=False), TeacherPass(list(images)))


def boxes_and_classes(labels):
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


@pytest.mark.parametrize("scores, chosen", BY_SCORE.values(), ids=BY_SCORE.keys())
def test_g_cls_is_what_is_scored_strictly_above_its_threshold(detections, scores, chosen):
    n = len(scores)
    image = detections(BOXES[:n], CLASSES[:n], scores)
    (g_cls,) = label_by_score(image).classification
    assert boxes_and_classes(g_cls) == rows(*chosen)
    assert g_cls.image_size == image.image_size


@pytest.mark.parametrize("scores, chosen", BY_SCORE.values(), ids=BY_SCORE.keys())
def test_without_box_jittering_g_reg_is_g_cls(detections, scores, chosen):
    n = len(scores)
    image = detections(BOXES[:n], CLASSES[:n], scores)
    (g_reg,) = label_by_score(image).regression
    assert boxes_and_classes(g_reg) == rows(*chosen)


# scores, jittered rows (above 0.5), their variances, rows below 0.02
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
    "not a number": ([0.6], [0], [float("nan")], []),
    "a high score does not help": ([0.99, 0.6, 0.3, 0.7], [0, 1, 3], [0.5, 0.01, 0.019], [1, 3]),
}


@pytest.mark.parametrize(
    "scores, jittered, variances, chosen", BY_VARIANCE.values(), ids=BY_VARIANCE.keys()
)
def test_g_reg_is_what_scores_above_a_half_and_varies_strictly_less_than_its_threshold(
    detections, scores, jittered, variances, chosen
):
    n = len(scores)
    image = detections(BOXES[:n], CLASSES[:n], scores)
    seen = KnownVariances([image], [variances])
    (g_reg,) = label(PseudoLabeler(), seen, [17]).regression
    assert boxes_and_classes(g_reg) == rows(*chosen)
    assert g_reg.image_size == image.image_size
    assert seen.asked == [([jittered], [17])]


def test_the_two_sets_are_chosen_independently(detections):
    image = detections(BOXES, CLASSES, [0.95, 0.6, 0.93, 0.2])
    labels = label(PseudoLabeler(), KnownVariances([image], [[0.5, 0.01, 0.01]]))
    assert boxes_and_classes(labels.classification[0]) == rows(0, 2)
    assert boxes_and_classes(labels.regression[0]) == rows(1, 2)


def test_images_are_labeled_each_by_its_own(detections):
    images = [
        detections(),
        detections(BOXES, CLASSES, [0.95, 0.6, 0.3, 0.99]),
        detections(BOXES[:1], CLASSES[:1], [0.92]),
    ]
    seen = KnownVariances(images, [[], [0.01, 0.5, 0.01], [0.5]])
    labels = label(PseudoLabeler(), seen, [5, 6, 7])
    assert [boxes_and_classes(g) for g in labels.classification] == [rows(), rows(0, 3), rows(0)]
    assert [boxes_and_classes(g) for g in labels.regression] == [rows(), rows(0, 3), rows()]
    assert seen.asked == [([[], [0, 1, 3], [0]], [5, 6, 7])]


def test_other_thresholds_are_obeyed(detections):
    image = detections(BOXES, CLASSES, [0.9, 0.6, 0.3, 0.1])
    labeler = PseudoLabeler(score_thresh=0.5, candidate_thresh=0.2, variance_thresh=0.3)
    labels = label(labeler, KnownVariances([image], [[0.5, 0.2, 0.1]]))
    assert boxes_and_classes(labels.classification[0]) == rows(0, 1)
    assert boxes_and_classes(labels.regression[0]) == rows(1, 2)


def test_pseudo_labels_look_like_ground_truth(detections, targets):
    image = detections(BOXES, CLASSES, [0.95] * 4)
    labels = label_by_score(image)
    for (labels,) in (labels.classification, labels.regression):
        assert set(labels.get_fields()) == set(targets().get_fields())


def test_the_detections_are_left_alone(detections):
    image = detections(BOXES, CLASSES, [0.95, 0.6, 0.3, 0.99])
    label(PseudoLabeler(), KnownVariances([image], [[0.01] * 3]))
    assert set(image.get_fields()) == {"pred_boxes", "pred_classes", "scores"}
    assert image.pred_boxes.tensor.tolist() == BOXES and image.pred_classes.tolist() == CLASSES


def test_mean_counts_per_image_are_logged(detections, storage):
    images = [detections(), detections(BOXES, CLASSES, [0.95, 0.6, 0.3, 0.99])]
    label(PseudoLabeler(), KnownVariances(images, [[], [0.01, 0.5, 0.5]]))
    logged = {key: value for key, (value, _) in storage.latest().items()}
    assert logged["num_detections"] == 4 / 2
    assert logged["num_cls_boxes"] == 2 / 2
    assert logged["num_reg_candidates"] == 3 / 2
    assert logged["num_reg_boxes"] == 1 / 2


# --- configuration


def test_the_paper_is_the_default(tiny_cfg):
    for labeler in (PseudoLabeler(), PseudoLabeler(tiny_cfg)):
        assert (labeler.score_thresh, labeler.candidate_thresh) == (0.9, 0.5)
        assert labeler.variance_thresh == 0.02 and labeler.measure_stability


SETTINGS = {
    "SCORE_THRESH": ("score_thresh", 0.75),
    "JITTER.SCORE_THRESH": ("candidate_thresh", 0.25),
    "JITTER.VARIANCE_THRESH": ("variance_thresh", 0.5),
    "JITTER.ENABLED": ("measure_stability", False),
}


@pytest.mark.parametrize("key", SETTINGS)
def test_every_config_key_is_read(tiny_cfg, key):
    name, value = SETTINGS[key]
    tiny_cfg.merge_from_list([f"SOFT_TEACHER.{key}", value])
    assert getattr(PseudoLabeler(tiny_cfg), name) == value


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.1, float("nan")])
@pytest.mark.parametrize("key", ["SCORE_THRESH", "JITTER.SCORE_THRESH", "JITTER.VARIANCE_THRESH"])
def test_a_threshold_outside_0_1_is_refused_by_its_key(tiny_cfg, key, value):
    tiny_cfg.merge_from_list([f"SOFT_TEACHER.{key}", value])
    with pytest.raises(
        ConfigError, match=rf"^SOFT_TEACHER\.{re.escape(key)} .*\Z"
    ), YAML_WORDS.spoken():
        PseudoLabeler(tiny_cfg)


def test_the_lowest_score_is_that_of_either_use():
    assert PseudoLabeler().lowest_score == 0.5
    assert PseudoLabeler(score_thresh=0.4).lowest_score == 0.4
    assert PseudoLabeler(measure_stability=False).lowest_score == 0.9


# --- transport


@pytest.fixture
def carried_labels(detections):
    """carried_labels(boxes, classes, matrix, size): all are in both sets; the student's view."""

    def carried_labels(boxes, classes, matrix, size):
        image = detections(boxes, classes, [0.95] * len(boxes))
        seen = KnownVariances([image], [[0.01] * len(boxes)])
        matrices = torch.as_tensor(matrix, dtype=torch.float32)[None]
        labels = label(PseudoLabeler(), seen, matrices=matrices, sizes=[size])
        (g_cls,), (g_reg,) = labels.classification, labels.regression
        assert boxes_and_classes(g_cls) == boxes_and_classes(g_reg)
        return g_cls

    return carried_labels


# shift of x and y, rows of BOXES that stay in the 64 x 96 view
SHIFTS = {
    "all stay": ((3, -1), [0, 1, 2, 3]),
    "the right edge touches the left border": ((-40, 0), [1, 3]),
    "one pixel is left": ((-39, 0), [0, 1, 3]),
    "the left edge touches the right border": ((36, 0), [0, 1, 2]),
    "out below": ((0, 44), [0, 3]),
    "out above": ((0, -40), [1, 2]),
    "all leave": ((200, 200), []),
}


@pytest.mark.parametrize("shift, left", SHIFTS.values(), ids=SHIFTS.keys())
def test_boxes_that_leave_the_view_are_dropped_with_their_class(
    carried_labels, carry_in_numpy, shift, left
):
    matrix = np.eye(3)
    matrix[:2, 2] = shift
    labels = carried_labels(BOXES, CLASSES, matrix, (64, 96))
    expected = carry_in_numpy([BOXES[i] for i in left], matrix, (64, 96))
    np.testing.assert_allclose(labels.gt_boxes.tensor, expected, rtol=0, atol=1e-4)
    assert labels.gt_classes.tolist() == [CLASSES[i] for i in left]
    assert labels.image_size == (64, 96)


@pytest.mark.parametrize(
    "box", [[5, 5, 5, 20], [5, 5, 20, 5], [5, 5, 5, 5]], ids=["no width", "no height", "a point"]
)
def test_boxes_without_extent_are_dropped(carried_labels, box):
    labels = carried_labels([box, BOXES[0]], [1, 2], np.eye(3), (64, 96))
    assert boxes_and_classes(labels) == ([list(map(float, BOXES[0]))], [2])


def test_both_sets_go_through_the_matrix_of_their_image(detections, carry_in_numpy):
    flip = np.array([[-1.0, 0, 96], [0, 1, 0], [0, 0, 1]])
    shrink = np.diag([0.5, 0.5, 1])
    sizes = [(64, 96), (32, 48)]
    images = [
        detections(BOXES[:3], CLASSES[:3], [0.95, 0.95, 0.6]),
        detections([BOXES[0], BOXES[3]], [CLASSES[0], CLASSES[3]], [0.95, 0.6]),
    ]
    seen = KnownVariances(images, [[0.5, 0.5, 0.01], [0.5, 0.01]])
    matrices = torch.tensor(np.stack([flip, shrink]), dtype=torch.float32)
    labels = label(PseudoLabeler(), seen, matrices=matrices, sizes=sizes)
    for found, chosen in (
        (labels.classification, [BOXES[:2], BOXES[:1]]),
        (labels.regression, [BOXES[2:3], BOXES[3:]]),
    ):
        for image, boxes, matrix, size in zip(found, chosen, [flip, shrink], sizes):
            assert image.image_size == size
            expected = carry_in_numpy(boxes, matrix, size)
            np.testing.assert_allclose(image.gt_boxes.tensor, expected, rtol=0, atol=1e-4)


def test_what_is_shown_to_watchers_is_in_the_teachers_view_and_complete(detections):
    image = detections(BOXES, CLASSES, [0.95, 0.6, 0.93, 0.2])
    seen = KnownVariances([image], [[0.5, 0.01, 0.01]])
    far = torch.tensor([[[1.0, 0, 500], [0, 1, 500], [0, 0, 1]]])
    labels = label(PseudoLabeler(), seen, matrices=far)
    (shown,) = labels.chosen_from
    assert shown.detections is image
    assert shown.confident.tolist() == [0, 2]
    assert shown.candidates.tolist() == [0, 1, 2]
    np.testing.assert_allclose(shown.variances, [0.5, 0.01, 0.01])
    assert shown.stable.tolist() == [1, 2]
    assert len(labels.classification[0]) == len(labels.regression[0]) == 0


def test_no_images_have_no_labels():
    labels = label(PseudoLabeler(), KnownVariances([], []))
    assert labels.classification == [] and labels.regression == [] and labels.chosen_from == []


# --- reading the device

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
