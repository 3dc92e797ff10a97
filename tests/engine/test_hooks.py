from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from soft_teacher.engine.hooks import Evaluation, HTMLReport


def evaluations(period, max_iter, start=0):
    """Steps after which a training evaluates."""
    found = []
    with EventStorage(start) as storage:
        hook = Evaluation(period, lambda: found.append(hook.trainer.iter) or {"AP": 1.0})
        hook.trainer = SimpleNamespace(iter=start, max_iter=max_iter, storage=storage)
        for hook.trainer.iter in range(start, max_iter):
            storage.iter = hook.trainer.iter
            hook.after_step()
            assert (storage.latest().get("AP", (0, -1))[1] == storage.iter) == (
                storage.iter in found
            )
        hook.trainer.iter += 1
        hook.after_train()
    return found


def test_a_training_of_no_steps_is_not_evaluated():
    assert evaluations(period=3, max_iter=0) == []


@pytest.mark.parametrize(
    "period, expected", [(0, [7]), (3, [2, 5, 7]), (4, [3, 7]), (8, [7]), (9, [7])]
)
def test_every_period_and_the_last_step_are_evaluated_once(period, expected):
    assert evaluations(period, max_iter=8) == expected


def test_a_training_that_is_finished_is_not_evaluated_again():
    assert evaluations(3, max_iter=8, start=8) == []


# --- the report ---------------------------------------------------------------------------------


def report_after(folder, steps, max_iter):
    hook = HTMLReport(str(folder))
    hook.trainer = SimpleNamespace(iter=steps, max_iter=max_iter)
    hook.after_train()


def test_a_training_that_came_to_its_end_is_reported_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train_net.py", "SEED", "7"])
    (tmp_path / "metrics.json").write_text('{"iteration": 4, "lr": 0.1}\n')
    report_after(tmp_path, steps=4, max_iter=5)
    assert not (tmp_path / "report.html").exists()
    report_after(tmp_path, steps=5, max_iter=5)
    assert "python train_net.py SEED 7" in (tmp_path / "report.html").read_text()


def test_a_report_that_cannot_be_written_is_no_failure(tmp_path, caplog):
    report_after(tmp_path / "gone", steps=5, max_iter=5)
    assert "no report" in caplog.text
