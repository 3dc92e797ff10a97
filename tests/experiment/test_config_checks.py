"""What is found out about a config before anything is read, built or written."""

import logging

import pytest
import torch
from detectron2.modeling import BACKBONE_REGISTRY
from training import CONFIGS, LAZY_OPTS, YAML_OPTS, arguments, main

from soft_teacher import ConfigError
from soft_teacher.demo.backbone import build_small_resnet_fpn_backbone
from soft_teacher.experiment import config_checks, experiment
from soft_teacher.experiment.entry import load_experiment

pytestmark = pytest.mark.usefixtures("tiny_digits")


def check(language, *opts, eval_only=False):
    """What check_config warns of."""
    file, usual = {
        "yaml": ("soft_teacher.yaml", YAML_OPTS),
        "lazy": ("soft_teacher.py", LAZY_OPTS),
    }[language]
    return load_experiment(str(CONFIGS / file), [*usual, *opts]).check(eval_only=eval_only)


def refusal(language, *opts, **options):
    with pytest.raises(ConfigError) as error:
        check(language, *opts, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("eval_only", [False, True])
@pytest.mark.parametrize("language", ["yaml", "lazy"])
def test_a_good_config_is_not_remarked_upon(language, eval_only):
    warmup = ["SOLVER.WARMUP_ITERS", "1"] if language == "yaml" else []
    assert check(language, *warmup, eval_only=eval_only) == []


SHARE_KEY = {"yaml": "SOFT_TEACHER.LABELED_SHARE", "lazy": "dataloader.train.labeled_share"}
# YAML key, LazyConfig's key if it has one, the value, what is said after the key
BAD = [
    ("SOLVER.MAX_ITER", "train.max_iter", "0", "at least 1"),
    ("SOLVER.MAX_ITER", "train.max_iter", "-5", "at least 1"),
    ("SOLVER.CHECKPOINT_PERIOD", "train.checkpointer.period", "0", "at least 1"),
    ("SOLVER.CHECKPOINTS_TO_KEEP", "train.checkpointer.max_to_keep", "-1", "at least 0"),
    ("TEST.EVAL_PERIOD", "train.eval_period", "-1", "at least 0"),
    ("TEST.AUG.ENABLED", "dataloader.test_aug.enabled", "3", "True or False"),
    ("TEST.AUG.MIN_SIZES", "dataloader.test_aug.min_sizes", "[]", "not be empty"),
    ("TEST.AUG.MIN_SIZES", "dataloader.test_aug.min_sizes", "[64,0]", "at least 1"),
    ("TEST.AUG.MAX_SIZE", "dataloader.test_aug.max_size", "0", "at least 1"),
    ("TEST.AUG.MAX_SIZES", "dataloader.test_aug.max_sizes", "[99]", "empty or have 3 items"),
    ("TEST.AUG.FLIP", "dataloader.test_aug.flip", "1", "True or False"),
    ("TEST.AUG.BOX_SIZES", "dataloader.test_aug.box_sizes", "[[0,1]]", "empty or have 3 items"),
    ("TEST.AUG.BOX_SIZES", "dataloader.test_aug.box_sizes", "[[0],[1],[2]]", "2 items"),
    ("TEST.AUG.BOX_SIZES", "dataloader.test_aug.box_sizes", "[[0,9],[9,9],[0,9]]", "empty range"),
    ("VIS_PERIOD", "train.vis_period", "-1", "not be negative"),
    ("SEED", "train.seed", "99999999999", "at most 2147483647"),
    ("SOLVER.BASE_LR", "optimizer.lr", "-0.1", "at least 0"),
    ("SOLVER.BASE_LR", "optimizer.lr", "1e999", "at least 0, got inf"),
    ("SOLVER.WEIGHT_DECAY", "optimizer.weight_decay", "-1.0", "at least 0"),
    ("SOLVER.MOMENTUM", "", "2.0", "at most 1"),
    ("SOLVER.OPTIMIZER", "", "Adagrad", "SGD, AdamW"),
    ("SOLVER.STEPS", "lr_multiplier.scheduler.milestones", "[3,2]", "ascend"),
    ("SOLVER.STEPS", "lr_multiplier.scheduler.milestones", "[0,2]", "at least 1"),
    ("SOLVER.GAMMA", "", "0.0", "above 0"),
    ("", "lr_multiplier.warmup_length", "1.5", "at most 1"),
    ("", "train.log_period", "0", "at least 1"),
    ("SOLVER.WARMUP_ITERS", "", "-1", "at least 0"),
    ("SOLVER.IMS_PER_BATCH", "dataloader.train.batch_size", "0", "at least 1"),
    ("SOLVER.GRADIENT_ACCUMULATION", "dataloader.train.chunks", "0", "at least 1"),
    ("SOLVER.GRADIENT_ACCUMULATION", "dataloader.train.chunks", "3", "(3)"),
    ("SOLVER.MAX_NONFINITE", "train.max_nonfinite", "-1", "not be negative"),
    ("SOLVER.AMP.PRECISION", "train.amp.precision", "fp8", "fp16, bf16"),
    ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "train.clip_gradients.clip_value", "0.0", "above 0"),
    ("DATALOADER.NUM_WORKERS", "dataloader.train.num_workers", "-1", "at least 0"),
    ("DATALOADER.MAX_UNREADABLE", "dataloader.train.max_unreadable", "1.5", "at most 1"),
    ("INPUT.MAX_PIXELS", "dataloader.train.max_pixels", "0", "at least 1"),
    ("INPUT.MAX_PIXELS", "dataloader.test.mapper.max_pixels", "-5", "at least 1"),
    ("DATALOADER.MAX_UNREADABLE", "dataloader.train.max_unreadable", "-0.5", "not be negative"),
    ("INPUT.FORMAT", "dataloader.train.image_format", "YUV", "BGR, RGB"),
    ("INPUT.MASK_FORMAT", "dataloader.train.mask_format", "rle", "polygon, bitmask"),
    ("", "dataloader.train.masks", "3", "True or False"),
    ("INPUT.MAX_SIZE_TEST", "dataloader.test.mapper.augmentations[0].max_size", "0", "at least 1"),
    ("MODEL.PIXEL_MEAN", "model.student.pixel_mean", "[1.0,2.0]", "3 items"),
    ("MODEL.PIXEL_STD", "model.student.pixel_std", "[1.0,0.0,1.0]", "above 0"),
    ("MODEL.PIXEL_STD", "model.student.pixel_std", "[1.0,-2.0,1.0]", "above 0"),
    ("MODEL.ROI_HEADS.NUM_CLASSES", "model.student.roi_heads.num_classes", "0", "at least 1"),
    ("MODEL.ROI_HEADS.NMS_THRESH_TEST", "model.student.roi_heads.box_predictor.test_nms_thresh",
     "1.5", "at most 1"),
    ("MODEL.ANCHOR_GENERATOR.SIZES", "model.student.proposal_generator.anchor_generator.sizes",
     "[]", "not be empty"),
    ("MODEL.ANCHOR_GENERATOR.SIZES", "model.student.proposal_generator.anchor_generator.sizes",
     "[[8],[-8],[9]]", "above 0"),
    ("MODEL.ANCHOR_GENERATOR.SIZES", "model.student.proposal_generator.anchor_generator.sizes",
     "[[8],[16]]", "got 2"),
    ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
     "model.student.proposal_generator.anchor_generator.aspect_ratios", "[[0.0]]", "above 0"),
    ("MODEL.KEYPOINT_ON", "", "True", "switch it off"),
    ("MODEL.ROI_HEADS.NAME", "", "Res5ROIHeads", "use StandardROIHeads"),
    ("SOFT_TEACHER.ALPHA", "model.alpha", "-1.0", "not be negative"),
    ("SOFT_TEACHER.BURN_IN", "train.burn_in", "-1", "not be negative"),
    ("SOFT_TEACHER.LABELED_SHARE", "dataloader.train.labeled_share", "0.0", "(0, 1]"),
    ("SOFT_TEACHER.LABELED_SHARE_DECAY", "dataloader.train.decay_steps", "9", "must not exceed"),
    ("SOFT_TEACHER.LABELED_DRAW", "dataloader.train.draw", "dice", "global, per_rank"),
    ("SOFT_TEACHER.SCORE_THRESH", "model.pseudo_labeler.score_thresh", "1.5", "between 0 and 1"),
    ("SOFT_TEACHER.INDICATOR", "model.student.roi_heads.indicator", "luck", "bg_teacher"),
    ("SOFT_TEACHER.JITTER.NUM", "model.family.jitter.num", "1", "at least 2"),
    ("SOFT_TEACHER.EMA.MOMENTUM", "ema.momentum", "1.0", "[0, 1)"),
    ("SOFT_TEACHER.EMA.INTERVAL", "ema.interval", "0", "at least 1"),
    ("SOFT_TEACHER.WATCH.PATIENCE", "train.watch.patience", "0", "at least 1"),
    ("SOFT_TEACHER.AUGMENTATION.MAX_ANGLE", "dataloader.train.strong_augmentations.max_angle",
     "90.0", "below 90"),
    ("SOFT_TEACHER.AUGMENTATION.VARIANT", "dataloader.train.weak_augmentations.variant", "x",
     "paper, reference"),
    ("DATASETS.SPLIT.PERCENT", "", "0.0", "above 0"),
    ("OUTPUT_DIR", "train.output_dir", "''", "not empty"),
    ("SOFT_TEACHER.EVAL_NETWORKS", "train.eval_networks", "[]", "is empty"),
    ("SOFT_TEACHER.EVAL_NETWORKS", "train.eval_networks", "[pupil]", "student, teacher"),
    ("DATASETS.TRAIN_LABELED", "dataloader.train.labeled_names", "[]", "is empty"),
    ("DATASETS.TRAIN_LABELED", "dataloader.train.labeled_names", "nowhere", "names 'nowhere'"),
    ("DATASETS.TRAIN_UNLABELED", "dataloader.train.unlabeled_names", "[]", "set {share} to 1"),
    ("DATASETS.TEST", "dataloader.test.dataset.names", "nowhere", "names 'nowhere'"),
    ("SOLVER.AMP.ENABLED", "train.amp.enabled", "True", "needs a CUDA GPU"),
    ("SOFT_TEACHER.DETECTOR", "", "PanopticFPN", "cannot be wrapped: use "),
]  # fmt: skip


