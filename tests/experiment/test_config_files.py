"""Config files and overrides that cannot be read: one line that names the file and the line."""

import os

import pytest

from soft_teacher import ConfigError
from soft_teacher.experiment.entry import load_experiment


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
        ("_BASE_: c.yaml", "its _BASE_ leads back to itself"),
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
        ("train = dict(device='toaster')", "train.device 'toaster' is no device"),
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
        (["SEED", "1", "--resume"], "--resume stands among the overrides: put it before SEED"),
        (["", ""], "unknown config key"),
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
        (["train.max_iter=1", "--resume"], "--resume stands among the overrides"),
        (["train.max_iter=[1,"], "[1,"),
        (["train.max_iter=${train.nope}"], "train.max_iter: Interpolation key 'train.nope' not"),
        (["train.max_iter=${train.max_iter}"], "train.max_iter: Recursive interpolation"),
    ],
)
def test_lazy_overrides(opts, said, refusal):
    assert said in refusal("c.py", TRAIN, *opts)
