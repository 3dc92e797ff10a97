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


class Checkpointer:
    """Writes the iteration into files; ``full`` says whether the disk is."""

    def __init__(self, folder):
        self.save_dir = str(folder)
        self.full = False
        self.saved = []

    def save(self, name, iteration):
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.saved.append((name, iteration))
        open(f"{self.save_dir}/{name}.pth", "w").close()


@pytest.fixture
def checkpointer(tmp_path):
    return Checkpointer(tmp_path)


def run(checkpointer, *, start=0, stop=None, max_iter=10, period=3, keep=None, broken_in=None):
    """Takes the steps [start, stop) of a training; ``broken_in`` breaks off in that part."""
    loop = SimpleNamespace(last_update=-1)
    steps_done = StepsDone(loop)
    saver = Saver(checkpointer, steps_done, period, keep)
    trainer = SimpleNamespace(start_iter=start, max_iter=max_iter, iter=start)
    steps_done.trainer = saver.trainer = trainer
    stop = max_iter if stop is None else stop
    steps_done.before_train(), saver.before_train()
    for trainer.iter in range(start, stop):
        loop.last_update = trainer.iter
        steps_done.after_step(), saver.after_step()
    if broken_in == "update":
        loop.last_update = stop
    if broken_in in ("step", "update"):
        trainer.iter = stop
    elif broken_in == "evaluation":
        trainer.iter = stop
        steps_done.after_step()
    else:
        trainer.iter = stop if stop == max_iter else stop - 1
    saver.after_train()
    return saver


# --- when ---------------------------------------------------------------------------------------


def test_no_steps_save_nothing(checkpointer):
    run(checkpointer, stop=0, broken_in="step")
    assert checkpointer.saved == []


def test_every_period_and_the_end_are_saved(checkpointer):
    run(checkpointer)
    assert checkpointer.saved == [
        ("model_0000002", 2),
        ("model_0000005", 5),
        ("model_0000008", 8),
        ("model_final", 9),
    ]


def test_the_last_step_is_saved_once_even_if_the_period_ends_there(checkpointer):
    run(checkpointer, max_iter=6)
    assert checkpointer.saved == [("model_0000002", 2), ("model_final", 5)]


@pytest.mark.parametrize(
    "stop, broken_in, last",
    [
        (5, None, ("model_0000004", 4)),
        (5, "step", ("model_0000004", 4)),
        (5, "evaluation", ("model_0000005", 5)),
        (6, None, ("model_0000005", 5)),
        (1, "step", ("model_0000000", 0)),
    ],
)
def test_what_is_complete_is_saved_when_training_breaks_off(stop, broken_in, last, checkpointer):
    run(checkpointer, stop=stop, broken_in=broken_in)
    assert checkpointer.saved[-1] == last
    assert len(checkpointer.saved) == len(set(checkpointer.saved))


def test_what_an_update_has_begun_to_change_is_not_saved(checkpointer, caplog):
    run(checkpointer, stop=5, broken_in="update")
    assert checkpointer.saved == [("model_0000002", 2)]
    assert "step 5 was interrupted while it updated the networks" in caplog.text


def last_step(checkpointer, fails=()):
    """The last step: saved, evaluated, and saved again; ``fails`` are saves that fail."""
    loop = SimpleNamespace(last_update=9)
    steps_done = StepsDone(loop)
    saver = Saver(checkpointer, steps_done, 3)
    before = LastStepSaver(saver)
    trainer = SimpleNamespace(start_iter=9, max_iter=10, iter=9)
    before.trainer = saver.trainer = steps_done.trainer = trainer
    steps_done.before_train(), saver.before_train()
    steps_done.after_step()
    for number, hook in enumerate((before, saver)):
        checkpointer.full = number in fails
        hook.after_step()


def test_the_last_step_is_saved_before_and_after_its_evaluation(checkpointer):
    last_step(checkpointer)
    assert checkpointer.saved == [("model_final", 9)] * 2