@pytest.mark.parametrize("key, _, value, said", [row for row in BAD if row[0]])
def test_a_bad_value_in_yaml(key, _, value, said):
    found = refusal("yaml", key, value)
    assert key in found and said.format(share=SHARE_KEY["yaml"]) in found


@pytest.mark.parametrize("_, key, value, said", [row for row in BAD if row[1]])
def test_a_bad_value_in_a_lazy_config(_, key, value, said):
    override = key.replace("[0]", ".0")
    found = refusal("lazy", f"{override}={value}")
    assert key in found and said.format(share=SHARE_KEY["lazy"]) in found


@pytest.mark.parametrize("language", ["yaml", "lazy"])
def test_what_only_trains_is_not_checked_for_an_evaluation(language):
    opts = {
        "yaml": ["DATASETS.TRAIN_LABELED", "nowhere", "SOLVER.AMP.PRECISION", "fp8"],
        "lazy": ["dataloader.train.labeled_names=nowhere", "train.amp.enabled=True"],
    }
    assert check(language, *opts[language], eval_only=True) == []


@pytest.mark.parametrize(
    "override, said",
    [
        ("train.max_iter=many", "train.max_iter must be a whole number of at least 1, got 'many'"),
        ("train.max_iter=2.5", "train.max_iter must be a whole number of at least 1, got 2.5"),
        ("train.max_iter=null", "train.max_iter must be a whole number of at least 1, got None"),
        ("optimizer.lr=nan", "optimizer.lr must be a number of at least 0, got nan"),
        ("ema.momentum=high", "ema.momentum must be a finite number, got 'high'"),
        ("train.amp.enabled=1", "train.amp.enabled must be True or False, got 1"),
        ("train.eval_networks=teacher", "train.eval_networks must be a list, got 'teacher'"),
        ("train.watch=3", "the LazyConfig has no key train.watch.patience"),
        ("dataloader.train=3", "the LazyConfig has no section 'dataloader.train'"),
        ("ema=null", "the LazyConfig has no section 'ema'"),
        ("optimizer._target_=torch.optim.Nope", "optimizer cannot be built: "),
    ],
)
def test_types_are_checked_where_the_language_does_not(override, said):
    assert refusal("lazy", override).startswith(said)


