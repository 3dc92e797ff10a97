"""The check of a GPU: its processes, its report, its wheels, and all of it in a tiny form."""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gpu_check
import gpu_wheels
import numpy as np
import pytest
import torch
from bench_parts import NOT_ON_A_CPU, measured
from bench_report import write
from detectron2.structures import Boxes, Instances
from gpu_report import failures, markdown
from gpu_requirements import check_versions
from gpu_sections import precision
from gpu_sections.boxes import kept, score_changes
from gpu_sections.data import Copied
from gpu_sections.demo import SamePermutations
from gpu_sections.job import SIZES, Job
from section_process import DONE, run_section
from training import ROOT

from soft_teacher.utils.errors import ConfigError


def crash():
    faulthandler.disable()  # pytest's
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    "section, limit, status",
    [
        (lambda: None, 20, DONE),
        (lambda: 1 / 0, 20, "ended with status 1: ZeroDivisionError: division by zero"),
        (lambda: os._exit(3), 20, "ended with status 3: nothing was printed"),
        (crash, 20, "ended by SIGSEGV"),
        (lambda: time.sleep(60), 0, "stopped at its limit of 0 s"),
    ],
)
def test_how_a_section_ends(section, limit, status, tmp_path):
    (tmp_path / "log").write_text("of another section\n")
    outcome = run_section(section, limit=limit, log=tmp_path / "log")
    assert outcome.status == status and outcome.seconds < 10
    assert (tmp_path / "log").read_text().startswith("of another section\n")


def test_a_section_that_hangs_ends_with_all_that_it_started(tmp_path):
    pid, looked = tmp_path / "pid", []

    def hang():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.system("echo printed")
        child = subprocess.Popen(["sleep", "600"])
        pid.write_text(str(child.pid))
        child.wait()

    def look():
        looked.append(pid.exists())

    outcome = run_section(hang, limit=1, log=tmp_path / "log", progress=look)
    assert outcome.status == "stopped at its limit of 1 s"
    assert 1 <= outcome.seconds < 10 and looked[-1]
    assert (tmp_path / "log").read_text() == "printed\n"
    stat = Path(f"/proc/{pid.read_text()}/stat")
    for _ in range(50):  # init may take its time to bury it
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("its child is alive")


RESULTS = {
    "device": "cuda",
    "size": "full",
    "sections": {
        "device": {
            "question": "What?", "limit": 20, "status": DONE, "seconds": 1.2,
            "tables": {"machine": [{"": "device", "value": "Some GPU"}]},
        },
        "step": {
            "question": "How fast?", "limit": 60, "status": "stopped at its limit of 60 s",
            "seconds": 60.1,
            "tables": {"times": [{"a": 1, "ratio": 1.23456}, {"a": 2, "holds": False}]},
        },
        "demo": {
            "question": "Right?", "limit": 9, "status": DONE, "seconds": 8.0,
            "tables": {"checks": [{"holds": True}, {"holds": NOT_ON_A_CPU}]},
        },
    },
}  # fmt: skip


def test_the_report_has_tables_and_what_is_wrong(tmp_path):
    empty = {"device": "cuda", "size": "full", "sections": {}}
    assert markdown(empty).startswith("# GPU check: cuda, full size\n") and not failures(empty)
    write(tmp_path, RESULTS, markdown(RESULTS))
    assert json.loads((tmp_path / "results.json").read_text()) == RESULTS
    lines = (tmp_path / "results.md").read_text().splitlines()
    lines = [" ".join(line.split()) for line in lines]
    assert lines[0] == "# GPU check: Some GPU, full size"
    for line in ("| a | ratio | holds |", "| 1 | 1.235 | |", "| 2 | | NO |"):
        assert line in lines
    assert "Incomplete: stopped at its limit of 60 s." in lines
    assert "| step | How fast? | stopped at its limit of 60 s | 60 of 60 |" in lines
    assert failures(RESULTS) == [
        "step: stopped at its limit of 60 s",
        "step: times: a 2, holds NO",
    ]


