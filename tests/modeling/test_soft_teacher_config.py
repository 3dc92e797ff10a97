"""Which detectors and settings SoftTeacher takes, and which it refuses."""

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN, build_model

from soft_teacher import ConfigError
from soft_teacher.modeling import BoxJitter, FasterRCNNFamily, PseudoLabeler, SoftTeacher


def test_detectron2_builds_it_by_its_name(tiny_cfg):
    assert isinstance(build_model(tiny_cfg), SoftTeacher)


def test_the_users_config_is_left_alone(tiny_cfg):
    tiny_cfg.freeze()
    SoftTeacher(tiny_cfg)
    assert tiny_cfg.MODEL.ROI_HEADS.NAME == "StandardROIHeads" and tiny_cfg.is_frozen()


REFUSED = {
    "another detector": (("SOFT_TEACHER.DETECTOR", "PanopticFPN"), "SOFT_TEACHER.DETECTOR"),
    "itself": (("SOFT_TEACHER.DETECTOR", "SoftTeacher"), "SOFT_TEACHER.DETECTOR"),
    "no detector": (("SOFT_TEACHER.DETECTOR", ""), "SOFT_TEACHER.DETECTOR"),
    "masks": (("MODEL.MASK_ON", True), "MODEL.MASK_ON"),
    "keypoints": (("MODEL.KEYPOINT_ON", True), "MODEL.KEYPOINT_ON"),
    "cascade heads": (("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"), "MODEL.ROI_HEADS.NAME"),
    "other heads": (("MODEL.ROI_HEADS.NAME", "Res5ROIHeads"), "MODEL.ROI_HEADS.NAME"),
    "unknown heads": (("MODEL.ROI_HEADS.NAME", "Heads"), "MODEL.ROI_HEADS.NAME"),
    "sigmoid cross-entropy": (
        ("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", True),
        "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE",
    ),
    "no RPN": (
        ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"),
        "MODEL.PROPOSAL_GENERATOR.NAME",
    ),
}


@pytest.mark.parametrize("overrides, key", REFUSED.values(), ids=REFUSED.keys())
def test_a_detector_that_cannot_be_wrapped_is_refused_in_one_line(build, overrides, key):
    with pytest.raises(ConfigError) as error:
        build(*overrides)
    assert key in str(error.value) and "\n" not in str(error.value)


def detector(cfg, *overrides):
    cfg.merge_from_list(list(overrides))
    return GeneralizedRCNN(cfg)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda cfg: torch.nn.Linear(1, 1), "GeneralizedRCNN"),
        (lambda cfg: detector(cfg), "SoftTeacherROIHeads"),
        (
            lambda cfg: detector(
                cfg, "MODEL.ROI_HEADS.NAME", "SoftTeacherROIHeads", "MODEL.MASK_ON", True
            ),
            "masks",
        ),
    ],
    ids=["no detector", "stock heads", "masks"],
)
def test_a_given_student_that_cannot_be_wrapped_is_refused_in_one_line(tiny_cfg, make, message):
    student = make(tiny_cfg)
    family = FasterRCNNFamily(jitter=BoxJitter())
    with pytest.raises(ConfigError) as error:
        SoftTeacher(student=student, family=family, pseudo_labeler=PseudoLabeler())
    assert message in str(error.value) and "\n" not in str(error.value)


NAN = float("nan")
BAD_VALUES = [
    ("ALPHA", -1.0),
    ("ALPHA", NAN),
    ("TEACHER_PROPOSALS", "both"),
    ("SCORE_THRESH", 0.0),
    ("SCORE_THRESH", 1.0),
    ("SCORE_THRESH", -0.5),
    ("SCORE_THRESH", NAN),
    ("INDICATOR", "bg"),
    ("CLS_FORMULA", "Paper"),
    ("REG_NORMALIZER", "images"),
    ("AVERAGE", "rank"),
    ("JITTER.NUM", 1),
    ("JITTER.SCALE", 0.0),
    ("JITTER.DISTRIBUTION", "cauchy"),
    ("JITTER.SCORE_THRESH", 1.0),
    ("JITTER.VARIANCE_THRESH", 0.0),
    ("JITTER.NORMALIZER", "area"),
]


@pytest.mark.parametrize("key, value", BAD_VALUES)
def test_a_bad_value_is_refused_in_one_line_that_names_its_key(build, key, value):
    with pytest.raises(ConfigError) as error:
        build(f"SOFT_TEACHER.{key}", value)
    message = str(error.value)
    assert message.startswith(f"SOFT_TEACHER.{key} ") and "\n" not in message


def test_every_config_key_is_read(build):
    model = build(
        *("SOFT_TEACHER.ALPHA", 1.5),
        *("SOFT_TEACHER.RPN_ON_UNLABELED", False),
        *("SOFT_TEACHER.TEACHER_PROPOSALS", "train"),
        *("SOFT_TEACHER.SCORE_THRESH", 0.7),
        *("SOFT_TEACHER.JITTER.NUM", 4),
        *("SOFT_TEACHER.INDICATOR", "iou"),
    )
    family = model.family
    assert isinstance(family, FasterRCNNFamily) and isinstance(family.jitter, BoxJitter)
    assert (model.alpha, family.rpn_on_unlabeled, family.teacher_proposals) == (1.5, False, "train")
    assert model.pseudo_labeler.score_thresh == 0.7
    assert model.pseudo_labeler.measure_stability
    assert family.jitter.num == 4
    assert model.student.roi_heads.indicator == model.teacher.roi_heads.indicator == "iou"