@pytest.mark.parametrize(
    "opts, said",
    [
        (
            ["MODEL.RPN.IN_FEATURES", "('p9', 'p2', 'p3')"],
            "the model cannot be built: KeyError: 'p9'",
        ),
        (["SOLVER.LR_SCHEDULER_NAME", "Up"], "ValueError: Unknown LR scheduler: Up"),
        (["MODEL.RESNETS.NORM", "XN"], "the model cannot be built: KeyError: 'XN'"),
        (["SOLVER.REFERENCE_WORLD_SIZE", "3"], "SOLVER.REFERENCE_WORLD_SIZE cannot be built"),
    ],
)
def test_what_detectron2_refuses_is_one_line_that_names_the_place(opts, said):
    found = refusal("yaml", *opts)
    assert said in found and ".py:" in found


@pytest.mark.parametrize("config, wanted", [("mask_soft_teacher", True), ("soft_teacher", False)])
def test_a_lazy_config_whose_loader_and_model_disagree_on_masks_is_refused(config, wanted):
    run = load_experiment(str(CONFIGS / f"{config}.py"), LAZY_OPTS)
    run.cfg.dataloader.train.masks = not wanted
    with pytest.raises(ConfigError) as error:
        run.rehearse(eval_only=False)
    has = "a" if wanted else "no"
    said = f"model.student has {has} mask head: set dataloader.train.masks to {wanted}"
    assert str(error.value) == said


