import errno
import math
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from soft_teacher import TrainingError
from soft_teacher.engine.saving import (
    BestTeacher,
    LastStepSaver,
    Saver,
    StepsDone,
    numbered_checkpoints,
)

TEACHER = "teacher/bbox/AP"
PERIODIC = [("model_0000002", 2), ("model_0000005", 5), ("model_0000008", 8)]


class Checkpointer:
    """Creates empty files; ``full`` says whether the disk is."""

    def __init__(self, folder):
        self.save_dir = str(folder)
        self.full = False
        self.saved = []
        self.trainer = None

    def save(self, name, iteration):
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        assert self.trainer is None or self.trainer.iter == iteration
        self.saved.append((name, iteration))
        open(f"{self.save_dir}/{name}.pth", "w").close()


@pytest.fixture
def checkpointer(tmp_path):
    return Checkpointer(tmp_path)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run(checkpointer, *, start=0, stop=None, max_iter=10, keep=None, broken_in=None):
    """Takes the steps [start, stop) of a run; it is interrupted in the part ``broken_in``."""
    loop = SimpleNamespace(last_update=-1)
    steps_done = StepsDone(loop)
    saver = Saver(checkpointer, steps_done, 3, keep)
    trainer = SimpleNamespace(start_iter=start, max_iter=max_iter, iter=start)
    steps_done.trainer = saver.trainer = checkpointer.trainer = trainer
    stop = max_iter if stop is None else stop
    steps_done.before_train(), saver.before_train()
    for trainer.iter in range(start, stop):
        loop.last_update = trainer.iter
        steps_done.after_step(), saver.after_step()
    if broken_in or stop == max_iter:
        trainer.iter = stop
    if broken_in == "update":
        loop.last_update = stop
    if broken_in == "evaluation":
        steps_done.after_step()
    saver.after_train()


@pytest.mark.parametrize(
    "settings, saved",
    [
        (dict(stop=0, broken_in="step"), []),
        (dict(), [*PERIODIC, ("model_final", 9)]),
        (dict(max_iter=6), [PERIODIC[0], ("model_final", 5)]),
        # Complete steps are saved, once, when a run is interrupted.
        (dict(stop=5), [PERIODIC[0], ("model_0000004", 4)]),
        (dict(stop=5, broken_in="step"), [PERIODIC[0], ("model_0000004", 4)]),
        (dict(stop=5, broken_in="evaluation"), PERIODIC[:2]),
        (dict(stop=6), PERIODIC[:2]),
        (dict(stop=1, broken_in="step"), [("model_0000000", 0)]),
        (dict(start=4, stop=4, broken_in="step"), []),
        # Networks that an update has begun to change are not.
        (dict(stop=5, broken_in="update"), PERIODIC[:1]),
    ],
    ids=str,
)
def test_which_steps_are_saved(settings, saved, checkpointer, caplog):
    run(checkpointer, **settings)
    assert checkpointer.saved == saved
    interrupted = "step 5 was interrupted while it updated the networks"
    assert (interrupted in caplog.text) == (settings.get("broken_in") == "update")


@pytest.mark.parametrize("fails, count", [((), 2), ((0,), 1)])
def test_the_last_step_is_saved_before_and_after_its_evaluation(fails, count, checkpointer, caplog):
    saver = Saver(checkpointer, StepsDone(None), 3)
    before = LastStepSaver(saver)
    for step in (8, 9):
        before.trainer = saver.trainer = SimpleNamespace(start_iter=9, max_iter=10, iter=step)
        for number, hook in enumerate((before, saver) if step == 9 else (before,)):
            checkpointer.full = number in fails
            hook.after_step()
    assert checkpointer.saved == [("model_final", 9)] * count
    assert ("model_final.pth cannot be saved" in caplog.text) == bool(fails)


# --- what is kept -------------------------------------------------------------------------------


def test_only_periodic_checkpoints_are_numbered(tmp_path):
    assert numbered_checkpoints(str(tmp_path / "none")) == []
    files = ["model_10000000.pth", "model_0000002.pth", "model_9999999.pth", "model_best.pth"]
    for name in [*files, "model_final.pth", "model_0000003.pth.99.tmp", "model_12.pth"]:
        (tmp_path / name).touch()
    numbers = ("0000002", "9999999", "10000000")
    expected = [str(tmp_path / f"model_{number}.pth") for number in numbers]
    assert numbered_checkpoints(str(tmp_path)) == expected


def test_the_oldest_are_removed_and_those_before_a_resume_count(checkpointer, tmp_path):
    run(checkpointer, stop=6, keep=2)
    (tmp_path / "model_best.pth").touch()
    run(checkpointer, start=6, keep=2)
    kept = ("model_0000005", "model_0000008", "model_best", "model_final")
    assert names(tmp_path) == [f"{name}.pth" for name in kept]


# --- a full disk --------------------------------------------------------------------------------


def test_a_full_disk_is_logged_older_checkpoints_stay_and_the_last_save_must_work(
    checkpointer, tmp_path, caplog
):
    run(checkpointer, stop=3, keep=1)
    checkpointer.full = True
    run(checkpointer, start=3, stop=6, keep=1)
    assert names(tmp_path) == ["model_0000002.pth"]
    assert f"model_0000005.pth cannot be saved to {tmp_path} (no space left)" in caplog.text
    assert "make room there; training continues" in caplog.text
    with pytest.raises(TrainingError, match="model_final.pth cannot be saved"):
        run(checkpointer, start=6)


# --- the best teacher ---------------------------------------------------------------------------


def evaluate(hook, results):
    """Steps with the given AP, None without an evaluation."""
    with EventStorage() as storage:
        for step, value in enumerate(results):
            storage.iter = step
            if value is not None:
                storage.put_scalar(TEACHER, value)
            hook.trainer = SimpleNamespace(iter=step, storage=storage)
            hook.after_step()


@pytest.mark.parametrize(
    "results, saved",
    [
        ([None, None], []),
        ([None, 10.0, None, 9.0, math.nan, 10.0, 12.0, None], [1, 6]),
    ],
)
def test_every_improvement_of_the_best_teacher_is_saved_once(results, saved, checkpointer):
    hook = BestTeacher(checkpointer, TEACHER)
    evaluate(hook, results)
    assert checkpointer.saved == [("model_best", step) for step in saved]


def test_the_best_so_far_survives_an_interruption(checkpointer):
    first, second = BestTeacher(checkpointer, TEACHER), BestTeacher(checkpointer, TEACHER)
    evaluate(first, [20.0])
    assert first.state_dict() == {"best": 20.0, "best_step": 0}
    second.load_state_dict(first.state_dict())
    evaluate(second, [19.0, 21.0])
    assert checkpointer.saved == [("model_best", 0), ("model_best", 1)]


def test_a_best_teacher_that_cannot_be_saved_is_logged(checkpointer, caplog):
    checkpointer.full = True
    evaluate(BestTeacher(checkpointer, TEACHER), [20.0])
    assert "model_best.pth cannot be saved" in caplog.text
