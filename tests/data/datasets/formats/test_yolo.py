"""YOLO's data.yaml as COCO-shaped datasets."""

import time

import pytest
from written import PHOTOS, Photo, boxes, write_image, write_yolo

from soft_teacher.data.datasets.formats.yolo import matches, parse
from soft_teacher.utils.errors import ConfigError

WIDE = Photo("wide", 200, 100)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def one_photo(folder, labels, **keys):
    """The path of a split of one image of 200 x 100 pixels with these labels."""
    file = write_yolo(folder, [WIDE], **keys)
    (folder / "labels" / "train" / "wide.txt").write_text(labels)
    return f"{file}@train"


def write_yaml(folder, text):
    file = folder / "data.yaml"
    file.write_text(text)
    return f"{file}@train"


def refusal(path):
    with pytest.raises(ConfigError) as raised:
        parse(str(path))
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


@pytest.mark.parametrize(
    "path, expected",
    [
        *((path, False) for path in ("", "data", "data.json@train", "me@home", "data.yaml.txt")),
        *((path, True) for path in ("data.yaml", "d/DATA.YML@val", "me@home/data.yaml@train")),
    ],
)
def test_which_paths_are_meant(path, expected):
    assert matches(path) is expected


# --- splits -------------------------------------------------------------------------------------

NO_IMAGES = "names no images: give it folders or lists as train"


@pytest.mark.parametrize(
    "text, words",
    [
        *((f"train: {value}", NO_IMAGES) for value in ("", "[]", "{a: b}", "[[a]]")),
        ("val: photos", "no images as 'train', but val: name one as "),
        ("test: photos\ntrian: photos", "no images as 'train', but test"),
        ("train: photos", "has no images"),
        ("path: /data\ntrain: gone", "there is no 'gone', looked for '/data/gone'"),
    ],
)
def test_a_split_that_cannot_be_read_is_refused(text, words, tmp_path):
    (tmp_path / "photos").mkdir()
    assert words in refusal(write_yaml(tmp_path, f"{text}\nnames: [cat]\n"))


def test_a_split_must_be_named_and_a_misspelt_one_gets_the_nearest(tmp_path):
    file = write_yolo(tmp_path, val="images/train")
    found = f"{file} names no images as '', but train, val: name one as {file}@train"
    assert refusal(file) == found
    assert "no images as 'valid', but train, val: did you mean val?" in refusal(f"{file}@valid")


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"path": "."},
        {"path": None},
        {"path": "../somewhere/else"},
        {"train": "../images/train"},
        {"train": ["images/train"]},
        {"train": "train.txt"},
        {"train": ["train.txt", "images/train"]},
    ],
    ids=str,
)
def test_images_are_found_where_the_file_says(tmp_path, keys):
    file = write_yolo(tmp_path, **keys)
    (tmp_path / "train.txt").write_text("./images/train/a.jpg\n\nimages/train/b.png\n")
    assert list(boxes(parse(f"{file}@train")))[:2] == ["images/train/a.jpg", "images/train/b.png"]


def test_the_path_may_be_absolute_or_relative_to_the_file(tmp_path):
    write_yolo(tmp_path / "data")
    for root in ("data", tmp_path / "data"):
        path = write_yaml(tmp_path, f"path: {root}\ntrain: images/train\nnames: [cat, dog]\n")
        assert len(parse(path).images) == len(PHOTOS)


def test_a_list_may_be_absolute_or_relative_to_the_path(tmp_path):
    write_yolo(tmp_path / "data")
    lists = tmp_path / "lists"
    lists.mkdir()
    names = [f"{tmp_path}/data/images/train/a.jpg", "images/train/b.png", "images\\train\\c.png"]
    (lists / "train.txt").write_text("\ufeff" + "\r\n".join(names), encoding="utf-8")
    path = write_yaml(tmp_path, "path: data\ntrain: ../lists/train.txt\nnames: [cat, dog]\n")
    raw = parse(path)
    assert [len(found) for found in boxes(raw).values()] == [1, 2, 0] and raw.notes == []


