"""Every format opens again through the reader of datasets and gives the same boxes."""

import csv
import json

import numpy as np
import pytest
from predictions import CATEGORIES, about, instances, rows_in
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from soft_teacher import ConfigError
from soft_teacher.data.datasets.dataset_dicts import dataset_reading
from soft_teacher.deploy.detections import Detections
from soft_teacher.deploy.outputs import FORMATS, review

pytestmark = pytest.mark.usefixtures("own_catalog")

ONE = instances(
    [[1.25, 2.5, 21.75, 30.5], [0, 0, 60, 40], [7.1, 8.2, 9.3, 39.4]],
    [1, 0, 1],
    [0.9, 0.75, 0.25],
    variances=[0.01, float("inf"), float("nan")],
)
NONE = instances(size=(30, 20))
TWO = instances([[3, 4, 15.5, 16]], [0], [0.5], (33, 47), variances=[0.5])


@pytest.fixture
def rows(tmp_path):
    found = rows_in(tmp_path / "in", **{"one": ONE, "sub/none": NONE, "sub/images/two": TWO})
    return [*found, Detections(str(tmp_path / "in" / "bad.jpg"), "bad", unreadable="bad: empty")]


@pytest.fixture
def write(tmp_path, rows):
    """Writes a format; returns what names it."""

    def write(name, rows=rows, **changes):
        return FORMATS[name](
            lambda: iter(rows), about(tmp_path / "out", tmp_path / "in", **changes)
        )

    return write


def boxes_by_image(dataset: str) -> tuple[dict, list[str]]:
    """File below the folder of the images -> (class name, box, score) of each box; classes."""
    reading = dataset_reading("DATASETS.TEST", dataset)
    assert not reading.faults and not reading.missing
    found = {}
    for d in reading.dicts:
        name = str(d["file_name"]).replace("\\", "/").rpartition("/")[2]
        boxes = [(a["category_id"], *a["bbox"], a.get("score")) for a in d["annotations"]]
        found[name] = sorted((reading.classes[c], *rest) for c, *rest in boxes)
    return found, reading.classes


def expected(found, scores=True):
    names = [c["name"] for c in CATEGORIES]
    boxes = found.pred_boxes.tensor.tolist()
    return sorted(
        (names[c], x0, y0, x1 - x0, y1 - y0, s if scores else None)
        for c, (x0, y0, x1, y1), s in zip(found.pred_classes.tolist(), boxes, found.scores.tolist())
    )


@pytest.mark.parametrize("name, scores", [("coco", True), ("yolo", True), ("voc", False)])
def test_a_dataset_opens_again_and_gives_the_same_boxes(write, name, scores):
    found, classes = boxes_by_image(write(name))
    assert classes == [c["name"] for c in CATEGORIES]
    wanted = {"one.png": ONE, "none.png": NONE, "two.png": TWO}
    assert found.keys() == wanted.keys()
    for file, image in wanted.items():
        for box, other in zip(found[file], expected(image, scores), strict=True):
            assert box[0] == other[0] and (box[5] is None) == (other[5] is None)
            assert box[1:5] == pytest.approx(other[1:5], abs=1e-4)
            assert not scores or box[5] == pytest.approx(other[5])


def test_images_with_boxes_open_again_from_csv(write, tmp_path):
    found, classes = boxes_by_image(f"{write('csv')}@{tmp_path / 'in'}")
    assert classes == sorted(c["name"] for c in CATEGORIES)
    assert found.keys() == {"one.png", "two.png"}
    for file, image in (("one.png", ONE), ("two.png", TWO)):
        boxes = expected(image)
        assert [box[0] for box in found[file]] == [box[0] for box in boxes]
        assert np.array([b[1:] for b in found[file]]) == pytest.approx(
            np.array([b[1:] for b in boxes]), abs=1e-4
        )


@pytest.mark.parametrize("name", ["coco", "csv", "label-studio", "review", "voc", "yolo"])
def test_nothing_found_anywhere(write, name, rows):
    assert write(name, [rows[1]])
    assert write(name, [])


def test_writing_again_replaces_what_was_there(write, rows, tmp_path):
    for name in ("voc", "yolo"):
        write(name)
        write(name, rows[:1])
    assert len(list((tmp_path / "out/voc").rglob("*.xml"))) == 1
    assert len(list((tmp_path / "out/yolo").rglob("*.png"))) == 1
    assert not (tmp_path / "out" / ".unfinished").exists()


def test_a_folder_that_fails_leaves_the_one_before(write, tmp_path):
    write("yolo")

    def broken():
        raise OSError("full")
        yield

    with pytest.raises(OSError):
        FORMATS["yolo"](broken, about(tmp_path / "out", tmp_path / "in"))
    assert len(list((tmp_path / "out/yolo").rglob("*.png"))) == 3
    assert not (tmp_path / "out" / ".unfinished").exists()


