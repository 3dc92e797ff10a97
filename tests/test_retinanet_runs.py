"""RetinaNet trains from both config languages, and a resumed run equals an uninterrupted one."""

import pytest
import torch
from training import interrupted_after_2_of_4_steps, metrics, train_lazy, train_yaml, weights

from soft_teacher import ConfigError

pytestmark = pytest.mark.usefixtures("tiny_digits")

# An untrained network with scores high enough for pseudo boxes; no warm-up, in both languages.
YAML = [
    *("MODEL.RETINANET.PRIOR_PROB", "0.45"),
    *("SOFT_TEACHER.JITTER.VARIANCE_THRESH", "0.5"),
    *("SOLVER.WARMUP_ITERS", "0"),
]
LAZY = [
    "model.student.head.prior_prob=0.45",
    "model.pseudo_labeler.variance_thresh=0.5",
    "lr_multiplier.warmup_length=0.0",
    "lr_multiplier.scheduler.milestones=[3,4]",
]


@pytest.fixture(scope="module")
def trained(tiny_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("retinanet")
    train_yaml(folder, *YAML, config="retinanet.yaml")
    return folder


def assert_same(folder, other):
    found, expected = weights(folder), weights(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def assert_both_streams_teach(folder):
    last = metrics(folder)
    assert last["pseudo/num_cls_boxes"] > 0 and last["pseudo/num_reg_boxes"] > 0
    for name in ("loss_cls", "loss_box_reg"):
        assert last[f"sup/{name}"] > 0 and last[f"unsup/{name}"] > 0


def test_both_streams_teach(trained):
    assert_both_streams_teach(trained)


def test_without_weights_both_streams_teach(trained, tmp_path):
    train_yaml(tmp_path, *YAML, "SOFT_TEACHER.INDICATOR", "none", config="retinanet.yaml")
    assert_both_streams_teach(tmp_path)
    found, weighted = weights(tmp_path), weights(trained)
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert any(not torch.equal(found[name], weighted[name]) for name in found)


def test_both_languages_end_with_the_same_weights(trained, tmp_path):
    train_lazy(tmp_path, *LAZY, config="retinanet.py")
    assert_same(tmp_path, trained)


def test_a_resumed_run_ends_with_the_same_weights(trained, tmp_path):
    interrupted_after_2_of_4_steps(train_yaml, tmp_path, *YAML, config="retinanet.yaml")
    train_yaml(tmp_path, *YAML, config="retinanet.yaml", resume=True)
    assert_same(tmp_path, trained)
    assert metrics(tmp_path)["total_loss"] == metrics(trained)["total_loss"]


NO_FAMILY = "model.family must describe a DetectorFamily"


@pytest.mark.parametrize(
    "opts, said",
    [
        ("MODEL.RETINANET.NUM_CLASSES 7", "MODEL.RETINANET.NUM_CLASSES is 7: set it to 5"),
        ("model.student.num_classes=7", "model.student.num_classes is 7: set it to 5"),
        (
            "MODEL.ANCHOR_GENERATOR.SIZES [[8],[16]]",
            "MODEL.ANCHOR_GENERATOR.SIZES must have one list, or one for each of the 3 levels of "
            "MODEL.RETINANET.IN_FEATURES, got 2",
        ),
        (
            "model.student.anchor_generator.sizes=[[8],[16]]",
            "model.student.anchor_generator.sizes must have one list, or one for each of the 3 "
            "levels of model.student.head_in_features, got 2",
        ),
        (
            "MODEL.RETINANET.SCORE_THRESH_TEST 0.4",
            "MODEL.RETINANET.SCORE_THRESH_TEST (0.4) is above the lowest threshold",
        ),
        (
            "model.student.test_score_thresh=0.4",
            "model.student.test_score_thresh (0.4) is above the lowest threshold",
        ),
        ("MODEL.RETINANET.IN_FEATURES []", "MODEL.RETINANET.IN_FEATURES must not be empty"),
        ("SOFT_TEACHER.DETECTOR FCOS", "SOFT_TEACHER.DETECTOR 'FCOS' cannot be wrapped: use "),
        ("model.family.indicator=iou", "model.family.indicator must be one of bg_teacher, none"),
        ("model.family=null", NO_FAMILY),
        ("model.family._target_=torch.nn.Linear", NO_FAMILY),
        ("model.family._target_=nowhere.Family", "model.family: "),
        ("model.family._target_=soft_teacher.modeling.FasterRCNNFamily", "model cannot be built"),
    ],
)
def test_a_mistake_names_its_key_or_path(opts, said, tmp_path):
    train, config = (train_lazy, "retinanet.py") if "=" in opts else (train_yaml, "retinanet.yaml")
    with pytest.raises(ConfigError) as error:
        train(tmp_path, *opts.split(), config=config)
    assert said in str(error.value) and "\n" not in str(error.value)
