"""Attention over a whole feature map."""

import math

import numpy as np
import pytest
import torch

from soft_teacher import ConfigError
from soft_teacher.modeling.backbones.global_attention import GlobalAttention
from soft_teacher.modeling.backbones.swin import Swin

TINY = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2]}


def block(**kwargs):
    torch.manual_seed(0)
    return GlobalAttention(channels=8, num_heads=2, drop_path_rate=0.0, **kwargs).eval()


def randomized(module):
    """With a value of its own in every parameter, biases and norms included."""
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.5)
    return module.double()


def norm(x, weight, bias):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def by_hand(w, tokens, heads):
    """One image, (tokens, channels), pair by pair."""
    count, channels = tokens.shape
    width = channels // heads
    seen = norm(tokens, w["norm1.weight"], w["norm1.bias"])
    q, k, v = np.split(seen @ w["attn.qkv.weight"].T + w["attn.qkv.bias"], 3, axis=-1)
    mixed = np.zeros_like(tokens)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(count):
            scores = [q[i, part] @ k[j, part] / math.sqrt(width) for j in range(count)]
            shares = np.exp(scores) / np.exp(scores).sum()
            mixed[i, part] = sum(share * v[j, part] for j, share in enumerate(shares))
    y = tokens + mixed @ w["attn.proj.weight"].T + w["attn.proj.bias"]
    hidden = norm(y, w["norm2.weight"], w["norm2.bias"])
    hidden = hidden @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"]
    hidden = np.vectorize(lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2)(hidden)
    y = y + hidden @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]
    return norm(y, w["final_norm.weight"], w["final_norm.bias"])


def test_no_images():
    assert block()(torch.zeros(0, 8, 3, 4)).shape == (0, 8, 3, 4)


def test_it_is_what_its_formula_says():
    attention = randomized(block(mlp_ratio=3.0))
    x = torch.randn(2, 8, 3, 4).double()
    weights = {name: value.detach().numpy() for name, value in attention.state_dict().items()}
    found = attention(x).detach().numpy()
    for image, expected in zip(x.numpy(), found):
        tokens = by_hand(weights, image.reshape(8, 12).T, heads=2)
        np.testing.assert_allclose(tokens.T.reshape(8, 3, 4), expected, atol=1e-10)


def test_every_pixel_reaches_every_other():
    attention = randomized(block())
    x = torch.randn(1, 8, 5, 7).double().requires_grad_()
    attention(x)[0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(dim=1) > 0).all()


def test_images_skip_attention_and_mlp_each_for_itself():
    torch.manual_seed(0)
    attention = GlobalAttention(channels=8, num_heads=2, drop_path_rate=0.5).train()
    x = torch.randn(1, 8, 2, 2).expand(64, -1, -1, -1)
    # Neither, one of two, or both.
    assert len(attention(x).detach().unique(dim=0)) == 4


def swin(**kwargs):
    torch.manual_seed(1)
    return Swin(**TINY, drop_path_rate=0.0, **kwargs).eval()


def test_a_swin_applies_it_to_its_last_stage_alone():
    attention = GlobalAttention(channels=16, num_heads=4, drop_path_rate=0.0)
    plain, with_attention = (
        swin(out_indices=(0, 1), **kwargs) for kwargs in ({}, {"global_attention": attention})
    )
    with_attention.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, 3, 32, 40)
    before, after = plain(x), with_attention(x)
    assert torch.equal(before["p0"], after["p0"])
    assert torch.equal(attention(before["p1"]), after["p1"])


def test_without_the_last_stage_there_is_nothing_to_attend_to():
    attention = GlobalAttention(channels=16, num_heads=4)
    with pytest.raises(ConfigError, match="Swin.global_attention needs the last stage"):
        swin(out_indices=(0,), global_attention=attention)
