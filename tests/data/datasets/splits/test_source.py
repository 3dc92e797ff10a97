"""Sources of splits, and the parts that are written of them."""

import json

import pytest
from written import PHOTOS, Photo, voc_object, voc_xml, write_coco, write_voc, write_yolo

from soft_teacher.data.datasets.loading import load_reading
from soft_teacher.data.datasets.paths import register_path
from soft_teacher.data.datasets.splits.families import without_replacement_split
from soft_teacher.data.datasets.splits.parts import write_parts
from soft_teacher.data.datasets.splits.source import dataset_source, json_source
from soft_teacher.utils.errors import ConfigError

pytestmark = pytest.mark.usefixtures("own_catalog")

SETS = {"train": ["c", "b"]}
FORMATS = {
    "coco": lambda folder: str(write_coco(folder)),
    "coco_folder": lambda folder: f"{write_coco(folder)}@{folder}",
    "voc": lambda folder: str(write_voc(folder)),
    "voc_set": lambda folder: f"{write_voc(folder, sets=SETS)}@train",
    "yolo": lambda folder: f"{write_yolo(folder)}@train",
}
in_every_format = pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)


def reading_of(path):
    assert register_path(path)
    return load_reading(path)


def content_of(readings):
    """File -> size and annotations with the names of their classes."""
    return {
        d["file_name"]: (
            d["height"],
            d["width"],
            [
                {**a, "category_id": reading.classes[a["category_id"]], "iscrowd": None}
                for a in d["annotations"]
            ],
        )
        for reading in readings
        for d in reading.dicts
    }


def parts_of(source, tmp_path, count=1):
    """The readings of both parts, as a run names them."""
    split = without_replacement_split(source.ids["without_replacement"], count=count)
    parts = write_parts(source, split, tmp_path / "parts")
    readings = [reading_of(f"{part}@{source.folder}") for part in parts]
    ids = [tuple(d["image_id"] for d in reading.dicts) for reading in readings]
    assert ids == [split.labeled, split.unlabeled]
    return readings


# --- datasets of every form ---------------------------------------------------------------------


@in_every_format
def test_both_parts_read_as_the_dataset_does(tmp_path, write):
    form = write(tmp_path / "my")
    whole = reading_of(form)
    labeled, unlabeled = parts_of(dataset_source("--dataset", form), tmp_path)
    assert labeled.classes == unlabeled.classes == whole.classes == ["cat", "dog"]
    assert labeled.notes == unlabeled.notes == labeled.faults == []
    assert (len(labeled.dicts), len(unlabeled.dicts)) == (1, len(whole.dicts) - 1)
    assert content_of([labeled, unlabeled]) == content_of([whole])
    learned = labeled.balance.learned + unlabeled.balance.learned
    assert learned == whole.balance.learned > 0


@in_every_format
def test_ids_that_are_no_numbers_are_numbered_in_their_order(tmp_path, write):
    source = dataset_source("--dataset", write(tmp_path / "my"))
    files = [(image["id"], image["file_name"][:1]) for image in source.coco["images"]]
    assert files in ([(1, "a"), (2, "b"), (3, "c")], [(1, "b"), (2, "c")])  # all, or the set
    assert source.ids["stac"] == [number for number, _ in files]


def test_whole_numbers_stay_the_ids(tmp_path):
    path = write_coco(tmp_path)
    numbered = path.read_text()
    for stem, number in (("a", 30), ("b", 7), ("c", 100)):
        numbered = numbered.replace(f'"{stem}"', str(number))
    path.write_text(numbered)
    assert dataset_source("--dataset", str(path)).ids["stac"] == [7, 30, 100]


def test_images_of_several_folders_are_named_from_the_one_above(tmp_path):
    write_yolo(tmp_path, PHOTOS[:1], split="train")
    file = write_yolo(tmp_path, PHOTOS[1:], split="val", both=["images/train", "images/val"])
    source = dataset_source("--dataset", f"{file}@both")
    assert source.folder == str(tmp_path / "images")
    names = [image["file_name"] for image in source.coco["images"]]
    assert names == ["train/b.png", "val/a.jpg", "val/c.png"]
    assert len(content_of(parts_of(source, tmp_path))) == 3


def test_difficult_objects_of_a_part_are_learned_from_and_not_measured(tmp_path):
    write_voc(tmp_path / "my", PHOTOS[:1])
    hard = voc_object("cat", 20, 4, 30, 12, more="<difficult>1</difficult>")
    text = voc_xml(PHOTOS[0], objects=voc_object("cat", 3, 4, 10, 12) + hard)
    (tmp_path / "my" / "Annotations" / "b.xml").write_text(text)
    labeled, _ = parts_of(dataset_source("--dataset", str(tmp_path / "my")), tmp_path)
    (record,) = labeled.dicts
    assert [a.get("not_measured", False) for a in record["annotations"]] == [False, True]


