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

    def __init__(self, seed, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.scale = nn.Parameter(torch.ones(()))
        self.to(dtype)
        for tensor in [*self.parameters(), self.norm.running_mean, self.norm.running_var]:
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
        self.norm.num_batches_tracked.fill_(seed)


PARAMETERS = {"linear.weight", "linear.bias", "norm.weight", "norm.bias", "scale"}
FLOAT_BUFFERS = {"norm.running_mean", "norm.running_var"}
INTEGER_BUFFERS = {"norm.num_batches_tracked"}


def state(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


class Run:
    """A student that changes with every step, and the teacher that the hook updates."""

    def __init__(self, dtype=torch.float64, **settings):
        self.student, self.teacher = Network(1, dtype), Network(2, dtype)
        self.teacher.requires_grad_(False)
        self.storage = EventStorage()
        self.hook = EMAHook(self.student, self.teacher, **settings)
        self.hook.trainer = SimpleNamespace(iter=-1, storage=self.storage)
        self.students, self.teachers = [state(self.student)], [state(self.teacher)]

    def steps(self, count):
        for _ in range(count):
            self.hook.trainer.iter += 1
            self.student.load_state_dict(state(Network(10 + self.hook.trainer.iter)))
            self.hook.after_step()
            self.storage.step()
            self.students.append(state(self.student))
            self.teachers.append(state(self.teacher))
        return self


def assert_same(ours, theirs, names=None, **tolerance):
    for name in names or ours:
        np.testing.assert_allclose(ours[name], theirs[name], **(tolerance or dict(rtol=0, atol=0)))


# --- the momentum -------------------------------------------------------------------------------


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
    ],
)
def test_the_momentum_after_0_1_2_steps(settings, table):
    found = [ema_momentum(steps_done, **settings) for steps_done in range(5)]
    assert found == pytest.approx(table, rel=1e-12, abs=0)


def test_the_ramp_reaches_the_released_momentum_after_999_steps():
    found = [ema_momentum(t, momentum=0.999, ramp=True) for t in (998, 999, 1000, 180_000)]
    assert found == pytest.approx([1 - 1 / 999, 0.999, 0.999, 0.999], rel=1e-12)


# --- the update ---------------------------------------------------------------------------------


def test_no_tensors_are_fine():
    ema_update([], [], 0.5)


@pytest.mark.parametrize("momentum", [0.0, 0.25, 0.5, 0.999])
def test_the_update_of_a_list_is_that_of_its_tensors(momentum):
    generator = torch.Generator().manual_seed(0)
    shapes = [(), (1,), (5,), (3, 4), (2, 3, 1), (0, 2)]
    dtypes = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
    kinds = [(shape, dtype) for dtype in dtypes for shape in shapes]

    def tensors():
        return [torch.randn(shape, generator=generator).to(dtype) for shape, dtype in kinds]

    teacher, student = tensors(), tensors()
    before = [s.clone() for s in student]
    expected = [
        momentum * t.double() + (1 - momentum) * s.double() for t, s in zip(teacher, student)
    ]
    ema_update(teacher, student, momentum)
    for ours, theirs, (_, dtype) in zip(teacher, expected, kinds):
        assert ours.dtype == dtype
        rounding = torch.finfo(dtype).eps
        np.testing.assert_allclose(ours.double(), theirs, rtol=4 * rounding, atol=4 * rounding)
    assert all(torch.equal(s, b) for s, b in zip(student, before))


def test_momentum_zero_copies_exactly():
    generator = torch.Generator().manual_seed(0)
    teacher = [torch.randn(1000, generator=generator) * 10.0**k for k in range(-20, 20, 4)]
    student = [torch.randn(1000, generator=generator) * 10.0**-k for k in range(-20, 20, 4)]
    ema_update(teacher, student, 0.0)
    assert all(torch.equal(t, s) for t, s in zip(teacher, student))


# --- the hook -----------------------------------------------------------------------------------

ALL = PARAMETERS | FLOAT_BUFFERS


