"""The data benchmark on a handful of images."""

import json
import math

import bench_data
import cv2
import numpy as np
import pytest
import torch
from bench_data_contenders import PARTS, contenders
from bench_data_report import summarize

from soft_teacher.utils.errors import ConfigError

SIDES = {"320", "800"}
VARIANTS = {"paper", "reference"}


def numbers(tree):
    """The numbers of a nested dict."""
    if isinstance(tree, dict):
        return [n for value in tree.values() for n in numbers(value)]
    return [tree]


class TestArguments:
    def test_without_arguments_there_are_rounds_and_images(self):
        args = bench_data.parse_args([])
        assert args.rounds > 1 and args.images > 1

    @pytest.mark.parametrize("name", ["--rounds", "--images"])
    @pytest.mark.parametrize("value", ["0", "-1"])
    def test_less_than_one_is_refused(self, name, value):
        with pytest.raises(ConfigError, match=f"^{name} must be at least 1, got {value}$"):
            bench_data.parse_args([name, value])

    def test_an_output_that_is_a_file_is_refused(self, tmp_path):
        file = tmp_path / "file"
        file.touch()
        with pytest.raises(ConfigError, match="^--output .*file.*; name another$"):
            bench_data.main(["--output", str(file)])


class TestImages:
    def test_they_are_different_jpegs_of_the_declared_size(self, tmp_path):
        dicts = bench_data.make_images(tmp_path, 16)
        images = [cv2.imread(d["file_name"]) for d in dicts]
        assert {image.shape for image in images} == {(480, 640, 3)}
        assert {(d["height"], d["width"]) for d in dicts} == {(480, 640)}
        assert len({image.tobytes() for image in images}) == 16

    def test_they_are_the_same_every_time(self, tmp_path):
        (tmp_path / "again").mkdir()
        first = bench_data.make_images(tmp_path, 2)[1]["file_name"]
        second = bench_data.make_images(tmp_path / "again", 2)[1]["file_name"]
        assert open(first, "rb").read() == open(second, "rb").read()


class TestContenders:
    @pytest.mark.parametrize("short_side, size", [(320, (320, 427)), (800, (800, 1067))])
    def test_all_make_views_of_one_size(self, tmp_path, short_side, size):
        (dataset_dict,) = bench_data.make_images(tmp_path, 1)
        views = {name: sample(dataset_dict) for name, sample in contenders(short_side).items()}
        assert {name: len(of_one) for name, of_one in views.items()} == {
            "floor": 1,
            "stock": 2,
            "paper": 2,
            "reference": 2,
        }
        (image,) = views.pop("floor")
        assert image.shape == (*size, 3)
        for tensor in (t for of_one in views.values() for t in of_one):
            assert tensor.shape == (3, *size)
            assert tensor.dtype == torch.uint8 and tensor.is_contiguous()


class TestRace:
    def test_every_contender_meets_every_image_with_the_same_draws(self):
        met = {"a": [], "b": []}
        samplers = {
            name: lambda d, name=name: met[name].append((d["image_id"], np.random.rand()))
            for name in met
        }
        dicts = [{"image_id": i} for i in range(6)]
        done = []
        seconds = bench_data.race(samplers, dicts, rounds=3, progress=done.append)
        warmed_up = {name: calls[1:] for name, calls in met.items()}
        assert warmed_up["a"] == warmed_up["b"]
        assert [image for image, _ in warmed_up["a"]] == list(range(6)) * 3
        assert len({draw for _, draw in warmed_up["a"]}) == 18
        assert done == [1, 2, 3]
        assert {name: times.shape for name, times in seconds.items()} == {"a": (3,), "b": (3,)}

    def test_ratios_are_medians_over_the_rounds(self):
        seconds = {
            "floor": np.array([1.0, 1.0, 2.0]),
            "stock": np.array([8.0, 12.0, 20.0]),
            "paper": np.array([2.0, 4.0, 4.0]),
            "reference": np.array([4.0, 4.0, 4.0]),
        }
        results = summarize({320: seconds}, {320: {}})
        assert results["times_stock"] == {"320": 4.0}
        assert results["share_of_floor"] == {"320": 0.5}
        ratios = results["ratios"]["320"]
        assert ratios["paper"]["times_stock"] == {"median": 4.0, "min": 3.0, "max": 5.0}
        assert ratios["reference"]["times_stock"] == {"median": 3.0, "min": 2.0, "max": 5.0}
        assert results["samples_per_second"]["320"]["paper"]["median"] == 0.25


class TestMain:
    @pytest.fixture
    def run(self, tmp_path, capsys):
        """results.json, results.md and the printed text of one round over two images."""
        threads = cv2.getNumThreads(), torch.get_num_threads()
        folder = tmp_path / "new" / "folder"
        assert bench_data.main(["--rounds", "1", "--images", "2", "--output", str(folder)]) == 0
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
        results = json.loads((folder / "results.json").read_text())
        return results, (folder / "results.md").read_text(), capsys.readouterr().out

    def test_figures_parts_and_tables_of_both_sizes_and_variants(self, run):
        results, table, printed = run
        figures = ("times_stock", "share_of_floor")
        for key in figures:
            assert results[key].keys() == SIDES
        for key in ("ratios", "parts_ms"):
            assert results[key].keys() == SIDES
            assert all(of_side.keys() == VARIANTS for of_side in results[key].values())
        for key in (*figures, "ratios", "samples_per_second"):
            assert all(math.isfinite(n) and n > 0 for n in numbers(results[key]))
        assert results["setup"]["images"] == 2 and results["setup"]["rounds"] == 1
        assert {"cpu", "cores", "load", "opencv", "numpy", "torch"} <= results["machine"].keys()

        for parts in (p for of_side in results["parts_ms"].values() for p in of_side.values()):
            assert list(parts) == [*PARTS, "tensors and rest"]
            assert all(math.isfinite(ms) for ms in parts.values())
            for name in ("decode", "drawing", "weak resize", "strong resize", "matrices"):
                assert parts[name] > 0

        assert "1/1 rounds" in printed and table in printed
        rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| ")]
        cells = [[cell.strip() for cell in row] for row in rows]
        for side in SIDES:
            assert [side, "paper"] in cells and [side, "reference"] in cells
