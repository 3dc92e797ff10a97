"""What a training shows and keeps, steered from the config to the files of a short training."""

import sys
from types import SimpleNamespace

import pytest
import torch
from fake_wandb import FakeWandb
from training import metrics, train_lazy, train_yaml, weights

KEYS = {
    "vis_period": ("VIS_PERIOD", "train.vis_period"),
    "eval_period": ("TEST.EVAL_PERIOD", "train.eval_period"),
    "period": ("SOLVER.CHECKPOINT_PERIOD", "train.checkpointer.period"),
    "max_to_keep": ("SOLVER.CHECKPOINTS_TO_KEEP", "train.checkpointer.max_to_keep"),
    "patience": ("SOFT_TEACHER.WATCH.PATIENCE", "train.watch.patience"),
    "hidden_labels": ("SOFT_TEACHER.WATCH.HIDDEN_LABELS", "dataloader.train.hidden_labels"),
    "project": ("SOFT_TEACHER.WATCH.WANDB.PROJECT", "train.watch.wandb.project"),
    "name": ("SOFT_TEACHER.WATCH.WANDB.NAME", "train.watch.wandb.name"),
    "candidate_thresh": (
        "SOFT_TEACHER.JITTER.SCORE_THRESH",
        "model.pseudo_labeler.candidate_thresh",
    ),
    "variance_thresh": (
        "SOFT_TEACHER.JITTER.VARIANCE_THRESH",
        "model.pseudo_labeler.variance_thresh",
    ),
}
# In four steps many boxes are jittered, and none is stable enough: that is bad health.
COMMON = {"period": 1, "eval_period": 2, "candidate_thresh": 0.06, "variance_thresh": 1e-9}
MUCH = {"vis_period": 2, "max_to_keep": 3, "patience": 4, "hidden_labels": True}
MUCH.update({"project": "digits", "name": "fold-1"})
LITTLE = {"vis_period": 0, "max_to_keep": 1, "patience": 5, "hidden_labels": False}


def train(language: str, folder, settings: dict) -> SimpleNamespace:
    """Trains; returns what stands in the folder, what was logged and the runs of wandb."""
    with pytest.MonkeyPatch.context() as patch:
        wandb = FakeWandb()
        patch.setitem(sys.modules, "wandb", wandb)
        if language == "yaml":
            pairs = [(KEYS[name][0], value) for name, value in settings.items()]
            train_yaml(folder, *(item for pair in pairs for item in pair))
        else:
            train_lazy(folder, *(f"{KEYS[name][1]}={v}" for name, v in settings.items()))
    return SimpleNamespace(
        pictures=sorted(path.name for path in (folder / "pictures").glob("*")),
        checkpoints=sorted(path.name for path in folder.glob("model_0*.pth")),
        scalars=metrics(folder),
        weights=weights(folder),
        log=(folder / "log.txt").read_text(),
        runs=wandb.runs,
    )


@pytest.fixture(scope="module", params=["yaml", "lazy"])
def trainings(request, tiny_digits, tmp_path_factory):
    """One training that shows and keeps much, and one that shows and keeps little."""
    return [
        train(request.param, tmp_path_factory.mktemp(request.param), {**COMMON, **settings})
        for settings in (MUCH, LITTLE)
    ]


def test_pictures_are_drawn_every_vis_period_and_after_every_evaluation(trainings):
    much, little = trainings
    steps = ["step_0000000.png", "step_0000002.png"]
    evaluations = ["validation_0000002.png", "validation_0000004.png"]
    assert much.pictures == [*steps, *evaluations]
    assert little.pictures == []


def test_what_is_shown_changes_no_weight_and_no_result(trainings):
    much, little = trainings
    assert all(torch.equal(little.weights[name], t) for name, t in much.weights.items())
    results = [{k: v for k, v in t.scalars.items() if "/bbox/" in k} for t in trainings]
    assert results[0] and results[0] == pytest.approx(results[1], rel=0, abs=0, nan_ok=True)


def test_as_many_periodic_checkpoints_stay_as_are_to_be_kept(trainings):
    much, little = trainings
    assert much.checkpoints == [f"model_000000{n}.pth" for n in (0, 1, 2)]
    assert little.checkpoints == ["model_0000002.pth"]


def test_bad_health_is_told_when_patience_ends(trainings):
    much, little = trainings
    assert "monitoring.health WARNING: step 3, last 4 steps: 0 of " in much.log
    # A teacher of four steps may decline, which is told by itself.
    assert "monitoring.health WARNING: step 3, last" not in little.log


def test_hidden_labels_measure_pseudo_boxes(trainings):
    much, little = trainings
    assert 0 <= much.scalars["pseudo/recall_cls"] <= 1
    assert not [name for name in little.scalars if name.startswith(("pseudo/rec", "pseudo/prec"))]
    assert "pseudo/best_score" in little.scalars


def test_the_run_of_wandb_has_its_name(trainings):
    much, little = trainings
    (run,) = much.runs
    assert (run.settings["project"], run.settings["name"]) == ("digits", "fold-1")
    assert run.lines and run.finished
    assert little.runs == []
