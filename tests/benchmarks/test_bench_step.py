"""The step benchmark: both variants have the same work, and its figures are what they claim."""

import json
import subprocess
import sys
from dataclasses import replace

import bench_step
import numpy as np
import pytest
import torch
from bench_injection import CANDIDATES, CONFIDENT
from bench_measures import WARM_UP, race
from bench_parts import PARTS, state_dict_update
from bench_report import spread
from bench_scenarios import CASCADE, FCOS, RETINANET, Scenario
from bench_variants import GROUND_TRUTH, VARIANTS
from detectron2.modeling import RetinaNet
from detectron2.modeling.meta_arch.fcos import FCOS as FCOSDetector
from training import ROOT

from soft_teacher.engine.ema import ema_update

SMALL = Scenario("small", bench_step.PARTIAL, 128, labeled=1, unlabeled=2, narrow=True)


@pytest.fixture(scope="module")
def work():
    torch.set_num_threads(1)
    return bench_step.work_of(SMALL)[0]


@pytest.fixture(scope="module")
def ours(work):
    """Ours after a step."""
    built = VARIANTS["ours"](SMALL, work)
    built.step()
    return built


def counts(variant):
    latest = variant.storage.latest().items()
    return {name: value for name, (value, _) in latest if name.startswith("pseudo/num_")}


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--rounds", "0"], "--rounds must be a whole number of at least 1, got 0"),
        (["--output", __file__], f"--output '{__file__}'"),
        pytest.param(
            ["--scenarios", bench_step.ON_GPU[0].name],
            "--scenarios: there is no GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_a_mistake_is_one_line(argv, message, capsys):
    assert bench_step.main(argv) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_by_default_this_machine_s_device_is_measured():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = bench_step.parse_args([]).scenarios
    assert {bench_step.SCENARIOS[name].device for name in names} == {device}


def test_the_floor_learns_from_the_same_images_and_boxes(work):
    floor = work.supervised()
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(work.batch, floor, strict=True))
    boxes = [len(x["instances"]) for x in floor]
    assert len(boxes) == 3 and boxes[0] <= GROUND_TRUTH
    assert all(0 < n <= CONFIDENT for n in boxes[1:])


def test_the_teacher_finds_the_injected_boxes_at_every_step_also_while_weights_learn(ours):
    before = counts(ours)
    # Boxes of one class that overlap suppress each other.
    assert CANDIDATES - 2 <= before["pseudo/num_reg_candidates"] <= CANDIDATES
    assert CONFIDENT - 1 <= before["pseudo/num_cls_boxes"] <= CONFIDENT
    assert 5 <= before["pseudo/num_reg_boxes"] <= CANDIDATES < before["pseudo/num_detections"]
    groups = ours.loop.optimizer.param_groups
    for lr in (0, 1e-3, 1e-3):
        for group in groups:
            group["lr"] = lr
        ours.step()
        assert counts(ours) == before
    for group in groups:
        group["lr"] = 0


@pytest.mark.parametrize(
    "config, narrow",
    [
        (CASCADE, True),
        (RETINANET, True),
        pytest.param(FCOS, False, marks=pytest.mark.long),
    ],
    ids=["cascade", "RetinaNet", "FCOS"],
)
def test_so_does_another_detector(config, narrow, work):
    other = VARIANTS["ours"](replace(SMALL, config=config, narrow=narrow), work)
    for _ in range(2):
        other.step()
        found = counts(other)
        assert CANDIDATES - 2 <= found["pseudo/num_reg_candidates"] <= CANDIDATES
        assert CONFIDENT - 1 <= found["pseudo/num_cls_boxes"] <= CONFIDENT
        assert 5 <= found["pseudo/num_reg_boxes"] <= CANDIDATES


