import json
import os

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from soft_teacher.data.datasets.dataset_dicts import labeled_dicts, unlabeled_dicts
from soft_teacher.data.datasets.evaluated import evaluation_name
from soft_teacher.data.datasets.listing import listed
from soft_teacher.data.datasets.paths import register_path, slug
from soft_teacher.utils.errors import ConfigError

FILES = ["b.png", "a.JPG", "deep/er/c.jpeg", "deep/d.webp"]

pytestmark = pytest.mark.usefixtures("own_catalog")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images in a folder and below it, beside files that are none."""
    monkeypatch.setenv("HOME", str(tmp_path))
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
    size = {"height": 6, "width": 8}
    box = {"bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0, "category_id": 1}
    content = {
        "images": [{"id": n, "file_name": f, **size} for n, f in enumerate(FILES[::2])],
        "annotations": [{"id": n + 1, "image_id": n, **box} for n in range(2)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    content["annotations"][0]["score"] = 0.75
    path = folder.parent / "train.json"
    path.write_text(json.dumps(content))
    return path


def names(dicts, folder):
    return [os.path.relpath(d["file_name"], folder) for d in dicts]


# --- listing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, expected",
    [
        ("photos/empty", []),
        ("photos/*.gif", []),
        ("photos", sorted(FILES)),
        ("~/photos", sorted(FILES)),
        ("photos/*.png", ["b.png"]),
        ("photos/*", ["a.JPG", "b.png"]),
        ("photos/**/*.jp*", ["deep/er/c.jpeg"]),
        ("photos/**", sorted(FILES)),
        ("photos/[ab].*", ["a.JPG", "b.png"]),
        ("photos/?.png", ["b.png"]),
        ("list.txt", ["b.png", "a.JPG"]),
    ],
)
def test_images_of_a_folder_a_pattern_or_a_list(path, expected, folder, tmp_path):
    (tmp_path / "list.txt").write_text(f"photos/b.png\n\n# a remark\n  {folder}/a.JPG  \n")
    found, _ = listed(path if path.startswith("~") else str(tmp_path / path))
    assert [os.path.relpath(file, folder) for file in found] == expected


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


@pytest.mark.parametrize("form", ["photos", "~/photos", "photos/**", "list.txt", "train.json@"])
def test_unlabeled_images_may_come_as_any_path(form, folder, coco, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(f"photos/{name}" for name in FILES))
    path = f"{tmp_path}/{form}{folder if '@' in form else ''}"
    dicts = unlabeled_dicts([form if form.startswith("~") else path])
    assert sorted(names(dicts, folder)) == sorted(FILES[::2] if "@" in form else FILES)
    assert not any("annotations" in d for d in dicts)


def test_a_json_with_its_folder_or_beside_its_images_is_a_labeled_dataset(folder, coco):
    name = f"{coco}@{folder}"
    dicts = labeled_dicts([name])
    assert names(dicts, folder) == FILES[::2]
    assert [d["annotations"][0]["category_id"] for d in dicts] == [0, 0]
    assert MetadataCatalog.get(name).thing_classes == ["cat"]
    dicts = unlabeled_dicts([name], label_source="dataset")
    assert [[a.get("score") for a in d["given_annotations"]] for d in dicts] == [[0.75], [None]]
    assert evaluation_name(name) == name
    metadata = MetadataCatalog.get(name)
    assert (metadata.evaluator_type, metadata.json_file) == ("coco", str(coco))
    dicts = unlabeled_dicts([name, str(folder / "*.png")])
    assert names(dicts, folder) == FILES[::2] + ["b.png"]
    coco.rename(folder / "train.json")
    assert names(labeled_dicts([str(folder / "train.json")]), folder) == FILES[::2]


@pytest.mark.parametrize(
    "load, path, words",
    [
        (unlabeled_dicts, "photos/empty", "has no images"),
        (unlabeled_dicts, "photos/*.gif", "has no images"),
        (unlabeled_dicts, "list.txt", "1 image files are missing"),
        (unlabeled_dicts, "gone.json", "cannot be read"),
        (unlabeled_dicts, "gone.json@photos", "cannot be read"),
        (unlabeled_dicts, "gone.txt", "cannot be read"),
        (labeled_dicts, "photos", "FILE.json@FOLDER"),
        (labeled_dicts, "train.json@photos/empty", "2 image files are missing"),
    ],
)
def test_a_path_that_cannot_be_used_is_named(load, path, words, coco, tmp_path):
    (tmp_path / "list.txt").write_text("photos/b.png\nphotos/gone.png\n")
    name = f"{tmp_path}/{path}".replace("@", f"@{tmp_path}/")
    with pytest.raises(ConfigError) as error:
        load([name])
    assert "\n" not in str(error.value) and name in str(error.value) and words in str(error.value)


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
