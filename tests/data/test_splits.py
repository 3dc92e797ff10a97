import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from soft_teacher.data.splits import (
    Split,
    apply_split,
    coco_image_ids,
    read_manifest,
    register_split,
    stac_split,
    unbiased_teacher_split,
    without_replacement_split,
    write_manifest,
)
from soft_teacher.errors import ConfigError

TRAIN2017 = range(118_287)
# Ids that are neither positions nor sorted.
IDS = [70 - 3 * i for i in range(20)]


def dataset_dicts(ids):
    box = {"bbox": [0, 0, 4, 4], "bbox_mode": 1, "category_id": 0}
    return [{"image_id": i, "file_name": f"{i}.jpg", "annotations": [dict(box)]} for i in ids]


@pytest.fixture
def source():
    """A registered dataset that learns its classes on loading, as COCO ones do."""

    def load():
        MetadataCatalog.get("splits_test_source").thing_classes = ["a", "b"]
        return dataset_dicts(IDS)

    DatasetCatalog.register("splits_test_source", load)
    MetadataCatalog.get("splits_test_source").set(json_file="x.json", evaluator_type="coco")
    yield "splits_test_source"
    for name in [n for n in DatasetCatalog.list() if n.startswith("splits_test")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


# --- the families -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "percent, counts",
    [
        (1, [1174, 1175, 1174, 1174, 1175]),
        (5, [5764, 5772, 5756, 5766, 5762]),
        (10, [11285, 11261, 11234, 11262, 11235]),
    ],
)
def test_stac_has_the_published_number_of_images(percent, counts):
    assert [len(stac_split(TRAIN2017, percent, fold).labeled) for fold in range(1, 6)] == counts


def test_stac_draws_as_the_legacy_global_generator_does():
    np.random.seed(3)
    drawn = np.random.choice(range(1000), size=int(10 / 100.0 * 1000))
    assert set(stac_split(range(1000), 10, 3).labeled) == set(drawn)


def test_splits_leave_the_global_generator_alone():
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    stac_split(IDS, 50, 1)
    without_replacement_split(IDS, 50, 1)
    assert np.random.rand() == expected


def test_without_replacement_labels_exactly_the_share():
    for fold in range(1, 4):
        split = without_replacement_split(TRAIN2017, 10, fold)
        assert len(split.labeled) == 11_828
        assert len(split.unlabeled) == len(TRAIN2017) - 11_828


@pytest.mark.parametrize("family", [stac_split, without_replacement_split])
def test_parts_are_disjoint_complete_and_in_the_order_of_the_source(family):
    split = family(IDS, 30, 2)
    assert sorted(split.labeled + split.unlabeled) == sorted(IDS)
    for part in (split.labeled, split.unlabeled):
        assert list(part) == [i for i in IDS if i in part]


@pytest.mark.parametrize("family", [stac_split, without_replacement_split])
def test_folds_differ_and_repeat(family):
    assert family(IDS, 30, 1) == family(IDS, 30, 1)
    assert len({family(range(200), 30, fold).labeled for fold in range(1, 6)}) == 5


def test_count_and_the_whole_dataset():
    assert len(without_replacement_split(IDS, count=1).labeled) == 1
    whole = without_replacement_split(IDS, 100)
    assert whole.labeled == tuple(IDS) and whole.unlabeled == ()
    assert (whole.percent, whole.count) == (100.0, None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(), "either percent or count"),
        (dict(percent=10, count=2), "either percent or count"),
        (dict(percent=0), "percent = 0"),
        (dict(percent=101), "percent = 101"),
        (dict(percent=float("nan")), "percent = nan"),
        (dict(percent=1), "use count instead"),
        (dict(count=0), "use 1 to 20"),
        (dict(count=21), "use 1 to 20"),
        (dict(percent=10, fold=-1), "fold = -1"),
    ],
)
@pytest.mark.parametrize("family", [stac_split, without_replacement_split])
def test_wrong_sizes_and_folds(family, arguments, message):
    with pytest.raises(ValueError, match=message):
        family(IDS, **arguments)


@pytest.mark.parametrize("ids", [[], [1, 2, 2]])
def test_ids_must_exist_once(ids):
    with pytest.raises(ConfigError):
        stac_split(ids, 50)


@pytest.fixture
def index_file(tmp_path):
    path = tmp_path / "supervision.txt"
    path.write_text(json.dumps({"0.5": {"0": []}, "10.0": {"0": [1, 19], "1": [4, 0]}}))
    return path


def test_unbiased_teacher_takes_positions_from_the_file(index_file):
    split = unbiased_teacher_split(index_file, IDS, 10, 1, source="coco")
    assert split.labeled == (IDS[0], IDS[4])
    assert len(split.unlabeled) == 18
    assert (split.family, split.percent, split.fold) == ("unbiased_teacher", 10.0, 1)


