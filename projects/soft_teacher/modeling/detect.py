"""What a detector finds on views of images, with the features that it was found on."""

from contextlib import contextmanager
from typing import Dict, List, Tuple

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import ImageList, Instances
from torch import nn

__all__ = ["PROPOSAL_SETTINGS", "detect"]

PROPOSAL_SETTINGS = ("test", "train")


@torch.no_grad()
def detect(
    network: GeneralizedRCNN, views: List[torch.Tensor], proposals: str = "test"
) -> Tuple[ImageList, Dict[str, torch.Tensor], List[Instances]]:
    """One pass of a detector in eval mode, as the teacher labels images.

    Args:
        network: in eval mode.
        views: per image, (C, H, W), channels in the network's own order.
        proposals: number of RPN proposals, that of "test" or of "train".

    Returns:
        the padded views; their feature maps; per image, Instances with ``pred_boxes`` (absolute
        XYXY in the view), ``pred_classes`` and ``scores``, after NMS.
    """
    images = network.preprocess_image([{"image": view} for view in views])
    features = network.backbone(images.tensor)
    with _proposal_setting(network.proposal_generator, proposals):
        candidates, _ = network.proposal_generator(images, features, None)
    detections, _ = network.roi_heads(images, features, candidates, None)
    return images, features, detections


@contextmanager
def _proposal_setting(rpn: nn.Module, setting: str):
    """Lets an RPN in eval mode keep as many proposals as in training, if asked to."""
    if setting == "test":
        yield
        return
    saved = rpn.pre_nms_topk, rpn.post_nms_topk
    rpn.pre_nms_topk, rpn.post_nms_topk = ({False: n[True], True: n[True]} for n in saved)
    try:
        yield
    finally:
        rpn.pre_nms_topk, rpn.post_nms_topk = saved
