"""soft-teacher-plan: the printed overrides and the written config are the plan."""

import shlex

import pytest
from training import CONFIGS

from soft_teacher.commands.plan import main
from soft_teacher.experiment import lazy_config, yaml_config
from soft_teacher.experiment.lazy_experiment import LazyExperiment
from soft_teacher.experiment.yaml_experiment import YamlExperiment
from soft_teacher.modeling import FCOSFamily, RetinaNetFamily

YAML, LAZY = (str(CONFIGS / name) for name in ("soft_teacher.yaml", "soft_teacher.py"))


@pytest.fixture
def run(capsys):
    def run(config, *arguments):
        status = main(["--config-file", config, *map(str, arguments)])
        return status, capsys.readouterr()

    return run


def overrides(printed):
    return shlex.split(printed.out.split("overrides:\n")[1].splitlines()[0])


def test_printed_overrides_and_written_config_are_the_plan(run, tmp_path):
    path = tmp_path / "half.yaml"
    status, printed = run(YAML, "--images", 5, "--write", path)
    cfg = yaml_config.load_config(YAML, overrides(printed))
    assert (status, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (0, 5, 0.0005)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (3600, (3000,))
    assert cfg.SOFT_TEACHER.BURN_IN == 1000
    assert yaml_config.load_config(str(path)).dump() == cfg.dump()


def test_a_lazy_config_gets_its_own_overrides(run):
    _, printed = run(LAZY, "--num-gpus", 3, "--of-gpus", 5)
    cfg = lazy_config.load_config(LAZY, overrides(printed))
    assert cfg.dataloader.train.batch_size == 6 and cfg.optimizer.lr == pytest.approx(0.0006)
    assert list(cfg.lr_multiplier.scheduler.milestones) == [2500, 3000]


CUSTOM = str(CONFIGS.parent / "custom" / "small_images.yaml")
DATA = ["DATASETS.TRAIN_LABELED", "digits_train", "DATASETS.TRAIN_UNLABELED", "digits_unlabeled"]
LAZY_DATA = ["dataloader.train.labeled_names=digits_train", "dataloader.train.labeled_share=0.4"]
LAZY_DATA.append("dataloader.train.unlabeled_names=digits_unlabeled")


def test_a_plan_for_data_is_a_config_that_passes_every_check(run, tiny_digits, tmp_path):
    """Twelve labeled images of 64 pixels with five classes."""
    path = tmp_path / "mine.yaml"
    status, printed = run(CUSTOM, "--write", path, *DATA)
    assert status == 0 and "as many pseudo boxes as labels have" in printed.out
    written = YamlExperiment.load(str(path))
    planned = yaml_config.load_config(CUSTOM, [*DATA, *overrides(printed)])
    assert written.cfg.dump() == planned.dump()
    assert planned.MODEL.ROI_HEADS.NUM_CLASSES == 5 and planned.SOLVER.MAX_ITER == 800
    assert "per labeled image" in printed.out and "64 x 64" in printed.out
    written.check(eval_only=False)


@pytest.mark.parametrize("number", [5, 6])
def test_a_plan_follows_the_detector_of_the_config(number, run, tiny_digits):
    """A RetinaNet with another number of classes than the dataset has, and of levels."""
    config = str(CONFIGS / "retinanet_soft_teacher.yaml")
    opts = [
        "MODEL.RETINANET.NUM_CLASSES",
        str(number),
        "MODEL.RETINANET.IN_FEATURES",
        "['p2','p3']",
    ]
    opts += ["MODEL.ANCHOR_GENERATOR.SIZES", "[[18],[28]]", *DATA]
    status, printed = run(config, *opts)
    planned = YamlExperiment.load(config, [*opts, *overrides(printed)])
    assert status == 0 and planned["MODEL.RETINANET.NUM_CLASSES"] == 5
    assert len(planned["MODEL.ANCHOR_GENERATOR.SIZES"]) == 2
    assert planned["SOFT_TEACHER.SCORE_THRESH"] == RetinaNetFamily.thresholds.score
    planned.check(eval_only=False)


def test_a_plan_for_an_fcos_has_its_thresholds_and_no_anchors(run, tiny_digits):
    config = str(CONFIGS / "fcos_soft_teacher.py")
    opts = [*LAZY_DATA, "model.pseudo_labeler.score_thresh=0.9"]
    status, printed = run(config, *opts)
    planned = LazyExperiment.load(config, [*opts, *overrides(printed)])
    assert status == 0 and "anchor_generator" not in printed.out
    assert planned["SOFT_TEACHER.SCORE_THRESH"] == FCOSFamily.thresholds.score
    planned.check(eval_only=False)


def test_a_plan_for_data_names_the_keys_of_a_lazy_config(run, tiny_digits):
    status, printed = run(LAZY, *LAZY_DATA)
    experiment = LazyExperiment.load(LAZY, [*LAZY_DATA, *overrides(printed)])
    assert status == 0 and experiment["SOLVER.MAX_ITER"] == 800
    assert experiment["SOFT_TEACHER.ALPHA"] == 1.0
    experiment.check(eval_only=False)


def test_nothing_to_plan_for(run, tiny_digits):
    status, printed = run(CUSTOM)
    assert status == 2 and "DATASETS.TRAIN_LABELED is empty" in printed.err
    status, printed = run(CUSTOM, "DATASETS.TRAIN_LABELED", "digits_unlabeled", *DATA[2:])
    assert status == 2 and "no image has an annotation to plan for" in printed.err


def test_as_many_images_as_before_change_nothing(run):
    assert run(YAML, "--images", 10)[1].out.endswith("nothing changes\n")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([YAML, "--num-gpus", 1], "--of-gpus 8 does not divide the 10 images"),
        ([YAML, "--images", 0], "SOLVER.IMS_PER_BATCH"),
        ([LAZY, "--images", 5, "--write", "a.py"], "only YAML"),
        (["nowhere.yaml", "--images", 5], "does not exist"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, run):
    status, printed = run(*arguments)
    assert status == 2 and message in printed.err and printed.err.count("\n") == 1


def test_the_config_is_written_from_any_folder_or_not_at_all(run, tmp_path, monkeypatch):
    """Its base, named as in the model zoo, is found from elsewhere."""
    monkeypatch.chdir(tmp_path)
    written = tmp_path / "new" / "my.yaml"
    assert run("demo/soft_teacher.yaml", "--images", 5, "--write", "new/my.yaml")[0] == 0
    monkeypatch.chdir("/")
    assert yaml_config.load_config(str(written)).SOLVER.IMS_PER_BATCH == 5
    status, printed = run("demo/soft_teacher.yaml", "--images", 5, "--write", written / "a.yaml")
    assert status == 2 and "error: --write cannot be written: " in printed.err
