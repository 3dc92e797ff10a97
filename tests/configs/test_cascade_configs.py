"""Cascades: configs that come along in both languages, and the model zoo's as a user's own."""

import pytest
from coco import COCO, ROOT, leaves
from detectron2 import model_zoo
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling.roi_heads import FastRCNNOutputLayers

from soft_teacher import ConfigError
from soft_teacher.experiment import lazy_config, yaml_config
from soft_teacher.experiment.config_checks import rehearsal
from soft_teacher.experiment.settings import SETTINGS
from soft_teacher.modeling import (
    SoftFastRCNNOutputLayers,
    SoftTeacher,
    SoftTeacherCascadeROIHeads,
)

DEMO = ROOT / "configs" / "demo"
# Each a cascade of what the name says without the word.
ON_COCO = [
    COCO / f"{detector}_{run}"
    for detector in ("cascade", "cascade_mask")
    for run in ("partial_180k", "full_720k")
]
CONFIGS = [
    *(
        DEMO / f"{detector}_{method}"
        for detector in ("cascade", "cascade_mask")
        for method in ("soft_teacher", "supervised")
    ),
    *ON_COCO,
]
SAME = [
    *("SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD"),
    *("MODEL.ROI_HEADS.NUM_CLASSES", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"),
    *(key for key in SETTINGS if key.startswith("SOFT_TEACHER.") and "AUGMENT" not in key),
]
ZOO = ["cascade_mask_rcnn_R_50_FPN_1x", "cascade_mask_rcnn_R_50_FPN_3x"]


def built(build, *args):
    """On the device "meta"."""
    with rehearsal("the model"):
        return build(*args)


def stages(model):
    """What the stages of the student are made of."""
    heads = model.student.roi_heads
    assert type(heads) is SoftTeacherCascadeROIHeads
    assert {type(predictor) for predictor in heads.box_predictor} == {SoftFastRCNNOutputLayers}
    return [
        (
            predictor.box2box_transform.weights,
            matcher.thresholds[1],
            predictor.test_score_thresh,
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
            predictor.smooth_l1_beta,
        )
        for predictor, matcher in zip(heads.box_predictor, heads.proposal_matchers)
    ]


def shapes(model):
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
@pytest.mark.long
def test_both_languages_describe_the_same_cascade(path):
    cfg = yaml_config.load_config(f"{path}.yaml")
    lazy = lazy_config.load_config(f"{path}.py")
    one, other = built(SoftTeacher, cfg), built(instantiate, lazy.model)
    assert shapes(one) == shapes(other) and stages(one) == stages(other)
    assert one.family.has_masks(one.student) == ("mask" in path.name) == cfg.MODEL.MASK_ON
    assert [stage[:2] for stage in stages(one)] == [
        ((10, 10, 5, 5), 0.5),
        ((20, 20, 10, 10), 0.6),
        ((30, 30, 15, 15), 0.7),
    ]
    for key in SAME:
        for where, value in lazy_config.values_of(lazy, key):
            assert value == yaml_config.value_of(cfg, key), where


@pytest.mark.parametrize("path", ON_COCO, ids=lambda path: path.name)
def test_a_coco_cascade_differs_from_its_twin_by_the_heads_alone(path):
    twin = COCO / path.name.removeprefix("cascade_")
    cfg, plain = (leaves(yaml_config.load_config(f"{p}.yaml")) for p in (path, twin))
    assert {key for key in cfg if cfg[key] != plain[key]} == {
        "MODEL.ROI_HEADS.NAME",
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG",
        "OUTPUT_DIR",
    }


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("name", ZOO)
def test_a_yaml_of_the_model_zoo_is_a_base(name, masks, tmp_path):
    base = model_zoo.get_config_file(f"Misc/{name}.yaml")
    path = tmp_path / "own.yaml"
    path.write_text(f"_BASE_: {base}\nMODEL:\n  MASK_ON: {masks}\n")
    model = built(SoftTeacher, yaml_config.load_config(str(path)))
    assert [stage[1] for stage in stages(model)] == [0.5, 0.6, 0.7]
    assert model.family.has_masks(model.student) == masks


def lazy_cascade():
    """The zoo's LazyConfig as the student of ours."""
    model = LazyConfig.load(str(ROOT / "configs/common/model.py")).model
    model.label_source = "teacher"
    detector = model_zoo.get_config("common/models/cascade_rcnn.py").model
    detector.roi_heads._target_ = SoftTeacherCascadeROIHeads
    for key in ("mask_in_features", "mask_pooler", "mask_head"):
        del detector.roi_heads[key]
    for predictor in detector.roi_heads.box_predictors:
        predictor._target_ = SoftFastRCNNOutputLayers
    model.student = detector
    return model


def test_the_lazy_model_of_the_zoo_is_a_student():
    assert len(stages(built(instantiate, lazy_cascade()))) == 3


def test_a_predictor_without_weights_is_refused():
    model = lazy_cascade()
    model.student.roi_heads.box_predictors[1]._target_ = FastRCNNOutputLayers
    with pytest.raises(ConfigError, match="needs SoftFastRCNNOutputLayers, got FastRCNNOutput"):
        built(instantiate, model)
