"""CSV files as COCO-shaped datasets; test_same_dataset.py has what all formats share."""

import pytest
from written import PHOTOS, read_back, write_csv

from soft_teacher.data.datasets.formats.csv_file import matches, parse
from soft_teacher.utils.errors import ConfigError

HEADER = "file,class,x_min,y_min,x_max,y_max"


@pytest.fixture
def parsed(tmp_path):
    def parsed(*lines, header=HEADER):
        file = tmp_path / "boxes.csv"
        file.write_text("\n".join([header, *lines]), encoding="utf-8")
        return parse(str(file))

    return parsed


@pytest.mark.parametrize(
    "path, expected",
    [
        ("", False),
        (".csv", False),
        ("a.csv", True),
        ("a.CSV@photos", True),
        ("a.csv/b", False),
        ("a.json", False),
        ("a.csv.txt", False),
    ],
)
def test_which_paths_are_meant(path, expected):
    assert matches(path) is expected


def test_no_rows_are_no_images(parsed):
    raw = parsed()
    assert (raw.images, raw.annotations, raw.categories, raw.notes) == ([], [], [], [])


def test_images_are_beside_the_file_or_in_the_folder_that_is_named(tmp_path):
    path = write_csv(tmp_path, PHOTOS[:1])
    assert parse(str(path)).folder == str(tmp_path)
    assert parse(f"{path}@photos").folder == "photos"


def test_an_image_has_a_row_for_each_box_or_an_empty_one(parsed):
    raw = parsed("a.png,dog,1,2,4,8.5", "b.png,,,,,", "a.png,cat,0,0,1,1")
    assert [image["file_name"] for image in raw.images] == ["a.png", "b.png"]
    assert [c["name"] for c in raw.categories] == ["cat", "dog"]
    assert raw.annotations == [
        {"image_id": "a.png", "category_id": 2, "bbox": [1, 2, 3, 6.5]},
        {"image_id": "a.png", "category_id": 1, "bbox": [0, 0, 1, 1]},
    ]


def test_columns_are_in_any_order_and_others_are_ignored(parsed):
    header = "Score,yMax,class,xMax,yMin,xMin,FileName,width,height,more"
    raw = parsed("0.75,8,cat,4,2,1,a.png,40,30,x", header=header)
    assert raw.images == [{"id": "a.png", "file_name": "a.png", "width": "40", "height": "30"}]
    assert raw.annotations == [
        {"image_id": "a.png", "category_id": 1, "bbox": [1, 2, 3, 6], "score": "0.75"}
    ]


def test_a_byte_order_mark_and_values_without_a_column_do_no_harm(parsed):
    raw = parsed("a.png,cat,0,0,1,1,x,y", header="\ufeff" + HEADER)
    assert raw.annotations == [{"image_id": "a.png", "category_id": 1, "bbox": [0, 0, 1, 1]}]


def test_classes_may_be_listed_and_other_names_are_reported(parsed, tmp_path):
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    raw = parsed("a.png,cat,0,0,1,1", "a.png,cow,0,0,1,1", "a.png,,0,0,1,1")
    assert [a["category_id"] for a in raw.annotations] == [2, None, None]
    assert raw.notes == [
        "2 objects have a name that is empty or not in classes.txt, first 'cow'"
    ]  # fmt: skip


def test_boxes_that_are_none_are_left_out_by_the_reader(parsed):
    raw = parsed("a.png,cat,0,0,1,1", "a.png,cat,x,0,1,1", "a.png,cat,3,0,1,1", "a.png,cat,1,2")
    for image in raw.images:
        image.update(width=40, height=30)
    kept, dropped = read_back(raw)
    assert (kept, dropped) == ({"a.png": [("cat", [0, 0, 1, 1])]}, 3)


@pytest.mark.parametrize(
    "header, line, message",
    [
        ("file,class,xmin,ymin,xmax", "", "has no column ymax: its first row names columns$"),
        ("a.png,0,0,1,1,cat", "", "has no column file, class, xmin"),
        (HEADER + ",frame", "clip.mp4,cat,0,0,1,1,7", "has boxes in frames of videos"),
        (HEADER, '"a.png,cat', "is no CSV: "),
    ],
)
def test_other_files_are_refused_in_one_line(parsed, header, line, message):
    with pytest.raises(ConfigError, match=rf"boxes\.csv {message}") as raised:
        parsed(line, header=header)
    assert len(str(raised.value).splitlines()) == 1


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="gone.csv cannot be read"):
        parse(str(tmp_path / "gone.csv"))
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="save it as UTF-8"):
        parse(str(tmp_path / "a.csv"))
