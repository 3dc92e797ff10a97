"""Which checkpoint of a folder is resumed, and what is wrong with the others."""

import logging

import pytest
import torch
from checkpoints import assert_same, soft_teacher, state, stock_detector, write_torch
from detectron2.engine import SimpleTrainer

from soft_teacher import ConfigError
from soft_teacher.engine.checkpoint import SoftTeacherCheckpointer
from soft_teacher.engine.identity import RunIdentity


class Run:
    """A run that has not started, with its own weights and a folder."""

    def __init__(self, folder, *, seed=0):
        self.folder, self.model = folder, soft_teacher(seed=seed)
        optimizer = torch.optim.SGD(self.model.student.parameters(), lr=0.1, momentum=0.9)
        self.trainer = SimpleTrainer(self.model, [], optimizer)
        identity = RunIdentity({"SEED": 1})
        parts = {"identity": identity, "trainer": self.trainer}
        self.checkpointer = SoftTeacherCheckpointer(self.model, str(folder), **parts)

    def save(self, step):
        """Saves as after ``step``; returns the path."""
        for parameter in self.model.student.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.trainer.optimizer.step()
        self.trainer.iter = step
        self.checkpointer.save(f"model_{step:07d}", iteration=step)
        return self.folder / f"model_{step:07d}.pth"

    def resume(self, weights=""):
        self.checkpointer.resume_or_load(str(weights), resume=True)
        return self


@pytest.fixture
def saved(tmp_path):
    """A run that saved after step 4."""
    run = Run(tmp_path, seed=1)
    run.save(4)
    return run


def resumed(folder) -> Run:
    return Run(folder, seed=2).resume()


def refusal(folder) -> str:
    with pytest.raises(ConfigError, match=r"^.*\Z") as error:
        resumed(folder)
    return str(error.value)


def warnings(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_an_empty_folder_starts_a_run_and_says_so(tmp_path, caplog):
    weights = write_torch(tmp_path / "start.pth", {"model": state(soft_teacher(seed=9))})
    run = Run(tmp_path / "run").resume(weights)
    assert "nothing to resume in" in caplog.text and str(tmp_path / "run") in caplog.text
    assert not run.checkpointer.has_checkpoint()
    assert_same(state(run.model), state(soft_teacher(seed=9)))


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b"gone.pth", b"a\x00b", b"."])
def test_the_last_checkpoint_is_resumed_even_if_last_checkpoint_names_none(
    content, saved, tmp_path, caplog
):
    if content is not None:
        (tmp_path / "last_checkpoint").write_bytes(content)
    run = resumed(tmp_path)
    assert run.checkpointer.has_checkpoint() and run.trainer.iter == 4
    assert_same(state(run.model), state(saved.model))
    assert warnings(caplog) == []


def test_another_run_is_resumed_only_if_changes_are_allowed(saved, tmp_path, caplog):
    run = Run(tmp_path)
    run.checkpointer.identity.values["SEED"] = "2"
    with pytest.raises(ConfigError, match="SEED was 1 and is 2"):
        run.resume()
    run.checkpointer.identity.allow_changes = True
    assert run.resume().trainer.iter == 4
    assert warnings(caplog) == ["resumed although SEED was 1 and is 2"]


# --- damage -------------------------------------------------------------------------------------


def zeroed(path):
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)


def poisoned(path):
    content = torch.load(path, weights_only=True)
    next(iter(content["model"].values())).fill_(float("nan"))
    write_torch(path, content)


@pytest.mark.parametrize(
    "damage, said",
    [(zeroed, "is damaged at '"), (poisoned, "holds weights that are not finite")],
)
def test_the_checkpoint_before_a_damaged_one_is_resumed_and_none_is_overwritten(
    damage, said, saved, tmp_path, caplog
):
    before, last = state(saved.model), saved.save(9)
    damage(last)
    run = resumed(tmp_path)
    assert run.trainer.iter == 4
    assert_same(state(run.model), before)
    (warning,) = warnings(caplog)
    assert f"checkpoint '{last}' {said}" in warning
    assert warning.endswith("; going back to the checkpoint before")
    damage(tmp_path / "model_0000004.pth")
    assert said in refusal(tmp_path)


# --- weights without a run ----------------------------------------------------------------------


