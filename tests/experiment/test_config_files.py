"""Config files and overrides that cannot be read: one line that names the file and the line."""

import os
import re

import pytest
from coco import ROOT, leaves
from detectron2.config import get_cfg

from soft_teacher import ConfigError, add_soft_teacher_config
from soft_teacher.experiment import lazy_config, yaml_config
from soft_teacher.experiment.entry import load_experiment

CONFIGS = ROOT / "configs"


@pytest.fixture
def refusal(tmp_path):
    """What is said of a file of these contents, or of overrides to it."""

    def refusal(name, content, *opts):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ConfigError) as error:
            load_experiment(str(path), opts)
        assert "\n" not in str(error.value)
        return str(error.value).replace(f"{tmp_path}/", "")

    return refusal


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "config 'c.yaml' cannot be read: it, or its _BASE_, must hold KEY: VALUE"),
        ("- a\n", "it, or its _BASE_, must hold KEY: VALUE"),
        ("text", "it, or its _BASE_, must hold KEY: VALUE"),
        ("SOLVER:\n  A: [1,\nB: }", 'in "c.yaml", line 3'),
        ("SOLVER:\n\tMAX_ITER: 1", 'cannot start any token in "c.yaml", line 2'),
        (b"\xff\xfeA", "it is no text in UTF-8"),
        ("A: \0", "unacceptable character"),
        ("A: 1\n---\nB: 2", "expected a single document"),
        ("_BASE_: nowhere.yaml", "No such file or directory (nowhere.yaml)"),
        ("_BASE_: .", "Is a directory"),
        ("_BASE_: c.yaml", "its _BASE_ refers back to itself"),
        ("_BASE_: 3", "it, or its _BASE_, must hold KEY: VALUE"),
        ("MODEL: !!python/object/apply:os.getcwd []", "could run code, write it plainly"),
        ("SEED: !mine 3", "could run code, write it plainly"),
        ("SEED: " + "9" * 5000, "4300 digits"),
        ("OUTPUT_DIR: 2001-01-01", "Key OUTPUT_DIR with value"),
        ("VERSION: 9", "Cannot merge a v9 config"),
        ("3: 4", "config 'c.yaml' cannot be read: "),
        ("SOLVER: 3", "SOLVER must be a section, got 3"),
        ("SOLVER:\n  MAX_ITER:", "SOLVER.MAX_ITER has no value: it must be a whole number"),
        ("SOLVER:\n  MAX_ITER: 1.5", "SOLVER.MAX_ITER must be a whole number, got 1.5"),
        ("SOLVER:\n  BASE_LR: 1", "SOLVER.BASE_LR must be a number with a decimal point, got 1"),
        ("SOLVER:\n  STEPS: 1", "SOLVER.STEPS must be a list, got 1"),
        ("OUTPUT_DIR: 3", "OUTPUT_DIR must be a text, got 3"),
        ("MODEL:\n  MASK_ON: 3", "MODEL.MASK_ON must be True or False, got 3"),
    ],
)
def test_yaml(content, said, refusal):
    assert said in refusal("c.yaml", content)


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "the LazyConfig has no section 'train'"),
        ("x = 1\ny = = 2\n", "c.py:2: SyntaxError: invalid syntax"),
        ("train = dict(\n", "c.py:1: SyntaxError: '(' was never closed"),
        ("x = 1\ntrain = dict(a=nope)\n", "c.py:2: NameError: name 'nope' is not defined"),
        ("import nope_nope\n", "c.py:1: ModuleNotFoundError: No module named 'nope_nope'"),
        ("\nfrom torch import nope\n", "c.py:2: ImportError: cannot import name 'nope'"),
        ("from .nope import x\n", "c.py:1: ImportError: Cannot import name nope"),
        ("def f():\n    return 1 / 0\n\nf()\n", "c.py:2: ZeroDivisionError: division by zero"),
        ("raise ValueError('two\\nlines')\n", "c.py:1: ValueError: two lines"),
        ("assert False\n", "c.py:1: AssertionError"),
        ("import torch\ntorch.zeros(-1)\n", "c.py:2: RuntimeError: "),
        (b"a = 1\0", "c.py: "),
        (b"\xff", "c.py: UnicodeDecodeError"),
        ("train = dict(seed='${train.nope}')", "train.seed: Interpolation key 'train.nope' not"),
        ("train = dict(a='${train.b}', b='${train.a}')", "train.a: Recursive interpolation"),
        ("train = dict(seed='???')", "train.seed: Missing mandatory value"),
        ("train = dict(seed='${broken')", "c.py:"),
        ("train = dict()", "train.device must be a text that is not empty, got None"),
        ("train = dict(device='toaster')", "train.device 'toaster' is not a device"),
    ],
)
def test_lazy(content, said, refusal):
    assert said in refusal("c.py", content)


