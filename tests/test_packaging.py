"""What pip makes of the project: a wheel that needs no checkout, and its commands."""

import configparser
import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from types import SimpleNamespace

import pytest
from training import LAZY_OPTS, ROOT, YAML_OPTS

from soft_teacher import __version__

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
# command -> its module and function
COMMANDS = dict(
    line.split(" = ") for line in SETUP["options.entry_points"]["console_scripts"].split("\n")[1:]
)
PARTS = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "configs", "projects", "tools")
# Scripts that are no command: for developers, or before the package can be imported.
OTHER_SCRIPTS = {"install_detectron2", "lowest_versions", "probe_detectron2", "replicate"}
LABELED = "datasets/digits/splits/without_replacement_4_fold1/labeled.json@datasets/digits/train"
UNLABELED = "datasets/digits/unlabeled"
# Two steps of the demo, by its name in the model zoo.
RUNS = {
    "yaml": ["demo/soft_teacher.yaml", *YAML_OPTS, "DATASETS.TRAIN_LABELED", LABELED]
    + ["DATASETS.TRAIN_UNLABELED", UNLABELED, "SOLVER.MAX_ITER", "2", "OUTPUT_DIR", "yaml"],
    "lazy": ["configs/demo/soft_teacher.py", *LAZY_OPTS, "train.max_iter=2"]
    + [f"dataloader.train.labeled_names=['{LABELED}']", "train.output_dir=lazy"]
    + [f"dataloader.train.unlabeled_names=[{UNLABELED}]"],
}
# Runs files of commands with --help.
EXPLAIN = """
import os, runpy, sys
for place, name in enumerate(sys.argv[1:]):
    path = os.path.join(sys.prefix, "bin", name)
    print(end="\\0" if place else "")
    sys.argv = [path, "--help"]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        assert end.code == 0, name
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_module_with_a_main(name):
    module, _, function = COMMANDS[name].partition(":")
    assert module == f"soft_teacher.commands.{name.removeprefix('soft-teacher-')}"
    assert callable(getattr(importlib.import_module(module), function))


def test_every_module_of_the_commands_is_installed():
    folder = ROOT / "projects" / "soft_teacher" / "commands"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "common"}
    assert {f"soft-teacher-{module}" for module in modules} == {*COMMANDS}


def test_scripts_of_the_checkout_are_the_same_commands():
    scripts = [p for p in (ROOT / "tools").glob("*.py") if p.stem not in OTHER_SCRIPTS]
    mains = {f"from {value.replace(':', ' import ')}\n" for value in COMMANDS.values()}
    for script in (ROOT / "train_net.py", *scripts):
        text = script.read_text()
        (line,) = (main for main in mains if main in text)
        mains.remove(line)
        assert len(text.splitlines()) <= 9, script
    assert mains == set()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A wheel in an environment of its own that shares this one's other packages.

    ``run(command, *words)`` runs what is in there from an empty folder, ``here``.
    """
    root = tmp_path_factory.mktemp("packaging")
    venv, here = root / "venv", root / "here"
    for folder in ("configs", "projects", "tools"):
        shutil.copytree(ROOT / folder, root / "source" / folder, symlinks=True)
    for file in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / file, root / "source")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    quiet = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-index"]
    build = [*quiet, "wheel", *alone, "--no-build-isolation", "-w", root, root / "source"]
    subprocess.run([sys.executable, *build], check=True)
    shutil.rmtree(root / "source")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    # Of a folder that a .pth names no .pth is read: an editable install stays behind.
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "shared.pth").write_text("\n".join(shared))
    (wheel,) = root.glob("*.whl")
    install = [venv / "bin" / "python", *quiet, "install", *alone, wheel]
    subprocess.run(install, check=True, env=environment)
    here.mkdir()

    def run(command, *words, status=0, **variables):
        command = [str(venv / "bin" / command), *map(str, words)]
        env = {**environment, **variables}
        done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return SimpleNamespace(run=run, here=here, site=site)


