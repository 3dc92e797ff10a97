"""Trainings in which something goes wrong, from end to end."""

import errno
import json
import math

import fvcore.common.checkpoint
import pytest
import torch
from detectron2.evaluation import COCOEvaluator
from training import metrics, train_lazy, train_yaml, weights

from soft_teacher import ConfigError, TrainingError
from soft_teacher.data.streams.loader import TwoStreamLoader
from soft_teacher.engine import EMAHook
from soft_teacher.engine.train_loop import SoftTeacherLoop
from soft_teacher.monitoring.events import CLOCKS

pytestmark = pytest.mark.usefixtures("tiny_digits")

NO_EVALUATION = ["TEST.EVAL_PERIOD", "0", "DATASETS.TEST", "()"]


@pytest.fixture
def spoil(monkeypatch):
    """Makes every image of some steps NaN."""

    def spoil(*steps):
        usual = TwoStreamLoader.__iter__

        def batches(self):
            for step, batch in enumerate(usual(self), start=self.start_step):
                for sample in batch if step in steps else []:
                    sample["image"] = torch.full(sample["image"].shape, math.nan)
                yield batch

        monkeypatch.setattr(TwoStreamLoader, "__iter__", batches)

    return spoil


@pytest.fixture
def fill_disk(monkeypatch):
    """The next writes of checkpoints fail in their middle."""

    def fill(times):
        usual, left = torch.save, [times]

        def save(data, file, *args, **kwargs):
            if left[0]:
                left[0] -= 1
                file.write(b"half")
                raise OSError(errno.ENOSPC, "No space left on device")
            return usual(data, file, *args, **kwargs)

        monkeypatch.setattr(fvcore.common.checkpoint.torch, "save", save)

    return fill


def names(folder):
    return sorted(path.name for path in folder.glob("*.pth*"))


# --- NaN ----------------------------------------------------------------------------------------


def test_a_nan_in_a_batch(tmp_path, spoil, caplog):
    spoil(1)
    train_yaml(tmp_path, *NO_EVALUATION)
    assert "step 1: " in caplog.text and "sup/loss_cls" in caplog.text
    state = weights(tmp_path)
    assert all(tensor.isfinite().all() for tensor in state.values())
    assert math.isfinite(metrics(tmp_path)["total_loss"])
    dump = torch.load(tmp_path / "nonfinite" / "step_0000001_rank0.pth", weights_only=True)
    assert all(sample["image"].isnan().all() for batch in dump["batches"] for sample in batch)


def test_more_nan_than_allowed_stops_and_keeps_what_was_trained(tmp_path, spoil):
    spoil(2, 3)
    with pytest.raises(TrainingError, match="step 3: .* SOLVER.MAX_NONFINITE"):
        train_yaml(tmp_path, *NO_EVALUATION, "SOLVER.MAX_NONFINITE", "1")
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000002.pth"
    assert all(t.isfinite().all() for t in weights(tmp_path, "model_0000002.pth").values())


# --- the disk -----------------------------------------------------------------------------------


def test_a_full_disk(tmp_path, fill_disk, caplog):
    fill_disk(times=1)
    train_yaml(tmp_path, *NO_EVALUATION)
    assert "model_0000001.pth cannot be saved" in caplog.text
    assert "no space left" in caplog.text and "training continues" in caplog.text
    assert names(tmp_path) == ["model_final.pth"]


def test_a_disk_that_stays_full_leaves_the_checkpoint_before(tmp_path, fill_disk):
    train_yaml(tmp_path, *NO_EVALUATION, "SOLVER.MAX_ITER", "4")
    (tmp_path / "model_final.pth").unlink()
    before = (tmp_path / "model_0000001.pth").read_bytes()
    fill_disk(times=99)
    with pytest.raises(TrainingError, match="model_final.pth cannot be saved"):
        train_yaml(tmp_path, *NO_EVALUATION, resume=True)
    assert names(tmp_path) == ["model_0000001.pth"]
    assert (tmp_path / "model_0000001.pth").read_bytes() == before


# --- an evaluation that fails -------------------------------------------------------------------

EVERY_TWO_STEPS = ["TEST.EVAL_PERIOD", "2", "SOFT_TEACHER.EVAL_NETWORKS", "('teacher',)"]


