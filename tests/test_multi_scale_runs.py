"""train_net.py --eval-only with several views of an image, of every kind of detector."""

import json

import pytest
import torch
from training import CONFIGS, train_lazy, train_yaml

from soft_teacher import ConfigError
from soft_teacher.experiment.entry import load_experiment

pytestmark = pytest.mark.usefixtures("tiny_digits")

# The view of an evaluation as the only one.
ONE_VIEW = {
    "yaml": ["TEST.AUG.MIN_SIZES", "(64,)", "TEST.AUG.MAX_SIZE", "192"],
    "lazy": ["dataloader.test_aug.min_sizes=[128]", "dataloader.test_aug.max_size=192"],
}
ON = {
    "yaml": ["TEST.AUG.ENABLED", "True", "SOFT_TEACHER.EVAL_NETWORKS", "('teacher',)"],
    "lazy": ["dataloader.test_aug.enabled=True", "train.eval_networks=[teacher]"],
}
FLOOR = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.02"]
KINDS = {
    "Faster R-CNN": "soft_teacher.yaml",
    "Mask R-CNN": "mask_soft_teacher.py",
    "Cascade Mask R-CNN": "cascade_mask_soft_teacher.yaml",
    "HTC": "htc_soft_teacher.py",
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS.keys())
def evaluate(request, tiny_digits, tmp_path_factory):
    """evaluate(folder, *overrides by language): results, of untrained weights."""
    config = request.param
    language = "lazy" if config.endswith(".py") else "yaml"
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.manual_seed(0)
    model = load_experiment(str(CONFIGS / config)).build_model()
    torch.save({"model": model.state_dict()}, path)

    def evaluate(folder, *overrides):
        opts = [word for override in overrides for word in override[language]]
        if language == "lazy":
            opts += [f"train.init_checkpoint={path}"]
            return train_lazy(folder, *opts, config=config, eval_only=True)
        return train_yaml(
            folder, "MODEL.WEIGHTS", path, *FLOOR, *opts, config=config, eval_only=True
        )

    return evaluate


def detections(folder):
    (file,) = folder.rglob("coco_instances_results.json")
    return json.loads(file.read_text())


@pytest.mark.long
def test_one_view_is_the_evaluation_itself(evaluate, tmp_path, caplog):
    off = {
        language: words[2:] if language == "yaml" else words[1:] for language, words in ON.items()
    }
    plain = evaluate(tmp_path / "plain", off)
    assert "views of an image" not in caplog.text
    once = evaluate(tmp_path / "once", ON, ONE_VIEW)
    assert detections(tmp_path / "once") == detections(tmp_path / "plain") != []
    for task, numbers in plain["teacher"].items():
        assert once["teacher"][task] == pytest.approx(numbers, nan_ok=True)
    assert "Evaluating the teacher on digits_val, 1 views of an image" in caplog.text
    several = evaluate(tmp_path / "several", ON)
    assert several.keys() == once.keys() and several["teacher"].keys() == plain["teacher"].keys()
    assert "Evaluating the teacher on digits_val, 3 views of an image" in caplog.text
    assert detections(tmp_path / "several") != detections(tmp_path / "plain")


@pytest.mark.long
def test_evaluations_of_a_training_look_once(tmp_path, caplog):
    opts = ["SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "TEST.EVAL_PERIOD", "1"]
    train_yaml(tmp_path, *ON["yaml"], *opts)
    assert "Evaluating the teacher on digits_val" in caplog.text
    assert "views of an image" not in caplog.text


@pytest.mark.parametrize(
    "evaluate, language, key",
    [
        (train_yaml, "yaml", "TEST.AUG.ENABLED"),
        (train_lazy, "lazy", "dataloader.test_aug.enabled"),
    ],
)
def test_a_retinanet_is_refused_in_one_line(evaluate, language, key, tmp_path):
    config = {"yaml": "retinanet_soft_teacher.yaml", "lazy": "retinanet_soft_teacher.py"}[language]
    with pytest.raises(ConfigError) as error:
        evaluate(tmp_path, *ON[language], config=config, eval_only=True)
    said = f"{key} merges views before NMS, which is not supported for a RetinaNet: switch it off"
    assert str(error.value) == said
