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
from detectron2.structures import Boxes, Instances
from gpu_report import failures, markdown, write
from gpu_requirements import check_versions
from gpu_sections import precision
from gpu_sections.boxes import kept, score_changes
from gpu_sections.copies import Copied
from gpu_sections.demo import _SameDraws
from gpu_sections.job import NOT_ON_A_CPU, SIZES, Job, measured
from section_process import DONE, run_section
from training import ROOT

from soft_teacher.utils.errors import ConfigError


class TestProcess:
    def test_nothing_to_do(self, tmp_path):
        outcome = run_section(lambda: None, limit=20, log=tmp_path / "log")
        assert outcome.status == DONE and outcome.seconds < 10

    def test_what_a_section_prints_is_added_to_the_log(self, tmp_path):
        log = tmp_path / "log"
        for text in ("first", "second"):
            run_section(lambda: os.system(f"echo {text}"), limit=20, log=log)
        assert log.read_text() == "first\nsecond\n"

    def test_an_error_is_its_own_last_line(self, tmp_path):
        log = tmp_path / "log"
        log.write_text("of another section\n")

        def fail():
            raise ValueError("no such kernel")

        outcome = run_section(fail, limit=20, log=log)
        assert outcome.status == "ended with status 1: ValueError: no such kernel"
        assert "Traceback" in log.read_text()

    def test_an_error_without_a_word(self, tmp_path):
        outcome = run_section(lambda: os._exit(3), limit=20, log=tmp_path / "log")
        assert outcome.status == "ended with status 3: nothing was printed"

    def test_a_crash_is_survived(self, tmp_path):
        def crash():
            faulthandler.disable()  # pytest's
            os.kill(os.getpid(), signal.SIGSEGV)

        assert run_section(crash, limit=20, log=tmp_path / "log").status == "ended by SIGSEGV"

    def test_a_section_that_hangs_ends_with_all_that_it_started(self, tmp_path):
        pid = tmp_path / "pid"

        def hang():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen(["sleep", "600"])
            pid.write_text(str(child.pid))
            child.wait()

        looked = []
        outcome = run_section(
            hang, limit=1, log=tmp_path / "log", progress=lambda: looked.append(pid.exists())
        )
        assert outcome.status == "stopped at its limit of 1 s"
        assert 1 <= outcome.seconds < 10 and looked[-1]
        assert _ends(int(pid.read_text()))

    def test_no_time_left(self, tmp_path):
        outcome = run_section(lambda: time.sleep(60), limit=0, log=tmp_path / "log")
        assert outcome.status == "stopped at its limit of 0 s" and outcome.seconds < 10


def _ends(pid: int) -> bool:
    """Whether a process is dead soon; init may take its time to bury it."""
    for _ in range(50):
        path = Path(f"/proc/{pid}/stat")
        if not path.exists() or path.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


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


class TestReport:
    def test_before_the_first_section(self, tmp_path):
        empty = {"device": "cuda", "size": "full", "sections": {}}
        write(tmp_path, empty)
        assert json.loads((tmp_path / "results.json").read_text()) == empty
        assert (tmp_path / "results.md").read_text().startswith("# GPU check: cuda, full size\n")
        assert failures(empty) == []

    def test_tables_hold_what_rows_have(self):
        text = markdown(RESULTS)
        lines = [" ".join(line.split()) for line in text.splitlines()]
        assert lines[0] == "# GPU check: Some GPU, full size"
        for line in ("| a | ratio | holds |", "| 1 | 1.235 | |", "| 2 | | NO |"):
            assert line in lines
        assert "Incomplete: stopped at its limit of 60 s." in lines
        assert "| step | How fast? | stopped at its limit of 60 s | 60 of 60 |" in lines

    def test_failures_are_sections_that_are_incomplete_and_checks_that_are_wrong(self):
        assert failures(RESULTS) == [
            "step: stopped at its limit of 60 s",
            "step: times: a 2, holds NO",
        ]

    def test_a_measure_that_fails_is_a_row(self):
        def fail():
            raise RuntimeError("out of memory")

        row = measured({"images": 8, "holds": False}, fail)
        assert row == {"images": 8, "holds": False, "did not run": "RuntimeError: out of memory"}