@pytest.fixture
def break_evaluation(monkeypatch):
    """Evaluations fail with an error, as often as it is told."""

    def fail(error, times=1):
        usual, left = COCOEvaluator.evaluate, [times]

        def evaluate(self, *args, **kwargs):
            left[0] -= 1
            if left[0] >= 0:
                raise error
            return usual(self, *args, **kwargs)

        monkeypatch.setattr(COCOEvaluator, "evaluate", evaluate)

    return fail


def logged(folder):
    """metrics.json without clocks."""
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]


@pytest.fixture(scope="module")
def evaluated(tiny_digits, tmp_path_factory):
    """A training whose evaluations all succeed."""
    folder = tmp_path_factory.mktemp("evaluated")
    train_yaml(folder, *EVERY_TWO_STEPS)
    return folder


def assert_same(folder, other):
    state, expected = weights(folder), weights(other)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert logged(folder) == logged(other)
    assert names(folder) == names(other)


@pytest.mark.parametrize("step", [2, 4], ids=["in mid-run", "after the last step"])
def test_a_failed_evaluation_ends_the_run_and_is_the_first_thing_after_a_resume(
    step, tmp_path, break_evaluation, evaluated, monkeypatch
):
    period = ["TEST.EVAL_PERIOD", "2" if step == 2 else "0", *EVERY_TWO_STEPS[2:]]
    break_evaluation(KeyError("area"))
    with pytest.raises(TrainingError, match=f"evaluation after {step} steps failed .*'area'"):
        train_yaml(tmp_path, *period)
    saved = torch.load(tmp_path / (tmp_path / "last_checkpoint").read_text(), weights_only=True)
    assert saved["iteration"] == step - 1
    if step == 4:
        monkeypatch.setattr(SoftTeacherLoop, "run_step", None)  # nothing is trained again
    train_yaml(tmp_path, *period, resume=True)
    if step == 2:
        assert_same(tmp_path, evaluated)
    assert metrics(tmp_path)["teacher/bbox/AP"] == metrics(evaluated)["teacher/bbox/AP"]
    assert (tmp_path / "report.html").is_file()


@pytest.mark.long
def test_a_run_that_is_killed_in_its_last_evaluation_only_evaluates_when_it_is_resumed(
    tmp_path, break_evaluation, monkeypatch
):
    break_evaluation(SystemExit(143))
    with pytest.raises(SystemExit):
        train_lazy(tmp_path)
    monkeypatch.setattr(SoftTeacherLoop, "run_step", None)
    train_lazy(tmp_path, resume=True)
    assert math.isfinite(metrics(tmp_path)["teacher/bbox/AP"])
    train_lazy(tmp_path, resume=True)  # and then nothing


def test_a_run_survives_a_disk_that_is_full_during_an_evaluation(
    tmp_path, break_evaluation, caplog
):
    break_evaluation(OSError(errno.ENOSPC, "No space left on device"))
    train_yaml(tmp_path, *EVERY_TWO_STEPS)
    assert "no space left" in caplog.text and "continues without this evaluation" in caplog.text
    assert [line["iteration"] for line in logged(tmp_path) if "teacher/bbox/AP" in line] == [3]


