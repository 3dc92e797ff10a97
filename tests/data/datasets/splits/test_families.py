import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from soft_teacher.data.datasets.splits.families import (
    FAMILIES,
    full_split,
    read_coco_ids,
    split_name,
    stac_split,
    unbiased_teacher_split,
    without_replacement_split,
)
from soft_teacher.data.datasets.splits.manifest import Split, read_manifest, write_manifest
from soft_teacher.data.datasets.splits.registration import apply_split, register_split
from soft_teacher.utils.errors import ConfigError

TRAIN2017 = range(118_287)
# Ids that are neither positions nor sorted.
IDS = [70 - 3 * i for i in range(20)]


def dataset_dicts(ids):
    box = {"bbox": [0, 0, 4, 4], "bbox_mode": 1, "category_id": 0}
    return [{"image_id": i, "file_name": f"{i}.jpg", "annotations": [dict(box)]} for i in ids]


@pytest.fixture
def source(own_catalog):
    """A registered dataset that learns its classes on loading, as COCO ones do."""

    def load():
        MetadataCatalog.get("splits_test_source").thing_classes = ["a", "b"]
        return dataset_dicts(IDS)

    DatasetCatalog.register("splits_test_source", load)
    MetadataCatalog.get("splits_test_source").set(json_file="x.json", evaluator_type="coco")
    return "splits_test_source"


def refusal(call, *args, **kwargs):
    """The one line of the ConfigError that a call raises."""
    with pytest.raises(ConfigError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def written(path, text):
    """A file of this text; none if it is None."""
    if text is not None:
        path.write_text(text)
    return path


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


def test_positions_are_sampled_in_the_order_that_is_given():
    np.random.seed(2)
    positions = np.random.choice(20, size=6)
    assert set(stac_split(IDS, 30, 2).labeled) == {IDS[p] for p in positions}
    assert stac_split(sorted(IDS), 30, 2).labeled != stac_split(IDS, 30, 2).labeled


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
def test_parts_are_disjoint_complete_and_ascending_and_folds_differ_and_repeat(family):
    split = family(IDS, 30, 2)
    assert sorted(split.labeled + split.unlabeled) == sorted(IDS)
    for part in (split.labeled, split.unlabeled):
        assert list(part) == sorted(part)
    assert family(IDS, 30, 1) == family(IDS, 30, 1)
    assert len({family(range(200), 30, fold).labeled for fold in range(1, 6)}) == 5


def test_count_and_the_whole_dataset():
    assert len(without_replacement_split(IDS, count=1).labeled) == 1
    whole = without_replacement_split(IDS, 100)
    assert whole.labeled == tuple(sorted(IDS)) and whole.unlabeled == ()
    assert (whole.percent, whole.count) == (100.0, None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(), "either percent or count"),
        (dict(percent=10, count=2), "either percent or count"),
        (dict(percent=0), "percent = 0"),
        (dict(percent=101), "percent = 101"),
        (dict(percent=float("nan")), "percent = nan"),
        (dict(percent=1), "1 of 20 images is none: use a larger share"),
        (dict(count=0), "use 1 to 20"),
        (dict(count=21), "use 1 to 20"),
        (dict(percent=10, fold=-1), "fold = -1"),
    ],
)
@pytest.mark.parametrize("family", [stac_split, without_replacement_split])
def test_wrong_sizes_and_folds(family, arguments, message):
    assert message in refusal(family, IDS, **arguments)


@pytest.mark.parametrize("ids, message", [([], "at least one image"), ([1, 2, 2], "more than onc")])
def test_ids_must_exist_once(ids, message):
    assert message in refusal(stac_split, ids, 50)
    for pair in ([ids, [1]], [[1], ids]):
        assert message in refusal(full_split, *pair)


def test_full_labels_one_dataset_and_leaves_the_other_unlabeled():
    split = full_split([9, 2, 5], [4, 1], source="a + b")
    assert (split.labeled, split.unlabeled) == ((2, 5, 9), (1, 4))
    assert (split.family, split.percent, split.fold) == ("full", 100.0, None)


@pytest.fixture
def index_file(tmp_path):
    path = tmp_path / "supervision.txt"
    content = {"0.5": {"0": []}, "10.0": {"0": [1, 19], "1": [4, 0], "2": [3, 3], "3": [-1, 2]}}
    path.write_text(json.dumps(content))
    return path


def test_unbiased_teacher_takes_positions_from_the_file(index_file):
    ids = sorted(IDS)
    split = unbiased_teacher_split(index_file, ids, 10, 1, source="coco")
    assert split.labeled == (ids[0], ids[4])
    assert split.unlabeled == (*ids[1:4], *ids[5:])
    assert (split.family, split.percent, split.fold) == ("unbiased_teacher", 10.0, 1)


