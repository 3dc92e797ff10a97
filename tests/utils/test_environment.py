"""A package that is missing or broken is one line that names it and what installs it."""

import runpy
import sys
from pathlib import Path

import pytest

from soft_teacher.experiment import lazy_config
from soft_teacher.utils.environment import naming_broken_packages
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


def test_a_missing_package():
    assert failure("nowhere.part") == (
        "nowhere cannot be imported (ModuleNotFoundError: No module named 'nowhere'): "
        "install it with pip install -e ."
    )


def test_what_is_missing_inside_another_package_is_named(package):
    package("outer.__init__", "import nowhere\n")
    assert failure("outer").startswith("nowhere cannot be imported")


def test_a_package_that_lacks_a_name_another_wants(package):
    package("outer.__init__", "from inner import thing\n")
    package("inner.__init__", "")
    assert failure("outer").startswith("inner cannot be imported (ImportError: cannot import name")


@pytest.mark.parametrize("text", ["raise OSError('libcudart.so:\\n gone')\n", DIES_IN_DATACLASSES])
def test_the_innermost_package_that_breaks_is_named_in_one_line(package, text):
    package("outer.__init__", "import inner.part\n")
    package("inner.part", text)
    line = failure("outer")
    assert line.startswith("inner cannot be imported (") and "\n" not in line


def test_a_detectron2_that_does_not_know_today_s_pillow(package):
    package("detectron2.__init__", "from PIL import Image\nDEFAULT = Image.LINEAR\n")
    sys.modules.pop("detectron2")
    assert failure("detectron2") == (
        "detectron2 cannot be imported (AttributeError: module 'PIL.Image' has no attribute "
        "'LINEAR'): install it with python tools/install_detectron2.py"
    )


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
