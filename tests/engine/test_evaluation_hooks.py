from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from soft_teacher import TrainingError
from soft_teacher.engine.evaluation_hooks import Evaluation, PendingEvaluation
from soft_teacher.monitoring.hooks import HTMLReport


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


def failing(error):
    def evaluate():
        raise error

    hook = Evaluation(3, evaluate)
    hook.trainer = SimpleNamespace(iter=2, max_iter=8)
    return hook


def test_an_evaluation_that_fails_is_one_line_and_stays_to_be_done():
    hook = failing(KeyError("area"))
    with pytest.raises(TrainingError) as error:
        hook.after_step()
    assert "after 3 steps failed (KeyError: 'area')" in str(error.value)
    assert "--resume" in str(error.value) and "\n" not in str(error.value)
    assert hook.state_dict() == {"evaluated": 0} and hook.is_pending(3)


def test_a_rank_that_was_lost_in_an_evaluation_is_no_failure_of_it():
    with pytest.raises(RuntimeError, match="gloo"):
        failing(RuntimeError("[gloo/transport] Connection closed by peer")).after_step()


# --- resuming where an evaluation is missing ----------------------------------------------------


def resumed(start, evaluated, *, max_iter=8, period=3):
    """(what ran before the first step, where the run stands then)."""
    ran = []
    with EventStorage(start) as storage:
        trainer = SimpleNamespace(start_iter=start, iter=start, max_iter=max_iter, storage=storage)
        evaluation = Evaluation(period, lambda: ran.append("evaluation") or {"AP": 1.0})
        evaluation.load_state_dict({"evaluated": evaluated})
        closing = SimpleNamespace(after_step=lambda: ran.append(trainer.iter))
        pending = PendingEvaluation(evaluation, [closing])
        evaluation.trainer = pending.trainer = trainer
        pending.before_train()
        assert not evaluation.is_pending(start)
        return ran, (trainer.iter, storage.iter), storage.latest().get("AP")


@pytest.mark.parametrize("start, evaluated", [(0, 0), (2, 0), (3, 3), (7, 6), (8, 8)])
def test_a_run_that_misses_no_evaluation_does_not_begin_with_one(start, evaluated):
    assert resumed(start, evaluated) == ([], (start, start), None)


@pytest.mark.parametrize("start, evaluated", [(3, 0), (6, 3), (8, 6), (8, 0)])
def test_a_missing_evaluation_is_made_and_written_as_of_its_own_step(start, evaluated):
    found = resumed(start, evaluated)
    assert found == (["evaluation", start - 1], (start, start), (1.0, start - 1))


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
