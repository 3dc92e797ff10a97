import builtins
import io
import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from soft_teacher.data.datasets.builtin import dataset_root, missing_dataset_hint, register_builtin
from soft_teacher.data.datasets.dataset_dicts import labeled_dicts, unlabeled_dicts
from soft_teacher.data.datasets.splits.families import (
    full_split,
    stac_split,
    without_replacement_split,
)
from soft_teacher.data.datasets.splits.manifest import write_manifest
from soft_teacher.utils.errors import ConfigError

TRAIN = "coco_2017_train"
UNLABELED = "coco_2017_unlabeled"
TRAIN_IDS = [31, 9, 25, 4, 18, 2, 77, 6, 50, 12]
UNLABELED_IDS = [503, 501, 502]


def coco_names():
    """What register_builtin added to Detectron2's names, without the digits."""
    names = [n for n in DatasetCatalog.list() if MetadataCatalog.get(n).get("built_in")]
    return sorted(n for n in names if n.startswith("coco_2017_"))


@pytest.fixture(autouse=True)
def nothing_built_in():
    """No built-in dataset of COCO yet, whatever other tests have used."""
    for name in coco_names():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """$DETECTRON2_DATASETS, empty."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


@pytest.fixture
def coco(root):
    """A COCO tree of ten labeled and three unlabeled images, the former as Detectron2's own."""
    annotations = root / "coco" / "annotations"
    annotations.mkdir(parents=True)
    for folder, ids in (("train2017", TRAIN_IDS), ("unlabeled2017", UNLABELED_IDS)):
        (root / "coco" / folder).mkdir()
        for i in ids:
            (root / "coco" / folder / f"{i}.jpg").touch()
    box = {"category_id": 5, "bbox": [0, 0, 4, 4], "area": 16}
    train = {
        "images": images(TRAIN_IDS),
        "annotations": [{"id": i, "image_id": i, **box} for i in TRAIN_IDS],
        "categories": [{"id": 5, "name": "kite"}],
    }
    json_file = annotations / "instances_train2017.json"
    json_file.write_text(json.dumps(train))
    info = {"images": images(UNLABELED_IDS)}
    (annotations / "image_info_unlabeled2017.json").write_text(json.dumps(info))
    # What Detectron2 does at import for its own $DETECTRON2_DATASETS.
    DatasetCatalog.remove(TRAIN)
    MetadataCatalog.remove(TRAIN)
    register_coco_instances(TRAIN, {}, str(json_file), str(root / "coco" / "train2017"))
    return root / "coco"


def images(ids):
    return [{"id": i, "file_name": f"{i}.jpg", "height": 8, "width": 9} for i in ids]


def add_manifest(coco, name, split):
    return write_manifest(split, coco / "splits" / f"{name}.json")


def test_without_any_file_only_the_unlabeled_images_have_a_name(root):
    register_builtin()
    assert coco_names() == [UNLABELED]
    with pytest.raises(ConfigError, match="image_info_unlabeled2017.json cannot be read"):
        DatasetCatalog.get(UNLABELED)


def test_images_without_annotations_and_categories_load_as_unlabeled(coco):
    register_builtin()
    dicts = unlabeled_dicts([UNLABELED])
    assert [d["image_id"] for d in dicts] == [501, 502, 503]
    file = str(coco / "unlabeled2017" / "501.jpg")
    assert dicts[0] == {"file_name": file, "image_id": 501, "height": 8, "width": 9}
    assert MetadataCatalog.get(UNLABELED).get("thing_classes") is None


def test_labels_of_unlabeled_images_are_left_out(coco):
    box = {"id": 1, "image_id": 501, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16}
    content = {"images": images(UNLABELED_IDS), "annotations": [box]}
    (coco / "annotations" / "image_info_unlabeled2017.json").write_text(json.dumps(content))
    register_builtin()
    assert not any("annotations" in d for d in DatasetCatalog.get(UNLABELED))


def test_each_manifest_names_two_datasets(coco):
    split = without_replacement_split(TRAIN_IDS, 30, 1, source="instances_train2017.json")
    add_manifest(coco, "without_replacement_30p_fold1", split)
    add_manifest(coco, "my_own", stac_split(TRAIN_IDS, 50, 2))
    register_builtin()
    own = ["coco_2017_my_own_labeled", "coco_2017_my_own_unlabeled"]
    names = [f"coco_2017_without_replacement_30p_fold1_{p}" for p in ("labeled", "unlabeled")]
    assert coco_names() == [*own, UNLABELED, *names]
    labeled, unlabeled = labeled_dicts(names[:1]), unlabeled_dicts(names[1:])
    assert tuple(d["image_id"] for d in labeled) == split.labeled
    assert tuple(d["image_id"] for d in unlabeled) == split.unlabeled
    for name in names:
        assert MetadataCatalog.get(name).thing_classes == ["kite"]
        assert MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id == {5: 0}


def test_full_takes_the_unlabeled_half_from_the_unlabeled_images(coco):
    add_manifest(coco, "full", full_split(TRAIN_IDS, UNLABELED_IDS))
    register_builtin()
    labeled = labeled_dicts(["coco_2017_full_labeled"])
    unlabeled = unlabeled_dicts(["coco_2017_full_unlabeled"])
    assert [d["image_id"] for d in labeled] == sorted(TRAIN_IDS)
    files = [str(coco / "unlabeled2017" / f"{i}.jpg") for i in sorted(UNLABELED_IDS)]
    assert [d["file_name"] for d in unlabeled] == files


