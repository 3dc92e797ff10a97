from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from soft_teacher.engine import ema as ema_module
from soft_teacher.engine.ema import EMAHook, ema_momentum, ema_update
from soft_teacher.utils.errors import ConfigError


class Network(nn.Module):
    """Parameters, floating-point buffers and an integer buffer."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.scale = nn.Parameter(torch.ones(()))
        self.double()
        for tensor in [*self.parameters(), self.norm.running_mean, self.norm.running_var]:
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
        self.norm.num_batches_tracked.fill_(seed)


def state(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


class Run:
    """A student that changes with every step, and the teacher that the hook updates."""

    def __init__(self, **settings):
        self.student, self.teacher = Network(1), Network(2)
        self.teacher.requires_grad_(False)
        self.storage = EventStorage()
        self.hook = EMAHook(self.student, self.teacher, **settings)
        self.hook.trainer = SimpleNamespace(iter=-1, storage=self.storage)

    def step(self):
        self.hook.trainer.iter += 1
        self.student.load_state_dict(state(Network(10 + self.hook.trainer.iter)))
        self.hook.after_step()
        self.storage.step()


@pytest.mark.parametrize(
    "settings, table",
    [
        (dict(momentum=0.9, ramp=False), [0.0, 0.9, 0.9, 0.9, 0.9]),
        (dict(momentum=0.9, ramp=True), [0.0, 1 / 2, 2 / 3, 3 / 4, 4 / 5]),
        (dict(momentum=0.7, ramp=True), [0.0, 1 / 2, 2 / 3, 0.7, 0.7]),
        (dict(momentum=0.9, ramp=False, burn_in=2), [0.0, 0.0, 0.0, 0.9, 0.9]),
        (dict(momentum=0.7, ramp=True, burn_in=2), [0.0, 0.0, 0.0, 1 / 2, 2 / 3]),
        (dict(momentum=0.0, ramp=True), [0.0] * 5),
        (dict(momentum=0.0, ramp=False), [0.0] * 5),
        # The released momentum is reached after 999 steps.
        (dict(momentum=0.999, ramp=True, burn_in=-997), [1 - 1 / 998, 1 - 1 / 999, *[0.999] * 3]),
    ],
)
def test_momentum_after_0_to_4_steps(settings, table):
    found = [ema_momentum(steps_done, **settings) for steps_done in range(5)]
    assert found == pytest.approx(table, rel=1e-12, abs=0)


@pytest.mark.parametrize("momentum", [0.0, 0.25, 0.5, 0.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_update_of_a_list_is_that_of_its_tensors(dtype, momentum):
    generator = torch.Generator().manual_seed(0)
    shapes = [(), (1,), (5,), (3, 4), (2, 3, 1), (0, 2)]
    teacher, student = (
        [torch.randn(shape, generator=generator).to(dtype) for shape in shapes] for _ in range(2)
    )
    before = [s.clone() for s in student]
    expected = [
        momentum * t.double() + (1 - momentum) * s.double() for t, s in zip(teacher, student)
    ]
    ema_update(teacher, student, momentum)
    rounding = 4 * torch.finfo(dtype).eps
    for ours, theirs in zip(teacher, expected):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours.double(), theirs, rtol=rounding, atol=rounding)
    assert all(torch.equal(s, b) for s, b in zip(student, before))


def test_momentum_0_copies_numbers_of_any_size_exactly():
    generator = torch.Generator().manual_seed(0)
    teacher = [torch.randn(1000, generator=generator) * 10.0**k for k in range(-20, 20, 4)]
    student = [torch.randn(1000, generator=generator) * 10.0**-k for k in range(-20, 20, 4)]
    ema_update(teacher, student, 0.0)
    assert all(torch.equal(t, s) for t, s in zip(teacher, student))


THROUGH = dict(burn_in=2, through_burn_in=True)


@pytest.mark.parametrize(
    "settings, table",
    [
        (dict(momentum=0.9, ramp=False, **THROUGH), [0.9] * 5),
        (dict(momentum=0.7, ramp=True, **THROUGH), [1 / 2, 2 / 3, 0.7, 0.7, 0.7]),
        (dict(momentum=0.9, ramp=True, interval=3, **THROUGH), [2 / 3, 3 / 4, 0.857142857]),
        (dict(momentum=0.7, ramp=True, burn_in=2), [0, 0, 1 / 2, 2 / 3, 0.7]),
    ],
)
def test_through_the_burn_in_the_first_steps_are_averaged_as_any(settings, table):
    """And its end is an update, whatever the interval: of steps 2, 3, 6."""
    run, expected, momenta = Run(**settings), state(Network(2)), iter(table)
    for done in range(1, 7 if "interval" in settings else 6):
        run.step()
        if done % settings.get("interval", 1) and done != 2:
            continue
        momentum = next(momenta)
        assert run.storage.latest()["ema_momentum"] == (pytest.approx(momentum), done - 1)
        expected = {
            name: momentum * expected[name] + (1 - momentum) * value
            for name, value in Network(9 + done).state_dict().items()
        }
        for name, value in run.teacher.named_parameters():
            np.testing.assert_allclose(value, expected[name], rtol=1e-8)
        copied = torch.equal(run.teacher.scale, run.student.scale)
        assert copied == (momentum == 0)
    assert list(momenta) == []


RUNS = [
    dict(momentum=0.3, ramp=False),
    dict(momentum=0.0, ramp=True),
    dict(momentum=0.7, ramp=True),
    dict(momentum=0.9, ramp=False, burn_in=3),
    dict(momentum=0.9, ramp=False, interval=3),
    # The end of the burn-in is an update, whatever the interval.
    *(dict(momentum=0.9, ramp=True, interval=3, burn_in=n) for n in (1, 4, 5, 6)),
]


@pytest.mark.parametrize("buffers", [True, False])
@pytest.mark.parametrize("settings", RUNS, ids=str)
def test_hook_equals_a_plain_loop_over_the_state_dict(settings, buffers):
    run = Run(**settings, buffers=buffers)
    of_buffers = {name for name, _ in run.teacher.named_buffers()}
    interval, burn_in = settings.get("interval", 1), settings.get("burn_in", 0)
    schedule = {k: v for k, v in settings.items() if k != "interval"}
    expected, momenta = state(run.teacher), []
    for done in range(1, 13):
        run.step()
        if done % interval == 0 or done == burn_in:
            momenta.append(ema_momentum(done, **schedule))
            for name, value in Network(9 + done).state_dict().items():
                if name in of_buffers and not buffers:
                    continue
                averaged = value.is_floating_point() and momenta[-1]
                expected[name] = averaged * expected[name] + (1 - averaged) * value
        for name, value in run.teacher.state_dict().items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-12, atol=0)
    assert [v for v, _ in run.storage.history("ema_momentum").values()] == pytest.approx(momenta)
    changed = state(run.student), state(Network(21))
    assert all(torch.equal(v, changed[1][k]) for k, v in changed[0].items())
    assert all(not p.requires_grad and p.grad_fn is None for p in run.teacher.parameters())
    assert all(p.requires_grad for p in run.student.parameters())


def test_tensors_are_paired_by_name_and_buffers_are_optional():
    class Pair(nn.Module):
        def __init__(self, names):
            super().__init__()
            for name in names:
                self.register_parameter(name, nn.Parameter(torch.full((2,), float(ord(name)))))

    student, teacher = Pair("ab"), Pair("ba")
    teacher.a.data.zero_(), teacher.b.data.zero_()
    hook = EMAHook(student, teacher, momentum=0.0)
    with EventStorage() as storage:
        hook.trainer = SimpleNamespace(iter=0, storage=storage)
        hook.after_step()
    assert all(torch.equal(v, student.state_dict()[k]) for k, v in state(teacher).items())


@pytest.mark.parametrize("buffers", [True, False])
def test_buffers_of_rank_0_are_broadcast_before_they_are_averaged(buffers, monkeypatch):
    from_rank_0 = {name: 3 * value + 1 for name, value in state(Network(9)).items()}
    run = Run(momentum=0.9, ramp=False, buffers=buffers)
    before, messages = state(run.teacher), {}

    def broadcast(tensor, src):
        assert src == 0
        sent = [(n, b) for n, b in run.student.named_buffers() if b.dtype == tensor.dtype]
        assert torch.equal(tensor, torch.cat([buffer.flatten() for _, buffer in sent]))
        tensor.copy_(torch.cat([from_rank_0[name].flatten() for name, _ in sent]))
        messages[tensor.dtype] = [name for name, _ in sent]

    monkeypatch.setattr(ema_module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(ema_module.torch.distributed, "broadcast", broadcast)
    run.step()
    if not buffers:
        assert messages == {}
        return
    assert sum(messages.values(), []) == [name for name, _ in run.student.named_buffers()]
    for name, value in run.teacher.named_buffers():
        momentum = value.is_floating_point() and 0.9
        expected = momentum * before[name] + (1 - momentum) * from_rank_0[name]
        np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "key, values",
    [
        ("momentum", [1.0, -0.1, float("nan")]),
        ("interval", [0]),
        ("burn_in", [-1]),
    ],
)
def test_impossible_settings_are_refused_in_one_line_that_names_the_key(key, values):
    for value in values:
        with pytest.raises(ConfigError, match=rf"^EMAHook\.{key} .*\Z"):
            Run(**{key: value})
