"""The step benchmark: both variants have the same work, and its figures mean what they say."""

import json
import subprocess
import sys

import bench_step
import numpy as np
import pytest
import torch
from bench_parts import PARTS, ema_times, parts, reads, state_dict_update
from bench_report import report
from bench_variants import CANDIDATES, CONFIDENT, GROUND_TRUTH, Scenario
from detectron2.modeling import GeneralizedRCNN
from training import ROOT

from soft_teacher.engine.ema import ema_update

SMALL = Scenario("small", bench_step.PARTIAL, 128, labeled=1, unlabeled=2, narrow=True)


@pytest.fixture(scope="module")
def variants():
    """Both variants after a step."""
    torch.set_num_threads(1)
    built = bench_step.build(SMALL)
    for name in bench_step.VARIANTS:
        built[name].step()
    return built


def logged(variant):
    return {name: value for name, (value, _) in variant.storage.latest().items()}


class TestArguments:
    def test_without_arguments_the_device_at_hand_is_measured(self):
        args = bench_step.parse_args([])
        assert args.rounds > 1
        device = "cuda" if torch.cuda.is_available() else "cpu"
        assert {bench_step.SCENARIOS[name].device for name in args.scenarios} == {device}

    def test_less_than_one_round_is_refused(self):
        with pytest.raises(bench_step.ConfigError, match="^--rounds must be at least 1, got 0$"):
            bench_step.parse_args(["--rounds", "0"])

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_scenario_of_a_gpu_needs_one(self):
        with pytest.raises(bench_step.ConfigError, match="^--scenarios: there is no GPU here"):
            bench_step.parse_args(["--scenarios", bench_step.ON_GPU[0].name])

    def test_an_output_that_is_a_file_is_refused_in_one_line(self, tmp_path, capsys):
        file = tmp_path / "file"
        file.touch()
        assert bench_step.main(["--output", str(file)]) == 2
        assert capsys.readouterr().err.startswith("error: --output ")


class TestWork:
    def test_the_floor_learns_from_the_same_images_and_boxes(self, variants):
        ours = variants["ours"].loop.data_loader.batches[0]
        floor = variants["floor"].loop.data_loader.batches[0]
        assert all(torch.equal(a["image"], b["image"]) for a, b in zip(ours, floor, strict=True))
        counts = [len(x["instances"]) for x in floor]
        assert counts[0] <= GROUND_TRUTH
        assert len(counts) == 3 and all(0 < n <= CONFIDENT for n in counts[1:])

    def test_the_teacher_finds_the_boxes_that_are_given_to_it(self, variants):
        found = logged(variants["ours"])
        # Boxes of one class that overlap suppress each other.
        assert CANDIDATES - 2 <= found["pseudo/num_reg_candidates"] <= CANDIDATES
        assert CONFIDENT - 1 <= found["pseudo/num_cls_boxes"] <= CONFIDENT
        assert 5 <= found["pseudo/num_reg_boxes"] <= CANDIDATES
        assert found["pseudo/num_detections"] > CANDIDATES

    def test_every_step_has_the_same_boxes(self, variants):
        before = logged(variants["ours"])
        variants["ours"].step()
        after = logged(variants["ours"])
        for name in ("num_detections", "num_reg_candidates", "num_cls_boxes", "num_reg_boxes"):
            assert after[f"pseudo/{name}"] == before[f"pseudo/{name}"]

    def test_weights_that_learn_have_the_same_boxes_at_every_step(self):
        ours = bench_step.build(SMALL, ["ours"])["ours"]
        for group in ours.loop.optimizer.param_groups:
            group["lr"] = 1e-3
        counts = []
        for _ in range(4):
            ours.step()
            counts.append({n: v for n, v in logged(ours).items() if n.startswith("pseudo/num_")})
        assert counts[0]["pseudo/num_reg_candidates"] >= CANDIDATES - 2
        assert counts == counts[:1] * 4

    def test_the_narrow_network_has_as_many_tensors_as_the_full_one(self, variants):
        full = GeneralizedRCNN(Scenario("full", bench_step.PARTIAL, 128, 1, 2).cfg())
        narrow = variants["ours"].model.student
        assert [n for n, _ in full.named_parameters()] == [n for n, _ in narrow.named_parameters()]
        sizes = [sum(p.numel() for p in m.parameters()) for m in (narrow, full)]
        assert sizes[0] < sizes[1] / 30