def test_an_image_that_is_named_again_is_read_once_and_a_missing_one_left_to_the_reader(tmp_path):
    file = write_yolo(tmp_path, train=["images/train", "images", "train.txt"])
    (tmp_path / "train.txt").write_text("gone.jpg\n")
    raw = parse(f"{file}@train")
    assert [image["file_name"] for image in raw.images][3:] == [f"{tmp_path}/gone.jpg"]
    assert raw.notes[0] == "3 images are named again and read once"


# --- classes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["", "cat", "[]", "{}", "[[cat]]", "{cat: 0}", "{0: [cat]}"])
def test_names_that_are_no_classes_are_refused(tmp_path, names):
    path = write_yaml(tmp_path, f"train: .\nnames: {names}\n")
    assert "names must be a list of classes, or map their numbers" in refusal(path)


@pytest.mark.parametrize(
    "text, categories",
    [
        ("[cat, dog]", {0: "cat", 1: "dog"}),
        ("\n  10: dog\n  2: cat", {2: "cat", 10: "dog"}),
        ("[no, 'yes', null, 1, 2.50]", dict(enumerate(["no", "yes", "null", "1", "2.50"]))),
    ],
)
def test_names_are_a_list_or_a_mapping_and_stay_as_they_are_written(tmp_path, text, categories):
    write_image(tmp_path / "a.png", PHOTOS[0])
    raw = parse(write_yaml(tmp_path, f"train: .\nnames: {text}\n"))
    assert {category["id"]: category["name"] for category in raw.categories} == categories


def test_another_number_of_classes_is_noted(tmp_path):
    [note] = parse(one_photo(tmp_path, "", nc=3)).notes
    assert "nc is not the number of names, 2" in note
    assert parse(one_photo(tmp_path, "", nc=2)).notes == []


# --- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [None, "", "\n \n"])
def test_a_missing_or_empty_label_file_means_no_objects(tmp_path, labels):
    path = one_photo(tmp_path, labels or "")
    label = tmp_path / "labels" / "train" / "wide.txt"
    if labels is None:
        label.unlink()
    raw = parse(path)
    note = f"1 images have no label file, which means no objects, first {label}"
    assert len(raw.images) == 1 and raw.annotations == []
    assert raw.notes == ([note] if labels is None else [])


def test_images_have_their_sizes_and_names(tmp_path):
    raw = parse(f"{write_yolo(tmp_path, PHOTOS[1:2])}@train")
    name = "images/train/a.jpg"
    file = f"{tmp_path}/{name}"
    assert raw.images == [{"id": name, "file_name": file, "height": 50, "width": 20}]


@pytest.mark.parametrize(
    "label, expected",
    [
        ("1 0.5 0.5 1 1", {"bbox": [0, 0, 200, 100]}),
        ("1.0 0.25 0.5 0.1 0.2\r\n", {"bbox": [40, 40, 20, 20]}),
        ("1 0.5 0.5 1 1 0.875", {"bbox": [0, 0, 200, 100], "score": 0.875}),
        (
            "1 0.1 0.2 0.5 0.9 0.3 0.4",
            {"bbox": [20, 20, 80, 70], "segmentation": [20, 20, 100, 90, 60, 40]},
        ),
        (
            "1 0.1 0.2 0.5 0.2 0.5 0.9 0.1 0.9",
            {"bbox": [20, 20, 80, 70], "segmentation": [20, 20, 100, 20, 100, 90, 20, 90]},
        ),
        ("1 0.5 0.5 1 1 0.1 0.1 2 0.9 0.9 2", {"bbox": [0, 0, 200, 100]}),  # keypoints
    ],
)
def test_the_box_and_the_polygon_of_a_line(label, expected, tmp_path):
    [annotation] = parse(one_photo(tmp_path, label, kpt_shape=[2, 3])).annotations
    assert annotation.pop("bbox") == pytest.approx(expected["bbox"])
    (polygon,) = annotation.pop("segmentation", [[]])
    assert polygon == pytest.approx(expected.get("segmentation", []))
    place = {"image_id": "images/train/wide.png", "category_id": 1}
    score = {"score": expected["score"]} if "score" in expected else {}
    assert annotation == {**place, **score}


