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
from training import ROOT

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
    path = ROOT / "tools" / "install_detectron2.py"
    spec = importlib.util.spec_from_file_location("install_detectron2", path)
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
    """Writes a wheel, or other bytes, which the installer trusts."""

    def make(content=TREE, trusted=True):
        path = tmp_path / "labgym.whl"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                for name, text in content.items():
                    archive.writestr(name, text)
        if trusted:
            tool.WHEEL_SHA256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return path

    return make


@pytest.fixture
def wheel(make_wheel):
    return make_wheel()


@pytest.fixture
def main(tool, site, capsys):
    """Runs the tool on ``site``; returns its status and its one line of output or error."""

    def run(*arguments):
        status = tool.main(["--target", str(site), *map(str, arguments)])
        printed = capsys.readouterr()
        (line,) = (printed.out + printed.err).splitlines()
        assert line.startswith("install_detectron2: ") and bool(printed.err) == bool(status)
        return status, line

    return run


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
    """Writes a ``detectron2`` into ``folder`` with empty ``modules`` and others of ``contents``."""
    for module, text in {"": "", **dict.fromkeys(modules, ""), **contents}.items():
        path = folder / "detectron2" / module / "__init__.py"
        path.parent.mkdir(parents=True)
        path.write_text(text)


# --- what is installed


@pytest.fixture
def installed(tool, wheel, site):
    tool.install_wheel(site, wheel)
    assert {path.name for path in site.iterdir()} == {"detectron2", "detectron2-0.6.dist-info"}
    return site


def test_the_tree_imports_under_its_own_name(installed):
    code = "import detectron2.modeling as m; print(m.__file__, m.NAME, m.config.__name__)"
    command = [sys.executable, "-P", "-c", code]
    env = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    expected = [str(installed / "detectron2/modeling/__init__.py")] + ["detectron2.config"] * 2
    assert done.stdout.split() == expected
    yaml = (installed / "detectron2/model_zoo/base.yaml").read_text()
    assert yaml == TREE["LabGym/detectron2/model_zoo/base.yaml"], "only Python files are rewritten"


def test_licence_and_origin_are_written_beside_the_code(installed):
    licence = (installed / "detectron2/LICENSE").read_text()
    assert licence.startswith("Copyright 2019-2020, detectron2 contributors\n")
    assert "Apache License" in licence and "Version 2.0" in licence
    notice = (installed / "detectron2/NOTICE").read_text()
    assert "LabGym==3.1.2" in notice and "Only the import prefix was rewritten" in notice


