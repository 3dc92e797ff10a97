"""Two stages: a detector labels images once, and another training learns from what it found."""

import json

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import build_detection_test_loader
from detectron2.utils.events import EventStorage
from steps import LOSSES
from training import (
    CONFIGS,
    LAZY_OPTS,
    YAML_OPTS,
    metrics,
    train_yaml,
    weights,
)

from soft_teacher import ConfigError
from soft_teacher.commands import label as command
from soft_teacher.data.datasets.dataset_dicts import unlabeled_dicts
from soft_teacher.engine.checkpoint import SoftTeacherCheckpointer
from soft_teacher.experiment import SoftTeacherTrainer, lazy_config, yaml_config
from soft_teacher.experiment.yaml_experiment import YamlExperiment

pytestmark = pytest.mark.usefixtures("tiny_digits", "own_catalog")

YAML, LAZY = (str(CONFIGS / f"soft_teacher.{suffix}") for suffix in ("yaml", "py"))
NAMES = ("digits_fold1_unlabeled", "digits_unlabeled")
# About half of what the untrained detector below finds is scored above it.
THRESH = 0.5


@pytest.fixture(scope="module")
def detector(tiny_digits, tmp_path_factory):
    """A checkpoint whose student and teacher find different boxes."""
    folder = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    model = SoftTeacherTrainer.build_model(yaml_config.load_config(YAML, YAML_OPTS))
    for network, shift in ((model.student, 1.0), (model.teacher, 2.0)):
        torch.nn.init.normal_(network.roi_heads.box_predictor.cls_score.weight, std=0.01)
        network.roi_heads.box_predictor.cls_score.bias.data[2] = shift
    SoftTeacherCheckpointer(model, str(folder)).save("detector")
    return folder / "detector.pth"


def label(path, detector, *flags, config=YAML, opts=()):
    """The tool's exit status."""
    if config == YAML:
        opts = [*YAML_OPTS, "MODEL.WEIGHTS", str(detector), *opts]
    else:
        opts = [*LAZY_OPTS, f"train.init_checkpoint={detector}", *opts]
    flags = [*map(str, flags)] or ["--score-thresh", str(THRESH)]
    return command.main(["--config-file", config, "--output", str(path), *flags, *opts])


@pytest.fixture(scope="module")
def labels(detector, tmp_path_factory):
    """The teacher's labels of all unlabeled images."""
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    assert label(path, detector) == 0
    return path


# --- the first stage


def detections(detector, network):
    """{file: (boxes, classes, scores)} above the threshold, as Detectron2's evaluation has them."""
    cfg = yaml_config.load_config(YAML, [*YAML_OPTS, "MODEL.WEIGHTS", str(detector)])
    model = getattr(YamlExperiment(cfg).load_trained().model, network)
    cfg.defrost()
    cfg.DATASETS.TEST = NAMES
    loader = build_detection_test_loader(cfg, list(NAMES))
    found = {}
    with torch.no_grad():
        for (sample,) in loader:
            seen = model([sample])[0]["instances"]
            seen = seen[seen.scores > THRESH]
            columns = seen.pred_boxes.tensor, seen.pred_classes, seen.scores
            found[sample["file_name"]] = [column.numpy() for column in columns]
    return found


@pytest.mark.parametrize("network", ["teacher", "student"])
def test_the_labels_are_the_detections_above_the_threshold(detector, tmp_path, network):
    path = tmp_path / "labels.json"
    assert label(path, detector, "--network", network, "--score-thresh", THRESH) == 0
    expected = detections(detector, network)
    dicts = unlabeled_dicts([str(path)], label_source="dataset")
    given = {d["file_name"]: d["given_annotations"] for d in dicts}
    assert given.keys() == expected.keys() and len(given) == 14
    assert sum(map(len, given.values())) > 100
    for file, annotations in given.items():
        boxes, classes, scores = expected[file]
        corners = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        np.testing.assert_allclose(corners, boxes, atol=1e-4)
        assert [a["category_id"] for a in annotations] == classes.tolist()
        assert [a["score"] for a in annotations] == scores.tolist()


def test_the_json_tells_where_it_comes_from(detector, labels):
    info = json.loads(labels.read_text())["info"]
    assert info["weights"] == str(detector) and info["network"] == "teacher"
    assert (info["score_thresh"], info["datasets"]) == (THRESH, list(NAMES))
    assert info["unreadable"] == 0


def test_both_languages_write_the_same_labels(detector, tmp_path):
    yaml, lazy = tmp_path / "yaml.json", tmp_path / "lazy.json"
    # LAZY_OPTS leave the view of the evaluation as the config has it.
    assert label(yaml, detector, opts=["INPUT.MIN_SIZE_TEST", "128"]) == 0
    assert label(lazy, detector, config=LAZY) == 0
    assert lazy.read_text() == yaml.read_text()


def test_the_threshold_is_the_config_s_unless_it_is_given(detector, tmp_path):
    opts = ["SOFT_TEACHER.SCORE_THRESH", "0.7"]
    assert label(tmp_path / "l.json", detector, "--network", "student", opts=opts) == 0
    dataset = json.loads((tmp_path / "l.json").read_text())
    assert dataset["info"]["score_thresh"] == 0.7
    assert dataset["annotations"] and all(a["score"] > 0.7 for a in dataset["annotations"])


