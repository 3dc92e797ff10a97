"""The loop on a small least-squares problem, against gradient descent by hand."""

import math
from contextlib import contextmanager

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from soft_teacher import TrainingError
from soft_teacher.engine import train_loop as module
from soft_teacher.engine.nonfinite import NonFiniteGuard
from soft_teacher.engine.train_loop import SoftTeacherLoop

LR = 0.1


class Model(nn.Module):
    """Losses "fit" and "size" of a batch of numbers; records its random numbers."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))
        self.sampled, self.reduced = [], []
        self._reduce = True

    @contextmanager
    def no_sync(self):
        self._reduce = False
        yield
        self._reduce = True

    def forward(self, batch):
        self.sampled.append(float(torch.rand(())))
        self.reduced.append(self._reduce)
        x = torch.tensor(batch)
        return {"fit": ((self.w * x - 1) ** 2).mean(), "size": 0.1 * self.w**2}


def gradient(w, batch):
    return sum(2 * (w * x - 1) * x for x in batch) / len(batch) + 0.2 * w


class Loader:
    """Step s has the micro-batches [s + 1], [s + 1.5], ..., or those given."""

    def __init__(self, micro_batches, given):
        self.micro_batches, self.given, self.start_step = micro_batches, given or {}, None

    def __iter__(self):
        for step in range(self.start_step, 100):
            for number in range(self.micro_batches):
                yield self.given.get(step, [step + 1 + number / 2])


def loop_of(tmp_path, *, model=None, given=None, max_skips=0, **options):
    model = model or Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    guard = NonFiniteGuard(model, str(tmp_path), max_skips)
    loader = Loader(options.get("micro_batches", 1), given)
    return SoftTeacherLoop(model, loader, optimizer, guard, **options)


def train(loop, start, stop):
    """Runs steps and returns the weight after each."""
    weights = []
    with EventStorage(start) as loop.storage:
        for loop.iter in range(start, stop):
            loop.storage.iter = loop.iter
            loop.run_step()
            weights.append(float(loop.model.w.detach()))
    return weights


@pytest.mark.parametrize("start", [0, 4])
def test_a_step_is_gradient_descent_on_the_sum_of_the_losses(start, tmp_path):
    loop, w, expected = loop_of(tmp_path), 1.0, []
    assert loop.data_loader.start_step is None, "something was loaded before the first step"
    for step in range(start, start + 3):
        w -= LR * gradient(w, [step + 1])
        expected.append(w)
    assert train(loop, start, start + 3) == pytest.approx(expected, rel=1e-5)
    assert loop.data_loader.start_step == start


def test_gradients_and_losses_of_the_micro_batches_are_averaged(tmp_path):
    w = 1.0 - LR * (gradient(1.0, [1]) + gradient(1.0, [1.5])) / 2
    loop = loop_of(tmp_path, micro_batches=2)
    assert train(loop, 0, 1) == pytest.approx([w])
    # Only the last backward communicates with the other ranks.
    assert loop.model.reduced == [False, True]
    latest = {name: value for name, (value, _) in loop.storage.latest().items()}
    assert latest["fit"] == pytest.approx((0 + 0.25) / 2)
    assert latest["size"] == pytest.approx(0.1)
    assert latest["total_loss"] == pytest.approx(0.225)
    assert latest["data_time"] >= 0


def test_a_step_depends_on_seed_process_micro_batch_and_number_alone(tmp_path, monkeypatch):
    def sampled(start, stop, **options):
        loop = loop_of(tmp_path, **options)
        train(loop, start, stop)
        return loop.model.sampled

    whole = sampled(0, 4)
    assert len(set(whole)) == 4
    torch.manual_seed(99)
    assert sampled(2, 4) == whole[2:]
    assert not set(sampled(0, 4, seed=1)) & set(whole)
    halves = sampled(0, 4, micro_batches=2)
    # The first of two micro-batches is process 0, the second process 1.
    assert halves[0::2] == whole
    monkeypatch.setattr(module.comm, "get_rank", lambda: 1)
    monkeypatch.setattr(module.comm, "is_main_process", lambda: False)
    assert sampled(0, 4) == halves[1::2]
    monkeypatch.undo()
    quarters = sampled(0, 4, micro_batches=4)
    monkeypatch.setattr(module.comm, "get_rank", lambda: 1)
    second = sampled(0, 4, micro_batches=2)
    assert [second[0::2], second[1::2]] == [quarters[2::4], quarters[3::4]]


def test_a_step_that_is_not_finite_changes_nothing(tmp_path):
    loop = loop_of(tmp_path, given={1: [math.nan]}, max_skips=1)
    weights = train(loop, 0, 3)
    assert weights[1] == weights[0] != weights[2]
    assert loop.storage.history("fit").values()[1][1] == 2, "the step was logged"
    assert loop.guard.skipped == 1
    with pytest.raises(TrainingError, match="step 5: fit is not finite"):
        train(loop_of(tmp_path, given={5: [math.inf]}), 4, 7)


def test_the_wish_to_stop_comes_back_with_the_step(tmp_path):
    loop = loop_of(tmp_path)
    train(loop, 0, 1)
    assert loop.stops is False
    loop.wants_to_stop = True
    train(loop, 1, 2)
    assert loop.stops is True


def test_the_state_holds_optimizer_scaler_and_skipped_steps(tmp_path):
    first = loop_of(tmp_path, given={0: [math.nan]}, max_skips=3)
    train(first, 0, 2)
    second = loop_of(tmp_path, max_skips=3)
    second.load_state_dict(first.state_dict())
    assert second.guard.skipped == 1 and second.iter == 1
    assert {"optimizer", "grad_scaler"} <= set(first.state_dict())


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_mixed_precision_runs_the_model_under_autocast(precision, tmp_path):
    seen = []

    class Casting(Model):
        def forward(self, batch):
            seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
            return super().forward(batch)

    loop = loop_of(tmp_path, model=Casting(), precision=precision)
    assert loop.grad_scaler.is_enabled() == (precision is torch.float16)
    assert train(loop, 0, 2) == pytest.approx(train(loop_of(tmp_path), 0, 2), rel=1e-2)
    assert seen == [(True, precision)] * 2