@pytest.mark.parametrize("momentum", [0.3, 0.9])
def test_a_constant_momentum_gives_the_geometric_sum(momentum):
    run = Run(momentum=momentum, ramp=False).steps(12)
    for k in range(13):
        weights = [momentum**k] + [(1 - momentum) * momentum ** (k - j) for j in range(1, k + 1)]
        values = [run.teachers[0], *run.students[1 : k + 1]]
        expected = {n: sum(w * v[n] for w, v in zip(weights, values)) for n in ALL}
        assert_same(expected, run.teachers[k], rtol=1e-12)


def test_the_ramp_is_the_mean_of_the_first_teacher_and_all_students():
    run = Run(momentum=0.999, ramp=True).steps(12)
    for k in range(13):
        values = [run.teachers[0], *run.students[1 : k + 1]]
        expected = {name: sum(v[name] for v in values) / (k + 1) for name in ALL}
        assert_same(expected, run.teachers[k], rtol=1e-12)


def test_a_ramp_that_has_reached_the_momentum_goes_on_with_it():
    run = Run(momentum=0.7, ramp=True).steps(5)
    # 1/2, 2/3, then 0.7: products of the momenta that follow each student.
    m = [1 / 2, 2 / 3, 0.7, 0.7, 0.7]
    weights = [np.prod(m)] + [(1 - m[j]) * np.prod(m[j + 1 :]) for j in range(5)]
    values = [run.teachers[0], *run.students[1:]]
    expected = {name: sum(w * v[name] for w, v in zip(weights, values)) for name in ALL}
    assert_same(expected, run.teachers[5], rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ramp", [True, False])
def test_without_momentum_the_teacher_is_the_student(ramp, dtype):
    run = Run(dtype, momentum=0.0, ramp=ramp).steps(4)
    for student, teacher in zip(run.students[1:], run.teachers[1:]):
        assert_same(student, teacher)


def test_the_student_is_never_changed():
    run = Run(momentum=0.5).steps(3)
    assert_same(run.students[-1], state(Network(12)))


@pytest.mark.parametrize("ramp", [True, False])
def test_burn_in_copies_and_averaging_starts_after_it(ramp):
    run = Run(momentum=0.9, ramp=ramp, burn_in=3).steps(5)
    for k in (1, 2, 3):
        assert_same(run.students[k], run.teachers[k])
    first = 0.5 if ramp else 0.9
    expected = {n: first * run.students[3][n] + (1 - first) * run.students[4][n] for n in ALL}
    assert_same(expected, run.teachers[4], rtol=1e-12)


def test_between_intervals_the_teacher_stands_still():
    run = Run(momentum=0.9, ramp=False, interval=3).steps(7)
    for k in (1, 2, 4, 5, 7):
        assert_same(run.teachers[k - 1], run.teachers[k])
    for k in (3, 6):
        expected = {n: 0.9 * run.teachers[k - 1][n] + 0.1 * run.students[k][n] for n in ALL}
        assert_same(expected, run.teachers[k], rtol=1e-12)


@pytest.mark.parametrize("burn_in", [1, 4, 5, 6])
def test_whatever_the_interval_burn_in_ends_with_teacher_and_student_equal(burn_in):
    run = Run(momentum=0.9, interval=3, burn_in=burn_in).steps(burn_in)
    assert_same(run.students[-1], run.teachers[-1])


def test_buffers_are_averaged_and_integers_copied():
    run = Run(momentum=0.9, ramp=False, buffers=True).steps(2)
    assert ALL | INTEGER_BUFFERS == set(run.teachers[0])
    expected = {n: 0.9 * run.teachers[1][n] + 0.1 * run.students[2][n] for n in FLOAT_BUFFERS}
    assert_same(expected, run.teachers[2], rtol=1e-12)
    assert run.teachers[2]["norm.num_batches_tracked"].item() == 11


def test_without_buffers_the_teacher_s_stay_as_they_are():
    run = Run(momentum=0.9, burn_in=1, buffers=False).steps(3)
    assert_same(run.teachers[0], run.teachers[3], FLOAT_BUFFERS | INTEGER_BUFFERS)
    assert_same(run.students[1], run.teachers[1], PARAMETERS)


def test_networks_without_buffers_are_fine():
    student, teacher = nn.Linear(2, 2), nn.Linear(2, 2)
    hook = EMAHook(student, teacher, momentum=0.0)
    with EventStorage() as storage:
        hook.trainer = SimpleNamespace(iter=0, storage=storage)
        hook.after_step()
    assert_same(state(student), state(teacher))


def test_the_hook_equals_a_plain_loop_over_the_state_dict():
    run = Run(torch.float32, momentum=0.99, ramp=True, burn_in=2)
    expected = {k: v.clone() for k, v in run.teachers[0].items()}
    run.steps(8)
    for steps_done, student in enumerate(run.students[1:], 1):
        m = ema_momentum(steps_done, momentum=0.99, ramp=True, burn_in=2)
        for name, value in student.items():
            if value.is_floating_point():
                expected[name] = m * expected[name] + (1 - m) * value
            else:
                expected[name] = value
    assert_same(expected, run.teachers[8], rtol=1e-5)


def test_tensors_are_paired_by_name_whatever_their_order():
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
    assert_same(state(student), state(teacher))


def test_the_teacher_gets_no_gradient():
    run = Run(momentum=0.5)
    run.student.requires_grad_(True)
    run.steps(1)
    assert all(not p.requires_grad and p.grad_fn is None for p in run.teacher.parameters())
    assert all(p.requires_grad for p in run.student.parameters())


def test_the_momentum_is_logged():
    run = Run(momentum=0.7, ramp=True, interval=2).steps(4)
    logged = [value for value, _ in run.storage.history("ema_momentum").values()]
    assert logged == pytest.approx([2 / 3, 0.7])


@pytest.mark.parametrize("buffers", [True, False])
def test_on_several_ranks_buffers_are_those_of_rank_0_before_they_are_averaged(
    buffers, monkeypatch
):
    from_rank_0 = {name: 3 * value + 1 for name, value in state(Network(9)).items()}
    run = Run(momentum=0.9, ramp=False, buffers=buffers)
    messages = {}

    def broadcast(tensor, src):
        assert src == 0
        sent = [
            (name, buffer)
            for name, buffer in run.student.named_buffers()
            if buffer.dtype == tensor.dtype
        ]
        assert torch.equal(tensor, torch.cat([buffer.flatten() for _, buffer in sent]))
        tensor.copy_(torch.cat([from_rank_0[name].flatten() for name, _ in sent]))
        messages[tensor.dtype] = [name for name, _ in sent]

    monkeypatch.setattr(ema_module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(ema_module.torch.distributed, "broadcast", broadcast)
    run.steps(1)
    if not buffers:
        assert messages == {}
        return
    assert sum(messages.values(), []) == [name for name, _ in run.student.named_buffers()]
    expected = {n: 0.9 * run.teachers[0][n] + 0.1 * from_rank_0[n] for n in FLOAT_BUFFERS}
    assert_same(expected, run.teachers[1], rtol=1e-12)
    assert run.teachers[1]["norm.num_batches_tracked"] == from_rank_0["norm.num_batches_tracked"]


# --- settings that cannot be --------------------------------------------------------------------


@pytest.mark.parametrize(
    "key, settings",
    [
        ("EMAHook.momentum", dict(momentum=1.0)),
        ("EMAHook.momentum", dict(momentum=-0.1)),
        ("EMAHook.momentum", dict(momentum=float("nan"))),
        ("EMAHook.interval", dict(interval=0)),
        ("EMAHook.burn_in", dict(burn_in=-1)),
    ],
)
def test_an_impossible_setting_is_one_line_that_names_the_key(key, settings):
    with pytest.raises(ConfigError) as error:
        Run(**settings)
    assert key in str(error.value) and "\n" not in str(error.value)
