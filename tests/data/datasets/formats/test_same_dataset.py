"""One dataset in every format is one dataset."""

import contextlib
import io
import json

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from written import (
    CLASSES,
    PHOTOS,
    Photo,
    voc_object,
    voc_xml,
    write_coco,
    write_csv,
    write_image,
    write_voc,
    write_yolo,
)

from soft_teacher.data.datasets.coco_ground_truth import ground_truth_file
from soft_teacher.data.datasets.dataset_checks import check_datasets
from soft_teacher.data.datasets.dataset_dicts import labeled_dicts, unlabeled_dicts
from soft_teacher.data.datasets.loading import load_reading
from soft_teacher.data.datasets.paths import register_path

pytestmark = pytest.mark.usefixtures("own_catalog")

FORMATS = {
    "coco": lambda folder, photos: str(write_coco(folder, photos)),
    "csv": lambda folder, photos: str(write_csv(folder, photos)),
    "voc": lambda folder, photos: str(write_voc(folder, photos)),
    "voc_set": lambda folder, photos: f"{write_voc(folder, photos, sets=sets(photos))}@train",
    "yolo": lambda folder, photos: f"{write_yolo(folder, photos)}@train",
}
in_every_format = pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)


def sets(photos):
    return {"train": [photo.stem for photo in photos]}


def reading_of(path):
    assert register_path(path)
    return load_reading(path)


def stem(file):
    return file.rpartition("/")[2].rpartition(".")[0]


def ap(reading, detections):
    """COCO's AP of detections, which are dicts of COCO's results."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(ground_truth_file(reading))
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0]


def detections(reading):
    """Each object that is learned from, found."""
    category = {number: category for category, number in reading.id_map.items()}
    pairs = [(d["image_id"], a) for d in reading.dicts for a in d["annotations"]]
    return [
        {"image_id": i, "category_id": category[a["category_id"]], "bbox": a["bbox"], "score": 0.9}
        for i, a in pairs
    ]


@in_every_format
def test_images_boxes_classes_and_ap_are_the_same(tmp_path, write):
    path = write(tmp_path, PHOTOS)
    reading = reading_of(path)
    assert reading.classes == CLASSES
    assert (reading.faults, reading.notes, reading.missing) == ([], [], [])
    assert reading.balance.read == reading.balance.learned == 3
    found = {stem(d["file_name"]): d for d in reading.dicts}
    assert sorted(found) == [stem(d["file_name"]) for d in reading.dicts]  # in one order
    for photo in PHOTOS:
        record = found[photo.stem]
        assert (record["height"], record["width"]) == (photo.height, photo.width)
        assert [CLASSES[a["category_id"]] for a in record["annotations"]] == [
            name for name, *_ in photo.objects
        ]
        boxes = [a["bbox"] for a in record["annotations"]]
        assert boxes == [pytest.approx([x, y, r - x, b - y]) for _, x, y, r, b in photo.objects]
    found = detections(reading)
    assert ap(reading, found) == pytest.approx(1)
    assert ap(reading, found[:1]) == pytest.approx(51 / 101 / 2)  # one of two cats, no dog
    warnings = check_datasets(labeled=[path], unlabeled=[path], test=[path], num_classes=2)
    assert len(warnings) == 3 and all("share 3 images" in line for line in warnings)
    assert [len(d["annotations"]) for d in labeled_dicts([path])] == [1, 2]
    assert len(unlabeled_dicts([path])) == 3
    assert not any("annotations" in d for d in unlabeled_dicts([path]))


@in_every_format
def test_an_empty_dataset_has_no_labels_to_learn_from(tmp_path, write):
    path = write(tmp_path, [Photo("a")])
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="no image has an annotation"):
        labeled_dicts([path])


def test_two_voc_folders_share_their_classes_through_a_list(tmp_path):
    train = str(write_voc(tmp_path / "train", PHOTOS[:1]))
    test = str(write_voc(tmp_path / "test", PHOTOS[1:]))
    with pytest.raises(ValueError, match="differ in their categories"):
        check_datasets(labeled=[train], unlabeled=[], test=[test], num_classes=2)
    for folder in (train, test):
        with open(f"{folder}/classes.txt", "w") as file:
            file.write("\n".join(CLASSES))
    assert check_datasets(labeled=[train], unlabeled=[], test=[test], num_classes=2) == []


def test_difficult_objects_are_learned_from_but_not_measured(tmp_path):
    write_image(tmp_path / "JPEGImages" / "b.png", PHOTOS[0])
    (tmp_path / "Annotations").mkdir()
    hard = voc_object("cat", 20, 4, 30, 12, more="<difficult>1</difficult>")
    text = voc_xml(PHOTOS[0], objects=voc_object("cat", 3, 4, 10, 12) + hard)
    (tmp_path / "Annotations" / "b.xml").write_text(text)
    reading = reading_of(str(tmp_path))
    assert reading.balance.learned == 2
    assert reading.notes == [
        "1 objects are marked difficult, which an evaluation does not count, first b"
    ]
    both = detections(reading)
    assert ap(reading, both) == ap(reading, both[:1]) == pytest.approx(1)
    assert ap(reading, [both[0], {**both[1], "score": 1.0}]) == pytest.approx(1)


def test_a_score_of_yolo_is_that_of_a_pseudo_label(tmp_path):
    path = f"{write_yolo(tmp_path, PHOTOS[:1])}@train"
    (tmp_path / "labels" / "train" / "b.txt").write_text("0 0.5 0.5 0.5 0.5 0.75")
    [record] = unlabeled_dicts([path], label_source="dataset", classes=CLASSES)
    assert record["given_annotations"][0]["score"] == 0.75


def test_what_is_left_out_is_named_with_its_place_in_the_file(tmp_path):
    write_voc(tmp_path, PHOTOS[:1])
    objects = voc_object("cat", 3, 4, 10, 12) + voc_object("dog", 4, 4, 5, 4)
    (tmp_path / "Annotations" / "b.xml").write_text(voc_xml(PHOTOS[0], objects=objects))
    [left_out] = reading_of(str(tmp_path)).balance.left_out
    assert str(left_out).startswith(f"{tmp_path}/JPEGImages/b.png, annotation 2")


def test_a_normalised_file_is_plain_json(tmp_path):
    reading = reading_of(f"{write_yolo(tmp_path)}@train")
    with open(ground_truth_file(reading)) as file:
        content = json.load(file)
    assert content["categories"] == [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    assert [image["id"] for image in content["images"]] == [
        f"images/train/{name}" for name in ("a.jpg", "b.png", "c.png")
    ]