@pytest.mark.parametrize(
    "content, said",
    [
        ("x = 1\ny = nope\n", "base.py:2: NameError"),
        ("x = (\n", "base.py:1: SyntaxError"),
        ("z = 1\n", "c.py:2: KeyError: 'y'"),
    ],
)
def test_a_mistake_in_what_a_lazy_config_imports(content, said, refusal, tmp_path):
    (tmp_path / "base.py").write_text(content)
    assert said in refusal("c.py", "\nfrom .base import y\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["c.yaml", "c.py"])
def test_a_file_that_may_not_be_read(name, tmp_path):
    path = tmp_path / name
    path.write_text("")
    path.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        load_experiment(str(path))


# --- overrides ----------------------------------------------------------------------------------

TRAIN = "train = dict(device='cpu', max_iter=1)"


@pytest.mark.parametrize(
    "opts, said",
    [
        (["SOLVER.MAX_ITER=4"], "takes overrides as KEY VALUE: write 'SOLVER.MAX_ITER 4'"),
        (["SEED", "1", "SEED=2"], "write 'SEED 2' for 'SEED=2'"),
        (["SEED"], "override SEED has no value"),
        (["SEED", "SOLVER.MAX_ITER", "4"], "override SEED has no value"),
        (["SEED", "1", "SOLVER.MAX_ITER"], "override SOLVER.MAX_ITER has no value"),
        (["SEED", "1", "--resume"], "--resume is among the overrides: put it before SEED"),
        (["", ""], "unknown config key"),
        (["XYZ", "1"], "unknown config key XYZ"),
        (["soft_teacher.alpha", "1.0"], "did you mean SOFT_TEACHER.ALPHA?"),
        (["SOFT_TEACHER.EMA.RAMP", "3"], "SOFT_TEACHER.EMA.RAMP must be True or False"),
        (["SEED", "None"], "SEED has no value: it must be a whole number"),
        (["SEED", "x"], "SEED must be a whole number, got 'x'"),
        (["SOLVER.BASE_LR", "x"], "SOLVER.BASE_LR must be a number"),
        (["SOLVER", "{}"], "SOLVER must be a section, got {}"),
        (["SEED", "(" * 500], "SEED must be a whole number, got '(((("),
        (["SEED", "9" * 5000], "SEED must be a whole number, got '9999"),
    ],
)
def test_yaml_overrides(opts, said, refusal):
    assert said in refusal("c.yaml", "VERSION: 2", *opts)


@pytest.mark.parametrize(
    "opts, said",
    [
        (["train.max_iter", "4"], "which a LazyConfig takes: write train.max_iter=4"),
        (["train.max_iter"], "write train.max_iter=VALUE"),
        (["train.max_iter", "train.device=cpu"], "write train.max_iter=VALUE"),
        (["=4"], "override '=4' is not of the form key=value"),
        ([""], "write key=VALUE"),
        (["train.max_iter=1", "--resume"], "--resume is among the overrides"),
        (["train.max_iter=[1,"], "[1,"),
        (["train.max_itr=1"], "did you mean train.max_iter?"),
        (["~train.max_iter"], "is not of the form key=value"),
        (["train.max_iter=${train.nope}"], "train.max_iter: Interpolation key 'train.nope' not"),
        (["train.max_iter=${train.max_iter}"], "train.max_iter: Recursive interpolation"),
    ],
)
def test_lazy_overrides(opts, said, refusal):
    assert said in refusal("c.py", TRAIN, *opts)


# --- what can be read ---------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    def write(text, name="config.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_a_config_of_no_keys_is_the_defaults(write):
    cfg = yaml_config.load_config(write("{}"))
    assert cfg.MODEL.META_ARCHITECTURE == "SoftTeacher"
    defaults = get_cfg()
    add_soft_teacher_config(defaults)
    assert {**leaves(cfg), "MODEL.DEVICE": ""} == {**leaves(defaults), "MODEL.DEVICE": ""}


def test_the_command_line_goes_before_the_file(write):
    path = write("SOFT_TEACHER:\n  ALPHA: 3.0\n  BURN_IN: 5\n")
    cfg = yaml_config.load_config(path, ["SOFT_TEACHER.ALPHA", "2.0"])
    assert (cfg.SOFT_TEACHER.ALPHA, cfg.SOFT_TEACHER.BURN_IN) == (2.0, 5)


@pytest.mark.parametrize(
    "key, text, value",
    [
        ("SOFT_TEACHER.ALPHA", "2", 2.0),
        ("DATASETS.SPLIT.PERCENT", "5", 5.0),
        ("SOFT_TEACHER.BURN_IN", "2", 2),
        ("DATASETS.TRAIN_UNLABELED", "photos/*.jpg", ("photos/*.jpg",)),
        ("DATASETS.TRAIN_UNLABELED", "'photos'", ("photos",)),
        ("DATASETS.TRAIN_UNLABELED", "('a', 'b')", ("a", "b")),
        ("MODEL.WEIGHTS", "'2'", "2"),
    ],
)
def test_the_command_line_takes_values_as_people_write_them(key, text, value, write):
    found = leaves(yaml_config.load_config(write("{}"), [key, text]))[key]
    assert found == value and type(found) is type(value)


def test_a_meta_architecture_of_detectron2_is_the_detector_that_is_wrapped(write, refusal):
    key = "MODEL.META_ARCHITECTURE"
    in_the_file = yaml_config.load_config(write("MODEL:\n  META_ARCHITECTURE: RetinaNet\n"))
    on_the_command_line = yaml_config.load_config(write("{}"), [key, "RetinaNet"])
    dumped = yaml_config.load_config(write(in_the_file.dump()))
    for cfg in (in_the_file, on_the_command_line, dumped):
        assert cfg.MODEL.META_ARCHITECTURE == "SoftTeacher"
        assert cfg.SOFT_TEACHER.DETECTOR == "RetinaNet"
    for name in ("", "PanopticFPN", "SoftTecher"):
        said = f"{key} '{name}' cannot be wrapped: use GeneralizedRCNN, RetinaNet"
        assert refusal("c.yaml", "{}", key, name).startswith(said)
        assert refusal("c.yaml", f"MODEL: {{META_ARCHITECTURE: '{name}'}}").startswith(said)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: p.stem)
