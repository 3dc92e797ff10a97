import json
from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.utils.events import EventStorage, EventWriter, JSONWriter
from full_disk import full_disk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from soft_teacher.monitoring.events import EventFiles, EventHistory, build_writers, trim_metrics


def write_lines(folder, *lines):
    (folder / "metrics.json").write_text("".join(f"{line}\n" for line in lines))


def steps(folder):
    return [json.loads(line)["iteration"] for line in (folder / "metrics.json").open()]


# --- what an interruption leaves ----------------------------------------------------------------


def test_without_a_file_there_is_nothing_to_trim(tmp_path):
    trim_metrics(str(tmp_path), 5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("start, left", [(0, []), (4, [3]), (8, [3, 7]), (99, [3, 7, 11])])
def test_lines_of_steps_that_come_again_go(start, left, tmp_path):
    write_lines(tmp_path, *(json.dumps({"iteration": step}) for step in (3, 7, 11)))
    trim_metrics(str(tmp_path), start)
    assert steps(tmp_path) == left


@pytest.mark.parametrize("half", ['{"iterat', "", '{"loss": NaN, "iter'])
def test_a_line_that_was_not_finished_goes(half, tmp_path):
    write_lines(tmp_path, '{"iteration": 3}')
    with (tmp_path / "metrics.json").open("a") as file:
        file.write(half)
    trim_metrics(str(tmp_path), 5)
    assert steps(tmp_path) == [3]


# --- a training in parts ------------------------------------------------------------------------


def train(folder, start, stop, *, period, state=None, evaluate_at=(), max_iter=20):
    """Steps with a loss of their number squared; returns what a checkpoint would hold."""
    with EventStorage(start) as storage:
        trainer = SimpleNamespace(start_iter=start, max_iter=max_iter, storage=storage, iter=start)
        files = EventFiles(
            str(folder), lambda first, resumed: [JSONWriter(str(folder / "metrics.json"))], period
        )
        history = EventHistory(files)
        history.trainer = files.trainer = trainer
        for hook, saved in zip((files, history), state or ()):
            hook.load_state_dict(saved)
        files.before_train(), history.before_train()
        for trainer.iter in range(start, stop):
            storage.iter = trainer.iter
            storage.put_scalar("loss", float(trainer.iter**2))
            storage.put_scalar("time", 0.1)
            if trainer.iter in evaluate_at:
                storage.put_scalar("AP", 7.0 * trainer.iter, smoothing_hint=False)
            files.after_step(), history.after_step()
        state = files.state_dict(), history.state_dict()
        files.after_train(), history.after_train()
    return state


def lines(folder):
    found = [json.loads(line) for line in (folder / "metrics.json").open()]
    return [{k: v for k, v in line.items() if k != "time"} for line in found]


def test_a_new_training_writes_every_period_and_the_last_step(tmp_path):
    train(tmp_path, 0, 20, period=6)
    assert steps(tmp_path) == [5, 11, 17, 19]


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_training_in_two_parts_writes_what_one_writes(cut, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    settings = dict(period=6, evaluate_at=(3, 9, 10, 19))
    train(whole, 0, 20, **settings)
    state = train(parts, 0, cut, **settings)
    # It went on for some steps after the checkpoint that is resumed.
    train(parts, cut, min(cut + 7, 19), state=state, **settings)
    train(parts, cut, 20, state=state, **settings)
    assert lines(parts) == lines(whole)


def test_resuming_a_finished_training_leaves_its_lines(tmp_path):
    state = train(tmp_path, 0, 20, period=6)
    before = lines(tmp_path)
    train(tmp_path, 20, 20, period=6, state=state)
    assert lines(tmp_path) == before


def test_a_clock_s_values_are_not_kept(tmp_path):
    assert set(train(tmp_path, 0, 3, period=6)[1]) == {"loss"}


def test_what_a_broken_step_logged_is_not_kept(tmp_path):
    with EventStorage(0) as storage:
        history = EventHistory(EventFiles(str(tmp_path), list))
        history.trainer = SimpleNamespace(storage=storage, iter=4)
        for storage.iter in range(6):
            storage.put_scalar("loss", float(storage.iter))
        assert [step for _, step in history.state_dict()["loss"]["values"]] == [0, 1, 2, 3, 4]


def test_events_of_a_checkpoint_that_does_not_say_what_was_written_follow_the_period(tmp_path):
    files, history = train(tmp_path, 0, 14, period=6)
    assert files == {"written": 12}
    train(tmp_path, 14, 20, period=6, state=({"written": None}, history))
    assert steps(tmp_path) == [5, 11, 17, 19]


def test_there_are_three_writers_and_tensorboard_is_on_the_disk(tmp_path):
    with EventStorage(0) as storage:
        writers = build_writers(str(tmp_path), max_iter=10, first=0)
        storage.put_scalar("loss", 1.0)
        for writer in writers:
            writer.write()
        (events,) = tmp_path.glob("events.out.tfevents.*")
        assert b"loss" in events.read_bytes()
        assert (tmp_path / "metrics.json").read_text() == '{"iteration": 0, "loss": 1.0}\n'
        for writer in writers:
            writer.close()


# --- a writer that fails ------------------------------------------------------------------------


class Failing(EventWriter):
    """Fails when told to."""

    def __init__(self):
        self.error, self.calls = None, 0

    def write(self):
        self.calls += 1
        if self.error:
            raise self.error

    close = write


@pytest.fixture
def failing(tmp_path):
    """Event files of a good writer after a bad one: (hook, bad, good)."""
    bad, good = Failing(), Failing()
    files = EventFiles(str(tmp_path), lambda first, resumed: [bad, good], period=1)
    files.trainer = SimpleNamespace(start_iter=0, max_iter=9, iter=0)
    files.before_train()
    return files, bad, good


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("a package")])
def test_a_writer_that_fails_stops_neither_training_nor_the_others(error, failing, caplog):
    files, bad, good = failing
    bad.error = error
    for _ in range(3):
        files.after_step()
    files.after_train()
    assert good.calls == 4
    (record,) = caplog.records
    text = record.getMessage()
    assert "Failing" in text and files.output_dir in text and "training goes on" in text
    assert str(error) in text


def test_every_fault_is_told_once(failing, caplog):
    files, bad, _ = failing
    for error in (OSError(), OSError(), None, OSError(), OSError()):
        bad.error = error
        files.after_step()
    assert len(caplog.records) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboard_and_metrics_go_on_when_there_is_room_again(tmp_path):
    def write(step):
        storage.iter = step
        storage.put_scalar("loss", float(step), smoothing_hint=False)
        storage.put_image("picture", np.zeros((3, 9, 9), dtype=np.uint8))
        files.after_step()

    with EventStorage() as storage:
        files = EventFiles(
            str(tmp_path), lambda first, resumed: build_writers(str(tmp_path), 9, 4), 1
        )
        files.trainer = SimpleNamespace(start_iter=4, max_iter=9, iter=4)
        files.before_train()
        write(4)
        with full_disk():
            write(5), write(6)
            assert storage._vis_data == []
        write(7)
        files.after_train()
    assert steps(tmp_path) == [4, 5, 6, 7]
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("loss")] == [4, 7]
