"""Any value for any key: a ConfigError of one line, or a config that everything builds from."""

import random
from contextlib import suppress

import pytest
from coco import leaves
from detectron2.config import get_cfg, instantiate
from training import CONFIGS, LAZY_OPTS, YAML_OPTS

from soft_teacher import ConfigError, add_soft_teacher_config
from soft_teacher.data.streams.loader import build_two_stream_train_loader
from soft_teacher.experiment import SoftTeacherTrainer, lazy_config, yaml_config
from soft_teacher.experiment.entry import load_experiment
from soft_teacher.experiment.lazy_experiment import LazyExperiment
from soft_teacher.experiment.settings import LAZY_ONLY, SETTINGS
from soft_teacher.utils.checks import shown

pytestmark = pytest.mark.usefixtures("tiny_digits")

NUMBERS = "0 -1 1 2 0.5 -0.5 1e-300 1e308 1e999 -1e999 nan 1000000000000".split()
TEXTS = ["", "x", "None", "True", "'ü\u2028ß'", "a b", "..", "${train.nope}", "!!python/none", "{}"]
LISTS = ["[]", "[0]", "[-1,2]", "[2,1]", "[[]]", "[[1],[2]]", "['a']", "[None]", "[nan]", "{'a':1}"]
VALUES = [*NUMBERS, *TEXTS, *LISTS, "9" * 5000, "(" * 100]
# Lengths of the run and the batch, for which other values than these take their time to build.
SMALL_ENOUGH = 10**5


def yaml_keys():
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    return sorted(leaves(cfg))


LAZY_KEYS = sorted({*(path for s in SETTINGS.values() for path in s.paths), *LAZY_ONLY})


def samples(keys, seed, count):
    rng = random.Random(seed)
    return [(rng.choice(keys), rng.choice(VALUES)) for _ in range(count)]


def checked(config, opts):
    """The config that passes, or None where one line says why it does not."""
    try:
        experiment = load_experiment(str(CONFIGS / config), opts)
        experiment.check(eval_only=False)
    except ConfigError as error:
        message = str(error)
        assert len(message.splitlines()) == 1
        return None
    return experiment.cfg


def check_yaml(key, value):
    cfg = checked("soft_teacher.yaml", [*YAML_OPTS, key, value])
    if cfg is None or cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH > SMALL_ENOUGH:
        return
    cfg.SEED = abs(cfg.SEED)
    # Of the model itself only what is as small as the demo's.
    small = yaml_config.load_config(str(CONFIGS / "soft_teacher.yaml"), YAML_OPTS)
    model = SoftTeacherTrainer.build_model(small)
    optimizer = SoftTeacherTrainer.build_optimizer(cfg, model)
    SoftTeacherTrainer.build_lr_scheduler(cfg, optimizer)
    SoftTeacherTrainer.build_ema(cfg, model)
    build_two_stream_train_loader(cfg)


def check_lazy(key, value):
    opts = [*LAZY_OPTS, f"{key.replace('[', '.').replace(']', '')}={value}"]
    cfg = checked("soft_teacher.py", opts)
    if cfg is None or cfg.train.max_iter * cfg.dataloader.train.batch_size > SMALL_ENOUGH:
        return
    cfg.train.seed = abs(cfg.train.seed)
    small = lazy_config.load_config(str(CONFIGS / "soft_teacher.py"), LAZY_OPTS)
    model = instantiate(small.model)
    LazyExperiment(cfg).build_optimizer(model)
    LazyExperiment(cfg).build_ema(model)
    instantiate(cfg.lr_multiplier)
    instantiate(cfg.dataloader.train)


def check_all(check, keys, seed, count):
    for key, value in samples(keys, seed, count):
        try:
            with suppress(ConfigError):  # of datasets that are read when the loader is built
                check(key, value)
        except Exception as error:
            error.add_note(f"{key} = {shown(value)}")
            raise


def test_the_values_as_they_are_pass():
    assert checked("soft_teacher.yaml", YAML_OPTS) is not None
    assert checked("soft_teacher.py", LAZY_OPTS) is not None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.long
def test_yaml(seed):
    check_all(check_yaml, yaml_keys(), seed, 50)


@pytest.mark.parametrize("seed", range(4))
def test_the_keys_of_the_table_in_yaml(seed):
    check_all(check_yaml, sorted(SETTINGS), seed, 25)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.long
def test_lazy(seed):
    check_all(check_lazy, LAZY_KEYS, seed, 30)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 30))
@pytest.mark.parametrize("check, keys", [(check_yaml, yaml_keys()), (check_lazy, LAZY_KEYS)])
def test_many_more(check, keys, seed):
    check_all(check, keys, seed, 150)
