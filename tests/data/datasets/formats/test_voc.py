"""Pascal VOC folders as COCO-shaped datasets."""

import time

import pytest
from written import PHOTOS, Photo, boxes, voc_object, voc_xml, write_image, write_voc

from soft_teacher.data.datasets.formats.voc import matches, parse
from soft_teacher.utils.errors import ConfigError


def write_xml(folder, text, stem="b"):
    (folder / "Annotations" / f"{stem}.xml").write_text(text)


def one_photo(folder, objects):
    """A folder of one image with these XML elements for objects."""
    write_voc(folder, PHOTOS[:1])
    write_xml(folder, voc_xml(PHOTOS[0], objects=objects))
    return str(folder)


def refusal(path):
    with pytest.raises(ConfigError) as raised:
        parse(str(path))
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


# --- which paths are meant ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, expected",
    [
        ("empty", False),
        ("voc", True),
        ("voc/Annotations", False),
        ("voc/JPEGImages", False),
        ("voc@train", True),
        ("nothing@train", False),
        ("voc@2/*.jpg", False),
        ("coco", False),
    ],
)
def test_which_paths_are_meant(path, expected, tmp_path):
    write_voc(tmp_path / "voc")
    write_image(tmp_path / "coco" / "images" / "a.png", PHOTOS[0])
    for folder in ("empty", "coco/annotations"):
        (tmp_path / folder).mkdir()
    (tmp_path / "coco" / "annotations" / "train.json").write_text("{}")
    assert matches(f"{tmp_path}/{path}") is expected


def test_the_folders_may_be_named_as_on_kaggle_and_have_an_at_sign(tmp_path):
    folder = write_voc(tmp_path / "me@home")
    (folder / "Annotations").rename(folder / "annotations")
    (folder / "JPEGImages").rename(folder / "images")
    assert matches(str(folder)) and len(parse(str(folder)).images) == 3


# --- what is read -------------------------------------------------------------------------------


def test_images_have_their_sizes_and_names(tmp_path):
    raw = parse(str(write_voc(tmp_path)))
    assert raw.folder == str(tmp_path / "JPEGImages")
    assert raw.images == [
        {"id": "a", "file_name": "a.jpg", "width": 20, "height": 50},
        {"id": "b", "file_name": "b.png", "width": 40, "height": 30},
        {"id": "c", "file_name": "c.png", "width": 40, "height": 30},
    ]
    assert raw.notes == []


def test_detectron2_reads_the_same_boxes(tmp_path):
    from detectron2.data.datasets.pascal_voc import load_voc_instances

    photos = [PHOTOS[1], Photo("d", objects=[("cat", 1, 2, 3, 4)], suffix=".jpg")]
    write_voc(tmp_path, photos, sets={"train": ["d", "a"]})
    theirs = load_voc_instances(str(tmp_path), "train", ["cat"])
    ours = parse(f"{tmp_path}@train")
    assert [d["image_id"] for d in theirs] == [image["id"] for image in ours.images]
    corners = [a["bbox"] for d in theirs for a in d["annotations"]]
    assert corners == [
        [x, y, x + width, y + height]
        for x, y, width, height in (a["bbox"] for a in ours.annotations)
    ]


PART = "<part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>"


@pytest.mark.parametrize(
    "objects, expected",
    [
        ("", []),
        (voc_object("cat", 0, 0, 40, 30), [[0, 0, 40, 30]]),  # pixels 1 to 40 and 1 to 30
        (voc_object("cat", 0.5, 1.25, 10.5, 20.75), [[0.5, 1.25, 10.0, 19.5]]),
        (voc_object("cat", 3, 4, 10, 12, more=PART), [[3, 4, 7, 8]]),
        (voc_object("cat", 5, 5, 6, 5), [[5, 5, 0, -1]]),  # without extent, for the reader
        (voc_object("cat", 10, 10, 4, 4), [[10, 10, -7, -7]]),
    ],
    ids=["none", "whole image", "decimals", "part", "point", "reversed"],
)
def test_boxes_of_an_image(objects, expected, tmp_path):
    assert boxes(parse(one_photo(tmp_path, objects))) == {"b": [("cat", box) for box in expected]}


@pytest.mark.parametrize(
    "element",
    [
        "<object><name>cat</name></object>",
        "<object><name>cat</name><bndbox/></object>",
        "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin></bndbox></object>",
        voc_object("cat", 1, 2, "3,5", 4),
        voc_object("cat", 1, 2, "many", 4),
    ],
)
def test_what_is_no_box_is_passed_on_for_the_reader_to_count(tmp_path, element):
    [annotation] = parse(one_photo(tmp_path, element)).annotations
    assert not all(isinstance(number, float) for number in annotation["bbox"])


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_a_size_that_is_none_is_left_to_the_image(tmp_path, size):
    write_voc(tmp_path, PHOTOS[:1])
    write_xml(tmp_path, f"<annotation>{size}</annotation>")
    assert parse(str(tmp_path)).images == [{"id": "b", "file_name": "b.png"}]


# --- classes ------------------------------------------------------------------------------------


def test_classes_are_those_of_the_whole_folder_in_alphabetical_order(tmp_path):
    write_voc(tmp_path, sets={"one": ["a"], "none": ["c"]})
    for path in (tmp_path, f"{tmp_path}@one", f"{tmp_path}@none"):
        categories = parse(str(path)).categories
        assert categories == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