# --- what is said, and goes on -------------------------------------------------------------------


NO_TEST = {"yaml": ["DATASETS.TEST", "()"], "lazy": ["dataloader.test.dataset.names=[]"]}
BATCH = {"yaml": ["SOLVER.IMS_PER_BATCH", "{}"], "lazy": ["dataloader.train.batch_size={}"]}
TEST_KEY = {"yaml": "DATASETS.TEST", "lazy": "dataloader.test.dataset.names"}


def warnings(language, *opts):
    return [w for w in check(language, *opts) if "WARMUP" not in w]


@pytest.mark.parametrize("language", ["yaml", "lazy"])
def test_nothing_to_evaluate_on(language):
    (warning,) = warnings(language, *NO_TEST[language])
    assert warning.startswith(f"{TEST_KEY[language]} is empty") and "model_best" in warning
    found = refusal(language, *NO_TEST[language], eval_only=True)
    assert found == f"{TEST_KEY[language]} is empty: name a dataset to evaluate on"


@pytest.mark.parametrize("language", ["yaml", "lazy"])
@pytest.mark.parametrize(
    "batch, streams", [(3, []), (2, ["labeled"]), (1, ["labeled", "unlabeled"])]
)
def test_steps_without_images_of_a_stream(language, batch, streams):
    """The share is 0.4."""
    found = warnings(language, *(opt.format(batch) for opt in BATCH[language]))
    assert all(warning.startswith(SHARE_KEY[language]) for warning in found)
    assert [warning.split()[4] for warning in found] == streams


@pytest.mark.parametrize("language", ["yaml", "lazy"])
def test_no_labeled_image_in_the_whole_run(language):
    key = SHARE_KEY[language]
    opts = [key, "1e-6"] if language == "yaml" else [f"{key}=1e-6"]
    found = refusal(language, *opts)
    assert found.startswith(f"{key} (1e-06)") and "less than one labeled image" in found


def test_a_warm_up_that_does_not_end():
    (warning,) = check("yaml", "SOLVER.WARMUP_ITERS", "5")
    assert warning.startswith("SOLVER.WARMUP_ITERS (5) exceeds SOLVER.MAX_ITER (4)")
    assert check("yaml", "SOLVER.WARMUP_ITERS", "4") == []


# --- the rehearsal ------------------------------------------------------------------------------


def test_a_network_that_reads_tensors_is_not_rehearsed(monkeypatch):
    def build(cfg, input_shape):
        torch.zeros(1).item()
        return build_small_resnet_fpn_backbone(cfg, input_shape)

    build.__name__ = "build_reading_backbone"
    monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, build.__name__, build)
    opts = ["MODEL.BACKBONE.NAME", build.__name__, "SOLVER.WARMUP_ITERS", "1"]
    assert check("yaml", *opts) == []


def test_a_rehearsal_takes_no_memory_logs_nothing_and_keeps_the_random_numbers(caplog):
    before = torch.random.get_rng_state()
    with config_checks.rehearsal("it"):
        assert torch.nn.Linear(10**6, 10**6).weight.is_meta
        logging.getLogger("soft_teacher").error("heard")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert caplog.messages == []
    logging.getLogger("soft_teacher").error("heard")
    assert caplog.messages == ["heard"]


@pytest.mark.parametrize(
    "config, opts",
    [
        ("soft_teacher.yaml", [*YAML_OPTS, "SOFT_TEACHER.EMA.MOMENTUM", "1.0"]),
        ("soft_teacher.py", [*LAZY_OPTS, "ema.momentum=1.0"]),
    ],
    ids=["yaml", "lazy"],
)
def test_the_run_has_not_begun_when_a_mistake_is_found(config, opts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "default_setup", lambda *args: pytest.fail("the run has begun"))
    with pytest.raises(ConfigError):
        main(arguments(config, opts))
    assert not list(tmp_path.iterdir())
