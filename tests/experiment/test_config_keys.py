"""The table of keys: complete, and true of both languages."""

import ast
import logging
import re
from pathlib import Path

import pytest
from coco import leaves
from detectron2.config import get_cfg
from omegaconf import OmegaConf
from training import CONFIGS, ROOT

import soft_teacher
from soft_teacher import ConfigError, TrainingError, add_soft_teacher_config
from soft_teacher.experiment import lazy_config, lazy_entry, yaml_entry
from soft_teacher.experiment.config_keys import LAZY_ONLY, SETTINGS, lazy_paths
from soft_teacher.experiment.lazy_words import WORDS, in_lazy_words, policy_of, speaks_lazy

PACKAGE = Path(soft_teacher.__file__).parent
# Modules that speak of YAML alone.
YAML_ONLY = {"config.py", "yaml_config.py", "yaml_entry.py", "trainer.py", "scaling.py"}
# Keys that are said of YAML alone, or in a phrase that has another one.
NOT_SAID = {
    "MODEL.PROPOSAL_GENERATOR.NAME",
    "MODEL.ROI_HEADS.NAME",
    "SOFT_TEACHER.DETECTOR",
    "SOLVER.WARMUP_ITERS",
}


@pytest.fixture(scope="module")
def known():
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    return cfg


@pytest.fixture(scope="module")
def lazy():
    files = [
        CONFIGS / "soft_teacher.py",
        CONFIGS / "retinanet.py",
        ROOT / "configs/coco/paper/soft_teacher_R_50_FPN_partial_180k.py",
    ]
    return [lazy_entry.load_config(str(file)) for file in files]


@pytest.mark.parametrize("key", SETTINGS)
def test_every_key_is_one_of_yaml_s(key, known):
    assert yaml_entry.value_of(known, key) is not None or key in leaves(known)


@pytest.mark.parametrize("path", [*(p for key in SETTINGS for p in lazy_paths(key)), *LAZY_ONLY])
def test_every_path_is_in_a_lazy_config_or_is_an_argument_there(path, lazy):
    absent = object()
    assert any(
        OmegaConf.select(cfg, path, default=absent) is not absent or lazy_config.is_known(cfg, path)
        for cfg in lazy
    )


def test_every_key_of_ours_is_in_the_table(known):
    ours = set(leaves(known)) - set(leaves(get_cfg()))
    assert ours <= set(SETTINGS)


@pytest.mark.parametrize("language", ["yaml", "lazy"])
def test_the_configs_that_come_along_have_values_that_are_fine(language, lazy):
    folder = ROOT / "configs"
    for path in sorted(folder.rglob("*.yaml")) if language == "yaml" else []:
        cfg = yaml_entry.load_config(str(path))
        for key, (_, check) in SETTINGS.items():
            check and check(key, yaml_entry.value_of(cfg, key))
    for cfg in lazy if language == "lazy" else []:
        lazy_config.check_keys(cfg)
        for key, (_, check) in SETTINGS.items():
            for path, value in lazy_config.values_of(cfg, key):
                check and check(path, value)


# --- words --------------------------------------------------------------------------------------


def keys_in_messages():
    """(module, key) of every YAML key that stands in a text of the package."""
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    keys = "|".join(map(re.escape, sorted(leaves(cfg), key=len, reverse=True)))
    spoken = re.compile(rf"(?<![\w./'])(?:{keys})(?![\w/'])")
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name in YAML_ONLY:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Raise, ast.Call)):
                for text in ast.walk(node):
                    if isinstance(text, ast.Constant) and isinstance(text.value, str):
                        yield from ((path.name, key) for key in spoken.findall(text.value))


def test_every_key_in_a_message_has_a_word_for_lazy_configs():
    found = set(keys_in_messages())
    assert len(found) > 20
    silent = {key for _, key in found if in_lazy_words(key) == key}
    assert silent == NOT_SAID


@pytest.mark.parametrize(
    "message, said",
    [
        ("", ""),
        ("nothing to say", "nothing to say"),
        ("SOLVER.MAX_ITER (3)", "train.max_iter (3)"),
        ("raise SOFT_TEACHER.EMA.MOMENTUM.", "raise ema.momentum."),
        (
            "SEED was 1; OUTPUT_DIR, VIS_PERIOD",
            "train.seed was 1; train.output_dir, train.vis_period",
        ),
        (
            "set SOFT_TEACHER.JITTER.ENABLED to False",
            "set model.pseudo_labeler.measure_stability to False",
        ),
        # Names are left alone, and so are words that begin or end like a key.
        ("'SEED' in /data/SEED/x, MY_SEED, SEEDS", "'SEED' in /data/SEED/x, MY_SEED, SEEDS"),
    ],
)
def test_words(message, said):
    assert in_lazy_words(message) == said


def test_no_word_is_left_of_yaml():
    for said in WORDS.values():
        assert not re.search(r"[A-Z]{3,}(?!\w*[a-z])", said.replace("RPN", ""))


@pytest.mark.parametrize("kind", [ConfigError, TrainingError])
def test_errors_and_the_log_speak_lazy(kind, caplog):
    @speaks_lazy
    def fail():
        logging.getLogger("soft_teacher.some.where").warning("raise %s", "SOLVER.MAX_ITER")
        logging.getLogger("soft_teacher_not").warning("raise %s", "SOLVER.MAX_ITER")
        raise kind("SOLVER.BASE_LR is wrong")

    usual = logging.getLogRecordFactory()
    with pytest.raises(kind, match="^optimizer.lr is wrong$"):
        fail()
    assert caplog.messages == ["raise train.max_iter", "raise SOLVER.MAX_ITER"]
    assert logging.getLogRecordFactory() is usual


def test_a_policy_s_errors_name_it():
    with pytest.raises(ConfigError, match=r"^a\.b\.max_angle is wrong$"), policy_of("a.b"):
        raise ConfigError("SOFT_TEACHER.AUGMENTATION.MAX_ANGLE is wrong")
