"""What setup.cfg accepts: its lower bounds as constraints, and the tested versions within it."""

import configparser

import pytest
from lowest_versions import lowest_versions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from training import ROOT


@pytest.fixture
def lowest(tmp_path):
    def lowest(*requirements, extra=()):
        path = tmp_path / "setup.cfg"
        path.write_text(
            "\n    ".join(["[options]\ninstall_requires =", *requirements])
            + "\n    ".join(["\n[options.extras_require]\nmore =", *extra])
        )
        return lowest_versions(path)

    return lowest


@pytest.mark.parametrize(
    "requirements, extra, expected",
    [
        ([], [], []),
        (["numpy>=1.26", "f>=0.1.post1,<0.2"], [], ["numpy==1.26", "f==0.1.post1"]),
        ([], ["soft-teacher[demo]", "b>=2"], ["b==2"]),
        (["opencv-python>=4.1"], [], ["opencv-python==4.1", "opencv-python-headless==4.1"]),
    ],
)
def test_lower_bounds_of_requirements_and_extras(requirements, extra, expected, lowest):
    assert lowest(*requirements, extra=extra) == expected


@pytest.mark.parametrize("requirement", ["numpy", "numpy<2", "numpy==1.26", "numpy>1.25"])
def test_a_requirement_without_a_lower_bound_is_one_line(requirement, lowest):
    with pytest.raises(SystemExit, match=f"{requirement} has no lower bound"):
        lowest(requirement)


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