@pytest.mark.parametrize("file", ["classes.txt", "labels.txt"])
def test_a_list_of_classes_decides(tmp_path, file):
    write_voc(tmp_path)
    (tmp_path / file).write_bytes(b"\xef\xbb\xbfdog\r\n\r\ncow\r\n")
    raw = parse(str(tmp_path))
    assert [category["name"] for category in raw.categories] == ["dog", "cow"]
    assert [a["category_id"] for a in raw.annotations] == [None, 1, None]
    assert raw.notes == [
        "2 objects have a name that is empty or not in classes.txt, first 'cat'"
    ]  # fmt: skip


@pytest.mark.parametrize("name, category", [(" ", None), (" cat ", 1), ("2", None)])
def test_a_name_is_stripped_and_never_taken_for_a_number(name, category, tmp_path):
    path = one_photo(tmp_path, voc_object(name, 1, 2, 3, 4))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert [a["category_id"] for a in parse(path).annotations] == [category]


# --- sets and files -----------------------------------------------------------------------------


def test_a_set_keeps_its_order(tmp_path):
    path = write_voc(tmp_path, sets={"train": ["c", "a", "", "c", "b.png"]})
    assert [image["id"] for image in parse(f"{path}@train").images] == ["c", "a", "b"]


@pytest.mark.parametrize(
    "path, words",
    [
        ("@trian", "did you mean train?"),
        ("@2007", "['none', 'train']"),
        ("@none", "has no annotated image"),
        ("/Annotations@train", "is no Pascal VOC folder"),
    ],
)
def test_sets_and_folders_that_cannot_be_read_are_refused(path, words, tmp_path):
    write_voc(tmp_path, sets={"train": ["a"], "none": []})
    assert words in refusal(f"{tmp_path}{path}")


def test_images_without_a_file_of_boxes_are_left_out_and_named(tmp_path):
    write_voc(tmp_path, sets={"train": ["a", "z"]})
    write_image(tmp_path / "JPEGImages" / "z.png", PHOTOS[0])
    for path, first in ((tmp_path, "z.png"), (f"{tmp_path}@train", "z")):
        raw = parse(str(path))
        assert "z" not in {image["id"] for image in raw.images}
        [note] = raw.notes
        assert note.startswith("1 images have no XML file") and note.endswith(f"first {first}")


def test_an_image_may_lie_deeper_and_have_dots_in_its_name(tmp_path):
    photo = Photo("2024/day.1/x.v2", objects=[("cat", 1, 2, 3, 4)])
    (tmp_path / "Annotations" / "2024" / "day.1").mkdir(parents=True)
    [image] = parse(str(write_voc(tmp_path, [photo]))).images
    assert image["file_name"] == "2024/day.1/x.v2.png"


def test_an_image_is_named_as_its_file_of_boxes_or_else_as_that_says(tmp_path):
    write_voc(tmp_path, PHOTOS[:2])
    write_image(tmp_path / "JPEGImages" / "b.bmp", PHOTOS[0])
    assert [image["file_name"] for image in parse(str(tmp_path)).images] == ["a.jpg", "b.png"]
    (tmp_path / "JPEGImages" / "b.bmp").unlink()
    write_xml(tmp_path, voc_xml(PHOTOS[1]))  # copied from the other
    assert [image["file_name"] for image in parse(str(tmp_path)).images] == ["a.jpg", "b.png"]
    write_xml(tmp_path, voc_xml(PHOTOS[0]))
    (tmp_path / "Annotations" / "b.xml").rename(tmp_path / "Annotations" / "0001.xml")
    (tmp_path / "JPEGImages" / "a.jpg").unlink()  # the reader reports what is missing
    raw = parse(str(tmp_path))
    assert [image["file_name"] for image in raw.images] == ["b.png", "a.jpg"] and not raw.notes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<annotation>",
        "<annotation></annotations>",
        "<html/>",
        '<?xml version="1.0" encoding="klingon"?><annotation/>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
    ],
    ids=["empty", "cut", "crossed", "other", "encoding", "external"],
)
def test_a_file_that_cannot_be_read_is_left_out_with_its_image_and_named(tmp_path, text):
    write_voc(tmp_path)
    write_xml(tmp_path, text)
    raw = parse(str(tmp_path))
    assert [image["id"] for image in raw.images] == ["a", "c"]
    [note] = raw.notes
    assert note.startswith("1 XML files cannot be read") and "b.xml (" in note
    assert len(note.splitlines()) == 1


def test_a_folder_without_a_readable_file_is_refused(tmp_path):
    write_voc(tmp_path, PHOTOS[:1])
    write_xml(tmp_path, "<html/>")
    assert "its root is <html>" in refusal(tmp_path)


def test_hidden_files_are_no_annotations(tmp_path):
    write_voc(tmp_path)
    write_xml(tmp_path, "\0\5\26\7", stem="._b")
    (tmp_path / "Annotations" / ".ipynb_checkpoints").mkdir()
    write_xml(tmp_path, voc_xml(PHOTOS[0]), stem=".ipynb_checkpoints/b-checkpoint")
    assert [image["id"] for image in parse(str(tmp_path)).images] == ["a", "b", "c"]


def test_entities_that_inflate_a_file_do_not_take_its_time_or_memory(tmp_path):
    levels = "".join(
        f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(20)
    )  # 10^20 characters
    bomb = f'<!DOCTYPE a [<!ENTITY l0 "x">{levels}]><annotation>&l20;</annotation>'
    write_voc(tmp_path)
    write_xml(tmp_path, bomb)
    start = time.perf_counter()
    assert "cannot be read" in parse(str(tmp_path)).notes[0]
    assert time.perf_counter() - start < 5
