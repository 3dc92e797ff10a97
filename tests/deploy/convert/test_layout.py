"""What is refused, with the reason."""

import pytest
import torch
from foreign import key_table

from soft_teacher import ConfigError
from soft_teacher.deploy.convert.architecture import check_tensors, detector_config
from soft_teacher.deploy.convert.layout import networks_in
from soft_teacher.deploy.convert.source_config import USUAL

HEAD = "roi_head.bbox_head."


@pytest.fixture
def weights():
    return {source: empty(*shape) for source, _, shape in key_table()}


def empty(*shape):
    return torch.empty(shape, device="meta")


def refusal(weights):
    with pytest.raises(ConfigError) as error:
        for network in networks_in(weights):
            cfg = detector_config(network.weights, style="caffe", pixels=USUAL["caffe"])
            check_tensors(cfg, network.weights)
    return str(error.value)


def test_what_is_no_faster_rcnn():
    assert "it has no 'roi_head.bbox_head.*'" in refusal({"bbox_head.fc_cls.weight": empty(81, 4)})


def test_sigmoid_scores_as_those_of_pseco(weights):
    weights[f"{HEAD}fc_cls.weight"] = empty(80, 1024)
    assert "its 80 scores are sigmoids without background, as PseCo's" in refusal(weights)


def test_the_pyramid_of_pseco(weights):
    for kind in ("weight", "bias"):
        del weights[f"neck.lateral_convs.3.conv.{kind}"]
        weights[f"neck.fpn_convs.4.conv.{kind}"] = empty(256)
    assert "3 lateral and 5 output convolutions" in refusal(weights)
    assert "PseCo" in refusal(weights)


def test_class_agnostic_boxes_as_those_of_labelmatch(weights):
    weights[f"{HEAD}fc_reg.weight"] = empty(4, 1024)
    assert "class-agnostic (4 rows for 81 scores), as LabelMatch's" in refusal(weights)


def test_the_teacher_of_labelmatch(weights):
    weights |= {f"ema_model.{name}": value for name, value in weights.items()}
    assert "under 'ema_model.', as LabelMatch keeps it" in refusal(weights)


def test_a_detector_of_one_class_has_four_rows_of_boxes(weights):
    for name, rows in (("fc_cls", 2), ("fc_reg", 4)):
        weights[f"{HEAD}{name}.weight"] = empty(rows, 1024)
        weights[f"{HEAD}{name}.bias"] = empty(rows)
    assert networks_in(weights)


@pytest.mark.parametrize(
    "name", ["roi_head.mask_head.conv_logits.weight", "backbone.layer2.0.conv2_offset.weight"]
)
def test_unknown_tensors(name, weights):
    weights[name] = empty(1)
    assert refusal(weights) == f"it has tensors of an unknown layout: '{name}'"


def test_tensors_beside_two_networks(weights):
    two = {f"{n}.{k}": v for n in ("student", "teacher") for k, v in weights.items()}
    two["projector.weight"] = empty(1)
    assert "unknown layout: 'projector.weight'" in refusal(two)


def test_networks_that_differ(weights):
    two = {f"{n}.{k}": v for n in ("student", "teacher") for k, v in weights.items()}
    del two["student.rpn_head.rpn_conv.bias"]
    assert refusal(two) == "its student and its teacher have different tensors"


def test_other_depths(weights):
    weights = {k: v for k, v in weights.items() if not k.startswith("backbone.layer3.5.")}
    assert "3, 4, 5, 3 bottleneck blocks: only ResNets of depth 50 and 101" in refusal(weights)


def test_basic_blocks(weights):
    weights = {k: v for k, v in weights.items() if "conv3" not in k and "bn3" not in k}
    assert "3, 4, 6, 3 basic blocks" in refusal(weights)


def test_grouped_convolutions_of_a_resnext(weights):
    weights["backbone.layer1.0.conv2.weight"] = empty(64, 2, 3, 3)
    line = refusal(weights)
    assert "res2.0.conv2.weight' is 64 x 2 x 3 x 3, Detectron2 has 64 x 64 x 3 x 3" in line


def test_a_tensor_that_is_missing(weights):
    del weights["rpn_head.rpn_cls.bias"]
    assert "nothing for Detectron2's 'proposal_generator.rpn_head.objectness" in refusal(weights)
