"""The installer of Detectron2, on small wheels made here and without the network."""

import base64
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "install_detectron2.py"

MODULES = ("checkpoint", "data", "engine", "evaluation", "modeling", "solver")
OLD_TREE = "from PIL import Image\nDEFAULT = Image.LINEAR\n"  # gone since Pillow 10

TREE = {
    **{f"LabGym/detectron2/{module}/__init__.py": "" for module in MODULES},
    "LabGym/__init__.py": "raise ImportError('not part of the tree')\n",
    "LabGym/detectron2/__init__.py": "",
    "LabGym/detectron2/config.py": "NAME = 'LabGym.detectron2.config'\n",
    "LabGym/detectron2/modeling/__init__.py": (
        "import LabGym.detectron2.config as config\nfrom LabGym.detectron2.config import NAME\n"
    ),
    "LabGym/detectron2/model_zoo/base.yaml": "_target_: LabGym.detectron2.config\n",
}


@pytest.fixture
def tool():
    """A fresh copy of the installer, so that a test may change its constants."""
    spec = importlib.util.spec_from_file_location("install_detectron2", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path):
    """An empty stand-in for site-packages."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    return folder


@pytest.fixture
def make_wheel(tool, tmp_path):
    """Return a function that writes a wheel and makes it the one the installer trusts."""

    def make(members=TREE):
        path = tmp_path / "labgym.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
        tool.WHEEL_SHA256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return path

    return make


@pytest.fixture
def wheel(make_wheel):
    return make_wheel()


class FakePython:
    """Stand-in for ``subprocess.run``: keeps the commands, fails those ``fails`` names.

    To import fails until something was installed.
    """

    def __init__(self, monkeypatch, fails=(), serves=None):
        self.commands, self.requirements, self.fails, self.serves = [], [], {*fails}, serves
        monkeypatch.setattr(subprocess, "run", self)

    def __call__(self, command, **options):
        assert isinstance(command, list) and not options.get("shell")
        self.commands.append(command)
        if self.kind(command) in self.fails:
            stderr = f"noise\nERROR: cannot {self.kind(command)}\nhint: more noise\n"
            return subprocess.CompletedProcess(command, 1, "", stderr)
        if self.kind(command) == "download":
            self.requirements.append(Path(command[command.index("-r") + 1]).read_text())
            (Path(command[-1]) / "served.whl").write_bytes(self.serves.read_bytes())
        self.fails.discard("import")
        return subprocess.CompletedProcess(command, 0, "the folder of Detectron2\n", "")

    @staticmethod
    def kind(command):
        return command[3] if command[1:3] == ["-m", "pip"] else "import"

    @property
    def kinds(self):
        return [self.kind(command) for command in self.commands]


def write_package(folder, *modules, **contents):
    """Write a ``detectron2`` into ``folder`` with empty ``modules`` and others of ``contents``."""
    for module, text in {"": "", **dict.fromkeys(modules, ""), **contents}.items():
        path = folder / "detectron2" / module / "__init__.py"
        path.parent.mkdir(parents=True)
        path.write_text(text)


# What is installed


def test_the_tree_imports_under_its_own_name(tool, wheel, site):
    tool.install_wheel(site, wheel)
    code = "import detectron2.modeling as m; print(m.__file__, m.NAME, m.config.__name__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [str(site / "detectron2/modeling/__init__.py")] + ["detectron2.config"] * 2
    assert done.stdout.split() == expected


def test_only_python_files_are_rewritten(tool, wheel, site):
    tool.install_wheel(site, wheel)
    assert (site / "detectron2/config.py").read_text() == "NAME = 'detectron2.config'\n"
    yaml = (site / "detectron2/model_zoo/base.yaml").read_text()
    assert yaml == TREE["LabGym/detectron2/model_zoo/base.yaml"]


def test_the_rest_of_the_wheel_is_left_out(tool, wheel, site):
    tool.install_wheel(site, wheel)
    assert sorted(path.name for path in site.iterdir()) == [
        "detectron2",
        "detectron2-0.6.dist-info",
    ]


def test_licence_and_origin_are_written_beside_the_code(tool, wheel, site):
    tool.install_wheel(site, wheel)
    licence = (site / "detectron2/LICENSE").read_text()
    assert licence.startswith("Copyright 2019-2020, detectron2 contributors\n")
    assert "Apache License" in licence and "Version 2.0" in licence
    notice = (site / "detectron2/NOTICE").read_text()
    assert "LabGym==3.1.2" in notice and "Only the import prefix was rewritten" in notice


def test_pip_can_list_it(tool, wheel, site):
    tool.install_wheel(site, wheel)
    command = [sys.executable, "-m", "pip", "list", "--format=freeze", "--path", str(site)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["detectron2==0.6"]


def test_the_record_names_every_file_with_its_digest(tool, wheel, site):
    tool.install_wheel(site, wheel)
    (distribution,) = importlib.metadata.distributions(path=[str(site)])
    recorded = {str(file): file for file in distribution.files}
    on_disk = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert set(recorded) == on_disk
    assert recorded.pop("detectron2-0.6.dist-info/RECORD").hash is None
    for name, file in recorded.items():
        digest = hashlib.sha256((site / name).read_bytes()).digest()
        assert file.hash.value == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


# What is refused


def test_a_wheel_with_another_digest_is_refused(tool, wheel, site):
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("LabGym/detectron2/extra.py", "")
    with pytest.raises(tool.Unavailable, match=f"expected {tool.WHEEL_SHA256}"):
        tool.install_wheel(site, wheel)
    assert not list(site.iterdir())


@pytest.mark.parametrize("name", ["../escaped.py", "../../../escaped.py", "/{tmp}/escaped.py"])
def test_a_path_outside_the_tree_is_refused(tool, make_wheel, site, tmp_path, name):
    name = name.format(tmp=tmp_path)
    wheel = make_wheel({**TREE, f"LabGym/detectron2/{name}": "stolen = True\n"})
    with pytest.raises(tool.Unavailable, match="outside its tree"):
        tool.install_wheel(site, wheel)
    assert not list(tmp_path.rglob("escaped.py"))
    assert not list(site.iterdir())


def test_a_wheel_without_the_whole_tree_is_refused(tool, make_wheel, site):
    wheel = make_wheel({name: text for name, text in TREE.items() if "modeling" not in name})
    with pytest.raises(tool.Unavailable, match="no complete"):
        tool.install_wheel(site, wheel)
    assert not list(site.iterdir())


def test_a_wheel_file_excludes_the_git_source(tool, wheel):
    with pytest.raises(SystemExit):
        tool.main(["--source", "git", "--wheel", str(wheel)])


# All or nothing


@pytest.mark.parametrize("step", ["unpack", "write_dist_info", "swap"])
def test_an_interruption_leaves_nothing_behind(tool, wheel, site, monkeypatch, step):
    finish = getattr(tool, step)

    def interrupted(*args):
        if step != "swap":
            finish(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        tool.install_wheel(site, wheel)
    assert not list(site.iterdir())


def test_a_half_installed_package_is_replaced_as_a_whole(tool, wheel, site):
    write_package(site, "leftover")
    tool.install_wheel(site, wheel)
    assert not (site / "detectron2/leftover").exists()
    assert (site / "detectron2/modeling/__init__.py").is_file()


def test_a_failed_replacement_restores_what_was_there(tool, wheel, site, monkeypatch):
    write_package(site, "precious")
    replace = os.replace

    def refuse_the_new(source, destination):
        if Path(source).name == "detectron2" and Path(source).parent != site:
            raise OSError("refused")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", refuse_the_new)
    with pytest.raises(OSError, match="refused"):
        tool.install_wheel(site, wheel)
    assert (site / "detectron2/precious/__init__.py").is_file()
    assert [path.name for path in site.iterdir()] == ["detectron2"]


# Which source is taken


def test_an_importable_detectron2_is_kept(tool, wheel, site, tmp_path, monkeypatch, capsys):
    write_package(site, *MODULES)
    write_package(tmp_path / "elsewhere", *MODULES)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert tool.main(["--target", str(site), "--wheel", str(wheel)]) == 0
    kept = f"install_detectron2: kept the Detectron2 in {site / 'detectron2'}\n"
    assert capsys.readouterr().out == kept
    assert not (site / "detectron2/NOTICE").exists()


@pytest.mark.parametrize("contents", [{}, {"modeling": OLD_TREE}, {"engine": "1 +"}])
def test_a_detectron2_that_is_incomplete_or_broken_is_replaced(tool, wheel, site, capsys, contents):
    write_package(site, **contents)
    assert tool.main(["--target", str(site), "--wheel", str(wheel)]) == 0
    assert "unpacked Detectron2 from the wheel" in capsys.readouterr().out
    assert "NAME" in (site / "detectron2/modeling/__init__.py").read_text()


@pytest.mark.parametrize(
    "text, reason",
    [
        ("import fvcore_of_old\n", "ModuleNotFoundError: No module named 'fvcore_of_old'"),
        ("import broken_package\n", "OSError: libGL.so.1"),
    ],
)
def test_a_detectron2_whose_requirements_are_at_fault_is_kept(
    tool, wheel, site, capsys, text, reason
):
    write_package(site, *MODULES[1:], checkpoint=text)
    (site / "broken_package.py").write_text("raise OSError('libGL.so.1')\n")
    assert tool.main(["--target", str(site), "--wheel", str(wheel)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert f"kept the Detectron2 in {site / 'detectron2'}" in line
    assert f"({reason}): pip install -e ." in line


# Python's path: PYTHONPATH comes before site-packages


@pytest.fixture
def older(tmp_path, monkeypatch):
    """A folder on PYTHONPATH, before the target, which is on it too."""
    folder = tmp_path / "older"
    folder.mkdir()
    path = [str(folder), str(tmp_path / "site-packages")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setattr(sys, "path", [sys.path[0], *path, *sys.path[1:]])
    return folder


def test_what_comes_first_on_the_path_is_asked(tool, wheel, site, older, capsys):
    write_package(site, *MODULES)
    write_package(older, *MODULES)
    assert tool.main(["--target", str(site), "--wheel", str(wheel)]) == 0
    assert f"kept the Detectron2 in {older / 'detectron2'}\n" in capsys.readouterr().out


def test_a_broken_detectron2_that_stays_first_on_the_path_is_named(tool, wheel, site, older):
    write_package(older, *MODULES[1:], checkpoint=OLD_TREE)
    with pytest.raises(SystemExit) as stopped:
        tool.main(["--target", str(site), "--wheel", str(wheel)])
    assert "\n" not in stopped.value.code
    for part in (
        f"unpacked Detectron2 from the wheel LabGym==3.1.2 into {site / 'detectron2'}",
        f"Python finds {older / 'detectron2'}: AttributeError: module 'PIL.Image' has no attribute",
        "remove that one",
    ):
        assert part in stopped.value.code


# Downloads


def test_the_wheel_is_downloaded_by_its_digest(tool, wheel, site, monkeypatch, capsys):
    fake = FakePython(monkeypatch, fails=["import"], serves=wheel)
    assert tool.main(["--target", str(site)]) == 0
    assert fake.kinds == ["import", "download", "import"]
    assert fake.requirements == [f"LabGym==3.1.2 --hash=sha256:{tool.WHEEL_SHA256}\n"]
    assert {"--require-hashes", "--no-deps"} < set(fake.commands[1])
    assert (site / "detectron2/modeling/__init__.py").is_file()
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_download_that_pip_let_through_is_verified_again(tool, wheel, site, monkeypatch, capsys):
    FakePython(monkeypatch, serves=wheel)
    tool.WHEEL_SHA256 = "0" * 64
    assert tool.main(["--source", "wheel", "--target", str(site)]) == 1
    assert "expected " + "0" * 64 in capsys.readouterr().err
    assert not list(site.iterdir())


def test_the_git_source_installs_the_pinned_commit(tool, monkeypatch, capsys):
    fake = FakePython(monkeypatch)
    assert tool.main(["--source", "git"]) == 0
    command, _ = fake.commands
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert "--no-build-isolation" in command
    repository, commit = command[-1].rsplit("@", 1)
    assert repository == "git+https://github.com/facebookresearch/detectron2.git"
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert commit in capsys.readouterr().out


def test_git_is_the_last_resort(tool, site, monkeypatch):
    fake = FakePython(monkeypatch, fails=["import", "download"])
    assert tool.main(["--target", str(site)]) == 0
    assert fake.kinds == ["import", "download", "install", "import"]
    assert str(site) in fake.commands[2]


def test_a_refused_wheel_file_is_not_replaced_by_another_source(
    tool, wheel, site, monkeypatch, capsys
):
    fake = FakePython(monkeypatch, fails=["import"])
    tool.WHEEL_SHA256 = "0" * 64
    assert tool.main(["--target", str(site), "--wheel", str(wheel)]) == 1
    assert fake.kinds == ["import"]
    line = capsys.readouterr().err
    assert f"wheel ({wheel} is not LabGym==3.1.2: SHA-256" in line
    assert "network" not in line and "pass --wheel" not in line


def test_one_line_says_what_was_tried_and_what_to_do(tool, site, monkeypatch, capsys):
    FakePython(monkeypatch, fails=["import", "download", "install"])
    assert tool.main(["--target", str(site)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    for part in (
        "installed (ERROR: cannot import)",
        "wheel (ERROR: cannot download)",
        "git (ERROR: cannot install)",
        "pass --wheel",
    ):
        assert part in line
    assert not list(site.iterdir())


def test_the_reason_given_is_git_s_own_and_not_pip_s_closing_note(tool, monkeypatch, capsys):
    stderr = "error: subprocess-exited-with-error\n  fatal: no route to host\nnote: not from pip\n"
    failed = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    assert tool.main(["--source", "git"]) == 1
    assert "git (fatal: no route to host)" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"not a zip"])
def test_an_unreadable_wheel_file_is_one_line_too(tool, site, tmp_path, capsys, content):
    path = tmp_path / "carried.whl"
    if content is not None:
        path.write_bytes(content)
        tool.WHEEL_SHA256 = hashlib.sha256(content).hexdigest()
    assert tool.main(["--source", "wheel", "--target", str(site), "--wheel", str(path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(site.iterdir())
