"""Soft Teacher with a RetinaNet in place of the Faster R-CNN."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from soft_teacher.modeling import RetinaNetFamily

from .base import CHANNELS
from .soft_teacher import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

LEVELS = ["p2", "p3", "p4"]

detector = model_zoo.get_config("common/models/retinanet.py").model
detector.backbone = model.student.backbone
detector.update(num_classes=5, head_in_features=LEVELS, smooth_l1_beta=0.1)
detector.head.update(
    input_shape=[ShapeSpec(channels=CHANNELS)] * len(LEVELS),
    conv_dims=[CHANNELS] * 2,
    num_anchors=4,
)
detector.anchor_generator.update(
    sizes=[[18, 23], [28, 35], [44, 55]], aspect_ratios=[1.0, 1.6], strides=[4, 8, 16]
)
model.student = detector
model.family = L(RetinaNetFamily)(indicator="bg_teacher")
model.pseudo_labeler.update(score_thresh=0.5, candidate_thresh=0.3, variance_thresh=0.1)
model.alpha = 2.0
train.output_dir = "output/demo/retinanet_lazy"