class TestBoxes:
    @staticmethod
    def instances(*boxes, classes=None, scores=None):
        found = Instances((100, 100), pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
        found.pred_classes = torch.tensor(classes or [0] * len(boxes), dtype=torch.int64)
        found.scores = torch.tensor(scores or [0.5] * len(boxes))
        return found

    def test_no_boxes(self):
        none, one = self.instances(), self.instances([0.0, 0, 10, 10])
        assert kept(none, one, iou=0.5) == [] and kept(one, none, iou=0.5) == [0.0]
        assert score_changes(none, one, iou=0.5) == score_changes(one, none, iou=0.5) == []

    def test_the_same_place_and_class(self):
        a = self.instances([0.0, 0, 10, 10], [50.0, 50, 90, 90], classes=[1, 2], scores=[0.9, 0.8])
        b = self.instances([0.0, 0, 10, 10], [50.0, 50, 90, 90], classes=[1, 3], scores=[0.7, 0.8])
        assert kept(a, b, iou=0.99) == [1.0, 0.0]
        assert score_changes(a, b, iou=0.99) == [pytest.approx(0.2)]


def test_permutations_come_from_the_cpus_generator():
    torch.manual_seed(0)
    expected = torch.randperm(50)
    torch.manual_seed(0)
    with _SameDraws():
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


class TestWheels:
    def test_all_pins_but_those_that_the_machine_has(self):
        everything = gpu_wheels.pins()
        assert {"torch", "torchvision", "fvcore", "pillow", "opencv-python-headless"} <= set(
            everything
        )
        left = gpu_wheels.pins(["Torch", "torchvision", "opencv-contrib-python"])
        assert set(everything) - set(left) == {"torch", "torchvision", "opencv-python-headless"}

    @pytest.mark.parametrize("has", [[], ["torch"]])
    def test_torch_alone_is_downloaded_with_its_needs(self, has, monkeypatch, tmp_path):
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
        assert [("--no-deps" in call, call[-1][:7]) for call in torch_too] == (
            [] if has else [(False, "torch==")]
        )

    def test_a_folder_without_wheels_is_one_line(self, tmp_path):
        with pytest.raises(SystemExit, match="^error: .* holds no wheels: run `make gpu-wheels`"):
            gpu_wheels.main(["--wheels", str(tmp_path), "install"])


class TestVersions:
    @pytest.fixture
    def setup(self, tmp_path):
        def make(*requirements):
            path = tmp_path / "setup.cfg"
            lines = ["[options]", "install_requires =", *(f"    {r}" for r in requirements)]
            path.write_text("\n".join(lines))
            return path

        return make

    def test_what_is_right_or_missing_says_nothing(self, setup, capsys):
        check_versions(setup())
        check_versions(setup("torch>=2", "no-such-package>=1"))
        assert capsys.readouterr().err == ""

    def test_our_own_bounds_hold_here(self, capsys):
        check_versions(ROOT / "setup.cfg")

    def test_another_torch_is_refused_and_another_package_told(self, setup, capsys):
        with pytest.raises(ConfigError, match="^torch .* setup.cfg asks for torch<1: prepare"):
            check_versions(setup("numpy<1", "torch<1"))
        expected = f"warning: numpy {np.__version__} is installed, setup.cfg asks for numpy<1\n"
        assert capsys.readouterr().err == expected


class TestArguments:
    def test_without_arguments_all_is_checked_on_the_gpu(self):
        args = gpu_check.parse_args([])
        assert args.device == "cuda" and args.size == "full"
        assert args.sections == list(gpu_check.SECTIONS)

    def test_the_dearest_come_last_and_fit_into_eight_minutes(self):
        limits = [section.limit for section in gpu_check.SECTIONS.values()]
        assert limits == sorted(limits) and max(limits) < gpu_check.TIME == 480

    def test_patience_is_positive(self):
        with pytest.raises(ConfigError, match="^--patience must be positive, got 0$"):
            gpu_check.parse_args(["--patience", "0"])

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_gpu_that_is_not_there_is_one_line(self, tmp_path, capsys):
        assert gpu_check.main(["--output", str(tmp_path)]) == 2
        assert capsys.readouterr().err.startswith("error: --device cuda: PyTorch finds no GPU")


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


class TestTinyForm:
    def test_every_section_answers_and_every_check_holds(self, tiny):
        status, results, _ = tiny
        assert failures(results) == [] and status == 0
        assert list(results["sections"]) == list(gpu_check.SECTIONS)
        rows = [
            row
            for section in results["sections"].values()
            for table in section["tables"].values()
            for row in table
        ]
        assert not [row for row in rows if "did not run" in row]
        assert sum(row.get("holds") is True for row in rows) == 10

    def test_what_only_a_gpu_has_is_said(self, tiny):
        _, results, text = tiny
        tables = {n: list(s["tables"].values()) for n, s in results["sections"].items()}
        (step, *_), (copies, _), (levers,) = (tables[n] for n in ("step", "data", "levers"))
        assert [row["step / floor"] for row in step[1:]] == [NOT_ON_A_CPU] * 2
        assert [row["s of a step"] for row in copies[1:]] == [NOT_ON_A_CPU] * 3
        assert levers[-1]["off / on"] == NOT_ON_A_CPU
        assert text.count(NOT_ON_A_CPU) >= 8

    def test_both_devices_saw_pseudo_boxes(self, tiny):
        (row,) = next(iter(tiny[1]["sections"]["demo"]["tables"].values()))
        assert row["pseudo boxes"] > 0 and row["the same on both"] == 1
