"""Which detectors and settings SoftTeacher takes, and which it refuses."""

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN, build_model
from steps import NAN

from soft_teacher import ConfigError
from soft_teacher.modeling import BoxJitter, FasterRCNNFamily, PseudoLabeler, SoftTeacher


def test_detectron2_builds_it_by_its_name_and_leaves_the_config_alone(tiny_cfg):
    tiny_cfg.freeze()
    assert isinstance(build_model(tiny_cfg), SoftTeacher)
    assert tiny_cfg.MODEL.ROI_HEADS.NAME == "StandardROIHeads" and tiny_cfg.is_frozen()


# --- refusals

# key, values that are refused by a message that begins with the key
REFUSED = {
    "MODEL.MASK_ON": [True],
    "MODEL.KEYPOINT_ON": [True],
    "MODEL.ROI_HEADS.NAME": ["Res5ROIHeads", "Heads"],
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": [True],
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": [True],
    "SOFT_TEACHER.DETECTOR": ["", "PanopticFPN", "SoftTeacher"],
    "SOFT_TEACHER.ALPHA": [-1.0, NAN],
    "SOFT_TEACHER.LABEL_SOURCE": ["pupil"],
    "SOFT_TEACHER.STATISTICS": ["", "Labeled", "unlabeled"],
    "SOFT_TEACHER.DENSITY.FOREGROUND": [0.0],
    "SOFT_TEACHER.TEACHER_PROPOSALS": ["both"],
    "SOFT_TEACHER.INDICATOR": ["", "BG-T"],
    "SOFT_TEACHER.CLS_FORMULA": ["Paper"],
    "SOFT_TEACHER.REG_NORMALIZER": ["images"],
    "SOFT_TEACHER.AVERAGE": ["rank"],
}


def refusal(call, *args, **kwargs):
    with pytest.raises(ConfigError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("key, value", [(key, value) for key in REFUSED for value in REFUSED[key]])
def test_a_detector_that_cannot_be_wrapped_is_refused_in_one_line(build, key, value):
    """And so is a value out of range."""
    assert refusal(build, key, value).startswith(f"{key} ")


def test_a_detector_without_an_rpn_is_refused(build):
    key = "MODEL.PROPOSAL_GENERATOR.NAME"
    assert f"set {key} to 'RPN'" in refusal(build, key, "PrecomputedProposals")


@pytest.mark.parametrize(
    "overrides, message",
    [
        (None, "got Linear"),
        ((), "got GeneralizedRCNN with StandardROIHeads"),
        (("MODEL.ROI_HEADS.NAME", "SoftTeacherROIHeads", "MODEL.MASK_ON", True), "masks"),
    ],
    ids=["no detector", "stock heads", "masks"],
)
def test_a_given_student_that_cannot_be_wrapped_is_refused(tiny_cfg, overrides, message):
    tiny_cfg.merge_from_list(list(overrides or ()))
    student = torch.nn.Linear(1, 1) if overrides is None else GeneralizedRCNN(tiny_cfg)
    family, labeler = FasterRCNNFamily(jitter=BoxJitter()), PseudoLabeler()
    assert message in refusal(SoftTeacher, student=student, family=family, pseudo_labeler=labeler)


def test_every_config_key_is_read(build):
    model = build(
        *("SOFT_TEACHER.ALPHA", 1.5),
        *("SOFT_TEACHER.RPN_ON_UNLABELED", False),
        *("SOFT_TEACHER.TEACHER_PROPOSALS", "train"),
        *("SOFT_TEACHER.SCORE_THRESH", 0.7),
        *("SOFT_TEACHER.JITTER.NUM", 4),
        *("SOFT_TEACHER.INDICATOR", "iou"),
        *("SOFT_TEACHER.STATISTICS", "labeled"),
        *("SOFT_TEACHER.DENSITY.ENABLED", True, "SOFT_TEACHER.DENSITY.IGNORE", 3.0),
    )
    family, density = model.family, model.pseudo_labeler.density
    assert model.statistics == "labeled" and density.densities == {"foreground": 0.8, "ignore": 3.0}
    assert density.thresholds.shape == (2, 3) and (density.thresholds == 0.7).all()
    assert (model.alpha, family.rpn_on_unlabeled, family.teacher_proposals) == (1.5, False, "train")
    assert (model.pseudo_labeler.score_thresh, family.jitter.num) == (0.7, 4)
    assert model.student.roi_heads.indicator == model.teacher.roi_heads.indicator == "iou"