def test_a_measure_that_fails_is_a_row():
    row = measured({"images": 8, "holds": False}, lambda: 1 / 0)
    reason = "ZeroDivisionError: division by zero"
    assert row == {"images": 8, "holds": False, "did not run": reason}


def instances(*boxes, classes=None, scores=None):
    found = Instances((100, 100), pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
    found.pred_classes = torch.tensor(classes or [0] * len(boxes), dtype=torch.int64)
    found.scores = torch.tensor(scores or [0.5] * len(boxes))
    return found


def test_boxes_are_the_same_in_place_and_class():
    none, one = instances(), instances([0.0, 0, 10, 10])
    assert kept(none, one, iou=0.5) == [] and kept(one, none, iou=0.5) == [0.0]
    assert score_changes(none, one, iou=0.5) == score_changes(one, none, iou=0.5) == []
    boxes = [0.0, 0, 10, 10], [50.0, 50, 90, 90]
    a = instances(*boxes, classes=[1, 2], scores=[0.9, 0.8])
    b = instances(*boxes, classes=[1, 3], scores=[0.7, 0.8])
    assert kept(a, b, iou=0.99) == [1.0, 0.0]
    assert score_changes(a, b, iou=0.99) == [pytest.approx(0.2)]


def test_permutations_come_from_the_cpus_generator():
    torch.manual_seed(0)
    expected = torch.randperm(50)
    torch.manual_seed(0)
    with SamePermutations():
        assert torch.equal(torch.randperm(50, device="cpu"), expected)
        assert torch.randperm(50, device="meta").device.type == "meta"


def test_without_pins_a_loader_gives_what_it_has():
    batches = [[{"image": torch.zeros(1)}]]
    loader = Copied(batches, "cpu")
    assert list(loader) == batches and loader.index(batches[0]) == 0


def test_training_that_fails_leaves_what_was_found_at_fixed_weights(tmp_path, monkeypatch):
    step = precision.Ours.step

    def fails_to_learn(ours):
        if ours.loop.optimizer.param_groups[0]["lr"]:
            raise RuntimeError("no such kernel")
        step(ours)

    monkeypatch.setattr(precision.Ours, "step", fails_to_learn)
    monkeypatch.setattr(precision, "ROUNDING", {"fp32": 2**-24})
    still, learning = precision.rows(Job("cpu", SIZES["tiny"], tmp_path))
    assert still[1]["holds"] is True and still[1]["first sum"] > 0
    assert learning[1] == {
        "precision": "fp32", "steps": 1, "holds": False,
        "did not run": "RuntimeError: no such kernel",
    }  # fmt: skip


def test_all_pins_but_those_that_the_machine_has():
    everything = gpu_wheels.pins()
    assert everything.keys() > {"torch", "torchvision", "fvcore", "opencv-python-headless"}
    left = gpu_wheels.pins(["Torch", "torchvision", "opencv-contrib-python"])
    assert set(everything) - set(left) == {"torch", "torchvision", "opencv-python-headless"}


@pytest.mark.parametrize("has", [[], ["torch"]])
def test_torch_alone_is_downloaded_with_its_needs(has, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(gpu_wheels, "pip", lambda *words: calls.append(words))
    (tmp_path / "labgym-1-py3-none-any.whl").touch()
    args = ["--wheels", str(tmp_path), "download", "--python", "3.13", "--glibc", "17"]
    gpu_wheels.main([*args, "--has", *has])
    source, binary, *torch_too = calls
    assert "--no-deps" in source and "--no-deps" in binary
    assert "--python-version=3.13" in binary and "--platform=manylinux_2_17_x86_64" in binary
    assert "--platform=manylinux_2_18_x86_64" not in binary
    names = [word.partition("==")[0] for word in source + binary if "==" in word]
    assert {"fvcore", "numpy", "pycocotools"} <= set(names) and "torch" not in names
    assert len(names) == len(set(names))
    found = [("--no-deps" in call, call[-1][:7]) for call in torch_too]
    assert found == ([] if has else [(False, "torch==")])


def test_a_folder_without_wheels_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="^error: .* holds no wheels: run `make gpu-wheels`"):
        gpu_wheels.main(["--wheels", str(tmp_path), "install"])


def test_another_torch_is_refused_and_another_package_warned_of(tmp_path, capsys):
    path = tmp_path / "setup.cfg"
    for requirements in ("", "torch>=2 no-such-package>=1", "numpy<1 torch>=2"):
        path.write_text(f"[options]\ninstall_requires = {requirements}")
        check_versions(path)
    expected = f"warning: numpy {np.__version__} is installed, setup.cfg asks for numpy<1\n"
    assert capsys.readouterr().err == expected
    path.write_text("[options]\ninstall_requires = torch<1")
    with pytest.raises(ConfigError, match="^torch .* setup.cfg asks for torch<1: prepare"):
        check_versions(path)
    check_versions(ROOT / "setup.cfg")


def test_by_default_all_is_checked_on_the_gpu_the_longest_last_within_eight_minutes():
    args = gpu_check.parse_args([])
    assert (args.device, args.size, args.sections) == ("cuda", "full", list(gpu_check.SECTIONS))
    limits = [section.limit for section in gpu_check.SECTIONS.values()]
    assert limits == sorted(limits) and max(limits) < gpu_check.TIME == 480
    with pytest.raises(ConfigError, match="^--patience must be a number above 0, got 0"):
        gpu_check.parse_args(["--patience", "0"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_line(tmp_path, capsys):
    assert gpu_check.main(["--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --device cuda: PyTorch finds no GPU")


@pytest.mark.long
def test_importing_the_sections_leaves_cuda_alone():
    """Their processes are forks, in which CUDA fails if it was touched before."""
    program = """
import sys, torch
def touched(*args): raise AssertionError("CUDA was touched")
torch._C._cuda_getDeviceCount = torch._C._cuda_init = touched
sys.path.insert(0, sys.argv[1])
import gpu_check
gpu_check.parse_args([])
"""
    command = [sys.executable, "-W", "ignore", "-c", program, str(ROOT / "benchmarks")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(exit status, results, text of results.md) of all sections on the CPU.

    From a process that has not computed yet, which the sections can be forks of.
    """
    folder = tmp_path_factory.mktemp("gpu_check")
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "gpu_check.py")]
    command += ["--device", "cpu", "--size", "tiny", "--patience", "3", "--output", str(folder)]
    status = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    results = json.loads((folder / "results.json").read_text())
    assert sorted(p.name for p in folder.iterdir()) == ["log.txt", "results.json", "results.md"]
    return status, results, (folder / "results.md").read_text()


@pytest.mark.long
def test_every_section_answers_and_every_check_holds(tiny):
    status, results, text = tiny
    assert failures(results) == [] and status == 0
    assert list(results["sections"]) == list(gpu_check.SECTIONS)
    tables = {n: list(s["tables"].values()) for n, s in results["sections"].items()}
    rows = [row for of_section in tables.values() for table in of_section for row in table]
    assert not [row for row in rows if "did not run" in row]
    assert sum(row.get("holds") is True for row in rows) == 10
    # What only a GPU has.
    (step, *_), (copies, _), (levers,) = (tables[n] for n in ("step", "data", "levers"))
    assert [row["step / floor"] for row in step[1:]] == [NOT_ON_A_CPU] * 2
    assert [row["s of a step"] for row in copies[1:]] == [NOT_ON_A_CPU] * 3
    assert levers[-1]["off / on"] == NOT_ON_A_CPU
    assert text.count(NOT_ON_A_CPU) >= 8
    (demo,), _ = tables["demo"]
    assert demo["pseudo boxes"] > 0 and demo["the same on both"] == 1
