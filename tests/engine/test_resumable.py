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
    """A training that has not started, with its own weights and a folder."""

    def __init__(self, folder, *, seed=0):
        self.folder, self.model = folder, soft_teacher(seed=seed)
        optimizer = torch.optim.SGD(self.model.student.parameters(), lr=0.1, momentum=0.9)
        self.trainer = SimpleTrainer(self.model, [], optimizer)
        self.checkpointer = SoftTeacherCheckpointer(
            self.model,
            str(folder),
            identity=RunIdentity({"SEED": 1}),
            trainer=self.trainer,
        )

    def save(self, step, **content):
        """Saves as after ``step``; returns the path."""
        for parameter in self.model.student.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.trainer.optimizer.step()
        self.trainer.iter = step
        self.checkpointer.save(f"model_{step:07d}", iteration=step, **content)
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
    with pytest.raises(ConfigError) as error:
        resumed(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def warnings(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def tag(path):
    (path.parent / "last_checkpoint").write_text(path.name)
    return path


def change(path, edit):
    """Edits the content of a checkpoint in place, or replaces it."""
    content = torch.load(path, weights_only=True)
    write_torch(path, edit(content) or content)


def test_an_empty_folder_starts_a_run_and_says_so(tmp_path, caplog):
    weights = write_torch(tmp_path / "start.pth", {"model": state(soft_teacher(seed=9))})
    run = Run(tmp_path / "run").resume(weights)
    assert "nothing to resume in" in caplog.text and str(tmp_path / "run") in caplog.text
    assert not run.checkpointer.has_checkpoint()
    assert_same(state(run.model), state(soft_teacher(seed=9)))


def test_the_last_checkpoint_is_resumed_without_a_word(saved, tmp_path, caplog):
    run = resumed(tmp_path)
    assert run.checkpointer.has_checkpoint() and run.trainer.iter == 4
    assert_same(state(run.model), state(saved.model))
    assert warnings(caplog) == []


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"gone.pth", b"a\x00b", b"."])
def test_last_checkpoint_that_names_no_file_leaves_the_numbered_ones(content, saved, tmp_path):
    (tmp_path / "last_checkpoint").write_bytes(content)
    assert resumed(tmp_path).trainer.iter == 4


# --- damage -------------------------------------------------------------------------------------


def zeroed(path):
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)


def poisoned(path):
    def edit(content):
        next(iter(content["model"].values())).fill_(float("nan"))

    change(path, edit)


DAMAGE = [(zeroed, "is damaged at '"), (poisoned, "holds weights that are not finite")]


@pytest.mark.parametrize("damage, said", DAMAGE)
def test_the_checkpoint_before_a_damaged_one_is_resumed(damage, said, saved, tmp_path, caplog):
    before = state(saved.model)
    last = saved.save(9)
    damage(last)
    run = resumed(tmp_path)
    assert run.trainer.iter == 4
    assert_same(state(run.model), before)
    (warning,) = warnings(caplog)
    assert f"checkpoint '{last}' {said}" in warning
    assert warning.endswith("; going back to the checkpoint before")


@pytest.mark.parametrize("damage, said", DAMAGE)
def test_a_folder_of_damaged_checkpoints_is_refused_rather_than_overwritten(
    damage, said, saved, tmp_path
):
    for path in (tmp_path / "model_0000004.pth", saved.save(9)):
        damage(path)
    assert said in refusal(tmp_path)


# --- weights without a training -----------------------------------------------------------------


def weights_alone(path):
    return tag(write_torch(path, {"model": state(soft_teacher(seed=7))}))


def weights_and_a_number(path):
    return tag(write_torch(path, {"model": state(soft_teacher(seed=7)), "iteration": 99}))


def bare_weights(path):
    return tag(write_torch(path, state(soft_teacher(seed=7))))


def another_trainer_s(path):
    """What Detectron2's own trainer saves of a plain detector."""
    trainer = Run(path.parent).trainer
    content = {"model": state(stock_detector()), "trainer": trainer.state_dict(), "iteration": 99}
    return tag(write_torch(path, content))


WEIGHTS = [weights_alone, weights_and_a_number, bare_weights, another_trainer_s]


@pytest.mark.parametrize("name", ["model_final.pth", "model_0000099.pth"])
@pytest.mark.parametrize("write", WEIGHTS)
def test_weights_alone_are_not_resumed_as_step_1(write, name, tmp_path, caplog):
    path = write(tmp_path / name)
    run = resumed(tmp_path)
    assert run.trainer.iter == 0 and not run.checkpointer.has_checkpoint()
    assert_same(state(run.model), state(soft_teacher(seed=2)))
    skipped, afresh = warnings(caplog)
    assert (
        f"'{path}' holds no training" in skipped
        and "name it as SoftTeacherCheckpointer.path" in skipped
    )
    assert "nothing to resume" in afresh


@pytest.mark.parametrize("write", WEIGHTS)
def test_the_training_beside_weights_alone_is_resumed(write, saved, tmp_path):
    write(tmp_path / "model_0000099.pth")
    run = resumed(tmp_path)
    assert run.trainer.iter == 4 and run.checkpointer.has_checkpoint()
    assert_same(state(run.model), state(saved.model))


def test_weights_alone_do_not_let_a_damaged_training_be_overwritten(saved, tmp_path):
    zeroed(tmp_path / "model_0000004.pth")
    weights_alone(tmp_path / "model_final.pth")
    assert "model_0000004.pth' is damaged" in refusal(tmp_path)


@pytest.mark.parametrize("write", WEIGHTS)
def test_an_evaluation_takes_weights_alone(write, tmp_path):
    write(tmp_path / "model_final.pth")
    model = soft_teacher(seed=2)
    checkpointer = SoftTeacherCheckpointer(model, str(tmp_path), complete=True)
    checkpointer.resume_or_load("", resume=True)
    if write is another_trainer_s:
        assert_same(state(model.teacher), state(stock_detector()))
    else:
        assert_same(state(model), state(soft_teacher(seed=7)))


# --- parts of unexpected types ------------------------------------------------------------------


def put(value, *keys):
    """An edit that puts a value at a place of the content."""

    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return edit


def another_shape(content):
    state = content["trainer"]["optimizer"]["state"]
    state[0]["momentum_buffer"] = torch.zeros(3, 3)


def fewer_groups(content):
    content["trainer"]["optimizer"]["param_groups"] = []


def without_iteration(content):
    del content["trainer"]["iteration"]


UNEXPECTED = {
    "a list": lambda content: [1, 2],
    "a text": lambda content: "model",
    "the weights a list": put([1], "model"),
    "the weights nothing": put(None, "model"),
    "the trainer a list": put([1], "trainer"),
    "the trainer empty": put({}, "trainer"),
    "no step": without_iteration,
    "the step a text": put("4", "trainer", "iteration"),
    "the step a fraction": put(4.5, "trainer", "iteration"),
    "the step negative": put(-5, "trainer", "iteration"),
    "the hooks a text": put("none", "trainer", "hooks"),
    "no optimizer": put(None, "trainer", "optimizer"),
    "an optimizer of fewer groups": fewer_groups,
    "an optimizer of another shape": another_shape,
    "the identity a list": put([1], "identity"),
    "the identity of numbers": put({1: 2}, "identity"),
}


@pytest.mark.parametrize("edit", UNEXPECTED.values(), ids=UNEXPECTED)
def test_a_checkpoint_of_unexpected_parts_is_passed_over_or_refused_in_one_line(
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