def test_registration_opens_no_manifest(coco, monkeypatch):
    add_manifest(coco, "stac_10p_fold1", stac_split(TRAIN_IDS, 50, 1)).write_text("no JSON")

    def refuse(file, *args, **kwargs):
        raise AssertionError(f"{file} is opened")

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", refuse)
        patch.setattr(io, "open", refuse)
        register_builtin()
    assert "coco_2017_stac_10p_fold1_labeled" in DatasetCatalog.list()


@pytest.mark.parametrize("part, load", [("labeled", labeled_dicts), ("unlabeled", unlabeled_dicts)])
def test_a_split_that_was_changed_or_is_of_other_images_is_refused_when_loaded(coco, part, load):
    path = add_manifest(coco, "changed", stac_split(TRAIN_IDS, 50, 1))
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "labeled": fields["labeled"][:-1]}))
    other = without_replacement_split([1000, 1001], 50, 1, source="other.json")
    add_manifest(coco, "other", other)
    register_builtin()
    with pytest.raises(ConfigError, match="was changed after it was written") as error:
        load([f"coco_2017_changed_{part}"])
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=f"'other.json': 1 of its {part} image ids are not in"):
        load([f"coco_2017_other_{part}"])


# --- again and elsewhere ------------------------------------------------------------------------


def test_repeating_finds_new_manifests_and_forgets_removed_ones(coco):
    old = add_manifest(coco, "old", stac_split(TRAIN_IDS, 50, 1))
    register_builtin()
    register_builtin()
    labeled_dicts(["coco_2017_old_labeled"])
    assert len(coco_names()) == 3
    old.unlink()
    add_manifest(coco, "new", stac_split(TRAIN_IDS, 50, 1))
    register_builtin()
    assert coco_names() == ["coco_2017_new_labeled", "coco_2017_new_unlabeled", UNLABELED]


def test_the_environment_variable_counts_when_registering(coco, tmp_path_factory, monkeypatch):
    add_manifest(coco, "here", stac_split(TRAIN_IDS, 50, 1))
    register_builtin()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(elsewhere))
    assert dataset_root() == elsewhere
    add_manifest(elsewhere / "coco", "there", stac_split(TRAIN_IDS, 50, 1))
    register_builtin()
    assert coco_names() == ["coco_2017_there_labeled", "coco_2017_there_unlabeled", UNLABELED]
    assert MetadataCatalog.get(UNLABELED).image_root == str(elsewhere / "coco" / "unlabeled2017")


def test_datasets_of_the_user_s_own_stay(coco):
    dicts = [{"image_id": 1}]
    names = [UNLABELED, "coco_2017_mine_labeled"]
    for name in names:
        DatasetCatalog.register(name, lambda: dicts)
    for _ in range(2):
        register_builtin()
        assert all(DatasetCatalog.get(name) is dicts for name in names)
    add_manifest(coco, "mine", stac_split(TRAIN_IDS, 50, 1))
    with pytest.raises(ConfigError, match="'coco_2017_mine_labeled' is registered for another"):
        register_builtin()


# --- hints --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options",
    [
        ("", None),
        ("my_coco_2017_full_labeled", None),
        ("coco_2017_train", None),
        ("coco_2017_unlabeled", None),
        ("coco_2017_stack_10p_fold1_labeled", None),
        ("coco_2017_stac_10p_labeled", None),
        ("coco_2017_stac_10p_fold1", None),
        ("coco_2017_full", None),
        ("coco_2017_shots_10p_fold1_labeled", None),
        ("coco_2017_unbiased_teacher_20_fold0_labeled", None),
        ("coco_2017_stac_10p_fold1_labeled", "stac --percent 10 --folds 1"),
        ("coco_2017_stac_0.5p_fold12_unlabeled", "stac --percent 0.5 --folds 12"),
        (
            "coco_2017_unbiased_teacher_2p_fold0_labeled",
            "unbiased_teacher --percent 2 --folds 0 --index-file COCO_supervision.txt",
        ),
        (
            "coco_2017_without_replacement_20_fold3_labeled",
            "without_replacement --count 20 --folds 3",
        ),
        ("coco_2017_shots_10_fold2_unlabeled", "shots --shots 10 --folds 2"),
        ("coco_2017_full_unlabeled", "full"),
    ],
)
def test_a_hint_how_to_make_a_missing_split_of_coco(root, name, options):
    run = f"run 'soft-teacher-splits --family {options}' once"
    expected = f": {run}, it writes to {root}/coco/splits" if options else ""
    assert missing_dataset_hint(name) == expected


def test_a_hint_how_to_make_missing_digits(root):
    expected = f": run 'soft-teacher-demo' once, it writes it to {root}/digits"
    assert missing_dataset_hint("digits_train") == expected


@pytest.mark.parametrize("record", [{"complete": False}, {"complete": True, "format": 1}])
def test_digits_of_an_older_version_are_not_registered_and_the_hint_says_so(root, record):
    (root / "digits").mkdir(parents=True)
    (root / "digits" / "spec.json").write_text(json.dumps({**record, "spec": {}}))
    for name in [n for n in DatasetCatalog.list() if n.startswith("digits")]:
        DatasetCatalog.remove(name)
    register_builtin()
    assert not any(name.startswith("digits") for name in DatasetCatalog.list())
    found = missing_dataset_hint("digits_train")
    assert found.startswith(": run 'soft-teacher-demo' once") and "without masks" in found