@pytest.mark.parametrize(
    "ids, percent, fold, message",
    [
        (IDS, 20, 0, "has no 20 %: it has 0.5, 10.0"),
        (IDS, 10, 7, "has no fold 7: it has 0, 1"),
        (IDS + [1000 + i for i in range(20)], 10, 0, "images with boxes"),
        (list(range(19)), 10, 0, "images with boxes"),
    ],
)
def test_unbiased_teacher_says_what_does_not_fit(index_file, ids, percent, fold, message):
    with pytest.raises(ConfigError, match=message):
        unbiased_teacher_split(index_file, ids, percent, fold)


@pytest.mark.parametrize("text", [None, "", "[]", '{"ten": {}}', '{"10": [1]}'])
def test_unbiased_teacher_refuses_other_files(tmp_path, text):
    path = tmp_path / "index.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match="is no index file") as error:
        unbiased_teacher_split(path, IDS, 10, 0)
    assert "\n" not in str(error.value)


def test_ids_come_in_the_order_each_family_was_published_with(tmp_path):
    path = tmp_path / "coco.json"
    annotations = [
        {"image_id": 9, "iscrowd": 0},
        {"image_id": 3, "iscrowd": 0},
        {"image_id": 5, "iscrowd": 1},
    ]
    images = [{"id": i} for i in (9, 5, 7, 3)]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    assert coco_image_ids(path) == [9, 5, 7, 3]
    assert coco_image_ids(path, "without_replacement") == [9, 5, 7, 3]
    assert coco_image_ids(path, "unbiased_teacher") == [3, 9]


# --- manifests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [dict(percent=30), dict(count=4)])
def test_manifest_round_trip(tmp_path, size):
    split = stac_split(IDS, fold=2, source="coco_2017_train", **size)
    path = write_manifest(split, tmp_path / "new" / "split.json")
    assert read_manifest(path) == split
    assert [p.name for p in path.parent.iterdir()] == ["split.json"]


@pytest.mark.parametrize(
    "field, value",
    [
        ("labeled", [1]),
        ("unlabeled", []),
        ("source", "other"),
        ("fold", 3),
        ("percent", 5.0),
        ("sha256", "0" * 64),
    ],
)
def test_a_changed_manifest_is_refused(tmp_path, field, value):
    path = write_manifest(stac_split(IDS, 30, 2, source="a"), tmp_path / "split.json")
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, field: value}))
    with pytest.raises(ConfigError, match="was changed after it was written") as error:
        read_manifest(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"sha256": "0", "labeled": 3}'])
def test_other_files_are_no_manifests(tmp_path, text):
    path = tmp_path / "split.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match="is no split manifest") as error:
        read_manifest(path)
    assert "\n" not in str(error.value)


# --- applied to datasets ------------------------------------------------------------------------


def test_applying_keeps_boxes_of_the_labeled_part_only():
    dicts = dataset_dicts(IDS)
    split = without_replacement_split(IDS, count=5)
    labeled, unlabeled = apply_split(dicts, split)
    assert [d["image_id"] for d in labeled] == list(split.labeled)
    assert [d["image_id"] for d in unlabeled] == list(split.unlabeled)
    assert all(d["annotations"] for d in labeled)
    assert not any("annotations" in d for d in unlabeled)
    assert all("annotations" in d for d in dicts), "the caller's dicts stay as they were"


def test_images_the_split_does_not_name_are_left_out():
    split = Split("s", "stac", None, 1, 1, (1,), (2,))
    labeled, unlabeled = apply_split(dataset_dicts([1, 2, 3]), split)
    assert [d["image_id"] for d in labeled + unlabeled] == [1, 2]


def test_missing_and_double_ids_are_told():
    split = Split("my_data", "stac", None, 1, 1, (1,), (2, 3))
    with pytest.raises(ConfigError, match="'my_data': 2 of its image ids .* first 2"):
        apply_split(dataset_dicts([1]), split)
    with pytest.raises(ConfigError, match="image id 1 is twice"):
        apply_split(dataset_dicts([1, 1, 2, 3]), split)


def test_registered_parts_load_lazily_with_the_source_metadata(source, tmp_path):
    split = stac_split(IDS, 30, 1, source=source)
    path = write_manifest(split, tmp_path / "split.json")
    for _ in range(2):
        names = register_split("splits_test_30", source, path)
    assert names == ("splits_test_30_labeled", "splits_test_30_unlabeled")
    labeled, unlabeled = map(DatasetCatalog.get, names)
    assert len(labeled) == len(split.labeled) and len(unlabeled) == len(split.unlabeled)
    for name in names:
        meta = MetadataCatalog.get(name)
        assert meta.name == name
        assert meta.thing_classes == ["a", "b"]
        assert (meta.json_file, meta.evaluator_type) == ("x.json", "coco")


def test_registration_refuses_strangers(source):
    split = stac_split(IDS, 30, 1)
    with pytest.raises(ConfigError, match="not a registered dataset"):
        register_split("splits_test", "splits_test_nowhere", split)
    register_split("splits_test", source, split)
    with pytest.raises(ConfigError, match="registered for another split"):
        register_split("splits_test", source, stac_split(IDS, 30, 2))
