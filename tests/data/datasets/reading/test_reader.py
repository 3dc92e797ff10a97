"""The reader of annotations, as a table of what exports have in them."""

import copy
import json
import time

import pytest
from detectron2.data.datasets import load_coco_json
from PIL import Image

from soft_teacher.data.datasets.coco_ground_truth import as_coco, ground_truth_file
from soft_teacher.data.datasets.formats.coco import matches, parse_file
from soft_teacher.data.datasets.reading.balance import Balance, Reason
from soft_teacher.data.datasets.reading.faults import Kind, record_faults
from soft_teacher.data.datasets.reading.raw_dataset import RawDataset
from soft_teacher.data.datasets.reading.reader import read
from soft_teacher.data.streams.dataset import dicts_digest
from soft_teacher.utils.errors import ConfigError

SIZE = {"height": 48, "width": 64}
GOOD = {
    "info": {},
    "images": [{"id": n, "file_name": f"{n}.png", **SIZE} for n in (2, 1)],
    "annotations": [
        {"id": n, "image_id": image, "category_id": 7, "bbox": box, "area": 90.5, "iscrowd": 0}
        for n, image, box in ((5, 1, [1, 2, 20, 10]), (6, 2, [0.5, 2, 9, 9]), (4, 1, [3, 3, 5, 5]))
    ],
    "categories": [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}],
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def reading(tmp_path):
    """Reads the good JSON after a change."""
    for number in (1, 2):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{number}.png")

    def reading(change=lambda content: None):
        content = copy.deepcopy(GOOD)
        change(content)
        path = tmp_path / "some.json"
        path.write_text(json.dumps(content))
        return read(parse_file(str(path), str(tmp_path)))

    return reading


def first(**values):
    return lambda content: content["annotations"][0].update(values)


def each(key, **values):
    return lambda content: [item.update(copy.deepcopy(values)) for item in content[key]]


def without_masks(dicts):
    for record in copy.deepcopy(dicts):
        for annotation in record["annotations"]:
            annotation.pop("segmentation", None)
        yield record


# --- what is valid ------------------------------------------------------------------------------


def test_nothing_is_read_as_nothing():
    found = read(RawDataset("nowhere", "", [], [], []))
    assert found.dicts == found.faults == [] and found.balance == Balance()


def test_a_valid_json_gives_what_detectron2_reads(reading, tmp_path):
    found = reading(each("annotations", segmentation=[[1, 1, 9, 1, 9, 9]], score=0.5))
    path = str(tmp_path / "some.json")
    keys = {"extra_annotation_keys": ["score"], "dataset_name": "reader_test"}
    expected = load_coco_json(path, str(tmp_path), **keys)
    assert found.dicts == expected and dicts_digest(found.dicts) == dicts_digest(expected)
    assert [type(v) for v in found.dicts[0]["annotations"][0]["bbox"]] == [int] * 4
    assert found.classes == ["cat", "dog"] and found.id_map == {7: 0, 9: 1}
    assert found.balance == Balance(images=2, read=3) and found.faults == []
    assert ground_truth_file(found) == path


# --- annotations that cannot be used ------------------------------------------------------------

