from types import SimpleNamespace

import pytest
import torch
from detectron2.engine.train_loop import TrainerBase

from soft_teacher.engine import hooks as hooks_module
from soft_teacher.engine.hooks import ReproducibleSteps


class Recorder(TrainerBase):
    """Draws some numbers at every step; how many, depends on the step."""

    def __init__(self, seed=1, disturb=False):
        super().__init__()
        self.loader = SimpleNamespace(start_step=None)
        self.drawn = {}
        self.disturb = disturb
        self.register_hooks([ReproducibleSteps(self.loader, seed)])

    def run_step(self):
        self.drawn[self.iter] = torch.rand(1 + self.iter % 3).tolist()
        if self.disturb:
            torch.rand(100)


def trained(start=0, stop=8, **settings):
    trainer = Recorder(**settings)
    trainer.train(start, stop)
    return trainer


def test_no_steps_draw_nothing():
    assert trained(0, 0).drawn == {}


def test_the_loader_is_told_where_to_start():
    assert [trained(start, 8).loader.start_step for start in (0, 5)] == [0, 5]


def test_a_step_depends_on_its_number_and_not_on_the_steps_before():
    whole = trained().drawn
    torch.manual_seed(99)
    assert trained(start=5).drawn == {step: whole[step] for step in (5, 6, 7)}
    assert trained(disturb=True).drawn == whole


def test_every_step_draws_numbers_of_its_own():
    first = [numbers[0] for numbers in trained(stop=50).drawn.values()]
    assert len(set(first)) == 50


def test_the_seed_decides():
    assert trained(seed=1).drawn == trained(seed=1).drawn
    other = trained(seed=2).drawn
    assert all(numbers != other[step] for step, numbers in trained(seed=1).drawn.items())


@pytest.mark.parametrize("rank", [1, 2])
def test_ranks_draw_different_numbers(rank, monkeypatch):
    first = trained().drawn
    monkeypatch.setattr(hooks_module.comm, "get_rank", lambda: rank)
    other = trained().drawn
    assert all(numbers != other[step] for step, numbers in first.items())
