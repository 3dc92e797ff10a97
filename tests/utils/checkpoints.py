"""Detectors of few channels whose every tensor differs, and checkpoints of them in files."""

import copy
import pickle
from functools import lru_cache

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from soft_teacher import ConfigError, add_soft_teacher_config
from soft_teacher.engine.checkpoint import SoftTeacherCheckpointer

SIDES = ("student", "teacher")


@lru_cache
def built(*, arch, classes=3, stem=4, norm="FrozenBN"):
    """An R50-FPN of very few channels."""
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = arch
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.NORM = norm
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = stem
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 2
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 4
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = classes
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 8
    return build_model(cfg)


def soft_teacher(seed=0, **kind):
    """A Soft Teacher whose two networks differ in every tensor."""
    return filled(copy.deepcopy(built(arch="SoftTeacher", **kind)), seed)


def stock_detector(seed=100, **kind):
    return filled(copy.deepcopy(built(arch="GeneralizedRCNN", **kind)), seed)


def filled(model, seed):
    """Every tensor of the state dict gets values of its own, so that none is equal by chance."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        else:
            tensor.fill_(int(torch.randint(1 << 20, (), generator=generator)))
    return model


def load(model, path, *, complete=False):
    return SoftTeacherCheckpointer(model, complete=complete).load(str(path))


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def assert_same(ours, theirs):
    assert list(ours) == list(theirs)
    assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []


def refusal(path, model=None, **settings):
    """The one line of the ConfigError; the model may hold a part of the file afterwards."""
    with pytest.raises(ConfigError) as error:
        load(model or built(arch="SoftTeacher"), path, **settings)
    assert "\n" not in str(error.value) and "SoftTeacherCheckpointer.path" in str(error.value)
    return str(error.value)


def write_pickle(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def write_torch(path, content):
    torch.save(content, path)
    return path


def write_legacy(path, content):
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def arrays(module):
    return {k: v.numpy() for k, v in module.state_dict().items()}