@pytest.mark.parametrize(
    "ids, percent, fold, message",
    [
        (IDS, 20, 0, "has no 20 %: it has 0.5, 10.0"),
        (IDS, 10, 7, "has no fold 7: it has 0, 1, 2, 3"),
        (IDS, 10, 2, "images with boxes"),
        (IDS, 10, 3, "images with boxes"),
        (IDS + [1000 + i for i in range(20)], 10, 0, "images with boxes"),
        (list(range(19)), 10, 0, "images with boxes"),
        ([], 10, 0, "one with boxes"),
    ],
)
def test_unbiased_teacher_says_what_does_not_fit(index_file, ids, percent, fold, message):
    assert message in refusal(unbiased_teacher_split, index_file, ids, percent, fold)


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"ten": {}}', '{"10": [1]}', '{"10": {"0": ["1"]}}']
)
def test_unbiased_teacher_refuses_other_files(tmp_path, text):
    path = written(tmp_path / "index.txt", text)
    assert f"{path} is no index file" in refusal(unbiased_teacher_split, path, IDS, 10, 0)


@pytest.mark.parametrize(
    "arguments, name",
    [
        (("full",), "full"),
        (("stac", 10.0, 1), "stac_10p_fold1"),
        (("unbiased_teacher", 0.5, 0), "unbiased_teacher_0.5p_fold0"),
        (("without_replacement", None, 1, 20), "without_replacement_20_fold1"),
        (("shots", None, 3, 10), "shots_10_fold3"),
    ],
)
def test_names_of_splits(arguments, name):
    assert split_name(*arguments) == name


# --- ids of a COCO JSON -------------------------------------------------------------------------


def test_ids_come_in_the_order_each_family_was_published_with(tmp_path):
    boxes = [(9, {"iscrowd": 0}), (3, {}), (5, {"iscrowd": 1}), (100, {"iscrowd": 0})]
    content = {"images": [{"id": i} for i in (9, 5, 7, 3)]}
    path = written(tmp_path / "info.json", json.dumps(content))
    assert read_coco_ids(path) == {**dict.fromkeys(FAMILIES, [9, 5, 7, 3]), "unbiased_teacher": []}
    content["annotations"] = [{"image_id": i, **crowd} for i, crowd in boxes]
    path.write_text(json.dumps(content))
    assert read_coco_ids(path) == {
        **dict.fromkeys(FAMILIES, [9, 5, 7, 3]),
        "unbiased_teacher": [3, 9],
    }


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "[]", "{}", '{"images": 3}', '{"images": [{"file_name": "a.jpg"}]}'),
        *('{"images": [{"id": "7"}]}', '{"images": [], "annotations": [{"id": 1}]}'),
    ],
)
def test_other_files_are_no_coco_json(tmp_path, text):
    path = written(tmp_path / "coco.json", text)
    assert f"{path} cannot be read as COCO JSON" in refusal(read_coco_ids, path)


# --- manifests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "split",
    [
        Split("empty", "stac", None, 1, 1, (), ()),
        Split("unordered and negative", "stac", None, 1, 1, (9, -3, 4), (7, 0, -12, 2)),
        stac_split(IDS, 30, 2, source="coco_2017_train"),
        stac_split(IDS, count=4, fold=2, source="ä"),
        without_replacement_split(IDS, 100, 2),
        full_split(IDS, range(5), source="a + b"),
    ],
    ids=lambda split: split.source,
)
def test_manifest_round_trip(tmp_path, split):
    path = write_manifest(split, tmp_path / "new" / "split.json")
    assert read_manifest(path) == split
    assert [p.name for p in path.parent.iterdir()] == ["split.json"]


def test_a_manifest_lists_labeled_ids_and_the_steps_between_unlabeled_ones(tmp_path):
    split = Split("s", "stac", 10.0, None, 1, (4, 8), (3, 5, 6, 20))
    fields = json.loads(write_manifest(split, tmp_path / "split.json").read_text())
    assert fields["labeled"] == [4, 8]
    assert fields["unlabeled_steps"] == [3, 2, 1, 14]
    assert fields["sha256"] == split.sha256


def test_the_checksum_covers_the_order_of_ids_and_the_part_they_are_in():
    orders = [((4, 8), (3, 5)), ((8, 4), (3, 5)), ((4, 8), (5, 3)), ((4,), (8, 3, 5))]
    assert len({Split("s", "stac", 10.0, None, 1, *parts).sha256 for parts in orders}) == 4


def test_a_manifest_that_an_earlier_version_wrote_is_read(tmp_path):
    text = """{"sha256":"020e1a867596365aa4c6e70d223597838d53112df5c5b0b1932c6e531e7fa072",
"source":"s",
"family":"stac",
"percent":30.0,
"count":null,
"fold":2,
"labeled":[4,8],
"unlabeled_steps":[3,2]}
"""
    path = written(tmp_path / "split.json", text)
    split = Split("s", "stac", 30.0, None, 2, (4, 8), (3, 5))
    assert read_manifest(path) == split
    assert write_manifest(split, tmp_path / "again.json").read_text() == text


@pytest.mark.parametrize(
    "field, value",
    [
        ("labeled", [1]),
        ("unlabeled_steps", []),
        ("unlabeled_steps", [True]),
        ("source", "other"),
        ("family", "full"),
        ("fold", 3),
        ("percent", 5.0),
        ("count", 7),
        ("sha256", "0" * 64),
    ],
)
def test_a_changed_manifest_is_refused(tmp_path, field, value):
    path = write_manifest(stac_split(IDS, 30, 2, source="a"), tmp_path / "split.json")
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, field: value}))
    assert "was changed after it was written" in refusal(read_manifest, path)


