"""The benchmark of a training's start, on a handful of images."""

import json
import math

import bench_startup
import cv2
import pytest
from bench_startup_data import BOXES_PER_IMAGE, FEWEST, make_coco
from detectron2.data.datasets import load_coco_json

from soft_teacher.data.datasets.splits.manifest import read_manifest
from soft_teacher.utils.errors import ConfigError


class TestArguments:
    @pytest.mark.parametrize(
        "name, value, limit",
        [
            ("--workers", "0", "at least 1"),
            ("--steps", "0", "at least 1"),
            ("--scales", "0", "positive"),
        ],
    )
    def test_what_cannot_be_measured_is_refused(self, name, value, limit):
        with pytest.raises(ConfigError, match=f"^{name} must be {limit}, got {value}$"):
            bench_startup.parse_args([name, value])

    def test_a_system_without_these_figures_is_told(self, monkeypatch, tmp_path):
        monkeypatch.setattr(bench_startup, "SMAPS", tmp_path / "smaps_rollup")
        with pytest.raises(ConfigError, match="smaps_rollup, which Linux has"):
            bench_startup.parse_args([])

    def test_an_output_that_is_a_file_is_refused(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="^--output .*file.*; name another$"):
            bench_startup.main(["--output", str(tmp_path / "file")])


class TestData:
    @pytest.fixture(scope="class")
    def coco(self, tmp_path_factory):
        """(folder, number of images of each part)"""
        root = tmp_path_factory.mktemp("datasets")
        return root / "coco", make_coco(root, 0.002)

    def test_there_are_few_images_at_least(self, tmp_path):
        assert set(make_coco(tmp_path, 1e-9).values()) == {FEWEST}

    def test_its_annotations_are_like_coco_s(self, coco):
        folder, images = coco
        path = folder / "annotations" / "instances_train2017.json"
        dicts = load_coco_json(str(path), str(folder / "train2017"))
        boxes = [a for d in dicts for a in d["annotations"]]
        assert len(dicts) == images["train2017"] == 236
        assert len(boxes) / len(dicts) == pytest.approx(BOXES_PER_IMAGE, rel=0.15)
        assert path.stat().st_size / len(boxes) == pytest.approx(550, rel=0.15)
        for record in dicts:
            for x, y, w, h in (a["bbox"] for a in record["annotations"]):
                assert 0 < x < x + w <= record["width"] and 0 < y < y + h <= record["height"]

    def test_every_image_is_there_and_of_its_size(self, coco):
        folder, images = coco
        for name, count in images.items():
            (json_file,) = (folder / "annotations").glob(f"*_{name}.json")
            records = json.loads(json_file.read_text())["images"]
            assert len(records) == count
            for record in records:
                shape = cv2.imread(str(folder / name / record["file_name"])).shape
                assert shape[:2] == (record["height"], record["width"])

    def test_its_splits_are_those_of_the_settings(self, coco):
        folder, images = coco
        partial = read_manifest(folder / "splits" / "without_replacement_10p_fold1.json")
        full = read_manifest(folder / "splits" / "full.json")
        assert (len(partial.labeled), len(partial.unlabeled)) == (23, 213)
        sizes = images["train2017"], images["unlabeled2017"]
        assert (len(full.labeled), len(full.unlabeled)) == sizes


class TestMain:
    def test_a_start_of_each_size_is_measured(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(bench_startup, "SETTINGS", {"10 %": bench_startup.SETTINGS["10 %"]})
        argv = ["--scales", "0.002", "--workers", "1", "--steps", "2", "--output", str(tmp_path)]
        assert bench_startup.main(argv) == 0
        results = json.loads((tmp_path / "startup.json").read_text())
        assert results["setup"] == {"workers": 1, "steps": 2}
        assert {"cpu", "cores", "load"} <= results["machine"].keys()
        (case,) = results["cases"]
        assert case["setting"] == "10 %" and case["images"] == 236
        assert len(case["worker_own"]) == len(case["worker_share"]) == 2
        for key in ("seconds", "cpu_seconds", "step_cpu_ms"):
            assert math.isfinite(case[key]) and case[key] > 0
        assert case["peak"] >= case["before"] > max(case["worker_own"]) > 1
        assert "| 10 %      | 236 " in capsys.readouterr().out