class TestMeasuring:
    def test_the_variants_take_turns_after_a_warm_up(self):
        order = []

        class Variant:
            def __init__(self, name):
                self.step = lambda: order.append(name)

        seconds = bench_step.race({"a": Variant("a"), "b": Variant("b")}, 2, "cpu")
        assert {name: len(s) for name, s in seconds.items()} == {"a": 2, "b": 2}
        assert "".join(order) == "abba" * (bench_step.WARM_UP // 2 + 1)

    def test_a_process_is_not_charged_for_the_memory_of_its_parent(self):
        # In processes of their own: the peak of this one may be far above what it holds now.
        child = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); import bench_step"
        child += "; print(bench_step.peak_resident())"
        parent = f"{child}; ballast = bytearray(2**29); print(bench_step.peak_resident())"
        parent += f"; import subprocess; subprocess.run([sys.executable, '-c', {child!r}])"
        done = subprocess.run(
            [sys.executable, "-u", "-c", parent], capture_output=True, text=True, check=True
        )
        before, after, of_child = map(float, done.stdout.split())
        assert before + 0.4 < after < before + 0.6
        assert of_child < after - 0.3

    def test_own_code_waits_twice_and_the_trainer_once(self, variants):
        ours, floor = (reads(variants[name], "cpu") for name in ("ours", "floor"))
        own = {file: n for file, n in ours.items() if file.startswith("soft_teacher/")}
        assert own == {
            "soft_teacher/modeling/pseudo_labels.py": 2,
            "soft_teacher/engine/step_report.py": 1,
        }
        assert floor["detectron2/engine/train_loop.py"] > 1

    def test_both_ways_to_average_agree(self):
        torch.manual_seed(0)
        student, teacher, other = (torch.nn.Linear(3, 2) for _ in range(3))
        other.load_state_dict(teacher.state_dict())
        expected = 0.9 * teacher.weight.detach().double() + 0.1 * student.weight.detach().double()
        state_dict_update(teacher, student, 0.9)
        ema_update(*(list(m.parameters()) for m in (other, student)), 0.9)
        for network in (teacher, other):
            np.testing.assert_allclose(network.weight.detach(), expected, rtol=1e-6)

    def test_the_parts_make_up_the_step(self, variants):
        times = ema_times(variants["ours"], 2, lambda f: bench_step.timed(f, "cpu"))
        found = parts(variants["ours"], 2, lambda: None)
        assert list(found) == [*PARTS, "the rest"]
        assert found["student"] > found["teacher"] > found["jitter"] > found["EMA"] > 0
        assert found["the rest"] < 0.1 * sum(found.values())
        assert {name: len(values) for name, values in times.items()} == {
            "foreach": 2,
            "state dict": 2,
        }


def test_figures_are_ratios_of_the_same_round(tmp_path):
    found = {
        "a": {
            "seconds": {"floor": np.array([1.0, 2.0, 4.0]), "ours": np.array([1.1, 2.4, 4.2])},
            "parts": {"student": 900.0, "EMA": 100.0},
            "memory": {"floor": 2.0, "ours": 2.1},
            "ema": {"foreach": np.array([1.0, 1.0]), "state dict": np.array([8.0, 10.0])},
            "reads": {
                "floor": {"detectron2/x.py": 5},
                "ours": {"detectron2/x.py": 6, "soft_teacher/y.py": 2, "elsewhere": 1},
            },
            "seconds_of_views": 0.5,
        }
    }
    text = report(found, 3, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["step_over_floor"] == {"a": pytest.approx(1.1)}
    assert results["memory_over_floor"] == {"a": pytest.approx(1.05)}
    figures = results["scenarios"]["a"]
    assert figures["step_over_floor"] == pytest.approx({"median": 1.1, "min": 1.05, "max": 1.2})
    assert figures["ema_share_of_step"] == pytest.approx(0.1)
    assert figures["ema_times_state_dict"]["median"] == pytest.approx(9.0)
    assert "1.100 (1.050 to 1.200)" in text and "10.00%" in text
    assert text == (tmp_path / "results.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    (row,) = [row for row in cells if row[2:3] == ["ours"]]
    assert row[3:-1] == ["6", "2", "9"]
