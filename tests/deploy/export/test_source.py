"""What travels with a detector: its classes, and how to make the image that it takes."""

import json

import pytest
from deployed import CLASSES, write_run
from detectron2.data import transforms as T
from written import write_coco

from soft_teacher import ConfigError
from soft_teacher.data.mapper import InferenceMapper
from soft_teacher.deploy.export import sample_views, source_of
from soft_teacher.deploy.export.source import view_of
from soft_teacher.experiment.entry import load_experiment


def mapper(*augmentations, image_format="BGR"):
    return InferenceMapper(augmentations=list(augmentations), image_format=image_format)


@pytest.mark.parametrize(
    "augmentations, sizes",
    [
        ([], (0, 0)),
        ([T.ResizeShortestEdge(800, 1333)], (800, 1333)),
        ([T.ResizeShortestEdge([64, 64], 100, "choice")], (64, 100)),
    ],
)
def test_the_view_is_a_resize_by_the_short_edge(augmentations, sizes):
    found = view_of(mapper(*augmentations, image_format="RGB"))
    assert found == {"image_format": "RGB", "short_edge": sizes[0], "max_size": sizes[1]}


@pytest.mark.parametrize(
    "augmentations",
    [
        [T.RandomFlip()],
        [T.ResizeShortestEdge([64, 96], 100, "choice")],
        [T.ResizeShortestEdge(64, 100), T.ResizeShortestEdge(32, 100)],
    ],
)
def test_another_view_cannot_be_described(augmentations):
    with pytest.raises(ConfigError, match="is more than a ResizeShortestEdge of one size"):
        view_of(mapper(*augmentations))


def test_classes_come_from_a_file_the_run_or_the_datasets(tmp_path):
    config = write_run(tmp_path / "run")
    assert source_of(load_experiment(str(config)), "teacher").classes == CLASSES
    (tmp_path / "mine.txt").write_text("a\nb\nc\n")
    mine = str(tmp_path / "mine.txt")
    assert source_of(load_experiment(str(config)), "teacher", mine).classes == ["a", "b", "c"]

    (tmp_path / "run" / "classes.json").unlink()
    with pytest.raises(ConfigError, match="no dataset names the classes: .* by --classes"):
        source_of(load_experiment(str(config)), "teacher")
    data = str(write_coco(tmp_path / "data"))
    opts = ["DATASETS.TRAIN_LABELED", f"('{data}',)"]
    with pytest.raises(ConfigError, match="has 2 classes, the detector has 3: .* by --classes"):
        source_of(load_experiment(str(config), opts), "teacher")
    opts = ["DATASETS.TEST", f"('{tmp_path / 'gone.json'}',)"]
    with pytest.raises(ConfigError, match="gone.json.*; or name the file of the classes by"):
        source_of(load_experiment(str(config), opts), "teacher")


def test_metadata_are_json(tmp_path):
    source = source_of(load_experiment(str(write_run(tmp_path / "run"))), "student")
    found = {name: json.loads(text) for name, text in source.metadata().items()}
    assert (found["classes"], found["network"]) == (CLASSES, "student")


def test_sample_images_are_those_of_the_test_set_or_of_a_folder(tmp_path):
    config = write_run(tmp_path / "run")
    data = str(write_coco(tmp_path / "data"))
    opts = ["DATASETS.TEST", f"('{data}',)"]
    source = source_of(load_experiment(str(config), opts), "teacher")
    views = sample_views(source)
    # 50 x 20 and 30 x 40, in the config's size and in another one.
    sizes = [tuple(view.shape[1:]) for view in views]
    assert sizes[:4] == [(100, 40), (75, 50), (64, 85), (48, 106)]
    assert len(views) == 6
    source = source_of(load_experiment(str(config)), "teacher")
    with pytest.raises(ConfigError, match="DATASETS.TEST is empty: name sample images by --images"):
        sample_views(source)
    (tmp_path / "run" / "photos" / "0.png").write_text("no image")
    with pytest.raises(ConfigError, match="0.png.*: name other images by --images"):
        sample_views(source, str(tmp_path / "run" / "photos"))
