import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from soft_teacher.analysis.data_check import check_dataset, odd_boxes, shared_content
from soft_teacher.analysis.data_report import problems, report_figure, report_text
from soft_teacher.utils.errors import ConfigError

W, H = 40, 30


@pytest.fixture
def register(tmp_path):
    """Registers dicts of images with the given boxes under a name, and writes the images."""
    names = []

    def register(name, boxes, classes=("cat", "dog"), seed=0):
        dicts = []
        for n, found in enumerate(boxes):
            path = tmp_path / name / f"{n}.png"
            path.parent.mkdir(exist_ok=True)
            pixels = np.random.default_rng((seed, n)).integers(0, 256, (H, W, 3), np.uint8)
            Image.fromarray(pixels).save(path)
            dicts.append(record(*found, file_name=str(path), image_id=n))
        name = f"data_check_test_{name}"
        DatasetCatalog.register(name, lambda: dicts)
        MetadataCatalog.get(name).thing_classes = list(classes)
        names.append(name)
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


def record(*boxes, file_name="a.png", **fields):
    annotations = [
        {"bbox": list(corners), "bbox_mode": BoxMode.XYXY_ABS, "category_id": label, "iscrowd": 0}
        for label, *corners in boxes
    ]
    size = {"width": W, "height": H}
    return {"file_name": file_name, "annotations": annotations, **size, **fields}


CAT = (0, 2, 3, 12, 23)
DOG = (1, 5, 5, 15, 10)


# --- boxes --------------------------------------------------------------------------------------


def test_no_boxes_are_not_odd():
    assert odd_boxes(record()) == odd_boxes({"file_name": "a.png"}) == []


@pytest.mark.parametrize(
    "box, said",
    [
        ((0, -1.5, 5, 9, 9), "leaves the image of [40, 30] pixels"),
        ((0, 5, 5, 41.5, 9), "leaves the image"),
        ((0, 5, 5, 9, 31.5), "leaves the image"),
    ],
)
def test_a_box_that_cannot_be_right(box, said):
    (line,) = odd_boxes(record(CAT, box, DOG))
    assert line.startswith("a.png: box [") and said in line and "\n" not in line


@pytest.mark.parametrize("box", [(0, 0, 0, W, H), (0, -0.9, -0.9, W + 0.9, H + 0.9)])
def test_a_box_may_reach_the_edge_but_for_rounding(box):
    assert odd_boxes(record(box)) == []


def test_a_box_that_stands_twice_is_odd_unless_the_classes_differ():
    assert odd_boxes(record(CAT, (1, *CAT[1:]))) == []
    (line,) = odd_boxes(record(CAT, DOG, CAT))
    assert "stands there twice" in line and "class 0" in line


def test_a_crowd_is_no_box():
    found = record((0, 5, 5, 5, 5))
    found["annotations"][0]["iscrowd"] = 1
    assert odd_boxes(found) == []


def test_boxes_by_width_and_height_are_understood():
    found = record((0, 30, 5, 8, 9))
    found["annotations"][0]["bbox_mode"] = BoxMode.XYWH_ABS
    assert odd_boxes(found) == []


# --- a dataset ----------------------------------------------------------------------------------


def test_an_unknown_dataset_is_refused_with_its_key():
    with pytest.raises(ConfigError, match="test_names names 'data_check_test_none'"):
        check_dataset("test", "data_check_test_none")


def test_what_a_labeled_dataset_is_made_of(register):
    found = check_dataset("labeled", register("whole", [(CAT, DOG, CAT), (), (DOG,)]))
    assert (found.images, found.empty) == (3, 1)
    assert found.boxes == {"cat": 2, "dog": 2}
    assert len(found.odd) == 1 and not found.unreadable
    np.testing.assert_array_equal(found.sizes, [(H, W)] * 3)
    np.testing.assert_allclose(found.box_sides, np.sqrt([200, 50, 200, 50]))


def test_a_class_without_a_box_is_counted_too(register):
    found = check_dataset("labeled", register("cats", [(CAT,)]))
    assert found.boxes == {"cat": 1, "dog": 0}


def test_labels_of_unlabeled_images_are_not_looked_at(register):
    found = check_dataset("unlabeled", register("hidden", [(CAT,), (CAT, CAT)]))
    assert (found.images, found.empty, found.boxes, found.odd) == (2, 2, {}, [])


def test_a_folder_can_be_checked_too(register, tmp_path):
    register("folder", [(), ()])
    found = check_dataset("unlabeled", str(tmp_path / "folder"))
    assert found.images == 2 and len(found.digests) == 2
    DatasetCatalog.remove(str(tmp_path / "folder"))


def test_unreadable_files_are_named(register, tmp_path):
    name = register("broken", [(CAT,), (CAT,), (CAT,)])
    path = tmp_path / "broken" / "1.png"
    path.write_bytes(path.read_bytes()[:200])
    found = check_dataset("labeled", name)
    assert len(found.unreadable) == 1 and found.unreadable[0].startswith(f"{path}: ")
    assert str(path) not in found.digests
    # The header is whole.
    assert check_dataset("labeled", name, headers_only=True).unreadable == []


