"""Each dataset is loaded once while a run starts, and not kept after."""

import gc
import json

import pytest
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances

from soft_teacher.data.datasets.loading import load_dicts, load_reading, loaded_once
from soft_teacher.data.datasets.paths import register_path
from soft_teacher.data.datasets.splits.families import without_replacement_split
from soft_teacher.data.datasets.splits.registration import register_split

SOURCE = "loading_test_source"
IDS = range(1, 9)


@pytest.fixture(autouse=True)
def loads(own_catalog):
    """A registered dataset; a list that gets an item each time that it is loaded."""
    found = []

    def load():
        found.append(gc.isenabled())
        return [{"image_id": i, "file_name": f"{i}.jpg", "annotations": []} for i in IDS]

    DatasetCatalog.register(SOURCE, load)
    return found


@pytest.mark.parametrize("masks", [True, False])
def test_files_are_read_with_masks_unless_a_run_has_no_use_for_them(masks, tmp_path, own_catalog):
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 9, "width": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 0}
            | {"segmentation": [[0, 0, 4, 0, 0, 4]]}
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    path = tmp_path / "one.json"
    path.write_text(json.dumps(content))
    register_path(str(path))
    register_coco_instances("loading_test_masks", {}, str(path), str(tmp_path))
    for name in (str(path), "loading_test_masks"):
        with loaded_once(masks=masks), loaded_once():
            (found,) = load_dicts(name)[0]["annotations"]
        assert ("segmentation" in found) is masks
        assert "segmentation" in load_dicts(name)[0]["annotations"][0]


@pytest.mark.parametrize("load", [load_dicts, load_reading])
def test_inside_a_dataset_is_loaded_once_and_outside_anew(load, loads):
    with loaded_once():
        inside = load(SOURCE)
        with loaded_once():
            assert load(SOURCE) is inside
        assert load(SOURCE) is inside and not gc.isenabled()
    assert gc.isenabled() and loads == [False]  # the collector is off while datasets are loaded
    assert load(SOURCE) is not inside and load(SOURCE) is not load(SOURCE)
    with loaded_once():
        assert load(SOURCE) is not inside
    assert loads == [False, True, True, True, False]


def test_an_error_forgets_as_well(loads):
    with pytest.raises(KeyError), loaded_once():
        load_dicts(SOURCE)
        load_dicts("loading_test_nothing")
    assert gc.isenabled()
    load_dicts(SOURCE)
    assert len(loads) == 2


def test_a_dataset_that_failed_is_tried_again():
    answers = iter([None, [{"image_id": 1}]])
    DatasetCatalog.register("loading_test_late", lambda: [*next(answers)])
    with loaded_once():
        with pytest.raises(TypeError):
            load_dicts("loading_test_late")
        assert load_dicts("loading_test_late") == [{"image_id": 1}]


def test_the_parts_of_a_split_have_one_source(loads):
    names = register_split("loading_test_split", SOURCE, without_replacement_split(IDS, count=3))
    with loaded_once():
        labeled, unlabeled = map(load_dicts, names)
        assert len(labeled) == 3 and len(unlabeled) == 5
    assert len(loads) == 1


def test_a_garbage_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with loaded_once():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
