"""A package that is missing or broken is one line that names it and what installs it."""

import runpy
import sys
from pathlib import Path

import pytest

from soft_teacher.experiment import lazy_config
from soft_teacher.utils.environment import installer, naming_broken_packages
from soft_teacher.utils.errors import BrokenPackage

ROOT = Path(__file__).resolve().parents[2]
TOOLS = [
    path
    for path in (ROOT / "train_net.py", *sorted((ROOT / "tools").glob("*.py")))
    if "soft_teacher" in path.read_text() and "__main__" in path.read_text()
]
# What dies in a module of the standard library, as hydra-core before 1.3 does on Python 3.11.
DIES_IN_DATACLASSES = """
from dataclasses import dataclass, field
@dataclass
class Config:
    options: list = []
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write modules of packages of others, and forget them afterwards."""
    before = dict(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def write(name, text):
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    yield write
    sys.modules.clear()
    sys.modules.update(before)


def failure(module):
    with pytest.raises(BrokenPackage) as error:
        with naming_broken_packages():
            __import__(module)
    return str(error.value)


def test_packages_that_import_pass():
    with naming_broken_packages():
        import json  # noqa: F401


@pytest.mark.parametrize(
    "outer, inner, said",
    [
        ("import nowhere", "", "nowhere cannot be imported (ModuleNotFoundError: No module named "),
        ("from inner.part import x", "", "inner cannot be imported (ImportError: cannot import"),
        (
            "import inner.part",
            "raise OSError('libcudart.so:\\n gone')",
            "inner cannot be imported (",
        ),
        ("import inner.part", DIES_IN_DATACLASSES, "inner cannot be imported ("),
    ],
)
def test_the_missing_or_innermost_broken_package_is_named_in_one_line(outer, inner, said, package):
    package("outer.__init__", f"{outer}\n")
    package("inner.part", inner)
    line = failure("outer")
    assert line.startswith(said) and "\n" not in line
    assert line.endswith("): install it with pip install -e .")


def test_a_detectron2_that_is_too_old_for_pillow(package):
    package("detectron2.__init__", "from PIL import Image\nDEFAULT = Image.LINEAR\n")
    sys.modules.pop("detectron2")
    assert failure("detectron2") == (
        "detectron2 cannot be imported (AttributeError: module 'PIL.Image' has no attribute "
        "'LINEAR'): install it with python tools/install_detectron2.py"
    )


@pytest.mark.parametrize(
    "package, in_checkout, installed",
    [
        ("", "pip install -e .", "pip install soft-teacher"),
        ("onnx", "pip install -e .[export]", "pip install soft-teacher[export]"),
        ("sklearn", "pip install -e .[demo]", "pip install soft-teacher[demo]"),
        ("detectron2", "python tools/install_detectron2.py", "install_detectron2.py"),
    ],
)
def test_what_installs_a_package(package, in_checkout, installed, tmp_path):
    """Without a checkout, pip knows the project and its extras by name."""
    assert installer(package) == in_checkout
    assert installer(package, tmp_path) == installed


def test_a_mistake_of_our_own_keeps_its_kind():
    with pytest.raises(ZeroDivisionError):
        with naming_broken_packages():
            1 / 0


def test_a_program_ends_with_the_line_alone(package, capsys):
    line = failure("nowhere")
    sys.excepthook(BrokenPackage, BrokenPackage(line), None)
    assert capsys.readouterr().err == f"error: {line}\n"
    sys.excepthook(ValueError, ValueError("another"), None)
    assert "ValueError: another" in capsys.readouterr().err


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.stem)
def test_every_tool_names_the_installer_where_detectron2_is_missing(tool, package):
    for name in [n for n in sys.modules if n.partition(".")[0] in ("detectron2", "soft_teacher")]:
        del sys.modules[name]
    sys.modules["detectron2"] = None  # Python's way to say that there is none
    with pytest.raises(ImportError, match="install it with python tools/install_detectron2.py$"):
        runpy.run_path(str(tool))


def test_an_old_hydra_is_no_mistake_in_the_config(package):
    for name in [n for n in sys.modules if n.partition(".")[0] == "hydra"]:
        del sys.modules[name]
    package("hydra.__init__", DIES_IN_DATACLASSES)
    with pytest.raises(BrokenPackage, match="hydra cannot be imported .*: install it with pip"):
        lazy_config.load_config(str(ROOT / "configs/demo/soft_teacher.py"), ["train.max_iter=1"])
