"""Whose BatchNorm statistics a step changes, and whose it normalizes by."""

import pytest
import torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.layers import batch_norm as detectron2_batch_norm
from steps import EVERYTHING, LENIENT, batch_of, count_calls, teach
from torch import nn

from soft_teacher.engine import EMAHook
from soft_teacher.modeling.batch_norm import fixed_statistics

LABELED = ("SOFT_TEACHER.STATISTICS", "labeled")
# BatchNorm in a head, too.
IN_HEAD = (
    *("MODEL.ROI_BOX_HEAD.NUM_CONV", 1, "MODEL.ROI_BOX_HEAD.CONV_DIM", 4),
    *("MODEL.ROI_BOX_HEAD.NORM", "BN"),
)


def buffers_of(network):
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def assert_same(one, other):
    assert one.keys() == other.keys() and one
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


# --- fixed statistics


@pytest.fixture
def two_ranks(monkeypatch):
    """Pretends that another rank has the same images, for Detectron2's layer."""
    monkeypatch.setattr(detectron2_batch_norm.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(detectron2_batch_norm, "differentiable_all_reduce", lambda x: 2 * x)


NORMS = {
    "torch's": lambda: nn.BatchNorm2d(3),
    "momentum 0.5": lambda: nn.BatchNorm2d(3, momentum=0.5),
    "cumulative average": lambda: nn.BatchNorm2d(3, momentum=None),
    "no statistics": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "Detectron2's, over ranks": lambda: NaiveSyncBatchNorm(3, stats_mode="N"),
}


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_inside_nothing_is_kept_and_outputs_and_gradients_are_as_before(norm, two_ranks):
    network, plain = nn.Sequential(norm()), nn.Sequential(norm())
    before, settings = buffers_of(network), dict(vars(network[0]))
    images = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    with fixed_statistics(network):
        found = network(images)
    expected = plain(images)
    assert torch.equal(found, expected)
    found.exp().sum().backward(), expected.exp().sum().backward()
    assert_same(dict(network.named_parameters()), dict(plain.named_parameters()))
    for one, other in zip(network.parameters(), plain.parameters()):
        assert torch.equal(one.grad, other.grad)
    assert vars(network[0]) == settings
    if before:
        assert_same(buffers_of(network), before)
        network(images)
        assert_same(buffers_of(network), buffers_of(plain))


def test_in_evaluation_the_kept_statistics_are_used():
    network = nn.BatchNorm2d(2).eval()
    network.running_mean.fill_(3)
    images = torch.full((1, 2, 1, 1), 5.0)
    with fixed_statistics(network):
        assert network(images).flatten().tolist() == pytest.approx([2, 2], rel=1e-4)


def test_images_that_are_nan_leave_nothing():
    network = nn.BatchNorm2d(2)
    before = buffers_of(network)
    with fixed_statistics(network):
        network(torch.full((2, 2, 1, 1), float("nan")))
    assert_same(buffers_of(network), before)


def test_after_an_error_and_without_batch_norm_all_is_as_before():
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm2d(2))
    with pytest.raises(ValueError), fixed_statistics(network):
        raise ValueError
    assert (network[1].momentum, network[1].track_running_stats) == (0.1, True)
    with fixed_statistics(nn.Linear(1, 1)):
        pass


# --- a step


def stepped(model, batch):
    """Losses, gradients and the student's buffers of a step."""
    torch.manual_seed(0)
    losses = model(batch)
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.student.named_parameters()}
    return losses, gradients, buffers_of(model.student)


@pytest.mark.parametrize("head", [(), IN_HEAD], ids=["backbone", "and head"])
@pytest.mark.parametrize("unlabeled", [1, 3])
def test_of_the_labeled_images_the_statistics_and_losses_are_those_of_a_supervised_step(
    build, head, unlabeled
):
    batch = batch_of(2, unlabeled)
    model, supervised = build(*LABELED, *LENIENT, *head), build(*head)
    joint = build(*LENIENT, *head)
    for network in (model, supervised, joint):
        teach(network, EVERYTHING)
    before = buffers_of(model.student)
    losses, _, buffers = stepped(model, batch)
    expected, _, kept = stepped(supervised, batch[:2])
    assert_same(buffers, kept)
    for name in (n for n in losses if n.startswith("sup/")):
        assert torch.equal(losses[name], expected[name]) and losses[name] > 0
    # "all" is neither.
    assert any(not torch.equal(v, before[k]) for k, v in buffers.items())
    joint_losses, _, joint_buffers = stepped(joint, batch)
    assert any(not torch.equal(joint_buffers[k], v) for k, v in buffers.items())
    assert all(not torch.equal(joint_losses[n], losses[n]) for n in losses if losses[n] > 0)


@pytest.mark.parametrize("stream", ["sup", "unsup"])
def test_both_streams_reach_every_parameter_before_the_pyramid(build, stream):
    model = build(*LABELED, *LENIENT)
    teach(model, EVERYTHING)
    losses = model(batch_of(2, 2))
    sum(v for k, v in losses.items() if k.startswith(f"{stream}/")).backward()
    for name, parameter in model.student.backbone.bottom_up.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_unlabeled_images_are_normalized_by_each_other(build):
    """Neither by the labeled images nor by what is kept."""
    model = build(*LABELED)
    passes = count_calls(model.student.backbone)
    model(batch_of(0, 2))
    for norm in (m for m in model.student.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean += 9
    model(batch_of(3, 2))
    strong = [levels for (images,), levels in passes if len(images) == 2]
    assert len(strong) == 2 and len(passes) == 3
    assert_same(*strong)


@pytest.mark.parametrize("composition", [(0, 0), (2, 0), (0, 3), (2, 3)], ids=str)
def test_each_stream_has_a_pass_of_its_own(build, composition):
    model = build(*LABELED)
    teach(model, EVERYTHING)
    passes = count_calls(model.student.backbone)
    losses = model(batch_of(*composition))
    assert sorted(len(images) for (images,), _ in passes) == sorted(n for n in composition if n)
    assert losses.keys() == build()(batch_of(1, 1)).keys()


def test_the_teacher_averages_the_statistics_of_the_labeled_images(build, storage):
    model, supervised = build(*LABELED, *LENIENT), build()
    teach(model, EVERYTHING)
    start = buffers_of(model.teacher)
    hook = EMAHook(model.student, model.teacher, momentum=0.5, ramp=False)
    hook.trainer = type("Trainer", (), {"iter": 0, "storage": storage})
    batch = batch_of(2, 2)
    model(batch), supervised(batch[:2])
    hook.after_step()
    expected = buffers_of(supervised.student)
    for name, tensor in buffers_of(model.teacher).items():
        if tensor.is_floating_point():
            mean = (start[name].double() + expected[name].double()) / 2
            torch.testing.assert_close(tensor.double(), mean, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(tensor, expected[name])
