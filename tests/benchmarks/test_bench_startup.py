"""The benchmark of a run's start, on a handful of images."""

import json
import math

import bench_startup
import cv2
import pytest
from bench_startup_data import BOXES_PER_IMAGE, FEWEST, make_coco
from detectron2.data.datasets import load_coco_json

from soft_teacher.data.datasets.splits.manifest import read_manifest


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--workers", "0"], "--workers must be a whole number of at least 1, got 0"),
        (["--steps", "0"], "--steps must be a whole number of at least 1, got 0"),
        (["--scales", "1", "0"], "--scales must be a number above 0, got 0"),
        (["--output", __file__], f"--output '{__file__}'"),
    ],
)
def test_a_mistake_is_one_line(argv, message, capsys):
    assert bench_startup.main(argv) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_system_without_these_figures_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_startup, "SMAPS", tmp_path / "smaps_rollup")
    assert bench_startup.main([]) == 2
    assert "smaps_rollup, which Linux has" in capsys.readouterr().err


def test_the_data_are_like_coco_s(tmp_path):
    assert set(make_coco(tmp_path / "few", 1e-9).values()) == {FEWEST}
    images, folder = make_coco(tmp_path, 0.002), tmp_path / "coco"
    path = folder / "annotations" / "instances_train2017.json"
    dicts = load_coco_json(str(path), str(folder / "train2017"))
    boxes = [a for d in dicts for a in d["annotations"]]
    assert len(dicts) == images["train2017"] == 236
    assert len(boxes) / len(dicts) == pytest.approx(BOXES_PER_IMAGE, rel=0.15)
    assert path.stat().st_size / len(boxes) == pytest.approx(550, rel=0.15)
    for record in dicts:
        for x, y, w, h in (a["bbox"] for a in record["annotations"]):
            assert 0 < x < x + w <= record["width"] and 0 < y < y + h <= record["height"]
    for name, count in images.items():
        (json_file,) = (folder / "annotations").glob(f"*_{name}.json")
        records = json.loads(json_file.read_text())["images"]
        assert len(records) == count
        for record in records:
            shape = cv2.imread(str(folder / name / record["file_name"])).shape
            assert shape[:2] == (record["height"], record["width"])
    partial = read_manifest(folder / "splits" / "without_replacement_10p_fold1.json")
    full = read_manifest(folder / "splits" / "full.json")
    assert (len(partial.labeled), len(partial.unlabeled)) == (23, 213)
    sizes = images["train2017"], images["unlabeled2017"]
    assert (len(full.labeled), len(full.unlabeled)) == sizes


@pytest.mark.long
def test_a_start_of_each_size_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_startup, "SETTINGS", {"10 %": bench_startup.SETTINGS["10 %"]})
    argv = ["--scales", "0.002", "--workers", "1", "--steps", "2", "--output", str(tmp_path)]
    assert bench_startup.main(argv) == 0
    results = json.loads((tmp_path / "startup.json").read_text())
    assert results["setup"] == {"workers": 1, "steps": 2}
    (row,) = results["tables"]["start"]
    assert (row.pop("setting"), row["images"]) == ("10 %", 236)
    assert all(math.isfinite(value) and value > 0 for value in row.values())
    assert row["MB peak"] >= row["MB before"] > row["worker's MB, pages shared"] > 1
    assert "| 10 %      | 236 " in capsys.readouterr().out
