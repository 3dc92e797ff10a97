"""Training on pseudo boxes that come with the images: the teacher is never asked."""

import numpy as np
import pytest
import torch

from soft_teacher import ConfigError
from soft_teacher.experiment.words import YAML_WORDS

# Above the threshold of 0.9 are the first and the last.
BOXES = [[10, 10, 40, 40], [50, 20, 90, 60], [4, 40, 24, 60], [70, 2, 94, 22]]
CLASSES, SCORES = [0, 2, 1, 2], [0.95, 0.6, 0.9, 0.91]
END_TO_END = ("SOFT_TEACHER.JITTER.ENABLED", False, "SOFT_TEACHER.INDICATOR", "none")
MULTI_STAGE = (*END_TO_END, "SOFT_TEACHER.LABEL_SOURCE", "dataset")


def step_view(model, batch):
    """What the model shows of a step."""
    views = []
    model.observers.append(views.append)
    model(batch)
    (view,) = views
    return view


def as_lists(targets):
    return targets.gt_boxes.tensor.tolist(), targets.gt_classes.tolist()


# --- which boxes are learned, and where


def test_an_image_without_labels_has_no_pseudo_box(build, unlabeled, detections, storage):
    model = build(*MULTI_STAGE)
    view = step_view(model, [unlabeled(given_instances=detections())])
    assert (
        as_lists(view.labels.classification[0]) == as_lists(view.labels.regression[0]) == ([], [])
    )
    assert storage.latest()["pseudo/num_detections"][0] == 0


def test_boxes_above_the_threshold_are_learned_in_the_strong_view(
    build, unlabeled, detections, storage
):
    """Worked out by hand: x -> 48 - x / 2, y -> y / 2; the second image moves 75 to the left."""
    flip_and_halve = np.array([[-0.5, 0, 48], [0, 0.5, 0], [0, 0, 1]])
    move = np.array([[1.0, 0, -75], [0, 1, 0], [0, 0, 1]])
    given = detections(BOXES, CLASSES, SCORES)
    images = [
        unlabeled(0, flip_and_halve, size=(32, 48), weak_size=(64, 96), given_instances=given),
        unlabeled(1, move, given_instances=given),
    ]
    view = step_view(build(*MULTI_STAGE), images)
    for labels in (view.labels.classification, view.labels.regression):
        assert [as_lists(g) for g in labels] == [
            ([[28, 5, 43, 20], [1, 1, 13, 11]], [0, 2]),
            ([[0, 2, 19, 22]], [2]),  # the first box has left the view
        ]
        assert [g.image_size for g in labels] == [(32, 48), (64, 96)]
    assert storage.latest()["pseudo/num_detections"][0] == 4
    assert storage.latest()["pseudo/num_cls_boxes"][0] == 2


def test_a_step_shows_the_given_boxes_in_the_place_of_detections(build, unlabeled, detections):
    given = detections(BOXES, CLASSES, SCORES)
    (shown,) = step_view(build(*MULTI_STAGE), [unlabeled(given_instances=given)]).teacher_boxes
    assert shown.detections.pred_boxes.tensor.tolist() == BOXES
    assert torch.equal(shown.detections.scores, given.scores)
    assert shown.confident.tolist() == shown.stable.tolist() == [0, 3]
    assert len(shown.candidates) == 0


# --- the teacher


@pytest.mark.parametrize("indicator", ["none", "bg_student", "iou", "reverse_iou"])
def test_the_teacher_never_looks(build, labeled, unlabeled, detections, monkeypatch, indicator):
    model = build(*MULTI_STAGE, "SOFT_TEACHER.INDICATOR", indicator)

    def fail(*args, **kwargs):
        raise AssertionError("the teacher was asked")

    for module in model.teacher.modules():
        monkeypatch.setattr(module, "forward", fail)
    losses = model([labeled(), unlabeled(given_instances=detections(BOXES, CLASSES, SCORES))])
    assert losses["unsup/loss_cls"] > 0
    model.eval()
    with pytest.raises(AssertionError, match="the teacher was asked"):
        model([labeled()])


def losses_and_gradients(model, batch):
    torch.manual_seed(0)
    losses = model(batch)
    sum(losses.values()).backward()
    gradients = {n: p.grad for n, p in model.student.named_parameters()}
    return {k: v.item() for k, v in losses.items()}, gradients


@pytest.mark.parametrize("thresh", [0.5, 0.93])
@pytest.mark.parametrize("formula", ["paper", "reference"])
def test_losses_and_gradients_are_those_of_a_teacher_that_detects_the_same_boxes(
    build, labeled, unlabeled, detections, inject, view_change, formula, thresh
):
    matrix, size = view_change
    found = [
        detections(BOXES, CLASSES, SCORES),
        detections(),
        detections(BOXES[:2], [1, 1], [1, 1]),
    ]
    options = ("SOFT_TEACHER.SCORE_THRESH", thresh, "SOFT_TEACHER.CLS_FORMULA", formula)
    end_to_end, multi_stage = (build(*s, *options) for s in (END_TO_END, MULTI_STAGE))
    inject(end_to_end, found)

    def batch(**given):
        images = [
            unlabeled(
                n, matrix, size=size, weak_size=(64, 96), **{k: v[n] for k, v in given.items()}
            )
            for n in range(3)
        ]
        return [labeled(), *images]

    expected, gradients = losses_and_gradients(end_to_end, batch())
    losses, found_gradients = losses_and_gradients(multi_stage, batch(given_instances=found))
    assert losses == expected and losses["unsup/loss_box_reg"] > 0
    assert gradients.keys() == found_gradients.keys()
    assert all(torch.equal(found_gradients[name], g) for name, g in gradients.items())


# --- mistakes


def refusal(call, *args):
    with pytest.raises(ConfigError) as error, YAML_WORDS.spoken():
        call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "overrides, fix",
    [
        (
            (),
            "set SOFT_TEACHER.JITTER.ENABLED to False and "
            "SOFT_TEACHER.INDICATOR, now 'bg_teacher', to 'none'",
        ),
        (("SOFT_TEACHER.INDICATOR", "none"), "set SOFT_TEACHER.JITTER.ENABLED to False"),
        (
            ("SOFT_TEACHER.INDICATOR", "pred_diff", "SOFT_TEACHER.JITTER.ENABLED", False),
            "set SOFT_TEACHER.INDICATOR, now 'pred_diff', to 'none'",
        ),
    ],
)
def test_settings_that_ask_the_teacher_are_refused(build, overrides, fix):
    said = refusal(build, "SOFT_TEACHER.LABEL_SOURCE", "dataset", *overrides)
    assert said.startswith("while SOFT_TEACHER.LABEL_SOURCE is 'dataset'") and said.endswith(fix)


def test_another_source_is_refused(build):
    said = refusal(build, "SOFT_TEACHER.LABEL_SOURCE", "pupil")
    assert said == "SOFT_TEACHER.LABEL_SOURCE must be one of teacher, dataset, got 'pupil'"


def test_a_loader_that_carries_no_labels_is_told(build, unlabeled, detections):
    images = [unlabeled(0, given_instances=detections()), unlabeled(1)]
    assert "SOFT_TEACHER.LABEL_SOURCE" in refusal(build(*MULTI_STAGE), images)


def test_the_teacher_s_test_threshold_cuts_no_given_box_off(build):
    high = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.95)
    assert "SCORE_THRESH_TEST" in refusal(build, *END_TO_END, *high)
    build(*MULTI_STAGE, *high)
