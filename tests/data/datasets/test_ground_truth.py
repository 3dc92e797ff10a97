"""Datasets to measure a detector on."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from soft_teacher import ConfigError
from soft_teacher.data.datasets.ground_truth import truth_dicts

NAME = "truth_for_a_test"
BOX = dict(bbox=[0, 0, 5, 5], bbox_mode=1, category_id=0)


@pytest.fixture
def register(tmp_path):
    """register(annotations, ...): a dataset of an image for each; None for none at all."""
    image = tmp_path / "image.png"
    image.touch()

    def register(*annotations, classes=("a", "b"), **fields):
        dicts = [{"file_name": str(image), "image_id": n} for n in range(len(annotations))]
        for record, found in zip(dicts, annotations):
            record.update({} if found is None else {"annotations": found}, **fields)
        DatasetCatalog.register(NAME, lambda: dicts)
        MetadataCatalog.get(NAME).set(thing_classes=list(classes))
        return NAME

    yield register
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.mark.parametrize(
    "annotations, message",
    [
        ((), "--dataset '.*' has no images"),
        ((None, None), "--dataset '.*' has no ground truth: name a dataset that has"),
        (([], None), "has no ground truth"),
        (([{"category_id": 0}],), "has no ground truth"),
    ],
)
def test_a_dataset_without_truth_is_refused(annotations, message, register):
    with pytest.raises(ConfigError, match=message):
        truth_dicts("--dataset", register(*annotations), num_classes=2)


def test_the_classes_must_be_the_model_s(register):
    with pytest.raises(ConfigError, match="has 2 classes but the model's number of classes is 3"):
        truth_dicts("--dataset", register([BOX]), num_classes=3)


def test_missing_images_are_told_of(register):
    name = register([BOX], file_name="nowhere.png")
    with pytest.raises(ConfigError, match="1 image files are missing, first nowhere.png"):
        truth_dicts("--dataset", name, num_classes=2)


def test_images_of_unknown_truth_are_left_out_and_empty_ones_stay(register):
    found = truth_dicts("--dataset", register([BOX], None, []), num_classes=2)
    assert [(d["image_id"], d["annotations"]) for d in found] == [(0, [BOX]), (2, [])]


def test_hidden_labels_are_ground_truth(tiny_digits):
    found = truth_dicts("--dataset", "digits_fold1_unlabeled", num_classes=5)
    known = {d["image_id"]: d["annotations"] for d in DatasetCatalog.get("digits_train")}
    assert len(found) == 8 and all(d["annotations"] == known[d["image_id"]] for d in found)
    assert all("annotations" not in d for d in DatasetCatalog.get("digits_fold1_unlabeled"))