BOX = [1, 2, 20, 10]
UNUSABLE = {
    "crowd": (first(iscrowd=1), Reason.CROWD),
    "no width": (first(bbox=[1, 2, 0, 10]), Reason.EXTENT),
    "negative height": (first(bbox=[1, 2, 20, -10]), Reason.EXTENT),
    "right of the image": (first(bbox=[64, 2, 20, 10]), Reason.OUTSIDE),
    "above the image": (first(bbox=[1, -20, 20, 10]), Reason.OUTSIDE),
    "a speck": (first(bbox=[1, 2, 0.9, 10]), Reason.PIXEL),
    "another class": (first(category_id=1), Reason.CLASS),
    "another image": (first(image_id=3), Reason.IMAGE),
    "no box": (lambda content: content["annotations"][0].pop("bbox"), Reason.NUMBERS),
    "three numbers": (first(bbox=BOX[:3]), Reason.NUMBERS),
    "five numbers": (first(bbox=[*BOX, 1]), Reason.NUMBERS),
    "a word": (first(bbox=[1, 2, 20, "wide"]), Reason.NUMBERS),
    "null": (first(bbox=[1, None, 20, 10]), Reason.NUMBERS),
    "a flag": (first(bbox=[True, 2, 20, 10]), Reason.NUMBERS),
    "a dict": (first(bbox={"x": 1}), Reason.NUMBERS),
    "nested": (first(bbox=[BOX]), Reason.NUMBERS),
    "NaN": (first(bbox=[1, float("nan"), 20, 10]), Reason.NUMBERS),
    "infinity": (first(bbox=[1, 2, float("inf"), 10]), Reason.NUMBERS),
    "thousands of digits": (first(bbox=[1, 2, 10**400, 10]), Reason.NUMBERS),
    "a crowd in words": (first(iscrowd="maybe"), Reason.NUMBERS),
    "no object at all": (lambda content: content["annotations"].__setitem__(0, 5), Reason.IMAGE),
}


@pytest.mark.parametrize("change, reason", UNUSABLE.values(), ids=UNUSABLE)
def test_an_annotation_that_cannot_be_used_is_left_out_and_counted(change, reason, reading):
    found = reading(change)
    assert found.faults == [] and (found.balance.read, found.balance.learned) == (3, 2)
    assert found.balance.dropped == {reason: 1}
    (left_out,) = found.balance.left_out
    assert left_out.reason == reason and found.balance.first == {reason: left_out}
    kept = [a["bbox"] for d in found.dicts for a in d["annotations"] if not a.get("iscrowd")]
    assert kept == [[3, 3, 5, 5], [0.5, 2, 9, 9]]


def test_what_is_left_out_is_named_with_file_id_and_values(reading, tmp_path):
    (left_out,) = reading(first(bbox=[1, 2, 0, 10])).balance.left_out
    assert str(left_out) == (
        f"{tmp_path}/1.png, annotation id 5, bbox [1, 2, 0, 10] iscrowd 0: without width or height"
    )


def test_the_first_example_of_a_reason_is_kept(reading):
    found = reading(each("annotations", bbox=[1, 2, 0, 10])).balance
    assert found.dropped == {Reason.EXTENT: 3}
    assert found.first == {Reason.EXTENT: found.left_out[0]}


@pytest.mark.parametrize("odd", [[[]], [1, 2], "[]", None, {"counts": 3}])
def test_masks_and_keypoints_cost_no_box(odd, reading):
    found = reading(each("annotations", segmentation=odd, keypoints=odd))
    assert found.balance.learned == 3 and [*without_masks(found.dicts)] == reading().dicts


# --- values of another type ---------------------------------------------------------------------

PLAIN = {
    "numbers as text": (first(bbox=["1", "2", "20.0", "10"]), {"bbox": [1.0, 2.0, 20.0, 10.0]}),
    "ids as text": (first(image_id="1", category_id="7"), {}),
    "ids as floats": (first(image_id=1.0, category_id=7.0), {}),
    "a flag for a crowd": (first(iscrowd=False), {}),
    "text for a crowd": (first(iscrowd="0"), {}),
    "sizes as text": (each("images", height="48", width=64.0), {}),
    "sizes that are missing": (lambda c: [i.pop("width") for i in c["images"]], {}),
    "sizes in words": (each("images", height="48px"), {}),
    "sizes of zero": (each("images", height=0), {}),
}


@pytest.mark.parametrize("change, expected", PLAIN.values(), ids=PLAIN)
def test_values_are_converted_where_their_meaning_is_plain(change, expected, reading):
    wanted = reading().dicts
    wanted[0]["annotations"][0].update(expected)
    found = reading(change)
    assert found.dicts == wanted and found.faults == []
    assert all(type(d["height"]) is type(d["image_id"]) is int for d in found.dicts)


