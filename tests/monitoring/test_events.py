import json
from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.utils.events import EventStorage, EventWriter, JSONWriter
from full_disk import full_disk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from soft_teacher.monitoring.events import EventFiles, EventHistory, build_writers, trim_metrics


def lines(folder):
    """Events without clocks."""
    found = [json.loads(line) for line in (folder / "metrics.json").open()]
    return [{k: v for k, v in line.items() if k != "time"} for line in found]


def steps(folder):
    return [line["iteration"] for line in lines(folder)]


# --- what an interruption leaves ----------------------------------------------------------------


def test_without_a_file_there_is_nothing_to_trim(tmp_path):
    trim_metrics(str(tmp_path), 5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("half", ["", '{"iterat', '{"loss": NaN, "iter'])
@pytest.mark.parametrize("start, left", [(0, []), (4, [3]), (8, [3, 7]), (99, [3, 7, 11])])
def test_lines_of_steps_that_are_repeated_go_and_so_does_an_unfinished_one(
    start, left, half, tmp_path
):
    events = "".join(json.dumps({"iteration": step}) + "\n" for step in (3, 7, 11))
    (tmp_path / "metrics.json").write_text(events + half)
    trim_metrics(str(tmp_path), start)
    assert steps(tmp_path) == left


# --- a run in parts -----------------------------------------------------------------------------


def train(folder, start, stop, *, state=None, evaluate_at=()):
    """Steps with a loss of their number squared; returns what a checkpoint would hold."""
    with EventStorage(start) as storage:
        trainer = SimpleNamespace(start_iter=start, max_iter=20, storage=storage, iter=start)
        files = EventFiles(
            str(folder), lambda first, resumed: [JSONWriter(str(folder / "metrics.json"))], 6
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


def test_every_period_and_the_last_step_are_written_and_stay_when_a_complete_run_is_resumed(
    tmp_path,
):
    state = train(tmp_path, 0, 20)
    before = lines(tmp_path)
    assert steps(tmp_path) == [5, 11, 17, 19]
    train(tmp_path, 20, 20, state=state)
    assert lines(tmp_path) == before


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_run_in_two_parts_writes_what_one_writes(cut, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    settings = dict(evaluate_at=(3, 9, 10, 12, 19))
    train(whole, 0, 20, **settings)
    state = train(parts, 0, cut, **settings)
    assert "time" not in state[1]  # clocks are not kept
    # It continued for some steps after the checkpoint that is resumed.
    train(parts, cut, min(cut + 7, 19), state=state, **settings)
    train(parts, cut, 20, state=state, **settings)
    assert lines(parts) == lines(whole)


def test_what_an_interrupted_step_logged_is_not_kept(tmp_path):
    with EventStorage(0) as storage:
        history = EventHistory(EventFiles(str(tmp_path), list))
        history.trainer = SimpleNamespace(storage=storage, iter=4)
        for storage.iter in range(6):
            storage.put_scalar("loss", float(storage.iter))
        assert [step for _, step in history.state_dict()["loss"]["values"]] == [0, 1, 2, 3, 4]


def test_events_of_a_checkpoint_that_does_not_say_what_was_written_follow_the_period(tmp_path):
    files, history = train(tmp_path, 0, 14)
    assert files == {"written": 12}
    train(tmp_path, 14, 20, state=({"written": None}, history))
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
    """Raises ``error``, if there is one."""

    def __init__(self):
        self.error, self.calls = None, 0

    def write(self):
        self.calls += 1
        if self.error:
            raise self.error

    close = write


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("a package")])
def test_a_writer_that_fails_is_logged_once_and_stops_neither_the_run_nor_the_others(
    error, tmp_path, caplog
):
    bad, good = Failing(), Failing()
    files = EventFiles(str(tmp_path), lambda first, resumed: [bad, good], period=1)
    files.trainer = SimpleNamespace(start_iter=0, max_iter=9, iter=0)
    files.before_train()
    for bad.error in (error, error, None, error):
        files.after_step()
    files.after_train()
    assert good.calls == 5
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2 and texts[0] == texts[1]
    assert texts[0].startswith(f"Failing fails in {tmp_path} (") and str(error) in texts[0]
    assert texts[0].endswith("); training continues")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboard_and_metrics_continue_when_there_is_room_again(tmp_path):
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