def test_images_that_cannot_be_read_are_left_out(detector, tmp_path, tiny_digits, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    whole = (tiny_digits / "digits" / "val" / "000001.jpg").read_bytes()
    (photos / "whole.jpg").write_bytes(whole)
    opts = ["DATASETS.TRAIN_UNLABELED", str(photos)]
    assert label(tmp_path / "l.json", detector, opts=opts) == 0
    assert "on 1 images, 1 images left out" in capsys.readouterr().out
    dataset = json.loads((tmp_path / "l.json").read_text())
    assert [i["file_name"] for i in dataset["images"]] == [str(photos / "whole.jpg")]


@pytest.mark.parametrize(
    "flags, opts, said",
    [
        (["--score-thresh", "0.01"], [], "--score-thresh 0.01 is below MODEL.ROI_HEADS.SCORE_"),
        (["--score-thresh", "1.5"], [], "--score-thresh must lie strictly between 0 and 1"),
        ([], ["DATASETS.TRAIN_UNLABELED", "()"], "DATASETS.TRAIN_UNLABELED is empty"),
        ([], ["DATASETS.TRAIN_UNLABELED", "nowhere"], "DATASETS.TRAIN_UNLABELED names 'nowhere'"),
        ([], ["MODEL.WEIGHTS", "''"], "MODEL.WEIGHTS is empty"),
        ([], ["MODEL.WEIGHTS", "nowhere.pth"], "MODEL.WEIGHTS 'nowhere.pth' does not exist"),
        ([], ["SOFT_TEACHER.ALPA", "1"], "unknown config key SOFT_TEACHER.ALPA"),
    ],
)
def test_a_mistake_is_one_line_and_status_2_and_leaves_the_old_file(
    detector, tmp_path, capsys, flags, opts, said
):
    path = tmp_path / "labels.json"
    path.write_text("old")
    assert label(path, detector, *flags, opts=opts) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {said}")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_an_output_that_cannot_be_written(detector, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for path, said in (
        (tmp_path / "labels.txt", "--output must end in .json"),
        (tmp_path / "file" / "labels.json", "--output cannot be written"),
    ):
        assert label(path, detector) == 2
        assert said in capsys.readouterr().err


# --- the second stage

SECOND = [
    *("SOFT_TEACHER.LABEL_SOURCE", "dataset", "SOFT_TEACHER.SCORE_THRESH", str(THRESH)),
    *("SOFT_TEACHER.JITTER.ENABLED", "False", "SOFT_TEACHER.INDICATOR", "none"),
]
LAZY_SECOND = [
    *("train.label_source=dataset", f"model.pseudo_labeler.score_thresh={THRESH}"),
    *("model.pseudo_labeler.measure_stability=False", "model.student.roi_heads.indicator=none"),
]


def second_yaml(labels):
    return yaml_config.load_config(
        YAML, [*YAML_OPTS, *SECOND, "DATASETS.TRAIN_UNLABELED", str(labels)]
    )


def second_lazy(labels):
    names = f"dataloader.train.unlabeled_names=[{labels}]"
    return lazy_config.load_config(LAZY, [*LAZY_OPTS, *LAZY_SECOND, names])


def yaml_loader(labels):
    return SoftTeacherTrainer.build_train_loader(second_yaml(labels))


def test_a_training_learns_from_the_labels_and_measures_nothing_with_them(labels, tmp_path):
    train_yaml(tmp_path, *SECOND, "DATASETS.TRAIN_UNLABELED", labels)
    last = metrics(tmp_path)
    assert all(np.isfinite(last[f"unsup/{name}"]) for name in LOSSES)
    assert last["unsup/loss_cls"] > 0 and last["pseudo/num_cls_boxes"] > 0
    assert last["pseudo/num_cls_boxes"] == last["pseudo/num_detections"]
    assert not any("precision" in name or "recall" in name for name in last)
    for network in ("student", "teacher"):
        assert 0 <= last[f"{network}/bbox/AP"] <= 100


def test_the_same_labels_give_the_same_losses_in_both_languages(detector, labels):
    yaml, lazy = second_yaml(labels), second_lazy(labels)
    models = [SoftTeacherTrainer.build_model(yaml), instantiate(lazy.model)]
    loaders = [SoftTeacherTrainer.build_train_loader(yaml), instantiate(lazy.dataloader.train)]
    assert loaders[0].identity() == loaders[1].identity()
    found = []
    for model, loader in zip(models, loaders):
        model.load_state_dict(weights(detector.parent, detector.name))
        torch.manual_seed(0)
        with EventStorage(), torch.no_grad():
            losses = model.train()(next(iter(loader)))
        found.append({name: loss.item() for name, loss in losses.items()})
    assert found[0] == found[1] and found[0]["unsup/loss_box_reg"] > 0


def test_other_labels_are_another_training(labels, tmp_path):
    dataset = json.loads(labels.read_text())
    dataset["annotations"][0]["score"] = 0.99
    other = tmp_path / "other.json"
    other.write_text(json.dumps(dataset))
    key = "unlabeled_names"
    assert yaml_loader(labels).identity()[key] != yaml_loader(other).identity()[key]


@pytest.mark.parametrize("name", NAMES)
def test_images_that_nobody_labeled_are_refused_and_their_truth_is_not_learned(tmp_path, name):
    with pytest.raises(ConfigError) as error:
        train_yaml(tmp_path, *SECOND, "DATASETS.TRAIN_UNLABELED", name)
    assert str(error.value).startswith(f"DATASETS.TRAIN_UNLABELED '{name}' has no annotations")
    assert not list(tmp_path.glob("model_*.pth"))