@pytest.mark.parametrize(
    "config, narrow, detector, losses",
    [
        (RETINANET, True, RetinaNet, {"loss_cls", "loss_box_reg"}),
        pytest.param(
            *(FCOS, False, FCOSDetector, {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"}),
            marks=pytest.mark.long,
        ),
    ],
    ids=["RetinaNet", "FCOS"],
)
def test_the_floor_of_a_dense_detector_is_stock(config, narrow, detector, losses, work):
    floor = VARIANTS["floor"](replace(SMALL, config=config, narrow=narrow), work)
    floor.step()
    assert type(floor.loop.model) is detector
    assert losses <= floor.storage.latest().keys()


def test_the_narrow_network_has_as_many_tensors_as_the_full_one(ours):
    full = Scenario("full", bench_step.PARTIAL, 128, 1, 2).stock_detector()
    narrow = ours.model.student
    assert [n for n, _ in full.named_parameters()] == [n for n, _ in narrow.named_parameters()]
    sizes = [sum(p.numel() for p in m.parameters()) for m in (narrow, full)]
    assert sizes[0] < sizes[1] / 30


def test_the_variants_take_turns_after_a_warm_up():
    order = []
    seconds = race({n: lambda n=n: order.append(n) for n in "ab"}, 2, "cpu")
    assert {name: len(s) for name, s in seconds.items()} == {"a": 2, "b": 2}
    assert "".join(order) == "abba" * (WARM_UP // 2 + 1)


@pytest.mark.long
def test_a_process_is_not_charged_for_the_memory_of_its_parent():
    # In processes of their own: the peak of this one may be far above what it holds now.
    child = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); import bench_step"
    child += "; print(bench_step.peak_resident())"
    parent = f"{child}; ballast = bytearray(2**29); print(bench_step.peak_resident())"
    parent += f"; import subprocess; subprocess.run([sys.executable, '-c', {child!r}])"
    command = [sys.executable, "-u", "-c", parent]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after, of_child = map(float, done.stdout.split())
    assert before + 0.4 < after < before + 0.6
    assert of_child < after - 0.3


def test_both_ways_to_average_agree():
    torch.manual_seed(0)
    student, teacher, other = (torch.nn.Linear(3, 2) for _ in range(3))
    other.load_state_dict(teacher.state_dict())
    expected = 0.9 * teacher.weight.detach().double() + 0.1 * student.weight.detach().double()
    state_dict_update(teacher, student, 0.9)
    ema_update(*(list(m.parameters()) for m in (other, student)), 0.9)
    for network in (teacher, other):
        np.testing.assert_allclose(network.weight.detach(), expected, rtol=1e-6)


def test_a_spread_is_median_smallest_and_largest():
    found = spread("x", np.array([1.0, 4.0, 2.0]))
    assert found == {"x": 2.0, "x, from": 1.0, "x, to": 4.0}


@pytest.mark.long
def test_all_figures_of_a_scenario(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_step, "SCENARIOS", {"small": SMALL})
    monkeypatch.setattr(bench_step, "ON_CPU", [SMALL])
    monkeypatch.setattr(
        bench_step, "peak_memory", lambda s, name: {"floor": 2.0, "ours": 2.1}[name]
    )
    argv = ["--scenarios", "small", "--rounds", "2", "--output", str(tmp_path)]
    assert bench_step.main(argv) == 0
    tables = json.loads((tmp_path / "results.json").read_text())["tables"]
    assert all(row["scenario"] == "small" for rows in tables.values() for row in rows)
    (step,), waits, (ema,), (parts,), (data,) = tables.values()
    assert step["step / floor"] > 0.9 and step["memory / floor"] == pytest.approx(1.05)
    assert step["step / floor, from"] <= step["step / floor"] <= step["step / floor, to"]
    assert step["images a second"] == pytest.approx(3 / step["ours, s"])
    assert 0 < ema["% of a step"] < 5 and ema["x state dict"] > 1
    assert data["s of one worker for the views of a step"] > 0

    by_file = {row["in"]: (row["floor"], row["ours"]) for row in waits}
    ours = {file: n for file, (_, n) in by_file.items() if file.startswith("soft_teacher/") and n}
    assert ours == {
        "soft_teacher/modeling/pseudo_labels.py": 2,
        "soft_teacher/engine/step_report.py": 1,
        "soft_teacher/": 3,
    }
    assert by_file["detectron2/engine/train_loop.py"][0] > 1
    assert by_file["all"][1] == by_file["detectron2/"][1] + 3

    assert list(parts) == ["scenario", *PARTS, "sum"]
    assert parts["student"] > parts["teacher"] > parts["jitter"] > parts["EMA"] > 0
    assert parts["the rest"] < 0.1 * parts["sum"]
    assert sum(parts[name] for name in PARTS) == pytest.approx(parts["sum"])
    assert (tmp_path / "results.md").read_text() in capsys.readouterr().out