def test_a_disk_that_is_full_during_the_last_evaluation_is_one_line(tmp_path, break_evaluation):
    break_evaluation(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(TrainingError, match="after 4 steps failed .*no space left"):
        train_yaml(tmp_path, *EVERY_TWO_STEPS[2:])
    assert names(tmp_path) == ["model_0000001.pth", "model_final.pth"]


# --- a step that breaks off ---------------------------------------------------------------------


@pytest.mark.parametrize("where", ["backward", "update", "ema"])
def test_a_checkpoint_of_a_broken_step_is_the_step_before_to_the_bit(where, tmp_path, monkeypatch):
    opts = ["SOLVER.CHECKPOINT_PERIOD", "1", "SOLVER.CHECKPOINTS_TO_KEEP", "0", *NO_EVALUATION]
    train_yaml(tmp_path / "whole", *opts)
    place = {
        "backward": (torch.Tensor, "backward"),
        "update": (torch.optim.AdamW, "step"),
        "ema": (EMAHook, "after_step"),
    }[where]
    usual, calls = getattr(*place), []

    def breaks(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("connection lost")
        return usual(*args, **kwargs)

    monkeypatch.setattr(*place, breaks)
    opts[1] = "100"
    with pytest.raises(RuntimeError, match="connection lost"):
        train_yaml(tmp_path / "broken", *opts)
    if where != "backward":
        assert names(tmp_path / "broken") == []
        return
    assert names(tmp_path / "broken") == ["model_0000001.pth"]
    states = [
        torch.load(tmp_path / run / "model_0000001.pth", weights_only=True)
        for run in ("whole", "broken")
    ]
    assert any("running_mean" in name for name in states[0]["model"])
    for name, tensor in states[0]["model"].items():
        assert torch.equal(tensor, states[1]["model"][name]), name
    history = [state["trainer"]["hooks"]["EventHistory"] for state in states]
    assert history[0] == history[1]


# --- another training ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def yaml_folder(tiny_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("yaml")
    train_yaml(folder, *NO_EVALUATION)
    return folder


def refusal(train, folder, *opts):
    with pytest.raises(ConfigError) as error:
        train(folder, *opts, resume=True)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "opts, said",
    [
        (["SOLVER.BASE_LR", "0.5"], "SOLVER.BASE_LR was 0.001 and is 0.5"),
        (["SEED", "9"], "SEED was 0 and is 9"),
        (["SOFT_TEACHER.JITTER.NUM", "3"], "SOFT_TEACHER.JITTER.NUM was 10 and is 3"),
        (["DATASETS.TRAIN_UNLABELED", "digits_unlabeled"], "DATASETS.TRAIN_UNLABELED was "),
        (
            ["SOLVER.GRADIENT_ACCUMULATION", "2"],
            "processes x SOLVER.GRADIENT_ACCUMULATION was 1 and is 2",
        ),
    ],
)
def test_another_training_is_not_resumed(opts, said, yaml_folder):
    found = refusal(train_yaml, yaml_folder, *NO_EVALUATION, *opts)
    assert said in found and "SOFT_TEACHER.RESUME_CHANGED" in found


def test_another_training_is_resumed_when_told_to(yaml_folder, caplog):
    opts = [*NO_EVALUATION, "SOLVER.MAX_ITER", "5", "SOFT_TEACHER.RESUME_CHANGED", "True"]
    train_yaml(yaml_folder, *opts, resume=True)
    assert "resumed although SOLVER.MAX_ITER was 4 and is 5" in caplog.text
    assert metrics(yaml_folder)["iteration"] == 4


def test_keys_that_do_not_change_the_course_may_change(yaml_folder):
    opts = ["SOLVER.CHECKPOINT_PERIOD", "3", "SOFT_TEACHER.EVAL_NETWORKS", "('teacher',)"]
    train_yaml(yaml_folder, *NO_EVALUATION, "SOLVER.MAX_ITER", "5", *opts, resume=True)


@pytest.mark.long
def test_a_lazy_training_knows_itself_too(tmp_path):
    train_lazy(tmp_path, "train.max_iter=2")
    train_lazy(tmp_path, "train.max_iter=2", "train.eval_period=1", resume=True)
    found = refusal(train_lazy, tmp_path, "train.max_iter=2", "optimizer.lr=0.5")
    assert "optimizer.lr was 0.001 and is 0.5" in found


# --- gradient accumulation ----------------------------------------------------------------------


@pytest.mark.long
def test_gradient_clipping_and_accumulation_work_in_both_languages(tmp_path):
    clip = ["SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.01"]
    two = ["SOLVER.GRADIENT_ACCUMULATION", "2"]
    train_yaml(tmp_path / "yaml", *NO_EVALUATION, *clip, *two)
    lazy = ["train.clip_gradients.enabled=True", "train.clip_gradients.clip_value=0.01"]
    lazy += ["dataloader.train.chunks=2"]
    train_lazy(tmp_path / "lazy", *lazy)
    one, other = weights(tmp_path / "yaml"), weights(tmp_path / "lazy")
    assert one.keys() == other.keys()
    plain = tmp_path / "plain"
    train_yaml(plain, *NO_EVALUATION, *two)
    name = "student.roi_heads.box_predictor.cls_score.weight"
    assert not torch.equal(one[name], weights(plain)[name])
