"""A training step of HTC's heads in float64, from the paper and the released settings.

Every candidate is a sample, so that nothing is random. RoIAlign is torchvision's.
"""

import math

import torch
from torch.nn import functional as F
from torchvision.ops import box_iou, roi_align

LARGEST = math.log(1000 / 16)
WEIGHTS = (1.0, 0.5, 0.25)


class PlainHTC:
    """Heads with the weights and names of HTCROIHeads."""

    def __init__(self, state, *, stds, ious, num_classes, norm=None, giou=False, box_weight=1.0):
        self.w = {key: value.double() for key, value in state.items() if value.is_floating_point()}
        self.w = {key: value.detach().requires_grad_() for key, value in self.w.items()}
        self.stds, self.ious, self.background = stds, ious, num_classes
        self.norm, self.giou, self.box_weight = norm, giou, box_weight

    def losses(self, features, proposals, targets, maps=None) -> dict[str, torch.Tensor]:
        """
        Args:
            features: p2 to p6, float64.
            proposals: per image, (n, 4).
            targets: per image, (boxes, classes, bitmaps, (h, w)).
            maps: per image, a semantic map; None for heads without the branch.
        """
        result, embedding = {}, None
        if maps is not None:
            embedding, logits = self.semantic(features)
            result["loss_sem_seg"] = semantic_loss(logits, maps)
        candidates = proposals
        for k, weight in enumerate(WEIGHTS):
            scores, deltas, rows, match = self._boxes(features, embedding, candidates, targets, k)
            loss_cls, loss_box = self._box_losses(scores, deltas, rows, match, targets, k)
            refined = (
                decode(rows, deltas, self.stds[k])
                .detach()
                .float()
                .double()
                .split([len(m) for m in match])
            )
            candidates = [
                clip(boxes[: len(boxes) - len(target[0])], target[3])
                for boxes, target in zip(refined, targets)
            ]
            loss_mask = self._mask_loss(features, embedding, candidates, targets, k)
            named = {"loss_cls": loss_cls, "loss_box_reg": loss_box, "loss_mask": loss_mask}
            result.update({f"{name}_stage{k}": weight * v for name, v in named.items()})
        return result

    def _boxes(self, features, embedding, candidates, targets, k):
        rois = [torch.cat([c, t[0]]) for c, t in zip(candidates, targets)]
        match = [assign(r, t[0], self.ious[k]) for r, t in zip(rois, targets)]
        x = pooled(features, rois, 7)
        if embedding is not None:
            x = x + F.avg_pool2d(semantic_rois(embedding, rois), 2)
        x = self.box_head(x, k)
        predictor = f"box_predictor.{k}"
        scores, deltas = (self.linear(x, f"{predictor}.{n}") for n in ("cls_score", "bbox_pred"))
        return scores, deltas, torch.cat(rois), match

    def _box_losses(self, scores, deltas, rows, match, targets, k):
        classes, goals = zip(*(self._matched(m, t) for m, t in zip(match, targets)))
        classes, goals = torch.cat(classes), torch.cat(goals)
        loss_cls = -scores.log_softmax(1)[torch.arange(len(rows)), classes].mean()
        fg = classes < self.background
        if self.giou:
            loss_box = (1 - giou(decode(rows[fg], deltas[fg], self.stds[k]), goals[fg])).sum()
        else:
            error = (deltas[fg] - encode(rows[fg], goals[fg], self.stds[k])).abs()
            loss_box = torch.where(error < 1, 0.5 * error**2, error - 0.5).sum()
        return loss_cls, self.box_weight * loss_box / len(rows)

    def _matched(self, match, target):
        """Class of each row, and its goal where it is a foreground."""
        boxes, labels = target[:2]
        if not len(boxes):
            return torch.full_like(match, self.background), torch.zeros(len(match), 4).double()
        return labels[match].where(match >= 0, self.background), boxes[match]

    def _mask_loss(self, features, embedding, candidates, targets, k):
        rois, goals, classes = [], [], []
        for boxes, (gt, labels, bitmaps, _) in zip(candidates, targets):
            boxes = torch.cat([boxes, gt])
            match = assign(boxes, gt, self.ious[k])
            rois.append(boxes[match >= 0])
            match = match[match >= 0]
            classes.append(labels[match])
            index = torch.arange(len(match)).double()[:, None]
            crops = torch.cat([index, rois[-1]], dim=1)
            if len(match):
                bits = bitmaps[match][:, None].double()
                goals.append(roi_align(bits, crops, 28, 1.0, 0, True)[:, 0] >= 0.5)
        *_, logits = self.mask_logits(features, embedding, rois, k + 1)
        if not goals:
            return logits.sum() * 0
        logits = logits[torch.arange(len(logits)), torch.cat(classes)]
        goal = torch.cat(goals).double()
        return (F.softplus(logits) - goal * logits).mean()

    def mask_logits(self, features, embedding, rois, stages=len(WEIGHTS)) -> list[torch.Tensor]:
        """Of the first stages, for all classes."""
        x = pooled(features, rois, 14)
        if embedding is not None:
            x = x + semantic_rois(embedding, rois)
        last, results = None, []
        for k in range(stages):
            head = f"mask_head.{k}"
            y = x if last is None else x + self.conv(last, f"{head}.conv_res")
            for i in range(1, 5):
                y = self.conv(y, f"{head}.mask_fcn{i}")
            last = y
            weight, bias = (self.w[f"{head}.deconv.{n}"] for n in ("weight", "bias"))
            up = F.conv_transpose2d(y, weight, bias, stride=2).clamp(min=0)
            results.append(self.conv(up, f"{head}.predictor", relu=False))
        return results

    def semantic(self, features) -> tuple[torch.Tensor, torch.Tensor]:
        x, size = 0, features["p3"].shape[-2:]
        for i, name in enumerate(("p2", "p3", "p4", "p5", "p6")):
            resized = F.interpolate(features[name], size, mode="bilinear", align_corners=True)
            x = x + self.conv(resized, f"semantic_head.lateral_convs.{i}")
        for i in range(4):
            x = self.conv(x, f"semantic_head.convs.{i}")
        embedding = self.conv(x, "semantic_head.embedding")
        return embedding, self.conv(x, "semantic_head.predictor", relu=False)

    def box_head(self, x, k):
        if self.norm is None:
            x = self.linear(x.flatten(1), f"box_head.{k}.fc1").clamp(min=0)
            return self.linear(x, f"box_head.{k}.fc2").clamp(min=0)
        for i in range(1, 5):
            name = f"box_head.{k}.conv{i}"
            x = self.normalized(F.conv2d(x, self.w[f"{name}.weight"], padding=1), f"{name}.norm")
            x = x.clamp(min=0)
        return self.linear(x.flatten(1), f"box_head.{k}.fc1").clamp(min=0)

    def normalized(self, x, name):
        shape = x.shape
        if self.norm == "GN":  # 32 groups of each box
            x, dims = x.unflatten(1, (32, -1)), (2, 3, 4)
        else:  # all boxes of a batch
            dims = (0, 2, 3)
        mean, var = x.mean(dims, keepdim=True), x.var(dims, keepdim=True, unbiased=False)
        x = ((x - mean) / (var + 1e-5).sqrt()).reshape(shape)
        weight, bias = (self.w[f"{name}.{n}"][:, None, None] for n in ("weight", "bias"))
        return x * weight + bias

    def conv(self, x, name, relu=True):
        weight = self.w[f"{name}.weight"]
        x = F.conv2d(x, weight, self.w[f"{name}.bias"], padding=weight.shape[-1] // 2)
        return x.clamp(min=0) if relu else x

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]


