"""Names of tensors against the table of a real R50, and an R101 by the same rules."""

import pytest
import torch
from detectron2.modeling import build_model
from foreign import as_mmdetection, key_table, narrow_cfg, two_networks

from soft_teacher.deploy.convert.architecture import check_tensors, detector_config
from soft_teacher.deploy.convert.layout import networks_in
from soft_teacher.deploy.convert.rules import is_dropped, renamed
from soft_teacher.deploy.convert.source_config import USUAL

SETTINGS = {"style": "caffe", "pixels": USUAL["caffe"]}


def full_size():
    """mmdetection's state dict of a full R50, without memory."""
    return {source: torch.empty(shape, device="meta") for source, _, shape in key_table()}


@pytest.mark.parametrize("name", ["", "conv1.weight", "backbone.conv1.weight.x", "teacher.neck"])
def test_other_names_have_no_counterpart(name):
    assert renamed(name) is None and not is_dropped(name)


def test_every_name_of_the_table_has_its_counterpart():
    assert {source: renamed(source) for source, *_ in key_table()} == {
        source: target for source, target, _ in key_table()
    }


def test_the_tensors_are_exactly_those_of_a_full_detector():
    (network,) = networks_in(full_size())
    cfg = detector_config(network.weights, **SETTINGS)
    check_tensors(cfg, network.weights)
    assert cfg.MODEL.RESNETS.DEPTH == 50 and cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80
    assert cfg.MODEL.RESNETS.RES2_OUT_CHANNELS == 256 and cfg.MODEL.ROI_BOX_HEAD.FC_DIM == 1024


def test_student_and_teacher_are_told_apart():
    both = {f"{n}.{k}": v for n in ("student", "teacher") for k, v in full_size().items()}
    student, teacher = networks_in(both)
    assert (student.name, teacher.name) == ("student", "teacher")
    assert (
        student.weights.keys()
        == teacher.weights.keys()
        == networks_in(full_size())[0].weights.keys()
    )
    assert {key.source for key in student.keys + teacher.keys} == both.keys()


@pytest.mark.parametrize("depth", [50, 101])
def test_every_tensor_is_used_once(depth):
    cfg = narrow_cfg(depth=depth)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        network = build_model(cfg)
    state = as_mmdetection(network)
    (found,) = networks_in(state)
    assert list(found.weights) == list(network.state_dict())
    targets = [key.target for key in found.keys if key.target]
    assert len(set(targets)) == len(targets) == len(found.weights)
    assert [key.source for key in found.keys] == list(state)
    dropped = [key.source for key in found.keys if not key.target]
    assert dropped and all(name.endswith("num_batches_tracked") for name in dropped)
    assert detector_config(found.weights, **SETTINGS).MODEL.RESNETS.DEPTH == depth


def test_two_networks_have_twice_the_tensors():
    cfg = narrow_cfg()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        network = build_model(cfg)
    assert len(two_networks(network, network)) == 2 * len(as_mmdetection(network))
