"""Single-stage detectors train from their config languages; a resumed run equals another."""

import pytest
import torch
from training import interrupted_after_2_of_4_steps, metrics, train_lazy, train_yaml, weights

from soft_teacher import ConfigError

pytestmark = pytest.mark.usefixtures("tiny_digits")

# An untrained network with scores high enough for pseudo boxes, too short a run for thresholds by
# density; no warm-up, in both languages.
YAML = [
    *("SOFT_TEACHER.DENSITY.ENABLED", "False"),
    *("MODEL.RETINANET.PRIOR_PROB", "0.45"),
    *("SOFT_TEACHER.JITTER.VARIANCE_THRESH", "0.5"),
    *("SOLVER.WARMUP_ITERS", "0"),
]
LAZY = [
    "model.pseudo_labeler.by_density=False",
    "model.student.head.prior_prob=0.45",
    "model.pseudo_labeler.variance_thresh=0.5",
    "lr_multiplier.warmup_length=0.0",
    "lr_multiplier.scheduler.milestones=[3,4]",
]
RETINANET, FCOS = "retinanet_soft_teacher", "fcos_soft_teacher"
RUNS = {
    "RetinaNet": (train_yaml, YAML, f"{RETINANET}.yaml", ("loss_cls", "loss_box_reg")),
    # The points of an untrained one are all as central, and its boxes have nearly no extent.
    "FCOS": (
        train_lazy,
        [*LAZY, "model.family.stability=centerness", "model.pseudo_labeler.variance_thresh=0.9"],
        f"{FCOS}.py",
        ("loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"),
    ),
}


@pytest.fixture(scope="module", params=RUNS.values(), ids=RUNS.keys())
def trained(tiny_digits, tmp_path_factory, request):
    train, opts, config, names = request.param
    folder = tmp_path_factory.mktemp("dense")
    train(folder, *opts, config=config)
    return folder, (train, opts, config, names)


def assert_same(folder, other):
    found, expected = weights(folder), weights(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def assert_both_streams_teach(folder, names):
    last = metrics(folder)
    assert last["pseudo/num_cls_boxes"] > 0 and last["pseudo/num_reg_boxes"] > 0
    for name in names:
        assert last[f"sup/{name}"] > 0 and last[f"unsup/{name}"] > 0


def normalizers(folder):
    """Of the checkpoint after the last step."""
    file = torch.load(folder / "model_final.pth", weights_only=True)
    return file["trainer"]["hooks"]["PendingHook"]["values"].tolist()


def test_both_streams_teach_and_move_normalizers_of_their_own(trained):
    folder, (_, _, config, names) = trained
    assert_both_streams_teach(folder, names)
    initial = 100 if config.startswith("retinanet") else 300
    assert len({*normalizers(folder), initial}) == 3


@pytest.mark.long
def test_a_resumed_run_ends_with_the_same_weights_and_normalizers(trained, tmp_path):
    folder, (train, opts, config, _) = trained
    interrupted_after_2_of_4_steps(train, tmp_path, *opts, config=config)
    train(tmp_path, *opts, config=config, resume=True)
    assert_same(tmp_path, folder)
    assert normalizers(tmp_path) == normalizers(folder)
    assert metrics(tmp_path)["total_loss"] == metrics(folder)["total_loss"]


def test_without_weights_both_streams_teach(tmp_path):
    config, names = RUNS["RetinaNet"][2:]
    train_yaml(tmp_path, *YAML, "SOFT_TEACHER.INDICATOR", "none", config=config)
    assert_both_streams_teach(tmp_path, names)
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path).values())


def test_a_retinanet_labels_by_density(tmp_path):
    config, names = RUNS["RetinaNet"][2:]
    density = ("SOFT_TEACHER.DENSITY.FOREGROUND", "30.0", "SOFT_TEACHER.DENSITY.REGRESSION", "20.0")
    enabled = ("SOFT_TEACHER.DENSITY.ENABLED", "True", "SOFT_TEACHER.DENSITY.WINDOW", "5")
    train_yaml(tmp_path, *YAML, *enabled, *density, config=config)
    assert_both_streams_teach(tmp_path, names)


@pytest.mark.long
def test_both_languages_end_with_the_same_weights(tmp_path):
    train_yaml(tmp_path / "yaml", *YAML, config=f"{RETINANET}.yaml")
    train_lazy(tmp_path / "lazy", *LAZY, config=f"{RETINANET}.py")
    assert_same(tmp_path / "lazy", tmp_path / "yaml")


NO_FAMILY = "model.family must describe a DetectorFamily"
SIZES = "must have one list, or one for each of the 3 levels of"


@pytest.mark.parametrize(
    "opts, said",
    [
        ("MODEL.RETINANET.NUM_CLASSES 7", "MODEL.RETINANET.NUM_CLASSES is 7: set it to 5"),
        ("model.student.num_classes=7", "model.student.num_classes is 7: set it to 5"),
        (
            "MODEL.ANCHOR_GENERATOR.SIZES [[8],[16]]",
            f"MODEL.ANCHOR_GENERATOR.SIZES {SIZES} MODEL.RETINANET.IN_FEATURES, got 2",
        ),
        (
            "model.student.anchor_generator.sizes=[[8],[16]]",
            f"model.student.anchor_generator.sizes {SIZES} model.student.head_in_features, got 2",
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
        ("model.family.indicator=plain", "model.family.indicator must be one of bg_teacher, bg_s"),
        ("model.family.cls_formula=plain", "model.family.cls_formula must be one of paper, ref"),
        ("model.family=null", NO_FAMILY),
        ("model.family._target_=torch.nn.Linear", NO_FAMILY),
        ("model.family._target_=nowhere.Family", "model.family: "),
        ("model.family._target_=soft_teacher.modeling.FasterRCNNFamily", "model cannot be built"),
        (
            "model.family._target_=soft_teacher.modeling.FCOSFamily",
            "FCOSFamily is for FCOS, got Re",
        ),
    ],
)
def test_a_mistake_names_its_key_or_path(opts, said, tmp_path):
    lazy = "=" in opts
    train, config = (train_lazy, f"{RETINANET}.py") if lazy else (train_yaml, f"{RETINANET}.yaml")
    with pytest.raises(ConfigError) as error:
        train(tmp_path, *opts.split(), config=config)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "opts, said",
    [
        ("model.student.num_classes=7", "model.student.num_classes is 7: set it to 5"),
        ("model.student.test_score_thresh=0.4", "model.student.test_score_thresh (0.4) is above"),
        ("model.family.stability=iou", "model.family.stability must be one of spread, centerness"),
        ("model.family.indicator=iou", "must be one of bg_teacher, bg_student, pred_diff, none"),
        ("model.family._target_=soft_teacher.modeling.RetinaNetFamily", "model cannot be built"),
    ],
)
def test_a_mistake_in_an_fcos_names_its_path(opts, said, tmp_path):
    with pytest.raises(ConfigError) as error:
        train_lazy(tmp_path, *opts.split(), config=f"{FCOS}.py")
    assert said in str(error.value) and "\n" not in str(error.value)
