import shlex
import subprocess
import sys

import pytest
from training import CONFIGS, ROOT

from soft_teacher.engine import lazy_entry, yaml_entry

YAML, LAZY = (str(CONFIGS / name) for name in ("soft_teacher.yaml", "soft_teacher.py"))


def plan_lr(*args):
    command = [sys.executable, "-W", "ignore", str(ROOT / "tools" / "plan_lr.py"), *args]
    return subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "projects")}
    )


def overrides(found):
    assert found.returncode == 0, found.stderr
    return shlex.split(found.stdout.split("overrides:\n")[1].splitlines()[0])


def test_the_overrides_that_are_printed_and_the_config_that_is_written_are_the_plan(tmp_path):
    path = tmp_path / "half.yaml"
    found = plan_lr("--config-file", YAML, "--images", "5", "--write", str(path))
    printed = yaml_entry.load_config(YAML, overrides(found))
    assert printed.SOLVER.IMS_PER_BATCH == 5 and printed.SOLVER.BASE_LR == 0.0005
    assert printed.SOLVER.MAX_ITER == 3600 and printed.SOLVER.STEPS == (3000,)
    assert printed.SOFT_TEACHER.BURN_IN == 1000
    assert yaml_entry.load_config(str(path)).dump() == printed.dump()


def test_a_lazy_config_gets_overrides_of_its_own():
    found = plan_lr("--config-file", LAZY, "--num-gpus", "1", "--of-gpus", "2")
    cfg = lazy_entry.load_config(LAZY, overrides(found))
    assert cfg.dataloader.train.batch_size == 5 and cfg.optimizer.lr == 0.0005
    assert list(cfg.lr_multiplier.scheduler.milestones) == [3000, 3600]


@pytest.mark.parametrize(
    "args, said",
    [
        (["--config-file", YAML, "--num-gpus", "1"], "--of-gpus 8 does not divide the 10 images"),
        (["--config-file", YAML, "--images", "0"], "SOLVER.IMS_PER_BATCH"),
        (["--config-file", LAZY, "--images", "5", "--write", "a.py"], "only YAML"),
        (["--config-file", "nowhere.yaml", "--images", "5"], "does not exist"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(args, said):
    found = plan_lr(*args)
    assert found.returncode == 2 and said in found.stderr and "Traceback" not in found.stderr