def test_pip_can_list_it_and_the_record_has_every_file_with_its_digest(installed):
    command = [sys.executable, "-m", "pip", "list", "--format=freeze", "--path", str(installed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["detectron2==0.6"]
    (distribution,) = importlib.metadata.distributions(path=[str(installed)])
    recorded = {str(file): file for file in distribution.files}
    files = [path for path in installed.rglob("*") if path.is_file()]
    assert set(recorded) == {path.relative_to(installed).as_posix() for path in files}
    assert recorded.pop("detectron2-0.6.dist-info/RECORD").hash is None
    for name, file in recorded.items():
        digest = hashlib.sha256((installed / name).read_bytes()).digest()
        assert file.hash.value == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


# --- what is refused


WITHOUT_MODELING = {name: "" for name in TREE if "modeling" not in name}
ESCAPES = [f"LabGym/detectron2/{path}escaped.py" for path in ("../", "../../../", "/tmp/")]


@pytest.mark.parametrize(
    "content, trusted, message",
    [
        (None, False, "cannot read"),
        (b"not a zip", True, "File is not a zip file"),
        (b"another digest", False, "SHA-256"),
        ({}, True, "no complete LabGym/detectron2/ tree"),
        (WITHOUT_MODELING, True, "no complete LabGym/detectron2/ tree"),
        *(({**TREE, name: ""}, True, "outside its tree") for name in ESCAPES),
    ],
)
def test_a_wheel_that_is_not_the_pinned_whole_tree_is_refused(
    make_wheel, main, site, tmp_path, content, trusted, message
):
    path = tmp_path / "carried.whl"
    if content is not None:
        path = make_wheel(content, trusted)
    status, line = main("--source", "wheel", "--wheel", path)
    assert status == 1 and message in line
    assert not list(tmp_path.rglob("escaped.py")) and not Path("/tmp/escaped.py").exists()
    assert not list(site.iterdir())


def test_a_wheel_file_excludes_the_git_source(tool, wheel):
    with pytest.raises(SystemExit):
        tool.main(["--source", "git", "--wheel", str(wheel)])


# --- all or nothing


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


def test_a_failed_replacement_restores_the_old_package(tool, wheel, site, monkeypatch):
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


# --- which source is taken


def test_an_importable_detectron2_is_kept(main, wheel, site, tmp_path, monkeypatch):
    write_package(site, *MODULES)
    write_package(tmp_path / "elsewhere", *MODULES)
    monkeypatch.chdir(tmp_path / "elsewhere")
    kept = f"install_detectron2: kept the Detectron2 in {site / 'detectron2'}"
    assert main("--wheel", wheel) == (0, kept)
    assert not (site / "detectron2/NOTICE").exists()


@pytest.mark.parametrize("contents", [{}, {"modeling": OLD_TREE}, {"engine": "1 +"}])
def test_an_incomplete_or_broken_detectron2_is_replaced_as_a_whole(main, wheel, site, contents):
    write_package(site, "leftover", **contents)
    status, line = main("--wheel", wheel)
    assert status == 0 and "unpacked Detectron2 from the wheel" in line
    assert "NAME" in (site / "detectron2/modeling/__init__.py").read_text()
    assert not (site / "detectron2/leftover").exists()


@pytest.mark.parametrize(
    "text, reason",
    [
        ("import fvcore_of_old\n", "ModuleNotFoundError: No module named 'fvcore_of_old'"),
        ("import broken_package\n", "OSError: libGL.so.1"),
    ],
)
def test_a_detectron2_whose_requirements_are_at_fault_is_kept(main, wheel, site, text, reason):
    write_package(site, *MODULES[1:], checkpoint=text)
    (site / "broken_package.py").write_text("raise OSError('libGL.so.1')\n")
    status, line = main("--wheel", wheel)
    assert status == 0 and f"kept the Detectron2 in {site / 'detectron2'}" in line
    assert f"({reason}): pip install -e ." in line


# --- Python's path: PYTHONPATH comes before site-packages


@pytest.fixture
def older(tmp_path, monkeypatch):
    """A folder on PYTHONPATH, before the target, which is on it too."""
    folder = tmp_path / "older"
    folder.mkdir()
    path = [str(folder), str(tmp_path / "site-packages")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setattr(sys, "path", [sys.path[0], *path, *sys.path[1:]])
    return folder


def test_the_first_detectron2_on_the_path_counts(main, wheel, site, older):
    for folder in (site, older):
        write_package(folder, *MODULES)
    assert main("--wheel", wheel)[1].endswith(f"kept the Detectron2 in {older / 'detectron2'}")


def test_a_broken_detectron2_that_stays_first_on_the_path_is_named(main, wheel, site, older):
    write_package(older, *MODULES[1:], checkpoint=OLD_TREE)
    with pytest.raises(SystemExit) as stopped:
        main("--wheel", wheel)
    assert "\n" not in stopped.value.code
    for part in (
        f"unpacked Detectron2 from the wheel LabGym==3.1.2 into {site / 'detectron2'}",
        f"Python finds {older / 'detectron2'}: AttributeError: module 'PIL.Image' has no attribute",
        "remove that one",
    ):
        assert part in stopped.value.code


# --- downloads


NO_DIGEST = "0" * 64
ALL = ["import", "download", "install"]
NONE = (
    "no Detectron2 from installed (ERROR: cannot import), wheel (ERROR: cannot download), git "
    "(ERROR: cannot install); without a network, pass --wheel"
)


@pytest.mark.parametrize(
    "arguments, fails, trusted, kinds, status, message",
    [
        ([], [], True, ["import"], 0, "kept the Detectron2 in the folder of Detectron2"),
        ([], ALL[:1], True, ["import", "download", "import"], 0, "from the wheel LabGym==3.1.2"),
        ([], ALL[:2], True, [*ALL, "import"], 0, "built Detectron2 from git commit"),
        ([], ALL, True, ALL, 1, NONE),
        # A download that pip let through is verified again.
        (["--source", "wheel"], [], False, ["download"], 1, f"expected {NO_DIGEST}"),
        # A refused wheel file is not replaced by another source.
        (["--wheel"], ALL[:1], False, ["import"], 1, f"SHA-256 {{}}, expected {NO_DIGEST})"),
    ],
)
def test_sources_are_tried_in_order(
    tool, main, wheel, site, monkeypatch, arguments, fails, trusted, kinds, status, message
):
    digest = tool.WHEEL_SHA256
    if not trusted:
        tool.WHEEL_SHA256 = NO_DIGEST
    fake = FakePython(monkeypatch, fails=fails, serves=wheel)
    found, line = main(*arguments, *([wheel] if arguments == ["--wheel"] else []))
    assert (fake.kinds, found) == (kinds, status)
    assert message.format(digest) in line
    assert ("pass --wheel" in line) == (status == 1 and arguments != ["--wheel"])
    assert any(site.iterdir()) == ("unpacked" in line)
    commands = dict(zip(kinds, fake.commands))
    if "download" in kinds:
        assert fake.requirements in ([], [f"LabGym==3.1.2 --hash=sha256:{tool.WHEEL_SHA256}\n"])
        assert {"--require-hashes", "--no-deps"} < set(commands["download"])
    if "install" in kinds:
        command = commands["install"]
        assert command[:4] == [sys.executable, "-m", "pip", "install"]
        assert {"--no-build-isolation", str(site)} < set(command)
        repository, commit = command[-1].rsplit("@", 1)
        assert repository == "git+https://github.com/facebookresearch/detectron2.git"
        assert re.fullmatch("[0-9a-f]{40}", commit) and (commit in line) == (status == 0)


def test_the_reason_given_is_git_s_own_and_not_pip_s_closing_note(main, monkeypatch):
    stderr = "error: subprocess-exited-with-error\n  fatal: no route to host\nnote: not from pip\n"
    failed = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    status, line = main("--source", "git")
    assert status == 1 and "git (fatal: no route to host)" in line
