"""RetinaNet in the recipe: its settings, and what reaches the losses."""

import math

import pytest
import torch
from contract import let_find
from steps import BOXES, CLASSES, batch_of, detections, step_views, unlabeled

from soft_teacher import ConfigError
from soft_teacher.engine.checkpoint import SoftTeacherCheckpointer

RETINANET = ("SOFT_TEACHER.DETECTOR", "RetinaNet", "MODEL.RESNETS.NORM", "FrozenBN")


@pytest.fixture
def build(build):
    return lambda *opts: build(*RETINANET, *opts)


@pytest.mark.parametrize(
    "opts, said",
    [
        (
            ["SOFT_TEACHER.INDICATOR", "iou"],
            "SOFT_TEACHER.INDICATOR must be one of bg_teacher, none",
        ),
        (
            ["SOFT_TEACHER.CLS_FORMULA", "reference"],
            "SOFT_TEACHER.CLS_FORMULA must be one of paper,",
        ),
        (["SOFT_TEACHER.REG_NORMALIZER", "samples"], "must be one of foreground, got 'samples'"),
        (["SOFT_TEACHER.SOFT_NMS", "linear"], "SOFT_TEACHER.SOFT_NMS must be one of none, got"),
        (["SOFT_TEACHER.AVERAGE", "gpu"], "SOFT_TEACHER.AVERAGE must be one of image, got 'gpu'"),
        (
            ["SOFT_TEACHER.LABEL_SOURCE", "dataset", "SOFT_TEACHER.JITTER.ENABLED", False],
            "set SOFT_TEACHER.INDICATOR, now 'bg_teacher', to 'none'",
        ),
    ],
)
def test_settings_of_other_families_are_refused_in_one_line(build, opts, said):
    with pytest.raises(ConfigError) as error:
        build(*opts)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_the_lower_the_teacher_s_background_scores_the_less_backgrounds_count(build):
    """Where they are 1, as much as without weights; their mean is shown to observers."""
    none, model = build("SOFT_TEACHER.INDICATOR", "none"), build()
    model.teacher.head.cls_score.weight.data.zero_()
    losses = []
    for logit in (-30.0, -3.0, -1.4):  # up to 20 %: no candidate for a pseudo box
        model.teacher.head.cls_score.bias.data.fill_(logit)
        losses.append(model(batch_of(0, 2))["unsup/loss_cls"].item())
        (view,) = step_views(model, batch_of(0, 2))
        expected = 1 - 1 / (1 + math.exp(-logit))
        assert view.background_reliability.item() == pytest.approx(expected, rel=1e-5)
    assert losses[0] > losses[1] > losses[2] > 0
    unweighted = none(batch_of(0, 2))["unsup/loss_cls"].item()
    assert losses[0] == pytest.approx(unweighted, rel=1e-5)
    (view,) = step_views(none, batch_of(0, 2))
    assert view.background_reliability is None


def test_each_set_of_pseudo_boxes_has_its_loss(build):
    def losses(score, candidate_thresh):
        """Of boxes that are in G_cls above 0.9, in G_reg above the threshold."""
        none = ("SOFT_TEACHER.INDICATOR", "none")
        model = build(*none, "SOFT_TEACHER.JITTER.SCORE_THRESH", candidate_thresh)
        let_find(model, [detections(BOXES, CLASSES, [score] * 4)])
        found = model([unlabeled()])
        return found["unsup/loss_cls"], found["unsup/loss_box_reg"]

    both, cls_alone, reg_alone = losses(0.95, 0.5), losses(0.95, 0.99), losses(0.6, 0.5)
    assert both[0] == cls_alone[0] != reg_alone[0]
    assert both[1] == reg_alone[1] > 0 == cls_alone[1]


def test_fine_tuning_on_other_classes_resets_the_classifier(build, tmp_path, caplog):
    saved, model = build("MODEL.RETINANET.NUM_CLASSES", 5), build()
    torch.save({"model": saved.state_dict()}, tmp_path / "five.pth")
    SoftTeacherCheckpointer(model, str(tmp_path)).load(str(tmp_path / "five.pth"))
    assert "SoftTeacherCheckpointer.path is of other classes" in caplog.text
    for side in ("student", "teacher"):
        network, theirs = getattr(model, side).state_dict(), getattr(saved, side).state_dict()
        differing = {name for name in network if network[name].shape != theirs[name].shape}
        assert differing == {"head.cls_score.weight", "head.cls_score.bias"}