@pytest.fixture(scope="module")
def digits(installed):
    """The tiny digits in ``datasets``, where a run looks for them by default."""
    sizes = ["--image-size", 64, "--digit-size", 16, 32, "--max-objects", 3]
    sizes += ["--num-train", 8, "--num-unlabeled", 4, "--num-val", 4]
    installed.run("python", "-m", "soft_teacher.demo", "datasets/digits", *sizes)
    split = ["--json", "datasets/digits/annotations/train.json", "--count", 4, "--folds", 1]
    split += ["--images", "datasets/digits/train", "--output", "datasets/digits/splits"]
    installed.run("soft-teacher-splits", *split)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_wheel_has_the_configs_and_the_licence(installed):
    code = "from soft_teacher import model_zoo as m; print(m.__file__, *m.config_names())"
    file, *names = installed.run("python", "-c", code).stdout.split()
    assert file == str(installed.site / "soft_teacher" / "model_zoo" / "__init__.py")
    configs = [path for path in (ROOT / "configs").rglob("*.*") if path.suffix != ".pyc"]
    assert len(names) == len(configs)
    (info,) = installed.site.glob(f"soft_teacher-{__version__}.dist-info")
    assert list(info.rglob("LICENSE"))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_command_explains_itself(installed):
    """Each file that pip made is run; all in one process, which imports the packages once."""
    said = installed.run("python", "-c", EXPLAIN, *COMMANDS).stdout.split("\0")
    for name, text in zip(COMMANDS, said, strict=True):
        assert text.startswith(f"usage: {name} ") and "tools/" not in text, name


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", RUNS)
def test_from_a_name_in_the_model_zoo_to_an_export(kind, installed, digits):
    """From a folder with nothing but data."""
    name, *opts = RUNS[kind]
    named = ["--config-file", name]
    assert "digits_val" in installed.run("soft-teacher-check", *named, *opts).stdout
    installed.run("soft-teacher-train", *named, *opts)
    installed.run("soft-teacher-train", *named, "--resume", *opts)
    found = ["--output", f"found_{kind}", "--confidence", "0.06"]
    photos = "datasets/digits/val"
    installed.run("soft-teacher-predict", "--config-file", kind, "--source", photos, *found)
    assert len(list((installed.here / f"found_{kind}" / "pictures").iterdir())) == 4
    export = ["--config-file", kind, "--output", f"{kind}.ts", "--images", photos]
    installed.run("soft-teacher-export", *export)
    assert (installed.here / f"{kind}.ts").is_file()


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_demo_from_data_to_pictures_and_again(installed, tmp_path):
    steps = ["SOLVER.MAX_ITER", "4", "SOFT_TEACHER.BURN_IN", "2", "TEST.EVAL_PERIOD", "0"]
    demo = ["soft-teacher-demo", "--output", tmp_path, "--opts", *steps]
    data = {"DETECTRON2_DATASETS": str(tmp_path / "datasets")}
    assert "soft_teacher trains" in installed.run(*demo, **data).stdout
    results = json.loads((tmp_path / "results.json").read_text())
    for row in ("supervised", "student", "teacher"):
        assert 0 <= results[row]["AP"] <= 100
    for picture in ("detections.png", "ap.png"):
        assert (tmp_path / "seed0" / picture).stat().st_size > 10_000
    assert "soft_teacher is reused" in installed.run(*demo, **data).stdout


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_replication_of_a_checkout_runs_what_is_installed(installed):
    script, rows = ROOT / "tools" / "replicate.py", ["--rows", "BG-T", "--seeds", 0]
    said = installed.run("python", script, "8", *rows, "--dry-run").stdout
    configs = f"{installed.site}/soft_teacher/model_zoo/configs/replication"
    assert f"python -m soft_teacher.commands.train --config-file {configs}/burn_in.yaml" in said


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_mistake_is_one_line_and_status_2(installed):
    done = installed.run("soft-teacher-train", "--config-file", "nowhere.yaml", status=2)
    assert done.stderr == "error: --config-file 'nowhere.yaml' does not exist\n"
    assert not (installed.here / "output").exists()