def test_ids_may_be_texts(reading):
    def change(content):
        for key, name in (("images", "id"), ("annotations", "image_id")):
            for item in content[key]:
                item[name] = f"image {item[name]}"

    found = reading(change)
    assert [d["image_id"] for d in found.dicts] == ["image 1", "image 2"]
    assert found.balance.learned == 3 and found.faults == []


# --- faults -------------------------------------------------------------------------------------


def corners(content):
    for annotation, box in zip(content["annotations"], ([5, 5, 60, 40], [9, 9, 64, 48], BOX)):
        annotation["bbox"] = box


RELATIVE = each("annotations", bbox=[0.1, 0.2, 0.5, 0.5])
FAULTS = {
    "an image id twice": (each("images", id=1), Kind.IMAGE_ID, "image id 1 occurs twice, for "),
    "an id of no kind": (each("images", id=None), Kind.IMAGE_ID, "whole number of its own"),
    "one file twice": (
        each("images", file_name="1.png"),
        Kind.IMAGE_ID,
        "has two image ids, 1 and 2",
    ),
    "ids of two kinds": (
        lambda c: c["images"][0].update(id="a"),
        Kind.IMAGE_ID,
        "some image ids are numbers and some are texts",
    ),
    "no file name": (lambda c: c["images"][1].pop("file_name"), Kind.FILE_NAME, "images[1] needs"),
    "a category twice": (each("categories", id=7), Kind.CATEGORY, "category id 7 occurs twice"),
    "a nameless category": (each("categories", name=None), Kind.CATEGORY, "categories[0] needs"),
    "no categories": (lambda c: c["categories"].clear(), Kind.CATEGORY, '"categories" is empty'),
    "categories of two kinds": (
        lambda c: c["categories"][0].update(id="a"),
        Kind.CATEGORY,
        "some category ids are numbers and some are texts",
    ),
    "relative boxes": (RELATIVE, Kind.BOXES, "look relative to the image"),
    "corners": (corners, Kind.BOXES, "look like [x1, y1, x2, y2]"),
}


@pytest.mark.parametrize("change, kind, words", FAULTS.values(), ids=FAULTS)
def test_a_mistake_of_the_whole_dataset_is_reported(change, kind, words, reading):
    found = {fault.kind: fault.line for fault in reading(change).faults}
    assert words in found[kind] and "\n" not in found[kind]


@pytest.mark.parametrize("box", [[40, 30, 30, 30], [1, 1, 64, 48]])
def test_boxes_that_leave_the_image_are_no_corners(box, reading):
    assert reading(each("annotations", bbox=box)).faults == []


# --- ground truth -------------------------------------------------------------------------------

ODD_TRUTHS = {
    "an id of 0": first(id=0),
    "an id twice": each("annotations", id=3),
    "no ids": lambda c: [a.pop("id") for a in c["annotations"]],
    "ids as text": first(id="5"),
    "no area": lambda c: [a.pop("area") for a in c["annotations"]],
    "an area in words": first(area="big"),
    "no iscrowd": lambda c: [a.pop("iscrowd") for a in c["annotations"]],
    "a box as text": first(bbox=[str(number) for number in BOX]),
    "an image id as text": first(image_id="1"),
}


@pytest.mark.parametrize("change", ODD_TRUTHS.values(), ids=ODD_TRUTHS)
def test_ground_truth_is_normalised_where_the_evaluation_would_go_wrong(change, reading, tmp_path):
    path = ground_truth_file(reading(change))
    assert path.startswith(str(tmp_path / "cache"))
    truth = json.loads(open(path).read())
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3]
    assert [a["image_id"] for a in truth["annotations"]] == [1, 1, 2]
    assert {a["category_id"] for a in truth["annotations"]} == {7}
    assert [a["bbox"] for a in truth["annotations"]] == [BOX, [3, 3, 5, 5], [0.5, 2, 9, 9]]
    assert all(a["iscrowd"] == 0 and a["area"] > 0 for a in truth["annotations"])
    assert truth["categories"] == [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    assert ground_truth_file(reading(change)) == path


def test_a_given_area_is_kept_and_a_missing_one_is_the_box_s(reading):
    def change(content):
        del content["annotations"][0]["area"]

    truth = json.loads(open(ground_truth_file(reading(change))).read())
    assert [a["area"] for a in truth["annotations"]] == [200, 90.5, 90.5]


def test_crowds_and_specks_are_left_to_the_rules_of_the_evaluation(reading, tmp_path):
    def change(content):
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1]["bbox"] = [1, 1, 0.5, 3]

    found = reading(change)
    assert ground_truth_file(found) == str(tmp_path / "some.json")
    assert found.balance.faulty(test=True) == {} and list(found.balance.faulty()) == [Reason.PIXEL]


