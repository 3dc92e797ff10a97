import importlib.util
import shlex

import pytest
from training import CONFIGS, ROOT

from soft_teacher import ConfigError
from soft_teacher.experiment import lazy_config, yaml_config

YAML, LAZY = (str(CONFIGS / name) for name in ("soft_teacher.yaml", "soft_teacher.py"))


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("plan_lr", ROOT / "tools" / "plan_lr.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def overrides(text):
    return shlex.split(text.split("overrides:\n")[1].splitlines()[0])


def test_the_overrides_that_are_printed_and_the_config_that_is_written_are_the_plan(tool, tmp_path):
    path = tmp_path / "half.yaml"
    args = ["--config-file", YAML, "--images", "5", "--write", str(path)]
    printed = yaml_config.load_config(YAML, overrides(tool.plan(tool.parse_args(args))))
    assert printed.SOLVER.IMS_PER_BATCH == 5 and printed.SOLVER.BASE_LR == 0.0005
    assert printed.SOLVER.MAX_ITER == 3600 and printed.SOLVER.STEPS == (3000,)
    assert printed.SOFT_TEACHER.BURN_IN == 1000
    assert yaml_config.load_config(str(path)).dump() == printed.dump()


def test_a_lazy_config_gets_overrides_of_its_own(tool):
    args = ["--config-file", LAZY, "--num-gpus", "1", "--of-gpus", "2"]
    cfg = lazy_config.load_config(LAZY, overrides(tool.plan(tool.parse_args(args))))
    assert cfg.dataloader.train.batch_size == 5 and cfg.optimizer.lr == 0.0005
    assert list(cfg.lr_multiplier.scheduler.milestones) == [3000, 3600]


def test_as_many_images_as_before_change_nothing(tool):
    text = tool.plan(tool.parse_args(["--config-file", YAML, "--images", "10"]))
    assert text.endswith("nothing changes")


@pytest.mark.parametrize(
    "args, said",
    [
        (["--config-file", YAML, "--num-gpus", "1"], "--of-gpus 8 does not divide the 10 images"),
        (["--config-file", YAML, "--images", "0"], "SOLVER.IMS_PER_BATCH"),
        (["--config-file", LAZY, "--images", "5", "--write", "a.py"], "only YAML"),
        (["--config-file", "nowhere.yaml", "--images", "5"], "does not exist"),
    ],
)
def test_a_mistake_is_one_line(args, said, tool):
    with pytest.raises(ConfigError) as error:
        tool.plan(tool.parse_args(args))
    assert said in str(error.value) and "\n" not in str(error.value)