def test_the_configs_that_come_along_load(path):
    assert yaml_config.load_config(str(path)).MODEL.META_ARCHITECTURE == "SoftTeacher"


LAZY = """
from detectron2.config import LazyCall as L
from soft_teacher.engine import EMAHook

ema = L(EMAHook)(momentum=0.9, ramp=True)
train = dict(device="cpu", amp=dict(enabled=False), init_checkpoint=None)
"""


def load_lazy(write, *overrides):
    return lazy_config.load_config(write(LAZY, "config.py"), overrides)


@pytest.mark.parametrize(
    "override, read, value",
    [
        ("ema.momentum=0.5", lambda cfg: cfg.ema.momentum, 0.5),
        ("train.amp.enabled=True", lambda cfg: cfg.train.amp.enabled, True),
        ("train.init_checkpoint=a.pth", lambda cfg: cfg.train.init_checkpoint, "a.pth"),
        # An argument that the file leaves at its default.
        ("ema.interval=3", lambda cfg: cfg.ema.interval, 3),
    ],
)
def test_an_override_of_a_known_key(override, read, value, write):
    assert read(load_lazy(write, override)) == value


# --- unknown keys -------------------------------------------------------------------------------

MISSPELT = [
    ("SOFT_TEACHER.ALHPA", "SOFT_TEACHER.ALPHA"),
    ("SOFT_TEACHER.EMA.MOMENTM", "SOFT_TEACHER.EMA.MOMENTUM"),
    ("SOFT_TEACHER.JITER.NUM", "SOFT_TEACHER.JITTER.NUM"),
    ("SOLVER.OPTIMISER", "SOLVER.OPTIMIZER"),
    ("SOLVER.MAX_ITERS", "SOLVER.MAX_ITER"),
    ("DATASETS.TRAIN_UNLABELLED", "DATASETS.TRAIN_UNLABELED"),
    ("SOFTTEACHER.ALPHA", "SOFT_TEACHER.ALPHA"),
]


@pytest.mark.parametrize("key, meant", MISSPELT)
def test_an_unknown_key_on_the_command_line_is_told_what_was_meant(key, meant, refusal):
    found = refusal("c.yaml", "{}", key, "1")
    assert found == f"unknown config key {key}: did you mean {meant}?"


@pytest.mark.parametrize("key, meant", MISSPELT)
def test_an_unknown_key_in_a_file_is_told_what_was_meant(key, meant, refusal):
    *nodes, leaf = key.split(".")
    lines = [f"{'  ' * depth}{node}:" for depth, node in enumerate(nodes)]
    text = "\n".join([*lines, f"{'  ' * len(nodes)}{leaf}: 1"])
    found = refusal("c.yaml", text)
    # The file is refused at the first part that is unknown.
    unknown = re.fullmatch(r"unknown config key (\S+): did you mean (\S+)\?", found)
    assert unknown and key.startswith(unknown[1]) and meant.startswith(unknown[2])


@pytest.mark.parametrize(
    "key", ["emma.momentum", "ema.momentm", "ema.momentum.x", "train.amp.on", "x", "+ema.x"]
)
def test_an_unknown_lazy_key_is_refused(key, refusal):
    found = refusal("c.py", LAZY, "ema.momentum=0.5", f"{key}=1")
    assert found.startswith(f"unknown config key {key}")


@pytest.mark.parametrize("name", ["missing.yaml", "missing.py"])
def test_a_missing_config_file(name, tmp_path):
    with pytest.raises(ConfigError, match=rf"^--config-file '.*{name}' does not exist$"):
        load_experiment(str(tmp_path / name))
    # A folder is that of a run.
    with pytest.raises(ConfigError, match=r"config\.yaml' does not exist$"):
        load_experiment(str(tmp_path))
