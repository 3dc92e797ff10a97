"""Soft-NMS (Bodla et al., ICCV 2017): overlapping boxes lose score instead of being dropped."""

import torch
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Boxes, Instances, pairwise_iou

__all__ = ["SOFT_NMS", "soft_nms", "soft_nms_inference"]

SOFT_NMS = ("none", "linear", "gaussian")


def soft_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    classes: torch.Tensor,
    *,
    method: str,
    iou_threshold: float = 0.5,
    sigma: float = 0.5,
    min_score: float = 0.0,
    limit: int = -1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best boxes, one after the other; each lowers the scores of its class that overlap it.

    A score s becomes

        linear:    s (1 - IoU)              where IoU >= iou_threshold
        gaussian:  s exp(-IoU^2 / sigma)    everywhere

    The scores taken descend, so that the first of all classes together are the best of all.

    Args:
        boxes: (n, 4) absolute XYXY.
        scores, classes: (n,).
        method: "linear" or "gaussian".
        min_score: boxes whose score falls below it are dropped.
        limit: number of boxes to take at most, -1 for all.

    Returns:
        (m,) rows of the boxes, best first, and their (m,) lowered scores.
    """
    places, left = Boxes(boxes), scores.clone()
    rows, taken = [scores.new_zeros(0, dtype=torch.int64)], [scores.new_zeros(0)]
    for _ in range(len(scores) if limit < 0 else min(limit, len(scores))):
        best = left.argmax(dim=0, keepdim=True)
        rows.append(best)
        taken.append(left[best])
        iou = pairwise_iou(Boxes(boxes[best]), places)[0] * (classes == classes[best])
        left = left * _decay(iou, method, iou_threshold, sigma)
        left[best] = -1
    keep, kept = torch.cat(rows), torch.cat(taken)
    above = kept >= min_score
    return keep[above], kept[above]


def _decay(iou: torch.Tensor, method: str, iou_threshold: float, sigma: float) -> torch.Tensor:
    if method == "gaussian":
        return torch.exp(-iou.square() / sigma)
    return (1 - iou).where(iou >= iou_threshold, 1)


def soft_nms_inference(
    boxes: list[torch.Tensor],
    scores: list[torch.Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
    *,
    method: str,
    sigma: float,
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Detectron2's ``fast_rcnn_inference`` with soft-NMS, class by class, in place of NMS.

    Args:
        boxes, scores, image_shapes, topk_per_image: see there.
        score_thresh: scores must exceed it before, and reach it after they are lowered.
        nms_thresh: IoU from which "linear" lowers scores.
        method, sigma: see :func:`soft_nms`.
    """
    # No IoU exceeds 1: this filters, clips and sorts alone.
    candidates, rows = fast_rcnn_inference(boxes, scores, image_shapes, score_thresh, 1.0, -1)
    results, kept = [], []
    for found, row in zip(candidates, rows):
        keep, lowered = soft_nms(
            found.pred_boxes.tensor,
            found.scores,
            found.pred_classes,
            method=method,
            iou_threshold=nms_thresh,
            sigma=sigma,
            min_score=score_thresh,
            limit=topk_per_image,
        )
        found = found[keep]
        found.scores = lowered
        results.append(found)
        kept.append(row[keep])
    return results, kept
