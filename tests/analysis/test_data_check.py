"""What check_data reports about datasets."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from soft_teacher.analysis.data_check import check_dataset, odd_boxes, shared_content
from soft_teacher.analysis.data_report import problems, report_figure, report_text
from soft_teacher.utils.errors import ConfigError

W, H = 40, 30
CAT = (0, 2, 3, 12, 23)
DOG = (1, 5, 5, 15, 10)


@pytest.fixture
def register(tmp_path, own_catalog):
    """Registers dicts of images with the given boxes under a name, and writes the images."""

    def register(name, boxes, classes=("cat", "dog"), seed=0):
        dicts = []
        for n, found in enumerate(boxes):
            path = tmp_path / name / f"{n}.png"
            path.parent.mkdir(exist_ok=True)
            pixels = np.random.default_rng((seed, n)).integers(0, 256, (H, W, 3), np.uint8)
            Image.fromarray(pixels).save(path)
            dicts.append({**record(*found), "file_name": str(path), "image_id": n})
        DatasetCatalog.register(f"test_{name}", lambda: dicts)
        MetadataCatalog.get(f"test_{name}").thing_classes = list(classes)
        return f"test_{name}"

    return register


def record(*boxes, mode=BoxMode.XYXY_ABS, crowd=0):
    annotations = [
        {"bbox": list(corners), "bbox_mode": mode, "category_id": label, "iscrowd": crowd}
        for label, *corners in boxes
    ]
    return {"file_name": "a.png", "annotations": annotations, "width": W, "height": H}


@pytest.mark.parametrize(
    "image, message",
    [
        ({"file_name": "a.png"}, None),
        (record(), None),
        (record((0, 0, 0, W, H)), None),
        (record((0, -0.9, -0.9, W + 0.9, H + 0.9)), None),  # rounding
        (record(CAT, (1, *CAT[1:])), None),
        (record((0, 5, 5, 50, 50), crowd=1), None),
        (record((0, 30, 5, 8, 9), mode=BoxMode.XYWH_ABS), None),
        (record(CAT, DOG, CAT), "of class 0 is a duplicate"),
        (record(CAT, (0, -1.5, 5, 9, 9), DOG), "exceeds the image of [40, 30] pixels"),
        (record((0, 5, 5, 41.5, 9)), "exceeds the image"),
        (record((0, 5, 5, 9, 31.5)), "exceeds the image"),
    ],
)
def test_odd_boxes_exceed_the_image_or_are_duplicates(image, message):
    lines = odd_boxes(image)
    assert len(lines) == bool(message)
    assert all(line.startswith("a.png: box [") and message in line for line in lines)


def test_an_unknown_dataset_is_refused_with_its_key():
    with pytest.raises(ConfigError, match="test_names names 'data_check_test_none'"):
        check_dataset("test", "data_check_test_none")


def test_what_a_labeled_dataset_contains(register):
    found = check_dataset("labeled", register("whole", [(CAT, DOG, CAT), (), (DOG,)]))
    assert (found.images, found.empty) == (3, 1)
    assert found.boxes == {"cat": 2, "dog": 2}
    assert len(found.odd) == 1 and not found.unreadable
    np.testing.assert_array_equal(found.sizes, [(H, W)] * 3)
    np.testing.assert_allclose(found.box_sides, np.sqrt([200, 50, 200, 50]))
    assert check_dataset("labeled", register("cats", [(CAT,)])).boxes == {"cat": 1, "dog": 0}


def test_labels_of_unlabeled_images_are_ignored_and_a_folder_has_none(register, tmp_path):
    found = check_dataset("unlabeled", register("hidden", [(CAT,), (CAT, CAT)]))
    assert (found.images, found.empty, found.boxes, found.odd) == (2, 2, {}, [])
    found = check_dataset("unlabeled", str(tmp_path / "hidden"))
    assert (found.images, len(found.digests)) == (2, 2)


def test_unreadable_files_are_named(register, tmp_path):
    name = register("broken", [(CAT,), (CAT,), (CAT,)])
    path = tmp_path / "broken" / "1.png"
    path.write_bytes(path.read_bytes()[:200])
    found = check_dataset("labeled", name)
    assert len(found.unreadable) == 1 and found.unreadable[0].startswith(f"{path}: ")
    assert str(path) not in found.digests
    # The header is intact.
    assert check_dataset("labeled", name, headers_only=True).unreadable == []


@pytest.mark.parametrize("headers_only", [True, False])
def test_another_size_than_the_dataset_states_is_a_problem_where_there_are_boxes(
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
    name, how = register("large", [(CAT,)]), {"headers_only": headers_only}
    assert check_dataset(role, name, max_pixels=W * H, **how).unreadable == []
    (line,) = check_dataset(role, name, max_pixels=W * H - 1, **how).unreadable
    assert "0.png: 40 x 30 pixels are more than max_pixels" in line


def test_the_same_bytes_under_another_name_are_found_between_and_within_roles(register, tmp_path):
    assert shared_content([]) == []
    names = [register(f"copy{n}", [(CAT,), (DOG,)], seed=7) for n in range(3)]
    (tmp_path / "copy2" / "1.png").write_bytes((tmp_path / "copy2" / "0.png").read_bytes())
    other = check_dataset("test", register("other", [(CAT,)], seed=8))
    roles = ("labeled", "unlabeled", "test")
    lines = shared_content([other, *(check_dataset(*pair) for pair in zip(roles, names))])
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
        check_dataset("labeled", register("a", [(CAT,) * 9, (DOG,) * 10, ()], seed=1)),
        check_dataset("unlabeled", register("b", [(), ()], seed=2)),
        check_dataset("test", register("c", [(CAT, DOG)], seed=3)),
    ]


def test_the_page_has_counts_classes_and_problems(checks):
    text = report_text(checks, ["a warning from before"])
    table = [line.split() for line in text.splitlines()]
    assert ["labeled", "3", "1", "19", "17", "0", "test_a"] in table
    assert ["unlabeled", "2", "2", "0", "0", "0", "test_b"] in table
    assert "Boxes per class (labeled / test):" in text
    assert "cat: 9 / 1" in text and "dog: 10 / 1" in text
    assert "- a warning from before" in text and "No problems" not in text
    assert max(map(len, text.splitlines()[:8])) <= 100
    assert "No problems found." in report_text([])


def test_problems_have_a_few_examples_and_the_rare_classes_of_labeled_images(checks):
    odd, rare = problems(checks)
    assert "17 odd boxes" in odd and odd.count("is a duplicate") == 3
    assert odd.endswith("and 14 more")
    assert rare == "labeled 'test_a': fewer than 10 boxes of cat (9)"


def test_eighty_classes_fit_on_a_page(register):
    classes = [f"class number {n}" for n in range(80)]
    check = check_dataset("labeled", register("coco", [(CAT,)], classes=classes))
    assert len(report_text([check]).splitlines()) < 60


def test_the_figure_is_drawn(checks, tmp_path):
    path = str(tmp_path / "report.png")
    report_figure([], path)
    assert Image.open(path).size == (1200, 800)
    report_figure(checks, path)
    image = np.asarray(Image.open(path).convert("RGB"))
    assert image.shape == (800, 1200, 3) and len(np.unique(image.reshape(-1, 3), axis=0)) > 50