def test_what_is_not_measured_is_a_crowd_of_the_ground_truth_alone(reading, tmp_path):
    found = reading(first(not_measured=True, score=0.5))
    path = ground_truth_file(found)
    assert path != str(tmp_path / "some.json")
    truth, same = json.loads(open(path).read()), as_coco(found)
    assert [a["iscrowd"] for a in truth["annotations"]] == [1, 0, 0]
    assert not {"not_measured", "score"} & set(truth["annotations"][0])
    assert [a["iscrowd"] for a in same["annotations"]] == [0, 0, 0]
    assert same["annotations"][0]["not_measured"] and same["annotations"][0]["score"] == 0.5
    assert "not_measured" not in same["annotations"][1]


def test_a_cache_that_cannot_be_written_is_reported(reading, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        ground_truth_file(reading(first(id=0)))


# --- names and files ----------------------------------------------------------------------------

NAMES = {
    "backslashes": "sub\\photo 1.png",
    "percent-encoding": "sub/photo%201.png",
    "another computer's folder": "C:\\Users\\me\\photos\\sub\\photo 1.png",
    "a path from its root": "/data/x/sub/photo 1.png",
    "local files of Label Studio": "/data/local-files/?d=x/sub/photo%201.png",
    "an address": "http://host:80/data/local-files/?d=sub%5Cphoto 1.png",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_of_another_system_is_resolved_where_the_file_exists(name, reading, tmp_path):
    def change(content):
        content["images"][1]["file_name"] = name

    assert reading(change).missing
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "sub" / "photo 1.png")
    found = reading(change)
    assert found.missing == [] and found.dicts[0]["file_name"] == str(tmp_path / "sub/photo 1.png")
    assert "1 images were found under other names" in found.notes[0]


def test_a_name_that_is_a_file_stays(reading, tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a%201.png")
    Image.new("RGB", (64, 48)).save(tmp_path / "a 1.png")
    found = reading(lambda c: c["images"][1].update(file_name="a%201.png"))
    assert found.dicts[0]["file_name"] == str(tmp_path / "a%201.png") and found.notes == []


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "mark.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8-sig")
    raw = parse_file(str(path), "")
    assert len(raw.images) == 2 and raw.json_file is None


@pytest.mark.parametrize(
    "name, expected",
    [
        ("", False),
        ("x.json", True),
        ("X.JSON@f", True),
        ("a@b/x.json@c@d", True),
        ("x.jsonl", False),
    ],
)
def test_what_is_named_as_a_coco_json(name, expected):
    assert matches(name) is expected


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "is no JSON"),
        (b"\xff\xfe{", "save it as UTF-8"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", 'no list "images"'),
        (b'{"images": {}}', 'no list "images"'),
    ],
)
def test_what_is_no_coco_json_is_refused(data, words, tmp_path):
    path = tmp_path / "odd.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as error:
        parse_file(str(path), "")
    assert words in str(error.value) and str(path) in str(error.value)


def test_an_image_that_occurs_twice_is_found_in_a_moment_among_many():
    dicts = [{"image_id": n, "file_name": f"{n}.jpg"} for n in range(100_000)]
    started = time.process_time()
    (fault,) = record_faults([*dicts, dicts[90_000]])
    assert "image id 90000 occurs twice, both times for 90000.jpg" in fault.line
    assert time.process_time() - started < 5
