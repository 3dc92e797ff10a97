"""Which detectors and settings SoftTeacher takes, and which it refuses."""

import pytest
import torch
from detectron2 import model_zoo
from detectron2.modeling import GeneralizedRCNN, StandardROIHeads, build_model
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from mask_shapes import LEARN_MASKS, MASK_RCNN
from steps import NAN

from soft_teacher import ConfigError
from soft_teacher.experiment import yaml_config
from soft_teacher.modeling import BoxJitter, FasterRCNNFamily, PseudoLabeler, SoftTeacher


def test_detectron2_builds_it_by_its_name_and_leaves_the_config_alone(tiny_cfg):
    tiny_cfg.freeze()
    assert isinstance(build_model(tiny_cfg), SoftTeacher)
    assert tiny_cfg.MODEL.ROI_HEADS.NAME == "StandardROIHeads" and tiny_cfg.is_frozen()


# --- refusals

# key, values that are refused by a message that begins with the key
REFUSED = {
    "MODEL.KEYPOINT_ON": [True],
    "MODEL.RESNETS.RES5_DILATION": [2],
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": [True],
    "MODEL.ROI_HEADS.NAME": ["Res5ROIHeads", "Heads"],
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
    "SOFT_TEACHER.MASK.TARGETS": ["", "both"],
    "SOFT_TEACHER.MASK.IGNORE": [-0.1, 0.5, NAN],
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


@pytest.mark.parametrize("change", ["loss", "pooler"])
def test_a_mask_head_of_another_kind_is_refused(build, monkeypatch, change):
    """One with a loss of its own, as PointRend's and PointSup's, or on whole feature maps."""

    class OtherHead(MaskRCNNConvUpsampleHead):
        if change == "loss":

            def forward(self, x, instances):
                """Some other loss."""

    build_head = StandardROIHeads._init_mask_head.__func__

    def without_pooler(cls, *args):
        return {**build_head(cls, *args), "mask_pooler": None}

    monkeypatch.setitem(ROI_MASK_HEAD_REGISTRY._obj_map, "OtherHead", OtherHead)
    if change == "pooler":
        monkeypatch.setattr(StandardROIHeads, "_init_mask_head", classmethod(without_pooler))
    said = refusal(build, *MASK_RCNN, "MODEL.ROI_MASK_HEAD.NAME", "OtherHead")
    assert said.startswith("MODEL.ROI_MASK_HEAD.NAME OtherHead ") and "ConvUpsample" in said


def test_a_detector_without_an_rpn_is_refused(build):
    key = "MODEL.PROPOSAL_GENERATOR.NAME"
    assert f"set {key} to 'RPN'" in refusal(build, key, "PrecomputedProposals")


@pytest.mark.parametrize(
    "overrides, message",
    [
        (None, "got Linear"),
        ((), "got GeneralizedRCNN with StandardROIHeads"),
        (("MODEL.ROI_HEADS.NAME", "SoftTeacherROIHeads", "MODEL.KEYPOINT_ON", True), "keypoint"),
    ],
    ids=["no detector", "stock heads", "keypoints"],
)
def test_a_given_student_that_cannot_be_wrapped_is_refused(tiny_cfg, overrides, message):
    tiny_cfg.merge_from_list(list(overrides or ()))
    student = torch.nn.Linear(1, 1) if overrides is None else GeneralizedRCNN(tiny_cfg)
    family, labeler = FasterRCNNFamily(jitter=BoxJitter()), PseudoLabeler()
    assert message in refusal(SoftTeacher, student=student, family=family, pseudo_labeler=labeler)


# --- the zoo

INSTANCES = "COCO-InstanceSegmentation/mask_rcnn_"
ZOO = ["R_50_FPN_1x", "R_50_FPN_3x", "R_101_FPN_3x"]
OUT_OF_SCOPE = {
    "R_50_C4_1x": "MODEL.ROI_HEADS.NAME 'Res5ROIHeads' cannot be wrapped",
    "R_50_DC5_1x": "MODEL.RESNETS.RES5_DILATION (DC5) is not supported",
}


def built_from_the_zoo(name, *opts):
    """On the meta device."""
    cfg = yaml_config.load_config(model_zoo.get_config_file(name), opts)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


@pytest.mark.parametrize("name", ZOO)
def test_any_mask_rcnn_with_an_fpn_can_be_wrapped(name):
    model = built_from_the_zoo(f"{INSTANCES}{name}.yaml", *map(str, LEARN_MASKS))
    assert model.family.has_masks(model.student)
    assert "loss_mask" in model.family.pseudo_loss_names(model.student)


def test_masks_of_unlabeled_images_are_not_learned_unless_wanted():
    model = built_from_the_zoo(f"{INSTANCES}{ZOO[0]}.yaml")
    assert "loss_mask" in model.family.loss_names(model.student)
    assert "loss_mask" not in model.family.pseudo_loss_names(model.student)


@pytest.mark.parametrize("name", OUT_OF_SCOPE)
def test_other_mask_rcnns_are_refused_in_one_line(name):
    assert refusal(built_from_the_zoo, f"{INSTANCES}{name}.yaml").startswith(OUT_OF_SCOPE[name])


def test_every_config_key_is_read(build):
    model = build(
        *MASK_RCNN,
        *("SOFT_TEACHER.MASK.ENABLED", False, "SOFT_TEACHER.MASK.TARGETS", "classification"),
        *("SOFT_TEACHER.MASK.SOFT", True, "SOFT_TEACHER.MASK.QUALITY", True),
        *("SOFT_TEACHER.MASK.IGNORE", 0.25),
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
    masks = model.student.roi_heads.pseudo_masks
    assert (masks.enabled, masks.targets, masks.ignore) == (False, "classification", 0.25)
    assert masks.soft and masks.quality
    assert model.student.roi_heads.indicator == model.teacher.roi_heads.indicator == "iou"
