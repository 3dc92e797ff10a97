"""tools/plan_lr.py: the printed overrides and the written config are the plan."""

import shlex

import pytest
from plan_lr import main
from training import CONFIGS

from soft_teacher.experiment import lazy_config, yaml_config

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
