from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from soft_teacher import TrainingError
from soft_teacher.engine.evaluation_hooks import Evaluation, PendingEvaluation


def evaluations(period, max_iter, start=0):
    """Steps after which a run evaluates."""
    found = []
    with EventStorage(start) as storage:
        hook = Evaluation(period, lambda: found.append(hook.trainer.iter) or {"AP": 1.0})
        hook.trainer = SimpleNamespace(iter=start, max_iter=max_iter, storage=storage)
        for hook.trainer.iter in range(start, max_iter):
            storage.iter = hook.trainer.iter
            hook.after_step()
            logged = storage.latest().get("AP", (0, -1))[1] == storage.iter
            assert logged == (storage.iter in found)
        hook.trainer.iter += 1
        hook.after_train()
    return found


@pytest.mark.parametrize(
    "period, expected", [(0, [7]), (3, [2, 5, 7]), (4, [3, 7]), (8, [7]), (9, [7])]
)
def test_every_period_and_the_last_step_are_evaluated_once(period, expected):
    assert evaluations(period, max_iter=0) == []
    assert evaluations(period, max_iter=8) == expected
    assert evaluations(period, max_iter=8, start=8) == []


def failing(error):
    def evaluate():
        raise error

    hook = Evaluation(3, evaluate)
    hook.trainer = SimpleNamespace(iter=2, max_iter=8)
    return hook


def test_an_evaluation_that_fails_is_one_line_and_stays_pending():
    hook = failing(KeyError("area"))
    said = r"after 3 steps failed \(KeyError: 'area'\): .* --resume .*\Z"
    with pytest.raises(TrainingError, match=said):
        hook.after_step()
    assert hook.state_dict() == {"evaluated": 0} and hook.is_pending(3)


def test_a_rank_that_is_lost_in_an_evaluation_is_no_failure_of_it():
    with pytest.raises(RuntimeError, match="gloo"):
        failing(RuntimeError("[gloo/transport] Connection closed by peer")).after_step()


def test_a_full_disk_in_mid_run_is_logged_and_the_evaluation_stays_pending(caplog):
    hook = failing(OSError(28, "No space left on device"))
    hook.after_step()
    assert "training continues without this evaluation" in caplog.text and hook.is_pending(3)
    hook.trainer.iter = 7
    with pytest.raises(TrainingError, match="after 8 steps failed"):
        hook.after_step()


@pytest.mark.parametrize(
    "start, evaluated, missing",
    [
        *((0, 0, False), (2, 0, False), (3, 3, False), (7, 6, False), (8, 8, False)),
        *((3, 0, True), (6, 3, True), (8, 6, True), (8, 0, True)),
    ],
)
def test_a_resumed_run_starts_with_the_missing_evaluation_as_of_its_own_step(
    start, evaluated, missing
):
    ran = []
    with EventStorage(start) as storage:
        trainer = SimpleNamespace(start_iter=start, iter=start, max_iter=8, storage=storage)
        evaluation = Evaluation(3, lambda: ran.append("evaluation") or {"AP": 1.0})
        evaluation.load_state_dict({"evaluated": evaluated})
        closing = SimpleNamespace(after_step=lambda: ran.append(trainer.iter))
        pending = PendingEvaluation(evaluation, [closing])
        evaluation.trainer = pending.trainer = trainer
        pending.before_train()
        assert not evaluation.is_pending(start) and (trainer.iter, storage.iter) == (start, start)
        found = ran, storage.latest().get("AP")
    assert found == ((["evaluation", start - 1], (1.0, start - 1)) if missing else ([], None))