def test_other_steps_are_not_saved_before_their_evaluation(checkpointer):
    hook = LastStepSaver(Saver(checkpointer, StepsDone(None), 3))
    hook.trainer = SimpleNamespace(iter=8, max_iter=10)
    hook.after_step()
    assert checkpointer.saved == []


def test_the_last_step_is_evaluated_even_if_it_cannot_be_saved_before(checkpointer, caplog):
    last_step(checkpointer, fails=[0])
    assert checkpointer.saved == [("model_final", 9)]
    assert "model_final.pth cannot be saved" in caplog.text


def test_a_resumed_training_that_breaks_off_at_once_saves_nothing(checkpointer):
    run(checkpointer, start=4, stop=4, broken_in="step")
    assert checkpointer.saved == []


# --- what is kept -------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_has_no_checkpoints(tmp_path):
    assert numbered_checkpoints(str(tmp_path / "none")) == []


def test_only_periodic_checkpoints_are_numbered(tmp_path):
    names = ["model_10000000.pth", "model_0000002.pth", "model_9999999.pth", "model_best.pth"]
    for name in [*names, "model_final.pth", "model_0000003.pth.99.tmp", "model_12.pth"]:
        (tmp_path / name).touch()
    found = numbered_checkpoints(str(tmp_path))
    numbers = ("0000002", "9999999", "10000000")
    assert found == [str(tmp_path / f"model_{number}.pth") for number in numbers]


def test_the_oldest_go_and_those_before_a_resume_count(checkpointer, tmp_path):
    run(checkpointer, stop=6, keep=2)
    (tmp_path / "model_best.pth").touch()
    run(checkpointer, start=6, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model_0000005.pth",
        "model_0000008.pth",
        "model_best.pth",
        "model_final.pth",
    ]


# --- a full disk --------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_training_goes_on(checkpointer, caplog):
    checkpointer.full = True
    run(checkpointer, stop=5)
    assert checkpointer.saved == []
    assert "model_0000002.pth cannot be saved" in caplog.text
    assert "no space left" in caplog.text and "make room" in caplog.text


def test_older_checkpoints_stay_when_a_new_one_cannot_be_saved(checkpointer, tmp_path):
    run(checkpointer, stop=3, keep=1)
    checkpointer.full = True
    run(checkpointer, start=3, stop=6, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["model_0000002.pth"]


def test_the_last_save_must_work(checkpointer):
    checkpointer.full = True
    with pytest.raises(TrainingError, match="model_final.pth cannot be saved"):
        run(checkpointer)


# --- the best teacher ---------------------------------------------------------------------------


def evaluate(hook, results):
    """Steps with the given AP, None without an evaluation."""
    with EventStorage() as storage:
        for step, value in enumerate(results):
            storage.iter = step
            if value is not None:
                storage.put_scalar("teacher/bbox/AP", value)
            hook.trainer = SimpleNamespace(iter=step, storage=storage)
            hook.after_step()


def test_without_an_evaluation_there_is_no_best(checkpointer):
    evaluate(BestTeacher(checkpointer, "teacher/bbox/AP"), [None, None])
    assert checkpointer.saved == []


def test_every_improvement_is_saved_once(checkpointer):
    hook = BestTeacher(checkpointer, "teacher/bbox/AP")
    evaluate(hook, [None, 10.0, None, 9.0, math.nan, 10.0, 12.0, None])
    assert checkpointer.saved == [("model_best", 1), ("model_best", 6)]
    assert hook.state_dict() == {"best": 12.0, "best_step": 6}


def test_the_best_so_far_survives_an_interruption(checkpointer):
    first = BestTeacher(checkpointer, "teacher/bbox/AP")
    evaluate(first, [20.0])
    second = BestTeacher(checkpointer, "teacher/bbox/AP")
    second.load_state_dict(first.state_dict())
    evaluate(second, [19.0, 21.0])
    assert checkpointer.saved == [("model_best", 0), ("model_best", 1)]


def test_a_full_disk_does_not_stop_the_training_for_the_best(checkpointer, caplog):
    checkpointer.full = True
    evaluate(BestTeacher(checkpointer, "teacher/bbox/AP"), [20.0])
    assert "model_best.pth cannot be saved" in caplog.text
