"""The findings about the boxes of a network, against tables worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from boxes import NAN, findings, measured

from soft_teacher import ConfigError
from soft_teacher.analysis.box_measures import Correlation, correlation
from soft_teacher.analysis.findings import findings_of
from soft_teacher.modeling import PseudoLabeler

# class, score, variance, IoU, hit (None: in a crowd)
BOXES = [
    (0, 0.95, 0.01, 0.9, True),
    (0, 0.92, 0.03, 0.6, False),
    (0, 0.65, 0.015, 0.8, True),
    (1, 0.97, 0.005, 0.9, None),
    (1, 0.55, 0.04, 0.2, False),
    (1, 0.30, NAN, 0.7, True),
]
OBJECTS = (4, 1)


def tables(found):
    return {table.name: table for table in found.tables()}


@pytest.fixture
def found():
    return findings(measured(*BOXES, objects=OBJECTS))


def test_without_boxes_the_tables_have_gaps():
    found = tables(findings(measured(objects=(3, 0))))
    assert found["thresholds"].rows[0] == [0.5, 0, None, 0.0, 0.0]
    assert [row[1:] for row in found["correlations"].rows] == 4 * [[0, None, None]]
    assert [row[1:] for row in found["pseudo_boxes"].rows] == 3 * [[0, None, None]]
    nothing = 5 * [None]
    rows = [["all", 3, *nothing], ["cat", 3, *nothing], ["dog", 0, *nothing]]
    assert found["classes"].rows == rows


def test_a_box_in_a_crowd_counts_nowhere(found):
    without = findings(measured(*(b for b in BOXES if b[4] is not None), objects=OBJECTS))
    assert found.tables() == without.tables()


def test_masks_are_measured_beside_the_boxes_that_found_an_object(found):
    assert all("masks" not in str(table.header) for table in found.tables())
    ious = [0.8, NAN, 0.6, NAN, NAN, 0.4]
    compared = tables(findings(measured(*BOXES, objects=OBJECTS, mask_overlaps=ious)))
    boxes, masks = "IoU of right boxes", "IoU of their masks"
    for name in ("pseudo_boxes", "classes"):
        assert compared[name].header == [*tables(found)[name].header, boxes, masks]
    quality = {row[0]: pytest.approx(row[-2:]) for row in compared["classes"].rows}
    assert quality == {"all": [0.8, 0.6], "cat": [0.85, 0.7], "dog": [0.7, 0.4]}
    candidates, confident, stable = (row[-2:] for row in compared["pseudo_boxes"].rows)
    assert candidates == pytest.approx([0.85, 0.7]) == stable
    assert confident == pytest.approx([0.9, 0.8])


def test_precision_and_recall_by_threshold(found):
    rows = tables(found)["thresholds"].rows
    # score above, boxes, precision, recall of five objects, F1 = 2 hits / (boxes + objects)
    assert rows == [
        [0.5, 4, 2 / 4, 2 / 5, 4 / 9],
        [0.6, 3, 2 / 3, 2 / 5, 4 / 8],
        [0.7, 2, 1 / 2, 1 / 5, 2 / 7],
        [0.8, 2, 1 / 2, 1 / 5, 2 / 7],
        [0.9, 2, 1 / 2, 1 / 5, 2 / 7],
        [0.95, 0, None, 0, 0],
    ]


def test_the_run_s_threshold_is_among_them_and_those_below_the_detector_s_own_are_not():
    found = findings(measured(*BOXES, objects=OBJECTS), score_thresh=0.93, lowest_score=0.7)
    rows = tables(found)["thresholds"].rows
    assert rows[0][0] == 0.7 and rows[-2][:3] == [0.93, 1, 1.0]
    assert found.overall.thresholds[[0, -1]].tolist() == [0.7, 0.99]


def test_candidates_are_correlated_with_their_iou(found):
    overlaps = np.array([0.9, 0.6, 0.8, 0.2])
    scores = np.array([0.95, 0.92, 0.65, 0.55])
    variances = np.array([0.01, 0.03, 0.015, 0.04])
    assert found.correlations == {
        "score": correlation(scores, overlaps),
        "variance": correlation(variances, overlaps),
        "score, IoU >= 0.5": correlation(scores[:3], overlaps[:3]),
        "variance, IoU >= 0.5": correlation(variances[:3], overlaps[:3]),
    }
    # By falling IoU the variances rise one by one; the scores have ranks 4, 2, 3, 1.
    assert found.correlations["variance"].spearman == pytest.approx(-1)
    assert found.correlations["score"].spearman == pytest.approx(0.8)
    assert found.correlations["variance"].count == 4


def test_boxes_without_variance_have_no_correlation_with_it():
    boxes = [(c, s, NAN, iou, hit) for c, s, _, iou, hit in BOXES]
    found = findings(measured(*boxes, objects=OBJECTS))
    assert found.correlations["variance"] == Correlation(0, None, None)
    assert found.correlations["score"].count == 4


def test_pseudo_boxes_that_training_would_keep(found):
    rows = tables(found)["pseudo_boxes"].rows
    assert rows == [
        ["score > 0.5 (candidates)", 4, 0.5, pytest.approx(2.5 / 4)],
        ["score > 0.9 (for classification)", 2, 0.5, pytest.approx(0.75)],
        ["variance < 0.02 (for regression)", 2, 1.0, pytest.approx(0.85)],
    ]


def test_every_class_has_the_threshold_with_the_best_f1(found):
    rows = tables(found)["classes"].rows
    assert rows == [
        # 3 hits of 5 boxes and 5 objects: 6 / 10, better than 4 / 8 above 0.55
        ["all", 5, 0.29, 5, 3 / 5, 3 / 5, 6 / 10],
        ["cat", 4, 0.64, 3, 2 / 3, 2 / 4, 4 / 7],
        ["dog", 1, 0.29, 2, 1 / 2, 1.0, 2 / 3],
    ]


@pytest.fixture
def trained():
    model = SimpleNamespace(
        student="student",
        family=SimpleNamespace(score_floor={"student": 0.05}.get),
        pseudo_labeler=PseudoLabeler(score_thresh=0.8, candidate_thresh=0.4, variance_thresh=0.03),
    )
    return SimpleNamespace(model=model, weights="model.pth", num_classes=2)


@pytest.mark.parametrize(
    "found, message",
    [
        ({}, "none of the images can be read"),
        ({0: measured(*BOXES), 3: measured()}, "the 2 images have no object"),
        ({0: measured(objects=(1, 0))}, "the teacher detects nothing above a score of 0.05 in 1"),
    ],
)
def test_nothing_to_measure_is_reported(found, message, trained):
    with pytest.raises(ConfigError, match=message):
        findings_of(found, trained, network="teacher", dataset="nowhere")


def test_the_setting_is_that_of_the_model(trained):
    parts = {0: measured(*BOXES, objects=(1, 0)), 2: measured(objects=(0, 2))}
    found = findings_of(parts, trained, network="student", dataset="nowhere")
    setting = found.setting
    assert found.title == "student on nowhere: 2 images, 3 objects, 6 boxes"
    thresholds = setting.score_thresh, setting.candidate_thresh, setting.variance_thresh
    assert thresholds == (0.8, 0.4, 0.03)
    assert setting.class_names == ["0", "1"]
