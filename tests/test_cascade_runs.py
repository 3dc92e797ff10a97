"""A Cascade R-CNN trains from both config languages, and a resumed run equals another."""

import pytest
import torch
from training import interrupted_after_2_of_4_steps, metrics, train_lazy, train_yaml, weights

from soft_teacher import ConfigError

pytestmark = pytest.mark.usefixtures("tiny_digits")

CONFIG = "cascade_soft_teacher.yaml"
# Pseudo boxes of an untrained teacher.
YAML = [
    *("SOFT_TEACHER.SCORE_THRESH", "0.15", "SOFT_TEACHER.JITTER.SCORE_THRESH", "0.15"),
    *("SOFT_TEACHER.JITTER.VARIANCE_THRESH", "0.5"),
]
LAZY = [
    *("model.pseudo_labeler.score_thresh=0.15", "model.pseudo_labeler.candidate_thresh=0.15"),
    "model.pseudo_labeler.variance_thresh=0.5",
]


@pytest.fixture(scope="module")
def trained(tiny_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cascade")
    train_yaml(folder, *YAML, config=CONFIG)
    return folder


def losses(folder):
    return {name: value for name, value in metrics(folder).items() if "/loss_" in name}


def test_every_stage_learns_from_both_streams(trained):
    found = losses(trained)
    assert len(found) == 2 * (2 + 3 * 2) and all(value > 0 for value in found.values()), found
    assert metrics(trained)["pseudo/num_reg_boxes"] > 0
    assert metrics(trained)["unsup/reg/stage1/roi_head/num_fg_samples"] > 0


@pytest.mark.long
def test_a_lazy_config_trains_the_same_losses(trained, tmp_path):
    train_lazy(tmp_path, *LAZY, config="cascade_soft_teacher.py")
    assert losses(tmp_path).keys() == losses(trained).keys()
    assert weights(tmp_path).keys() == weights(trained).keys()


@pytest.mark.long
def test_a_resumed_run_ends_with_the_same_weights(trained, tmp_path):
    interrupted_after_2_of_4_steps(train_yaml, tmp_path, *YAML, config=CONFIG)
    train_yaml(tmp_path, *YAML, config=CONFIG, resume=True)
    found, expected = weights(tmp_path), weights(trained)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert losses(tmp_path) == losses(trained)


PREDICTORS = "model.student.roi_heads.box_predictors"


@pytest.mark.parametrize(
    "opts, said",
    [
        ("SOFT_TEACHER.CASCADE.SCORES first", "SOFT_TEACHER.CASCADE.SCORES must be one of stage,"),
        ("model.student.roi_heads.scores=first", "model.student.roi_heads.scores must be one of"),
        ("SOFT_TEACHER.CASCADE.JITTER none", "SOFT_TEACHER.CASCADE.JITTER must be one of all,"),
        ("model.student.roi_heads.jitter=none", "model.student.roi_heads.jitter must be one of"),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST 1.5", "MODEL.ROI_HEADS.NMS_THRESH_TEST must be a number"),
        (f"{PREDICTORS}.2.test_nms_thresh=1.5", f"{PREDICTORS}[2].test_nms_thresh must be a"),
        (f"{PREDICTORS}.1.cls_agnostic_bbox_reg=False", f"all {PREDICTORS} must be True"),
        (
            f"{PREDICTORS}.1._target_=detectron2.modeling.roi_heads.FastRCNNOutputLayers",
            "the model cannot be built: TypeError: FastRCNNOutputLayers",
        ),
        ("model.student.roi_heads.num_classes=7", "model.student.roi_heads.num_classes is 7"),
        (
            f"{PREDICTORS}.2.test_score_thresh=0.5",
            f"{PREDICTORS}[2].test_score_thresh (0.5) is above the lowest threshold",
        ),
    ],
)
def test_a_mistake_names_its_key_or_path(opts, said, tmp_path):
    train = (train_lazy, "cascade_soft_teacher.py") if "=" in opts else (train_yaml, CONFIG)
    with pytest.raises(ConfigError) as error:
        train[0](tmp_path, *opts.split(), config=train[1])
    assert said in str(error.value) and "\n" not in str(error.value)