def semantic_loss(logits, maps):
    total = 0
    for image, labels in zip(logits.log_softmax(1), maps):
        for (i, j), label in grid(labels):
            total = total - image[label, i, j]
    return 0.2 * total / logits[:, 0].numel()


def grid(labels):
    """Places of logits and what they are labeled, where they are."""
    if labels is not None:
        for i in range(0, labels.shape[0], 8):
            for j in range(0, labels.shape[1], 8):
                if labels[i, j] != 255:
                    yield (i // 8, j // 8), labels[i, j]


def assign(boxes, gt, threshold):
    """Row of the ground truth that each box is positive for, or -1."""
    if not len(gt):
        return torch.full((len(boxes),), -1)
    best, row = box_iou(boxes, gt.to(boxes)).max(dim=1)
    return torch.where(best >= threshold, row, -1)


def pooled(features, rois, size):
    rois = numbered(rois)
    area = ((rois[:, 3:] - rois[:, 1:3]).prod(1)).sqrt()
    level = (4 + (area / 224 + 1e-8).log2()).floor().clamp(2, 5)
    first = features["p2"]
    result = first.new_zeros(len(rois), first.shape[1], size, size)
    for p in range(2, 6):
        rows = (level == p).nonzero()[:, 0]
        part = roi_align(features[f"p{p}"], rois[rows], size, 0.5**p, 0, True)
        result = result.index_add(0, rows, part)
    return result


def semantic_rois(embedding, rois):
    return roi_align(embedding, numbered(rois), 14, 1 / 8, 0, True)


def numbered(rois):
    number = [torch.full((len(r), 1), float(i), dtype=r.dtype) for i, r in enumerate(rois)]
    return torch.cat([torch.cat(number), torch.cat(rois)], dim=1)


def centers(boxes):
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


def encode(boxes, goals, stds):
    (c, s), (gc, gs) = centers(boxes), centers(goals)
    return torch.cat([(gc - c) / s, (gs / s).log()], dim=1) / boxes.new_tensor(stds)


def decode(boxes, deltas, stds):
    center, size = centers(boxes)
    shift, scale = (deltas * boxes.new_tensor(stds)).split(2, dim=1)
    center, size = center + shift * size, size * scale.clamp(max=LARGEST).exp()
    return torch.cat([center - size / 2, center + size / 2], dim=1)


def clip(boxes, size):
    h, w = size
    return torch.stack([boxes[:, i].clamp(0, (w, h)[i % 2]) for i in range(4)], dim=1)


def giou(a, b):
    """Generalized IoU of rows: IoU - (hull - union) / hull."""
    inside = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = sum((c[:, 2:] - c[:, :2]).prod(1) for c in (a, b)) - inside
    hull = (torch.max(a[:, 2:], b[:, 2:]) - torch.min(a[:, :2], b[:, :2])).prod(1)
    return inside / union - (hull - union) / hull