WEIGHTS = {
    "weights": lambda: {"model": state(soft_teacher(seed=7))},
    "weights and a number": lambda: {"model": state(soft_teacher(seed=7)), "iteration": 99},
    "bare weights": lambda: state(soft_teacher(seed=7)),
    # What Detectron2's own trainer saves of a plain detector.
    "another trainer's": lambda: {
        "model": state(stock_detector()),
        "trainer": Run("").trainer.state_dict(),
        "iteration": 99,
    },
}


@pytest.fixture(params=WEIGHTS)
def alone(request, tmp_path):
    """alone(name): writes weights alone, as the last checkpoint."""

    def write(name):
        path = write_torch(tmp_path / name, WEIGHTS[request.param]())
        (tmp_path / "last_checkpoint").write_text(name)
        return path

    write.kind = request.param
    return write


@pytest.mark.parametrize("name", ["model_final.pth", "model_0000099.pth"])
def test_weights_alone_are_not_resumed_as_step_1(alone, name, tmp_path, caplog):
    path = alone(name)
    run = resumed(tmp_path)
    assert run.trainer.iter == 0 and not run.checkpointer.has_checkpoint()
    assert_same(state(run.model), state(soft_teacher(seed=2)))
    skipped, afresh = warnings(caplog)
    assert f"'{path}' holds weights but no state of a run" in skipped
    assert "name it as SoftTeacherCheckpointer.path" in skipped and "nothing to resume" in afresh


def test_the_run_beside_weights_alone_is_resumed_and_if_damaged_not_overwritten(
    alone, saved, tmp_path
):
    alone("model_0000099.pth")
    run = resumed(tmp_path)
    assert run.trainer.iter == 4 and run.checkpointer.has_checkpoint()
    assert_same(state(run.model), state(saved.model))
    zeroed(tmp_path / "model_0000004.pth")
    assert "model_0000004.pth' is damaged" in refusal(tmp_path)


def test_an_evaluation_takes_weights_alone(alone, tmp_path):
    alone("model_final.pth")
    model = soft_teacher(seed=2)
    SoftTeacherCheckpointer(model, str(tmp_path), complete=True).resume_or_load("", resume=True)
    if alone.kind == "another trainer's":
        assert_same(state(model.teacher), state(stock_detector()))
    else:
        assert_same(state(model), state(soft_teacher(seed=7)))


# --- parts of unexpected types ------------------------------------------------------------------


def change(path, edit):
    """Edits the content of a checkpoint in place, or replaces it."""
    content = torch.load(path, weights_only=True)
    write_torch(path, edit(content) or content)


def put(value, *keys):
    """An edit that puts a value at a place of the content, or deletes that if it is ``del``."""

    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        if value == "del":
            del content[keys[-1]]
        else:
            content[keys[-1]] = value

    return edit


UNEXPECTED = {
    "a list": lambda content: [1, 2],
    "a text": lambda content: "model",
    "the weights a list": put([1], "model"),
    "the weights nothing": put(None, "model"),
    "the trainer a list": put([1], "trainer"),
    "the trainer empty": put({}, "trainer"),
    "no step": put("del", "trainer", "iteration"),
    "the step a text": put("4", "trainer", "iteration"),
    "the step a fraction": put(4.5, "trainer", "iteration"),
    "the step negative": put(-5, "trainer", "iteration"),
    "the hooks a text": put("none", "trainer", "hooks"),
    "no optimizer": put(None, "trainer", "optimizer"),
    "no groups": put([], "trainer", "optimizer", "param_groups"),
    "another shape": put(torch.zeros(3, 3), "trainer", "optimizer", "state", 0, "momentum_buffer"),
    "the identity a list": put([1], "identity"),
    "the identity of numbers": put({1: 2}, "identity"),
}


@pytest.mark.parametrize("edit", UNEXPECTED.values(), ids=UNEXPECTED)
def test_a_checkpoint_of_unexpected_parts_is_skipped_or_refused_in_one_line(
    edit, saved, tmp_path, caplog
):
    change(saved.save(9), edit)
    run = resumed(tmp_path)
    assert run.trainer.iter == 4
    for parameter, momentum in run.trainer.optimizer.state.items():
        assert momentum["momentum_buffer"].shape == parameter.shape
    assert "going back to the checkpoint before" in caplog.text
    (tmp_path / "model_0000004.pth").unlink()
    assert str(tmp_path / "model_0000009.pth") in refusal(tmp_path)


def test_an_iteration_beside_the_trainer_is_not_read(saved, tmp_path):
    change(saved.save(9), put("nine", "iteration"))
    assert resumed(tmp_path).trainer.iter == 9
