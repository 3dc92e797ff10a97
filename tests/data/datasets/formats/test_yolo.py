"""YOLO's data.yaml as COCO-shaped datasets."""

import time

import pytest
from written import CLASSES, PHOTOS, Photo, boxes, write_image, write_yolo

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


# --- which paths are meant ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "data", "data.json@train", "photos@home", "data.yaml.txt"])
def test_other_paths_are_none(path):
    assert not matches(path)


@pytest.mark.parametrize("path", ["data.yaml", "d/DATA.YML@val", "me@home/data.yaml@train"])
def test_a_yaml_file_with_or_without_a_split_is_one(path):
    assert matches(path)


# --- splits -------------------------------------------------------------------------------------


def test_a_split_must_be_named(tmp_path):
    file = write_yolo(tmp_path)
    assert refusal(file) == f"{file} names no images as '', but train: name one as {file}@train"


def test_an_unknown_split_is_refused_with_the_nearest(tmp_path):
    file = write_yolo(tmp_path, val="images/train")
    assert "no images as 'valid', but train, val: did you mean val?" in refusal(f"{file}@valid")


@pytest.mark.parametrize("value", ["", "[]", "{a: b}", "[[a]]"])
def test_a_split_of_nothing_is_refused(tmp_path, value):
    path = write_yaml(tmp_path, f"train: {value}\nnames: [cat]\n")
    assert "names no images: give it folders or lists as train" in refusal(path)


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    assert "has no images" in refusal(write_yaml(tmp_path, "train: photos\nnames: [cat]\n"))


def test_a_missing_folder_is_refused_with_the_place_where_it_was_looked_for(tmp_path):
    path = write_yaml(tmp_path, "path: /data\ntrain: photos\nnames: [cat]\n")
    assert "there is no 'photos', looked for '/data/photos'" in refusal(path)


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
    for told in ("data", tmp_path / "data"):
        path = write_yaml(tmp_path, f"path: {told}\ntrain: images/train\nnames: [cat, dog]\n")
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


def test_an_image_that_is_named_again_is_read_once(tmp_path):
    raw = parse(f"{write_yolo(tmp_path, train=['images/train', 'images'])}@train")
    assert len(raw.images) == 3
    assert raw.notes == ["3 images are named again and read once"]


def test_a_missing_image_of_a_list_is_left_to_the_reader(tmp_path):
    file = write_yolo(tmp_path, train="train.txt")
    (tmp_path / "train.txt").write_text("gone.jpg\n")
    raw = parse(f"{file}@train")
    assert [image["file_name"] for image in raw.images] == [f"{tmp_path}/gone.jpg"]


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


@pytest.mark.parametrize("labels", ["", "\n \n"])
def test_an_empty_label_file_means_no_objects(tmp_path, labels):
    raw = parse(one_photo(tmp_path, labels))
    assert len(raw.images) == 1 and raw.annotations == [] and raw.notes == []


def test_so_does_a_missing_one_which_is_noted(tmp_path):
    file = write_yolo(tmp_path, [WIDE])
    (tmp_path / "labels" / "train" / "wide.txt").unlink()
    raw = parse(f"{file}@train")
    assert len(raw.images) == 1 and raw.annotations == []
    assert raw.notes == [
        "1 images have no label file, which means no objects, first "
        f"{tmp_path}/labels/train/wide.txt"
    ]


def test_images_have_their_sizes_and_names(tmp_path):
    raw = parse(f"{write_yolo(tmp_path, PHOTOS[1:2])}@train")
    name = "images/train/a.jpg"
    file = f"{tmp_path}/{name}"
    assert raw.images == [{"id": name, "file_name": file, "height": 50, "width": 20}]


def test_boxes_are_centres_and_sides_as_fractions(tmp_path):
    raw = parse(one_photo(tmp_path, "0 0.5 0.5 1 1\r\n1.0 0.25 0.5 0.1 0.2"))
    [(cat, whole), (dog, box)] = boxes(raw)["images/train/wide.png"]
    assert (cat, whole, dog) == ("cat", [0, 0, 200, 100], "dog")
    assert box == pytest.approx([40, 40, 20, 20])


def test_a_sixth_column_is_a_score(tmp_path):
    [annotation] = parse(one_photo(tmp_path, "1 0.5 0.5 1 1 0.875")).annotations
    assert annotation["score"] == 0.875 and annotation["bbox"] == [0, 0, 200, 100]


@pytest.mark.parametrize("points", ["0.1 0.2 0.5 0.9 0.3 0.4", "0.1 0.2 0.5 0.2 0.5 0.9 0.1 0.9"])
def test_the_box_of_a_polygon_is_around_it(tmp_path, points):
    [annotation] = parse(one_photo(tmp_path, f"1 {points}")).annotations
    assert annotation["bbox"] == pytest.approx([20, 20, 80, 70])


def test_keypoints_after_a_box_are_dropped(tmp_path):
    path = one_photo(tmp_path, "1 0.5 0.5 1 1 0.1 0.1 2 0.9 0.9 2", kpt_shape=[2, 3])
    assert parse(path).annotations[0]["bbox"] == [0, 0, 200, 100]


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
def test_a_file_that_is_no_dataset_is_refused(tmp_path, text):
    refusal(write_yaml(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    assert "data.yaml cannot be read: FileNotFoundError" in refusal(f"{tmp_path}/data.yaml@train")


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


def test_classes_are_those_of_the_list(tmp_path):
    raw = parse(f"{write_yolo(tmp_path)}@train")
    assert [category["name"] for category in raw.categories] == CLASSES