@pytest.mark.parametrize("headers_only", [True, False])
def test_a_size_that_the_dataset_does_not_tell_is_a_problem_where_there_are_boxes(
    headers_only, register, tmp_path
):
    name = register("resized", [(CAT,)])
    Image.new("RGB", (W, H + 1)).save(tmp_path / "resized" / "0.png")
    (line,) = check_dataset("labeled", name, headers_only=headers_only).unreadable
    assert "(31, 40)" in line and "(30, 40)" in line
    assert check_dataset("unlabeled", name, headers_only=headers_only).unreadable == []


@pytest.mark.parametrize("headers_only", [True, False])
@pytest.mark.parametrize("role", ["labeled", "unlabeled", "test"])
def test_images_with_more_pixels_than_allowed_are_unreadable(role, headers_only, register):
    name = register("large", [(CAT,)])
    how = {"headers_only": headers_only}
    assert check_dataset(role, name, max_pixels=W * H, **how).unreadable == []
    (line,) = check_dataset(role, name, max_pixels=W * H - 1, **how).unreadable
    assert "0.png: 40 x 30 pixels are more than max_pixels" in line


# --- copies -------------------------------------------------------------------------------------


def test_nothing_to_compare():
    assert shared_content([]) == []


def test_different_images_are_no_copies(register):
    names = [register(f"set{n}", [(CAT,), (DOG,)], seed=n) for n in range(2)]
    assert shared_content([check_dataset(r, n) for r, n in zip(("labeled", "test"), names)]) == []


def test_the_same_bytes_under_another_name_are_found_between_and_within_roles(register, tmp_path):
    names = [register(f"copy{n}", [(CAT,), (DOG,)], seed=7) for n in range(3)]
    (tmp_path / "copy2" / "1.png").write_bytes((tmp_path / "copy2" / "0.png").read_bytes())
    roles = ("labeled", "unlabeled", "test")
    lines = shared_content([check_dataset(*pair) for pair in zip(roles, names)])
    assert [line.split(", first")[0] for line in lines] == [
        "labeled and test: 1 images are the same",
        "labeled and unlabeled: 2 images are the same",
        "test and test: 1 images are the same",
        "test and unlabeled: 1 images are the same",
    ]
    assert str(tmp_path / "copy0" / "0.png") in lines[0]


# --- the report ---------------------------------------------------------------------------------


@pytest.fixture
def checks(register):
    return [
        check_dataset("labeled", register("a", [(CAT,) * 2, (DOG,), ()], seed=1)),
        check_dataset("unlabeled", register("b", [(), ()], seed=2)),
        check_dataset("test", register("c", [(CAT, DOG)], seed=3)),
    ]


def test_a_report_about_nothing_is_a_page_all_the_same(tmp_path):
    assert "Nothing is wrong" in report_text([])
    report_figure([], str(tmp_path / "empty.png"))
    assert Image.open(tmp_path / "empty.png").size == (1200, 800)


def test_the_page_tells_counts_classes_and_problems(checks):
    text = report_text(checks, ["a warning from before"])
    table = [line.split() for line in text.splitlines()]
    assert ["labeled", "3", "1", "3", "1", "0", "data_check_test_a"] in table
    assert ["unlabeled", "2", "2", "0", "0", "0", "data_check_test_b"] in table
    assert "Boxes per class (labeled / test):" in text
    assert "cat: 2 / 1" in text and "dog: 1 / 1" in text
    assert "1 odd boxes" in text and "stands there twice" in text
    assert "- a warning from before" in text and "Nothing is wrong" not in text
    assert max(map(len, text.splitlines()[:8])) <= 100


def test_rare_classes_are_named_for_the_labeled_images_alone(checks):
    lines = [line for line in problems(checks) if "fewer than" in line]
    assert lines == ["labeled 'data_check_test_a': fewer than 10 boxes of cat (2), dog (1)"]


def test_of_many_problems_a_few_are_examples(register):
    check = check_dataset("labeled", register("many", [(CAT,) * 9]))
    (line,) = [line for line in problems([check]) if "odd" in line]
    assert "8 odd boxes" in line and line.count("stands there twice") == 3
    assert line.endswith("and 5 more")


def test_eighty_classes_fit_on_a_page(register):
    classes = [f"class number {n}" for n in range(80)]
    check = check_dataset("labeled", register("coco", [(CAT,)], classes=classes))
    assert len(report_text([check]).splitlines()) < 60


def test_the_figure_is_drawn(checks, tmp_path):
    report_figure(checks, str(tmp_path / "report.png"))
    image = np.asarray(Image.open(tmp_path / "report.png").convert("RGB"))
    assert image.shape == (800, 1200, 3) and len(np.unique(image.reshape(-1, 3), axis=0)) > 50
