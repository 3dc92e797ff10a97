"""The data benchmark on a handful of images."""

import json
import math

import bench_data
import cv2
import numpy as np
import pytest
import torch
from bench_data_contenders import PARTS, contenders


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--rounds", "0"], "--rounds must be a whole number of at least 1, got 0"),
        (["--images", "-1"], "--images must be a whole number of at least 1, got -1"),
        (["--output", __file__], f"--output '{__file__}'"),
    ],
)
def test_a_mistake_is_one_line(argv, message, capsys):
    assert bench_data.main(argv) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_images_are_different_jpegs_of_the_declared_size_and_the_same_every_time(tmp_path):
    dicts = bench_data.make_images(tmp_path, 16)
    images = [cv2.imread(d["file_name"]) for d in dicts]
    assert {image.shape for image in images} == {(480, 640, 3)}
    assert {(d["height"], d["width"]) for d in dicts} == {(480, 640)}
    assert len({image.tobytes() for image in images}) == 16
    (tmp_path / "again").mkdir()
    again = bench_data.make_images(tmp_path / "again", 2)[1]["file_name"]
    np.testing.assert_array_equal(cv2.imread(again), images[1])


@pytest.mark.parametrize("short_side, size", [(320, (320, 427)), (800, (800, 1067))])
def test_all_contenders_make_views_of_one_size(tmp_path, short_side, size):
    (dataset_dict,) = bench_data.make_images(tmp_path, 1)
    views = {name: sample(dataset_dict) for name, sample in contenders(short_side).items()}
    counts = {name: len(of_one) for name, of_one in views.items()}
    assert counts == {"floor": 1, "stock": 2, "paper": 2, "reference": 2}
    (image,) = views.pop("floor")
    assert image.shape == (*size, 3)
    for tensor in (t for of_one in views.values() for t in of_one):
        assert tensor.shape == (3, *size)
        assert tensor.dtype == torch.uint8 and tensor.is_contiguous()


def test_every_contender_gets_every_image_with_the_same_samples():
    met = {"a": [], "b": []}
    samplers = {
        name: lambda d, name=name: met[name].append((d["image_id"], np.random.rand()))
        for name in met
    }
    seconds = bench_data.race(samplers, [{"image_id": i} for i in range(6)], rounds=3)
    warmed_up = {name: calls[1:] for name, calls in met.items()}
    assert warmed_up["a"] == warmed_up["b"]
    assert [image for image, _ in warmed_up["a"]] == list(range(6)) * 3
    assert len({sample for _, sample in warmed_up["a"]}) == 18
    assert {name: times.shape for name, times in seconds.items()} == {"a": (3,), "b": (3,)}


def test_ratios_are_medians_over_the_rounds():
    seconds = {
        "floor": np.array([1.0, 1.0, 2.0]),
        "stock": np.array([8.0, 12.0, 20.0]),
        "paper": np.array([2.0, 4.0, 4.0]),
    }
    assert bench_data.speed_row(320, "paper", seconds) == {
        "short side": 320,
        "variant": "paper",
        "floor/s": 1.0,
        "stock/s": pytest.approx(1 / 12),
        "ours/s": 0.25,
        "x stock": 4.0,
        "x stock, from": 3.0,
        "x stock, to": 5.0,
        "% of floor": 50.0,
        "% of floor, from": 25.0,
        "% of floor, to": 50.0,
    }


def test_figures_parts_and_tables_of_both_sizes_and_variants(tmp_path, capsys):
    threads = cv2.getNumThreads(), torch.get_num_threads()
    assert bench_data.main(["--rounds", "1", "--images", "2", "--output", str(tmp_path)]) == 0
    cv2.setNumThreads(threads[0])
    torch.set_num_threads(threads[1])
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["setup"]["images"] == 2 and results["setup"]["rounds"] == 1
    assert {"cpu", "cores", "load", "opencv", "numpy", "torch"} <= results["machine"].keys()
    speeds, parts = results["tables"].values()
    for rows in (speeds, parts):
        cases = [(row.pop("short side"), row.pop("variant")) for row in rows]
        assert cases == [(side, v) for side in (320, 800) for v in ("paper", "reference")]
        assert all(math.isfinite(value) for row in rows for value in row.values())
    assert all(value > 0 for row in speeds for value in row.values())
    for row in parts:
        assert list(row) == [*PARTS, "tensors and rest", "sum"]
        assert row.pop("sum") == pytest.approx(sum(row.values()))
        for name in ("decode", "sampling", "weak resize", "strong resize", "matrices"):
            assert row[name] > 0
    text = (tmp_path / "results.md").read_text()
    assert text in capsys.readouterr().out and "- rounds: 1\n" in text
