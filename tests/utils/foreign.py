"""Checkpoints as mmdetection and microsoft/SoftTeacher write them, of detectors of ours."""

import json
import re
from collections import OrderedDict
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from soft_teacher.deploy.convert.architecture import detector_config
from soft_teacher.deploy.convert.source_config import USUAL

KEYS = Path(__file__).resolve().parents[1] / "deploy" / "convert" / "key_map.tsv"
RESNET = "backbone.bottom_up."
STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
CONFIG = """
model = dict(
    type='FasterRCNN',
    backbone=dict(type='ResNet', depth=50, norm_eval=True, style='{style}'),
    rpn_head=dict(
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[8],
            ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[1.0, 1.0, 1.0, 1.0])),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000, min_bbox_size=0),
        rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)))
img_norm_cfg = dict(mean={mean}, std={std}, to_rgb={rgb})
"""


def config_text(style="caffe"):
    pixels = USUAL[style]
    rgb = pixels.image_format == "RGB"
    return CONFIG.format(style=style, mean=pixels.mean, std=pixels.std, rgb=rgb)


def key_table():
    """(mmdetection's name, Detectron2's name, shape) of every tensor of a Faster R-CNN R50-FPN."""
    rows = [line.split("\t") for line in KEYS.read_text().splitlines()[1:]]
    return [(source, target, tuple(map(int, s.split("x")))) for source, target, s in rows]


def narrow_cfg(*, style="caffe", classes=3, depth=50) -> CfgNode:
    """The config that a conversion makes, of an R50-FPN of few channels."""
    rows = {
        f"{RESNET}stem.conv1.weight": 4,
        f"{RESNET}res2.0.conv1.weight": 2,
        f"{RESNET}res2.0.conv3.weight": 8,
        "backbone.fpn_lateral2.weight": 4,
        "roi_heads.box_predictor.cls_score.weight": classes + 1,
        "roi_heads.box_head.fc1.weight": 8,
        "roi_heads.box_head.fc2.weight": 8,
    }
    for stage, blocks in zip((2, 3, 4, 5), STAGES[depth]):
        for block in range(blocks):
            rows.setdefault(f"{RESNET}res{stage}.{block}.conv1.weight", 1)
    tensors = {name: torch.empty(number) for name, number in rows.items()}
    cfg = detector_config(tensors, style=style, pixels=USUAL[style])
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def narrow_detector(seed=0, **kind):
    """An R50-FPN of few channels, built by Detectron2 alone, with a value of its own everywhere."""
    torch.manual_seed(seed)
    network = build_model(narrow_cfg(**kind)).eval()
    for name, value in network.state_dict().items():
        if ".norm." in name:
            value += 0.1 * torch.rand_like(value)
        elif value.is_floating_point() and value.dim():
            spread = 0.1 if value.dim() == 1 else (value[0].numel()) ** -0.5
            value.normal_(0, spread / 4 if "cls_score" in name else spread)  # all classes score
    if kind.get("style", "caffe") == "caffe":  # pixels come as they are
        network.backbone.bottom_up.stem.conv1.weight.data /= 60
    return network


def as_mmdetection(network, prefix="") -> OrderedDict:
    """The state dict that mmdetection would have, by the table's rows taken backwards."""
    back = {target: source for source, target, _ in key_table()}
    state = OrderedDict()
    for name, value in network.state_dict().items():
        # Blocks beyond those of the table are named as the last one is.
        found = back.get(name) or _of_a_later_block(name, back)
        if found:
            state[prefix + found] = value.clone()
            if found.endswith("running_var"):
                counter = found.replace("running_var", "num_batches_tracked")
                state[prefix + counter] = torch.tensor(7)
    return state


def _of_a_later_block(name, back):
    found = re.fullmatch(r"(.*\.res4\.)(\d+)(\..*)", name)
    if not found:
        return None  # anchors, and means and deviations of pixels
    return back[f"{found[1]}1{found[3]}"].replace("layer3.1.", f"layer3.{found[2]}.")


def two_networks(student, teacher) -> OrderedDict:
    """The state dict of microsoft/SoftTeacher."""
    return OrderedDict(as_mmdetection(student, "student.") | as_mmdetection(teacher, "teacher."))


def save(path, state, *, meta=None, legacy=False, **entries):
    """A file of mmcv's or mmengine's, or of their tool that publishes models (legacy)."""
    meta = {"config": config_text()} if meta is None else meta
    content = {"meta": meta, "state_dict": state, **entries}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return str(path)


def save_annotations(path, *categories):
    """A COCO JSON of (id, name) in this order."""
    listed = [{"id": number, "name": name} for number, name in categories]
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": listed}))
    return str(path)
