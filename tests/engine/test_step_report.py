import math

import pytest
import torch

from soft_teacher.engine import step_report as module
from soft_teacher.engine.step_report import StepReport


def losses(**values):
    return {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}


def read(micro_batches, **flags):
    report = StepReport(micro_batches, **flags)
    report.read()
    return report


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize(
    "micro_batches, means",
    [
        ([losses(a=2.0)], {"a": 2.0}),
        ([losses(a=1.0, b=0.5), losses(a=4.0, b=0.5)], {"a": 2.5, "b": 0.5}),
        ([{"a": torch.tensor(60000.0, dtype=torch.float16)}] * 2, {"a": 60000.0}),  # no overflow
    ],
)
def test_losses_are_means_over_the_micro_batches(micro_batches, means, stop):
    report = read(micro_batches, stop=stop)
    assert report.losses == means and report.nonfinite == report.here == []
    assert report.stop is stop


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_in_any_micro_batch_is_named(bad):
    report = read([losses(a=1.0, b=bad, c=1.0), losses(a=1.0, b=1.0, c=bad)])
    assert report.nonfinite == report.here == ["b", "c"]
    assert report.losses["a"] == 1.0


def test_ranks_share_means_flags_and_the_wish_to_stop(monkeypatch):
    """A second rank with a = 3, b not finite, that wants to stop."""
    other = torch.tensor([3.0, math.nan, 0.0, 1.0, 1.0])
    monkeypatch.setattr(module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda vector: vector.add_(other))
    report = read([losses(a=1.0, b=1.0)])
    assert report.losses["a"] == 2.0
    assert report.nonfinite == ["b"] and report.here == [] and report.stop is True
