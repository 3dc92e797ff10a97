"""Mask heads one after the other on the same RoI features."""

import pytest
import torch
from detectron2.layers import ShapeSpec

from soft_teacher.modeling.families.htc.mask_head import HTCMaskHead, refined_features

CHANNELS, K = 4, 2


def heads_of(stages=3):
    torch.manual_seed(0)
    shape = ShapeSpec(channels=CHANNELS, height=4, width=4)
    heads = [
        HTCMaskHead(shape, num_classes=K, conv_dims=[CHANNELS] * 3, receives=stage > 0)
        for stage in range(stages)
    ]
    heads = torch.nn.ModuleList(heads).double()
    for parameter in heads.parameters():  # no activation is exactly 0
        torch.nn.init.normal_(parameter, std=0.3)
    return heads


def features(n=3):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, CHANNELS, 4, 4, generator=g).double()


def logits(heads, x):
    return [h.predict(m) for h, m in zip(heads, refined_features(heads, x))]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_masks_have_twice_the_size(n):
    assert [x.shape for x in logits(heads_of(), features(n))] == [(n, K, 8, 8)] * 3


def test_the_first_head_is_that_of_mask_rcnn():
    (head,), x = heads_of(1), features()
    assert not hasattr(head, "conv_res")
    torch.testing.assert_close(logits([head], x)[0], head.layers(x))
    for layer in (head.mask_fcn1, head.mask_fcn2, head.deconv, torch.relu, head.predictor):
        x = layer(x)
    torch.testing.assert_close(x, head.layers(features()))


def test_a_later_head_adds_features_of_the_one_before():
    heads, x = heads_of(2), features()
    before = heads[0].mask_fcn2(heads[0].mask_fcn1(x))
    joined = x + torch.nn.functional.conv2d(
        before, heads[1].conv_res.weight, heads[1].conv_res.bias
    ).clamp(min=0)
    torch.testing.assert_close(logits(heads, x)[1], heads[1].layers(joined))


def test_features_come_one_stage_at_a_time():
    heads = heads_of()
    heads[2].refine = None
    stages = refined_features(heads, features())
    next(stages), next(stages)
    with pytest.raises(TypeError):
        next(stages)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_gradients_reach_every_head_before_and_are_finite_differences(stage):
    heads, x = heads_of(), features()

    def loss():
        return logits(heads, x)[stage].square().mean()

    parameters = dict(heads.named_parameters())
    grads = torch.autograd.grad(loss(), parameters.values(), allow_unused=True)
    g = torch.Generator().manual_seed(1)
    for (name, parameter), grad in zip(parameters.items(), grads):
        number, layer = int(name[0]), name.split(".")[1]
        own = ("deconv", "predictor")
        assert (grad is not None) == (number == stage or number < stage and layer not in own)
        if grad is not None:
            direction = torch.randn(parameter.shape, generator=g).double()
            expected = difference(loss, parameter, direction)
            assert (grad * direction).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-8)


@torch.no_grad()
def difference(loss, parameter, direction, step=1e-6):
    values = []
    for sign in (1, -2):
        parameter += sign * step * direction
        values.append(loss().item())
    parameter += step * direction
    return (values[0] - values[1]) / (2 * step)
