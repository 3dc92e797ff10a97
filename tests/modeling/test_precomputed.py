"""Training on pseudo boxes that come with the images, without a pass of the teacher."""

import numpy as np
import pytest
import torch
from steps import BOXES, CLASSES, detections, inject, labeled, step_views, unlabeled

from soft_teacher import ConfigError
from soft_teacher.experiment.words import YAML_WORDS

SCORES = [0.95, 0.6, 0.9, 0.91]  # the first and the last are above the threshold of 0.9
END_TO_END = ("SOFT_TEACHER.JITTER.ENABLED", False, "SOFT_TEACHER.INDICATOR", "none")
MULTI_STAGE = (*END_TO_END, "SOFT_TEACHER.LABEL_SOURCE", "dataset")
BY_DENSITY = ("SOFT_TEACHER.DENSITY.ENABLED", True)
GIVEN = detections(BOXES, CLASSES, SCORES)


def test_boxes_above_the_threshold_are_learned_in_the_strong_view(build, storage):
    """By hand: x -> 48 - x / 2, y -> y / 2; the second image moves 75 to the left."""
    flip_and_halve = np.array([[-0.5, 0, 48], [0, 0.5, 0], [0, 0, 1]])
    move = np.array([[1.0, 0, -75], [0, 1, 0], [0, 0, 1]])
    images = [
        unlabeled(0, flip_and_halve, size=(32, 48), weak_size=(64, 96), given_instances=GIVEN),
        unlabeled(1, move, given_instances=GIVEN),
        unlabeled(2, given_instances=detections()),
    ]
    (view,) = step_views(build(*MULTI_STAGE), images)
    for labels in (view.labels.classification, view.labels.regression):
        assert [(g.gt_boxes.tensor.tolist(), g.gt_classes.tolist()) for g in labels] == [
            ([[28, 5, 43, 20], [1, 1, 13, 11]], [0, 2]),
            ([[0, 2, 19, 22]], [2]),  # the first box has left the view
            ([], []),
        ]
        assert [g.image_size for g in labels] == [(32, 48), (64, 96), (64, 96)]
    assert storage.latest()["pseudo/num_detections"][0] == pytest.approx(8 / 3)
    shown = view.teacher_boxes[0]
    assert shown.detections.pred_boxes.tensor.tolist() == BOXES
    assert torch.equal(shown.detections.scores, GIVEN.scores)
    assert shown.confident.tolist() == shown.stable.tolist() == [0, 3]
    assert len(shown.candidates) == 0


@pytest.mark.parametrize("indicator", ["none", "bg_student", "iou", "reverse_iou"])
def test_the_teacher_never_runs(build, monkeypatch, indicator):
    model = build(*MULTI_STAGE, "SOFT_TEACHER.INDICATOR", indicator)

    def fail(*args, **kwargs):
        raise AssertionError("the teacher ran")

    for module in model.teacher.modules():
        monkeypatch.setattr(module, "forward", fail)
    losses = model([labeled(), unlabeled(given_instances=GIVEN)])
    assert losses["unsup/loss_cls"] > 0
    with pytest.raises(AssertionError, match="the teacher ran"):
        model.eval()([labeled()])


def losses_and_gradients(model, batch):
    torch.manual_seed(0)
    losses = model(batch)
    sum(losses.values()).backward()
    gradients = {n: p.grad for n, p in model.student.named_parameters()}
    return {k: v.item() for k, v in losses.items()}, gradients


@pytest.mark.parametrize("thresh", [0.5, 0.93])
@pytest.mark.parametrize("formula", ["paper", "reference"])
def test_losses_and_gradients_are_those_of_a_teacher_that_detects_the_same_boxes(
    build, view_change, formula, thresh
):
    matrix, size = view_change
    found = [GIVEN, detections(), detections(BOXES[:2], [1, 1], [1, 1])]
    options = ("SOFT_TEACHER.SCORE_THRESH", thresh, "SOFT_TEACHER.CLS_FORMULA", formula)
    end_to_end, multi_stage = (build(*s, *options) for s in (END_TO_END, MULTI_STAGE))
    inject(end_to_end, found)
    images = [unlabeled(n, matrix, size=size, weak_size=(64, 96)) for n in range(3)]
    given = [{**x, "given_instances": f} for x, f in zip(images, found)]

    expected, gradients = losses_and_gradients(end_to_end, [labeled(), *images])
    losses, found_gradients = losses_and_gradients(multi_stage, [labeled(), *given])
    assert losses == expected and losses["unsup/loss_box_reg"] > 0
    assert gradients.keys() == found_gradients.keys()
    assert all(torch.equal(found_gradients[name], g) for name, g in gradients.items())


# --- refusals


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
        ((*END_TO_END, *BY_DENSITY), "set SOFT_TEACHER.DENSITY.ENABLED to False"),
        (
            ("SOFT_TEACHER.INDICATOR", "none", *BY_DENSITY),
            "set SOFT_TEACHER.JITTER.ENABLED to False and SOFT_TEACHER.DENSITY.ENABLED to False",
        ),
    ],
)
def test_settings_that_need_the_teacher_are_refused(build, overrides, fix):
    said = refusal(build, "SOFT_TEACHER.LABEL_SOURCE", "dataset", *overrides)
    assert said.startswith("while SOFT_TEACHER.LABEL_SOURCE is 'dataset'") and said.endswith(fix)


def test_a_loader_without_pseudo_labels_is_refused(build):
    images = [unlabeled(0, given_instances=detections()), unlabeled(1)]
    assert "SOFT_TEACHER.LABEL_SOURCE" in refusal(build(*MULTI_STAGE), images)


def test_the_teacher_s_test_threshold_drops_no_precomputed_box(build):
    high = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.95)
    assert "SCORE_THRESH_TEST" in refusal(build, *END_TO_END, *high)
    build(*MULTI_STAGE, *high)
