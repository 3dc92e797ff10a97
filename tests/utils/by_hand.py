"""Geometry and losses of the ROI heads computed from the paper, box by box in float64.

What the networks predict for a box is a function of the box here, so that the reference does not
depend on the order of the code's rows and on the number of its passes.
"""

import numpy as np

K = 3
BG = K
CODE = np.array([10.0, 10.0, 5.0, 5.0])

_RNG = np.random.default_rng(0)
_TO_SCORES = _RNG.normal(0, 0.06, (4, K + 1))
_TO_DELTAS = _RNG.normal(0, 0.06, (4, 4 * K))
_TO_TEACHER = _RNG.normal(0, 0.06, 4)


def rotation(degrees, center):
    """(3, 3), clockwise as seen: the y axis points down."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    matrix[:2, 2] = center - matrix[:2, :2] @ center
    return matrix


def warp(boxes, matrix, size=None):
    """(n, 4) boxes that enclose the four corners under a matrix, clipped to a size."""
    result = []
    for x0, y0, x1, y1 in np.asarray(boxes, np.float64).reshape(-1, 4):
        corners = [matrix @ np.array([x, y, 1]) for x in (x0, x1) for y in (y0, y1)]
        x, y, _ = np.transpose(corners)
        result.append([x.min(), y.min(), x.max(), y.max()])
    result = np.array(result).reshape(-1, 4)
    return result if size is None else result.clip(0, [*size[::-1]] * 2)


def student_scores(boxes):
    return 3 * np.sin(np.asarray(boxes, np.float64) @ _TO_SCORES)


def student_deltas(boxes):
    return np.cos(np.asarray(boxes, np.float64) @ _TO_DELTAS)


def student_background(box):
    scores = np.exp(student_scores(box))
    return scores[BG] / scores.sum()


def teacher_background(boxes):
    return 0.5 + 0.5 * np.sin(np.asarray(boxes, np.float64) @ _TO_TEACHER)


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    area = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return shared / (sum(area) - shared)


def samples_of(proposals, boxes, classes):
    """(box, class, matched pseudo box, IoU) of each proposal and of each pseudo box itself."""
    return matched([*proposals, *boxes], boxes, classes)


def matched(rows, boxes, classes, thresh=0.5, margin=0.05):
    """The same of each row; foregrounds have an IoU of ``thresh``, and none has one near to it."""
    result = []
    for box in rows:
        overlaps = [iou(box, g) for g in boxes]
        best = int(np.argmax(overlaps)) if boxes else None
        largest = overlaps[best] if boxes else 0.0
        assert abs(largest - thresh) >= margin, "a scene must not depend on rounding"
        if largest > thresh:
            result.append((box, classes[best], boxes[best], largest))
        else:
            result.append((box, BG, None, largest))
    return result


def cross_entropy(box, target):
    scores = student_scores(box)
    return np.log(np.exp(scores).sum()) - scores[target]


def box_deltas(box, goal, code=CODE):
    """What a regressor has to predict for ``box`` to move it to ``goal``."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = box, goal
    w, h = x1 - x0, y1 - y0
    deltas = [(u0 + u1 - x0 - x1) / 2 / w, (v0 + v1 - y0 - y1) / 2 / h]
    return code * [*deltas, np.log((u1 - u0) / w), np.log((v1 - v0) / h)]


def moved(boxes, deltas, code=CODE):
    """(n, 4) boxes that (n, 4) deltas, or the same for all, move boxes to."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    deltas = np.asarray(deltas, np.float64).reshape(-1, 4)
    x, y, w, h = (deltas / code * np.ones_like(boxes)).T
    sides = boxes[:, 2:] - boxes[:, :2]
    center = (boxes[:, 2:] + boxes[:, :2]) / 2 + np.stack([x, y], axis=1) * sides
    half = sides * np.exp(np.stack([w, h], axis=1)) / 2
    return np.concatenate([center - half, center + half], axis=1)


def box_loss(box, target, goal):
    predicted = student_deltas(box)[4 * target : 4 * target + 4]
    return np.abs(predicted - box_deltas(box, goal)).sum()


# r of a background box with the IoU ``overlap``, from what the teacher predicts for it
RELIABILITY = {
    "bg_teacher": lambda box, overlap, teacher: teacher(box),
    "bg_student": lambda box, overlap, teacher: student_background(box),
    "pred_diff": lambda box, overlap, teacher: 1 - abs(student_background(box) - teacher(box)),
    "iou": lambda box, overlap, teacher: overlap,
    "reverse_iou": lambda box, overlap, teacher: 1 - overlap,
}


def classification_loss(segment, indicator, formula, teacher=teacher_background):
    """Of the samples of one image, or of all images of a GPU."""
    entropies = [cross_entropy(box, c) for box, c, _, _ in segment]
    if indicator == "none":
        return sum(entropies) / max(len(segment), 1)
    r = [RELIABILITY[indicator](box, overlap, teacher) for box, _, _, overlap in segment]
    fg = [e for e, s in zip(entropies, segment) if s[1] != BG]
    bg = [(rj, e) for e, rj, s in zip(entropies, r, segment) if s[1] == BG]
    total = sum(rj for rj, _ in bg)
    weighted = sum(rj * e for rj, e in bg)
    if formula == "reference":
        return (sum(fg) + weighted) / max(len(fg) + total, 1)
    return (sum(fg) / len(fg) if fg else 0) + (weighted / total if total > 0 else 0)


def regression_loss(segment, normalizer):
    losses = [box_loss(box, c, goal) for box, c, goal, _ in segment if c != BG]
    return sum(losses) / max(len(losses) if normalizer == "foreground" else len(segment), 1)
