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
from soft_teacher.experiment import lazy_config, yaml_config
from soft_teacher.experiment.settings import LAZY_ONLY, SETTINGS
from soft_teacher.experiment.words import LAZY_WORDS, YAML_WORDS, policy_of

PACKAGE = Path(soft_teacher.__file__).parent


@pytest.fixture(scope="module")
def known():
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    return cfg


@pytest.fixture(scope="module")
def lazy():
    files = [
        ROOT / "configs/coco/paper/htcpp_swin_L_soft_teacher_full_720k.py",
        CONFIGS / "mask_soft_teacher.py",
        CONFIGS / "retinanet_soft_teacher.py",
        CONFIGS / "cascade_soft_teacher.py",
        ROOT / "configs/coco/paper/soft_teacher_R_50_FPN_partial_180k.py",
    ]
    return [lazy_config.load_config(str(file)) for file in files]


@pytest.mark.parametrize("key", SETTINGS)
def test_every_key_is_one_of_yaml_s(key, known):
    assert yaml_config.value_of(known, key) is not None or key in leaves(known)


@pytest.mark.parametrize(
    "path", [*(path for setting in SETTINGS.values() for path in setting.paths), *LAZY_ONLY]
)
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
        cfg = yaml_config.load_config(str(path))
        for key, setting in SETTINGS.items():
            setting.check and setting.check(key, yaml_config.value_of(cfg, key))
    for cfg in lazy if language == "lazy" else []:
        lazy_config.check_keys(cfg)
        for key, setting in SETTINGS.items():
            for path, value in lazy_config.values_of(cfg, key):
                setting.check and setting.check(path, value)


# --- words --------------------------------------------------------------------------------------


def parameters_in_messages():
    """(module, Class.parameter) of every parameter that a text of the package names."""
    settable = {s.parameter.split(".")[0] for s in SETTINGS.values() if "." in s.parameter}
    named = re.compile(rf"(?<![\w.])(?:{'|'.join(sorted(settable))})\.[a-z]\w*")
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name == "experiment":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Raise, ast.Call)):
                for text in ast.walk(node):
                    if isinstance(text, ast.Constant) and isinstance(text.value, str):
                        yield from ((path.name, name) for name in named.findall(text.value))


@pytest.mark.parametrize("words", [YAML_WORDS, LAZY_WORDS], ids=["yaml", "lazy"])
def test_every_parameter_in_a_message_has_a_name_in_both_languages(words):
    found = {name for _, name in parameters_in_messages()}
    assert len(found) > 20
    assert {name for name in found if words(name) == name} <= {"optimizer.lr"}


def test_no_message_outside_names_a_key_of_yaml():
    keys = "|".join(re.escape(key) for key in SETTINGS if "." in key)
    rooms = ("analysis", "engine", "evaluation", "modeling", "monitoring", "distributed", "data")
    said = []
    for path in (path for room in rooms for path in (PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise):
                texts = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
                said += [(path.name, t) for t in texts if re.search(keys, str(t))]
    # What reads a CfgNode may name its keys.
    assert {name for name, _ in said} <= {"soft_teacher.py", "family.py"}


@pytest.mark.parametrize(
    "message, said",
    [
        ("", ""),
        ("nothing to say", "nothing to say"),
        ("SOLVER.MAX_ITER (3)", "train.max_iter (3)"),
        ("PseudoLabeler.score_thresh is 2", "model.pseudo_labeler.score_thresh is 2"),
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
    assert LAZY_WORDS(message) == said


def test_no_word_is_left_of_yaml():
    for said in LAZY_WORDS.names.values():
        assert not re.search(r"[A-Z]{3,}(?!\w*[a-z])", said.replace("RPN", ""))


@pytest.mark.parametrize("kind", [ConfigError, TrainingError])
def test_errors_and_the_log_name_the_keys_of_the_config(kind, caplog):
    usual = logging.getLogRecordFactory()
    with pytest.raises(kind, match="^optimizer.lr is wrong$"), LAZY_WORDS.spoken():
        logging.getLogger("soft_teacher.some.where").warning("raise %s", "SOLVER.MAX_ITER")
        logging.getLogger("soft_teacher_not").warning("raise %s", "SOLVER.MAX_ITER")
        raise kind("SOLVER.BASE_LR is wrong")
    assert caplog.messages == ["raise train.max_iter", "raise SOLVER.MAX_ITER"]
    assert logging.getLogRecordFactory() is usual


def test_a_policy_s_errors_name_it():
    with pytest.raises(ConfigError, match=r"^a\.b\.max_angle is wrong$"), policy_of("a.b"):
        raise ConfigError("build_policy.max_angle is wrong")


@pytest.mark.parametrize(
    "key, known",
    [
        ("soft_nms", True),
        ("smooth_l1_beta", True),  # of the base class
        ("smooth_l2_beta", False),
    ],
)
def test_arguments_of_base_classes_are_known_where_they_are_passed_on(lazy, key, known):
    path = f"model.student.roi_heads.box_predictor.{key}"
    assert lazy_config.is_known(lazy[-1], path) is known