def test_a_score_of_yolo_stays_with_its_box(tmp_path):
    form = f"{write_yolo(tmp_path / 'my', PHOTOS[:1])}@train"
    (tmp_path / "my" / "labels" / "train" / "b.txt").write_text("0 0.5 0.5 0.5 0.5 0.75")
    labeled, _ = parts_of(dataset_source("--dataset", form), tmp_path)
    assert labeled.dicts[0]["annotations"][0]["score"] == 0.75


def test_masks_stay_with_their_boxes(tmp_path):
    form = f"{write_yolo(tmp_path / 'my', PHOTOS[:1])}@train"
    (tmp_path / "my" / "labels" / "train" / "b.txt").write_text("0 0.25 0.25 0.5 0.25 0.5 0.75")
    whole = reading_of(form)
    labeled, _ = parts_of(dataset_source("--dataset", form), tmp_path)
    (mask,) = (a["segmentation"] for d in labeled.dicts for a in d["annotations"])
    assert len(mask[0]) == 6 and content_of([labeled]) == content_of([whole])


def test_a_registered_dataset_is_a_source_too(tiny_digits, tmp_path):
    source = dataset_source("--dataset", "digits_train")
    labeled, unlabeled = parts_of(source, tmp_path, count=4)
    assert (source.name, len(labeled.dicts), len(unlabeled.dicts)) == ("digits_train", 4, 8)
    assert content_of([labeled, unlabeled]) == content_of([load_reading("digits_train")])


@pytest.mark.parametrize(
    "form, name",
    [("my/voc@train", "voc@train"), ("my/voc/", "voc"), ("a/t.json@b/images", "t.json@images")],
)
def test_the_name_that_a_split_records_has_no_folders(tmp_path, monkeypatch, form, name):
    monkeypatch.chdir(tmp_path)
    write_voc(tmp_path / "my" / "voc", sets=SETS)
    write_coco(tmp_path / "b" / "images").rename(tmp_path / "t.json")
    (tmp_path / "a").mkdir()
    (tmp_path / "t.json").rename(tmp_path / "a" / "t.json")
    assert dataset_source("--dataset", form).name == name


def test_what_the_reader_leaves_out_is_noted(tmp_path):
    form = str(write_voc(tmp_path / "my"))
    (tmp_path / "my" / "Annotations" / "c.xml").unlink()
    text = voc_xml(
        PHOTOS[0], objects=voc_object("cat", 3, 4, 10, 12) + voc_object("cat", 4, 4, 5, 4)
    )
    (tmp_path / "my" / "Annotations" / "b.xml").write_text(text)
    first, second = dataset_source("--dataset", form).notes
    assert first.startswith(f"--dataset '{form}': 1 images have no XML file and are left out")
    assert "1 of 3 annotations cannot be learned from and are left out" in second


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda folder: folder / "gone", "neither a registered dataset nor an existing path"),
        (lambda folder: f"{write_voc(folder)}@valid", "cannot be read: "),
        (lambda folder: write_coco(folder, [Photo("a")]), "no image has an annotation"),
        (lambda folder: write_voc(folder) / "JPEGImages", "no image has an annotation"),
        (lambda folder: f"{write_coco(folder)}@{folder}/b", "3 image files are missing"),
    ],
)
def test_a_dataset_that_cannot_be_learned_from_is_refused(tmp_path, write, message):
    with pytest.raises(ConfigError, match=message) as error:
        dataset_source("--dataset", str(write(tmp_path / "my")))
    assert "\n" not in str(error.value) and str(error.value).startswith("--dataset ")


# --- JSONs --------------------------------------------------------------------------------------


def test_a_json_is_a_source_as_it_is(tmp_path):
    content = {"images": [{"id": 9}, {"id": 5, "license": 3}], "licenses": ["free"]}
    path = tmp_path / "my.json"
    path.write_text(json.dumps(content))
    source = json_source(path, "images")
    assert (source.name, source.folder, source.coco) == ("my.json", "images", content)
    assert source.pool("stac") == [9, 5] and source.pool("unbiased_teacher") == []
    split = without_replacement_split([9, 5], count=2)
    labeled, unlabeled = write_parts(source, split, tmp_path / "parts")
    assert json.loads(labeled.read_text()) == {**content, "annotations": []}
    assert json.loads(unlabeled.read_text())["images"] == []


@pytest.mark.parametrize("text", ["", "[]", '{"images": [{"id": "7"}]}', "[" * 100_000])
def test_another_file_is_no_source(tmp_path, text):
    (tmp_path / "my.json").write_text(text)
    with pytest.raises(ConfigError, match="my.json cannot be read as COCO JSON"):
        json_source(tmp_path / "my.json", tmp_path)
