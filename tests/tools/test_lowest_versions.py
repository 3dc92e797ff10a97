"""What setup.cfg accepts: its lower bounds as constraints, and the tested versions within it."""

import configparser
import importlib.util
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("lowest", ROOT / "tools" / "lowest_versions.py")
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


@pytest.fixture
def setup(tmp_path):
    def write(*requirements, extra=()):
        lines = ["[options]", "install_requires ="]
        lines += [f"    {text}" for text in requirements]
        lines += ["[options.extras_require]", "more ="]
        lines += [f"    {text}" for text in extra]
        path = tmp_path / "setup.cfg"
        path.write_text("\n".join(lines))
        return path

    return write


def test_nothing_required(setup):
    assert tool.lowest_versions(setup()) == []


def test_lower_bounds_of_requirements_and_extras(setup):
    path = setup("numpy>=1.26", "fvcore>=0.1.5.post1,<0.1.6", extra=["soft-teacher[demo]", "b>=2"])
    assert tool.lowest_versions(path) == ["numpy==1.26", "fvcore==0.1.5.post1", "b==2"]


def test_both_builds_of_opencv(setup):
    assert tool.lowest_versions(setup("opencv-python>=4.10.0.84")) == [
        "opencv-python==4.10.0.84",
        "opencv-python-headless==4.10.0.84",
    ]


@pytest.mark.parametrize("requirement", ["numpy", "numpy<2", "numpy==1.26", "numpy>1.25"])
def test_a_requirement_without_a_lower_bound_is_one_line(requirement, setup):
    with pytest.raises(SystemExit, match=f"{requirement} has no lower bound"):
        tool.lowest_versions(setup(requirement))


def test_the_versions_of_constraints_txt_are_accepted():
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()
            if not line.startswith("#")]  # fmt: skip
    pinned = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    for requirement in map(Requirement, "\n".join(lists).split()):
        if requirement.name != "soft-teacher":
            assert pinned[canonicalize_name(requirement.name)] in requirement.specifier
