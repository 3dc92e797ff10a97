import json
import os

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from soft_teacher.data.datasets.dataset_dicts import labeled_dicts, unlabeled_dicts
from soft_teacher.data.datasets.evaluated import evaluation_name
from soft_teacher.data.datasets.listing import list_images
from soft_teacher.data.datasets.paths import register_path, slug
from soft_teacher.utils.errors import ConfigError

FILES = ["b.png", "a.JPG", "deep/er/c.jpeg", "deep/d.webp"]


pytestmark = pytest.mark.usefixtures("own_catalog")


@pytest.fixture
def folder(tmp_path):
    """Images in a folder and below it, beside files that are none."""
    root = tmp_path / "photos"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(root / name)
    (root / "notes.md").write_text("no image")
    (root / "empty").mkdir()
    return root


@pytest.fixture
def coco(folder):
    """A COCO JSON beside the folder, of two of its images."""
    images = [
        {"id": n, "file_name": name, "height": 6, "width": 8} for n, name in enumerate(FILES[::2])
    ]
    box = {"bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0, "category_id": 1}
    content = {
        "images": images,
        "annotations": [{"id": n + 1, "image_id": n, **box} for n in range(2)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    path = folder.parent / "train.json"
    path.write_text(json.dumps(content))
    return path


def names(dicts, folder):
    return [os.path.relpath(d["file_name"], folder) for d in dicts]


# --- listing ------------------------------------------------------------------------------------


def test_an_empty_folder_has_no_images(folder):
    assert list_images(str(folder / "empty")) == []


def test_a_folder_is_searched_to_its_depth_and_sorted(folder):
    found = [os.path.relpath(file, folder) for file in list_images(str(folder))]
    assert found == sorted(FILES)


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("*.png", ["b.png"]),
        ("*", ["a.JPG", "b.png"]),
        ("**/*.jp*", ["deep/er/c.jpeg"]),
        ("**", sorted(FILES)),
        ("[ab].*", ["a.JPG", "b.png"]),
        ("?.png", ["b.png"]),
        ("*.gif", []),
    ],
)
def test_a_pattern_gives_the_images_that_match(pattern, expected, folder):
    found = [os.path.relpath(file, folder) for file in list_images(str(folder / pattern))]
    assert found == expected


def test_a_list_keeps_its_order_and_may_be_relative_or_absolute(folder, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"photos/b.png\n\n# a remark\n  {folder}/a.JPG  \n")
    assert list_images(str(path)) == [str(folder / "b.png"), str(folder / "a.JPG")]


def test_a_home_folder_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(list_images("~/photos")) == len(FILES)


# --- as datasets --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "digits_trane", "photos", "nowhere/else"])
def test_what_is_neither_a_name_nor_a_path_is_not_registered(name):
    assert register_path(name) is False and name not in DatasetCatalog.list()


def test_a_registered_name_is_left_alone(folder):
    DatasetCatalog.register(str(folder), list)
    assert register_path(str(folder)) is True and DatasetCatalog.get(str(folder)) == []


def test_a_path_is_registered_once_and_loaded_when_asked(folder):
    for _ in range(2):
        assert register_path(str(folder)) is True
    Image.new("RGB", (8, 6)).save(folder / "later.png")
    assert "later.png" in names(DatasetCatalog.get(str(folder)), folder)


@pytest.mark.parametrize("form", ["photos", "photos/**", "list.txt", "train.json@photos"])
def test_unlabeled_images_may_come_as_any_path(form, folder, coco, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(f"photos/{name}" for name in FILES))
    dicts = unlabeled_dicts([f"{tmp_path}/{form}".replace("@", f"@{tmp_path}/")])
    expected = FILES[::2] if "json" in form else FILES
    assert sorted(names(dicts, folder)) == sorted(expected)
    assert not any("annotations" in d for d in dicts)


def test_a_json_with_its_folder_is_a_labeled_dataset(folder, coco):
    name = f"{coco}@{folder}"
    dicts = labeled_dicts([name])
    assert names(dicts, folder) == FILES[::2]
    assert [d["annotations"][0]["category_id"] for d in dicts] == [0, 0]
    assert MetadataCatalog.get(name).thing_classes == ["cat"]


def test_the_scores_of_a_json_are_given_with_its_boxes(folder, coco):
    content = json.loads(coco.read_text())
    content["annotations"][0]["score"] = 0.75
    coco.write_text(json.dumps(content))
    dicts = unlabeled_dicts([f"{coco}@{folder}"], label_source="dataset")
    assert [[a.get("score") for a in d["given_annotations"]] for d in dicts] == [[0.75], [None]]


def test_a_json_is_evaluated_by_coco_s_rules(folder, coco):
    name = f"{coco}@{folder}"
    register_path(name)
    assert evaluation_name(name) == name
    metadata = MetadataCatalog.get(name)
    assert (metadata.evaluator_type, metadata.json_file) == ("coco", str(coco))


def test_a_json_alone_has_its_images_beside_it(folder, coco):
    beside = folder / "train.json"
    coco.rename(beside)
    assert names(labeled_dicts([str(beside)]), folder) == FILES[::2]


def test_names_and_paths_can_be_mixed(folder, coco):
    dicts = unlabeled_dicts([f"{coco}@{folder}", str(folder / "*.png")])
    assert names(dicts, folder) == FILES[::2] + ["b.png"]


# --- mistakes -----------------------------------------------------------------------------------


def refusal(load, name):
    with pytest.raises(ConfigError) as error:
        load([str(name)])
    assert "\n" not in str(error.value) and str(name) in str(error.value)
    return str(error.value)


def test_a_folder_without_images(folder):
    assert "has no images" in refusal(unlabeled_dicts, folder / "empty")
    assert "has no images" in refusal(unlabeled_dicts, folder / "*.gif")


def test_a_folder_has_no_labels(folder):
    assert "FILE.json@FOLDER" in refusal(labeled_dicts, folder)


def test_a_list_that_names_a_missing_file(folder, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("photos/b.png\nphotos/gone.png\n")
    assert "1 image files are missing" in refusal(unlabeled_dicts, path)


@pytest.mark.parametrize("name", ["gone.json", "gone.json@photos", "gone.txt"])
def test_a_missing_file_is_named(name, folder):
    assert "cannot be read" in refusal(unlabeled_dicts, folder.parent / name)


def test_a_json_with_the_wrong_folder(folder, coco):
    found = refusal(labeled_dicts, f"{coco}@{folder / 'empty'}")
    assert "2 image files are missing" in found


# --- slugs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, expected",
    [
        ("coco_2017_val", "coco_2017_val"),
        ("/a/val.json@/b/images", "a_val.json_b_images"),
        ("~/x/**/*.png", "x_.png"),
    ],
)
def test_a_name_for_a_folder(name, expected):
    assert slug(name) == expected