@pytest.mark.parametrize(
    "text",
    [None, "", "[]", "{}", '{"sha256": "0", "labeled": 3}', '{"sha256": 0, "unlabeled_steps": 3}'],
)
def test_other_files_are_no_manifests(tmp_path, text):
    found = refusal(read_manifest, written(tmp_path / "split.json", text))
    assert "is no split manifest" in found and found.endswith("make the split again")


# --- applied to datasets ------------------------------------------------------------------------


def test_applying_keeps_boxes_of_the_labeled_part_only():
    dicts = dataset_dicts(IDS)
    split = without_replacement_split(IDS, count=5)
    labeled = apply_split(dicts, split, "labeled")
    unlabeled = apply_split(dicts, split, "unlabeled")
    assert [d["image_id"] for d in labeled] == list(split.labeled)
    assert [d["image_id"] for d in unlabeled] == list(split.unlabeled)
    assert all(d["annotations"] for d in labeled)
    assert not any("annotations" in d for d in unlabeled)
    assert all(d["hidden_annotations"] for d in unlabeled)
    assert not any("hidden_annotations" in d for d in labeled)
    assert all("annotations" in d for d in dicts), "the caller's dicts stay as they were"


@pytest.mark.parametrize(
    "ids, part, expected",
    [
        ([], "labeled", "'my_data': 1 of its labeled image ids are not in the dataset, first 1"),
        ([1], "unlabeled", "'my_data': 2 of its unlabeled image ids are not in the dataset, fi"),
        ([1, 1, 2, 3], "labeled", "image id 1 is twice"),
        ([1, 2, 3, 4], "labeled", [1]),
        ([1, 2, 3, 4], "unlabeled", [2, 3]),
    ],
)
def test_images_that_are_missing_double_or_not_named(ids, part, expected):
    split = Split("my_data", "stac", None, 1, 1, (1,), (2, 3))
    if isinstance(expected, str):
        assert expected in refusal(apply_split, dataset_dicts(ids), split, part)
    else:
        assert [d["image_id"] for d in apply_split(dataset_dicts(ids), split, part)] == expected


@pytest.mark.parametrize("as_file", [False, True])
def test_registered_parts_load_lazily_with_the_source_metadata(source, tmp_path, as_file):
    split = stac_split(IDS, 30, 1, source=source)
    manifest = write_manifest(split, tmp_path / "split.json") if as_file else split
    for _ in range(2):
        names = register_split("splits_test_30", source, manifest)
    assert names == ("splits_test_30_labeled", "splits_test_30_unlabeled")
    assert MetadataCatalog.get(names[0]).get("thing_classes") is None, "the source is not loaded"
    assert [MetadataCatalog.get(name).json_file for name in names] == ["x.json", "x.json"]
    labeled, unlabeled = map(DatasetCatalog.get, names)
    assert len(labeled) == len(split.labeled) and len(unlabeled) == len(split.unlabeled)
    for name in names:
        meta = MetadataCatalog.get(name)
        assert meta.name == name
        assert meta.thing_classes == ["a", "b"]
        assert (meta.json_file, meta.evaluator_type) == ("x.json", "coco")


def test_the_unlabeled_images_may_come_from_another_dataset(source):
    def load():
        return [{"image_id": i, "file_name": "web.jpg"} for i in (70, 1)]

    DatasetCatalog.register("splits_test_web", load)
    MetadataCatalog.get("splits_test_web").json_file = "web.json"
    split = full_split(IDS, [70, 1])
    names = register_split("splits_test_full", source, split, unlabeled_source="splits_test_web")
    labeled, unlabeled = map(DatasetCatalog.get, names)
    assert len(labeled) == 20 and all("annotations" in d for d in labeled)
    assert unlabeled == [{"image_id": i, "file_name": "web.jpg"} for i in (1, 70)]
    assert [MetadataCatalog.get(n).json_file for n in names] == ["x.json", "web.json"]


def test_a_manifest_is_read_when_its_dataset_is_loaded(source, tmp_path):
    path = tmp_path / "split.json"
    names = register_split("splits_test_later", source, path)
    with pytest.raises(ConfigError, match="is no split manifest"):
        DatasetCatalog.get(names[0])
    write_manifest(without_replacement_split(IDS, count=3), path)
    assert [len(DatasetCatalog.get(n)) for n in names] == [3, 17]


def test_registration_refuses_unknown_sources_and_names_that_are_taken(source, tmp_path):
    split, unknown = stac_split(IDS, 30, 1), "'splits_test_nowhere' is not a registered dataset"
    web = {"unlabeled_source": "splits_test_nowhere"}
    assert unknown in refusal(register_split, "splits_test", "splits_test_nowhere", split)
    assert unknown in refusal(register_split, "splits_test", source, split, **web)
    register_split("splits_test", source, split)
    for other in (stac_split(IDS, 30, 2), tmp_path / "split.json"):
        found = refusal(register_split, "splits_test", source, other)
        assert "registered for another split" in found