def test_coco_results_belong_to_the_dataset_and_have_its_ids(write, tmp_path):
    write("coco", info={"weights": "x.pth"})
    folder = tmp_path / "out" / "coco"
    dataset = json.loads((folder / "dataset.json").read_text())
    assert [i["file_name"] for i in dataset["images"]] == [
        *("one.png", "sub/none.png", "sub/images/two.png")
    ]
    assert dataset["categories"] == CATEGORIES and dataset["info"] == {"weights": "x.pth"}
    results = COCO(str(folder / "dataset.json")).loadRes(str(folder / "results.json"))
    found = results.loadAnns(results.getAnnIds())
    assert [(a["image_id"], a["category_id"], a["score"]) for a in found] == [
        *((1, 7, pytest.approx(0.9)), (1, 3, 0.75), (1, 7, 0.25), (3, 3, 0.5))
    ]


def test_coco_annotations_have_score_and_variance_as_attributes(write, tmp_path):
    write("coco")
    dataset = json.loads((tmp_path / "out" / "coco" / "dataset.json").read_text())
    attributes = [a["attributes"] for a in dataset["annotations"]]
    assert [a["variance"] for a in attributes] == [pytest.approx(0.01), None, None, 0.5]
    assert [a["score"] for a in attributes] == [a["score"] for a in dataset["annotations"]]


MASK = np.zeros((40, 60), bool)
MASK[10:30, 20:50] = True
MASK[0:3, 0:3] = True  # a smaller part


def masked(tmp_path):
    found = instances([[0, 0, 50, 30]], [1], [0.5], masks=[MASK])
    return rows_in(tmp_path / "in", one=found, none=instances(masks=np.zeros((0, 40, 60))))


def test_masks_are_rle_in_coco(write, tmp_path):
    write("coco", masked(tmp_path))
    folder = tmp_path / "out" / "coco"
    for annotation in (
        json.loads((folder / "dataset.json").read_text())["annotations"][0],
        json.loads((folder / "results.json").read_text())[0],
    ):
        np.testing.assert_array_equal(coco_mask.decode(annotation["segmentation"]), MASK)
        assert annotation.get("area", 609) == 609


def test_masks_are_outlines_in_yolo(write, tmp_path):
    found, _ = boxes_by_image(write("yolo-seg", masked(tmp_path)))
    assert found["none.png"] == []
    ((name, *box, score),) = found["one.png"]
    # The largest part, by its outermost points.
    assert name == "big dog" and score is None
    assert box == pytest.approx([20.25, 10.25, 29.5, 19.5], abs=1e-4)


def test_outlines_need_masks(write):
    with pytest.raises(ConfigError, match="yolo-seg needs masks"):
        write("yolo-seg")


def test_csv_has_a_row_for_each_box(write):
    with open(write("csv")) as file:
        found = list(csv.DictReader(file))
    assert [row["file"] for row in found] == ["one.png"] * 3 + ["sub/images/two.png"]
    corners = [[float(row[c]) for c in ("x_min", "y_min", "x_max", "y_max")] for row in found]
    assert corners == [*ONE.pred_boxes.tensor.tolist(), [3, 4, 15.5, 16]]
    assert found[3] | {"x_min": ""} == {
        **{"file": "sub/images/two.png", "frame": "", "width": "47", "height": "33"},
        **{"class": "cat", "score": "0.5", "variance": "0.5", "x_min": ""},
        **{"y_min": "4.0", "x_max": "15.5", "y_max": "16.0"},
    }


def test_label_studio_gets_percentages_and_scores(write, tmp_path):
    tasks = json.loads(open(write("label-studio", info={"weights": "x.pth"})).read())
    assert [task["data"]["image"] for task in tasks] == [
        f"/data/local-files/?d={name}" for name in ("one.png", "sub/none.png", "sub/images/two.png")
    ]
    one, none, two = (task["predictions"][0] for task in tasks)
    assert none == {"model_version": "x.pth", "result": []}
    assert one["score"] == 0.25 and len(one["result"]) == 3
    (region,) = two["result"]
    value = region["value"]
    assert [value[key] * 0.01 for key in ("x", "width")] == pytest.approx([3 / 47, 12.5 / 47])
    assert [value[key] * 0.01 for key in ("y", "height")] == pytest.approx([4 / 33, 12 / 33])
    assert value["rectanglelabels"] == ["cat"] and region["score"] == 0.5
    assert region["meta"]["text"] == ["score 0.5", "variance 0.5"]
    labels = (tmp_path / "out" / "label_studio" / "labels.xml").read_text()
    assert '<Label value="cat"/>' in labels and '<Label value="big dog"/>' in labels


def test_images_worth_a_look_first(write, rows, tmp_path):
    sure = Detections.of(
        instances([[1, 1, 9, 9]], [0], [0.99], variances=[0.001]), str(tmp_path / "in/s.png"), "s"
    )
    near = Detections.of(instances(), str(tmp_path / "in/near.png"), "near", near=3)
    with open(write("review", [sure, *rows, near])) as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == list(review.COLUMNS)
    assert [(r["file"], r["unstable"], r["near_threshold"]) for r in found] == [
        ("near.png", "0", "3"),
        ("one.png", "1", "0"),
        ("sub/images/two.png", "1", "0"),
    ]
    assert found[1]["largest_variance"] == "inf" and found[1]["lowest_score"] == "0.25"
