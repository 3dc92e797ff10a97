"""Boxes and masks for networks of random weights, which detect nothing by themselves."""

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, Instances, PolygonMasks, pairwise_iou

__all__ = [
    "CANDIDATES",
    "CONFIDENT",
    "NUM_CLASSES",
    "ellipses",
    "inject",
    "random_boxes",
    "random_detections",
]

NUM_CLASSES = 80
# The paper's number of jittered candidates (section 3.3).
CANDIDATES = 17
# Of the candidates: G_cls and, roughly, G_reg. The rest of the detections scores low.
CONFIDENT, STABLE, UNSURE = 8, 10, 60
# Proposals that the teacher refines to each candidate, for the NMS to choose from.
COPIES = 3


def ellipses(boxes: Boxes) -> PolygonMasks:
    """Masks as of annotations: polygons of 24 points, one in each box."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1) / 2
    centers = boxes.get_centers().numpy()
    sides = (boxes.tensor[:, 2:] - boxes.tensor[:, :2]).numpy()
    return PolygonMasks([[(c + unit * s).flatten()] for c, s in zip(centers, sides)])


def random_boxes(rng: np.random.Generator, size: tuple, count: int) -> np.ndarray:
    """(count, 4) XYXY inside an image of ``size`` (height, width), of a tenth to half its sides."""
    height, width = size
    sides = rng.uniform(0.1, 0.5, (count, 2)) * (width, height)
    corners = rng.uniform(0, 1, (count, 2)) * ((width, height) - sides)
    return np.hstack([corners, corners + sides]).astype(np.float32)


def random_detections(rng: np.random.Generator, size: tuple) -> Instances:
    """Candidates and, after them, boxes that score low."""
    ranges = (0.91, 0.99, CONFIDENT), (0.55, 0.85, CANDIDATES - CONFIDENT), (0.06, 0.4, UNSURE)
    scores = np.concatenate([rng.uniform(*limits) for limits in ranges])
    return Instances(
        size,
        pred_boxes=Boxes(torch.from_numpy(random_boxes(rng, size, len(scores)))),
        pred_classes=torch.from_numpy(rng.integers(NUM_CLASSES, size=len(scores))),
        scores=torch.from_numpy(scores).float(),
    )


class InjectedTeacher:
    """Overwrites what a network's box heads predict so that it detects given boxes.

    The first pass of a box head after the backbone is the detection: the first proposals of each
    image are refined to the boxes. The second one is the jitter: copies of the ``STABLE`` boxes are
    refined to them, others keep what the network says. Every later step gets the proposals of the
    first, whatever its own RPN says. So both passes have the same boxes at every step, also while
    weights learn, and what is overwritten is worked out once: no step that is timed pays for it.
    """

    def __init__(self, model: GeneralizedRCNN, detected: list[Instances]):
        found = model.roi_heads.box_predictor
        stages = found if isinstance(found, torch.nn.ModuleList) else [found]
        self._detected = [d.to(model.device) for d in detected]
        self._passes = dict.fromkeys(stages, 0)
        self._overwritten: dict = {stage: [] for stage in stages}
        self._boxes: list[torch.Tensor] = []
        self._proposals: list[Instances] = []
        model.backbone.register_forward_pre_hook(self._begin)
        model.proposal_generator.register_forward_hook(self._keep_proposals)
        model.roi_heads.box_pooler.register_forward_pre_hook(self._note)
        for stage in stages:
            stage.register_forward_hook(self._overwrite)

    def _begin(self, *_) -> None:
        self._passes = dict.fromkeys(self._passes, 0)

    def _keep_proposals(self, _, args, output):
        proposals, losses = output
        self._proposals = self._proposals or proposals
        return self._proposals, losses

    def _note(self, _, args) -> None:
        self._boxes = [boxes.tensor for boxes in args[1]]

    def _overwrite(self, stage, args, predictions):
        self._passes[stage] += 1
        current, known = self._passes[stage], self._overwritten[stage]
        if current > 2:
            return predictions
        if current > len(known):
            scores, deltas = (p.clone() for p in predictions)
            counts = [len(boxes) for boxes in self._boxes]
            change = self._detect if current == 1 else self._refine
            for one in zip(self._boxes, self._detected, scores.split(counts), deltas.split(counts)):
                change(stage, *one)
            known.append((scores, deltas))
        return known[current - 1]

    def _detect(self, stage, boxes, detected, scores, deltas) -> None:
        repeats = torch.tensor([COPIES] * CANDIDATES + [1] * UNSURE, device=boxes.device)
        found = detected[torch.repeat_interleave(repeats)]
        rows = torch.arange(len(found), device=boxes.device)
        scores.fill_(-10)
        scores[:, -1] = 0
        scores[rows, found.pred_classes] = torch.logit(found.scores).to(scores.dtype)
        self._refine_to(stage, found, boxes, deltas, rows)

    def _refine(self, stage, boxes, detected, scores, deltas) -> None:
        overlaps, nearest = pairwise_iou(Boxes(boxes), detected.pred_boxes[:STABLE]).max(dim=1)
        rows = torch.nonzero(overlaps > 0.7).squeeze(1)
        self._refine_to(stage, detected[nearest[rows]], boxes, deltas, rows)

    def _refine_to(self, stage, found, boxes, deltas, rows) -> None:
        moves = stage.box2box_transform.get_deltas(boxes[rows], found.pred_boxes.tensor).to(
            deltas.dtype
        )
        by_class = deltas.view(len(deltas), -1, 4)
        by_class[rows, found.pred_classes % by_class.shape[1]] = moves


class InjectedDenseTeacher:
    """Overwrites what the head of a dense detector predicts so that it detects given boxes.

    The nearest anchors of a ``STABLE`` box all regress to it, so that NMS suppresses equal boxes;
    others have one anchor. What is overwritten is worked out once, as in :class:`InjectedTeacher`.
    """

    def __init__(self, model: DenseDetector, detected: list[Instances]):
        self._model = model
        self._detected = [d.to(model.device) for d in detected]
        self._overwritten: tuple = ()
        model.head.register_forward_hook(self._overwrite)

    def _overwrite(self, head, args, output):
        self._overwritten = self._overwritten or self._made(args[0], output)
        return self._overwritten

    def _made(self, features, output) -> tuple:
        model = self._model
        anchors = Boxes.cat(model.anchor_generator(features))
        sizes = model.num_classes, 4, 1
        flat = [
            torch.cat(levels, dim=1)
            for levels in model._transpose_dense_predictions(output, list(sizes[: len(output)]))
        ]
        logits, deltas = flat[:2]
        logits.fill_(-10)
        points = len(flat) == 3  # an FCOS, whose scores are roots of a class times the centerness
        for centerness in flat[2:]:
            centerness.fill_(10)
        for image, found in enumerate(self._detected):
            scores = found.scores**2 if points else found.scores
            fit = _closeness(found.pred_boxes, anchors, points=points)
            nearest = fit.topk(COPIES, dim=1).indices
            # Those that score highest last, so that they keep their anchors.
            for row in reversed(range(len(found))):
                for copy, anchor in enumerate(nearest[row, : COPIES if row < STABLE else 1]):
                    logits[image, anchor] = -10
                    logits[image, anchor, found.pred_classes[row]] = (
                        torch.logit(scores[row]) - 0.1 * copy
                    )
                    deltas[image, anchor] = model.box2box_transform.get_deltas(
                        anchors.tensor[anchor][None], found.pred_boxes.tensor[row][None]
                    )[0].to(deltas.dtype)
        return tuple(
            _as_maps(values, levels, size) for values, levels, size in zip(flat, output, sizes)
        )


def inject(model: GeneralizedRCNN | DenseDetector, detected: list[Instances]) -> None:
    """Lets a network detect these boxes from now on."""
    kind = InjectedDenseTeacher if isinstance(model, DenseDetector) else InjectedTeacher
    kind(model, detected)


def _closeness(boxes: Boxes, anchors: Boxes, *, points: bool) -> torch.Tensor:
    """(N, R) how well each anchor, or the point in its middle, suits a box."""
    if not points:
        return pairwise_iou(boxes, anchors)
    return -torch.cdist(boxes.get_centers(), anchors.get_centers())


def _as_maps(flat: torch.Tensor, levels: list[torch.Tensor], size: int) -> list[torch.Tensor]:
    """(N, R, size) as the head gives it, per level (N, A * size, H, W)."""
    parts = flat.split([level[0].numel() // size for level in levels], dim=1)
    shaped = [
        part.reshape(len(part), *level.shape[-2:], -1, size).permute(0, 3, 4, 1, 2)
        for part, level in zip(parts, levels)
    ]
    return [part.reshape(level.shape) for part, level in zip(shaped, levels)]
