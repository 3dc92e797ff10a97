"""Each dataset is loaded once while a training starts, and not kept after."""

import gc

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from soft_teacher.data.datasets.loading import load_dicts, loaded_once
from soft_teacher.data.datasets.splits.families import without_replacement_split
from soft_teacher.data.datasets.splits.registration import register_split

PREFIX = "loading_test_"
SOURCE = f"{PREFIX}source"
IDS = range(1, 9)


@pytest.fixture(autouse=True)
def loads():
    """A registered dataset; grows by one with each time that it is loaded."""
    found = []

    def load():
        found.append(gc.isenabled())
        return [{"image_id": i, "file_name": f"{i}.jpg", "annotations": []} for i in IDS]

    DatasetCatalog.register(SOURCE, load)
    yield found
    for name in [n for n in DatasetCatalog.list() if n.startswith(PREFIX)]:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def test_inside_a_dataset_is_loaded_once_and_shared(loads):
    with loaded_once():
        first = load_dicts(SOURCE)
        assert load_dicts(SOURCE) is first and first == DatasetCatalog.get(SOURCE)
    assert len(loads) == 1 + 1


def test_outside_it_is_loaded_anew(loads):
    assert load_dicts(SOURCE) is not load_dicts(SOURCE)
    with loaded_once():
        inside = load_dicts(SOURCE)
    assert load_dicts(SOURCE) is not inside
    assert len(loads) == 4


def test_only_the_outermost_end_forgets(loads):
    with loaded_once():
        for _ in range(2):
            with loaded_once():
                load_dicts(SOURCE)
        load_dicts(SOURCE)
        assert not gc.isenabled()
    with loaded_once():
        load_dicts(SOURCE)
    assert len(loads) == 2


def test_an_error_forgets_as_well(loads):
    with pytest.raises(KeyError), loaded_once():
        load_dicts(SOURCE)
        load_dicts(f"{PREFIX}nothing")
    assert gc.isenabled()
    load_dicts(SOURCE)
    assert len(loads) == 2


def test_a_dataset_that_failed_is_tried_again():
    answers = [OSError("not there yet"), [{"image_id": 1}]]

    def load():
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    DatasetCatalog.register(f"{PREFIX}late", load)
    with loaded_once():
        with pytest.raises(OSError):
            load_dicts(f"{PREFIX}late")
        assert load_dicts(f"{PREFIX}late") == [{"image_id": 1}]


def test_the_parts_of_a_split_have_one_source(loads):
    split = without_replacement_split(IDS, count=3)
    names = register_split(f"{PREFIX}split", SOURCE, split)
    with loaded_once():
        labeled, unlabeled = map(load_dicts, names)
        assert len(labeled) == 3 and len(unlabeled) == 5
    assert len(loads) == 1


def test_the_garbage_collector_rests_while_datasets_are_loaded(loads):
    load_dicts(SOURCE)
    with loaded_once():
        load_dicts(SOURCE)
    assert loads == [True, False] and gc.isenabled()


def test_a_garbage_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with loaded_once():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