@pytest.mark.parametrize(
    "label", ["0", "0 0.5", "0 0.5 0.5 0.5", "0 a b c d", "0 nan 0.5 0.5 0.5", "0" + " 0.5" * 7]
)
def test_what_is_no_box_is_passed_on_for_the_reader_to_count(tmp_path, label):
    [annotation] = parse(one_photo(tmp_path, label)).annotations
    assert annotation["bbox"] == label.split()[1:] and annotation["category_id"] == 0


@pytest.mark.parametrize("number", ["cat", "0.5", "nan", "-", "1e999"])
def test_what_is_no_class_number_is_passed_on(tmp_path, number):
    [annotation] = parse(one_photo(tmp_path, f"{number} 0.5 0.5 1 1")).annotations
    assert annotation["category_id"] == number


def test_boxes_in_pixels_are_noted(tmp_path):
    raw = parse(one_photo(tmp_path, "0 0.5 0.5 1.01 1.01\n1 100 50 20 20"))
    label = tmp_path / "labels" / "train" / "wide.txt"
    assert raw.notes == [
        f"1 boxes leave the image: they must be fractions of it, 0 to 1, first {label}:2"
    ]


def test_labels_of_an_image_that_cannot_be_read_are_noted(tmp_path):
    path = one_photo(tmp_path, "0 0.5 0.5 1 1")
    image = tmp_path / "images" / "train" / "wide.png"
    image.write_bytes(b"no image")
    raw = parse(path)
    assert raw.images == [{"id": "images/train/wide.png", "file_name": str(image)}]
    assert raw.annotations == []
    assert raw.notes == [f"1 images cannot be read and lose their labels, first {image}"]


def test_a_label_file_that_cannot_be_read_is_left_out_with_its_image(tmp_path):
    file = write_yolo(tmp_path)
    label = tmp_path / "labels" / "train" / "b.txt"
    label.unlink()
    label.mkdir()
    raw = parse(f"{file}@train")
    assert len(raw.images) == 2
    [note] = raw.notes
    assert note.startswith("1 label files cannot be read") and f"{label} (IsADirectory" in note


def test_labels_lie_beside_images_that_are_in_no_folder_of_that_name(tmp_path):
    write_image(tmp_path / "train" / "a.png", WIDE)
    (tmp_path / "train" / "a.txt").write_text("0 0.5 0.5 1 1")
    assert len(parse(write_yaml(tmp_path, "train: train\nnames: [cat]\n")).annotations) == 1


def test_only_the_last_folder_named_images_changes_its_name(tmp_path):
    root = tmp_path / "images" / "my.set"
    assert len(parse(f"{write_yolo(root)}@train").annotations) == 3


# --- damaged files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "cat", "- cat\n", "train: [", "a: &a [*a]\n? [*a]\n: 1\n", "!!python/none", "[" * 5000],
    ids=["empty", "text", "list", "cut", "recursive", "python", "deep"],
)
def test_a_file_that_is_missing_or_no_dataset_is_refused(tmp_path, text):
    path = f"{tmp_path}/data.yaml@train"
    assert "data.yaml cannot be read: FileNotFoundError" in refusal(path)
    refusal(write_yaml(tmp_path, text))


def test_no_object_of_python_is_made(tmp_path):
    ran = tmp_path / "ran"
    write_image(tmp_path / "a.png", WIDE)
    more = f"x: !!python/object/apply:os.mkdir [{ran}]\n"
    parse(write_yaml(tmp_path, f"train: .\nnames: [cat]\n{more}"))
    assert not ran.exists()


@pytest.mark.parametrize("key", ["names", "train", "kpt_shape", "nc", "path", "<<"])
@pytest.mark.parametrize("level", ["[{}]", "{{<<: [{}]}}"], ids=["aliases", "merges"])
def test_aliases_that_multiply_do_not_take_its_time_or_memory(tmp_path, key, level):
    first = "a0: &a0 " + level.format("x").replace("<<: [x]", "x: y")
    levels = [f"a{n + 1}: &a{n + 1} {level.format(', '.join([f'*a{n}'] * 9))}" for n in range(30)]
    write_image(tmp_path / "a.png", WIDE)
    path = write_yaml(tmp_path, "\n".join([first, *levels, f"{key}: *a30", "other: 1"]))
    start = time.perf_counter()
    refusal(path)
    assert time.perf_counter() - start < 5
