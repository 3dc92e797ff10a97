"""Measured boxes for the tests of the figures."""

import numpy as np

from soft_teacher.analysis.findings import Findings, Setting
from soft_teacher.analysis.measured_boxes import MeasuredBoxes

BOX = [0, 0, 10, 10]
NAN = float("nan")


def measured(*rows, objects=(0, 0), mask_overlaps=None) -> MeasuredBoxes:
    """Boxes of (class, score, variance, IoU, hit) or with a box in the sixth place.

    A hit of None is a box in a crowd. No masks were compared by default.
    """
    rows = [row if len(row) == 6 else (*row, BOX) for row in rows]
    classes, scores, variances, overlaps, hits, boxes = zip(*rows) if rows else [()] * 6
    return MeasuredBoxes(
        boxes=np.array(boxes, dtype=float).reshape(-1, 4),
        classes=np.array(classes, dtype=int),
        scores=np.array(scores, dtype=float),
        variances=np.array(variances, dtype=float),
        overlaps=np.array(overlaps, dtype=float),
        mask_overlaps=np.array([NAN] * len(rows) if mask_overlaps is None else mask_overlaps),
        hits=np.array([hit is True for hit in hits], dtype=bool),
        neutral=np.array([hit is None for hit in hits], dtype=bool),
        objects=np.array(objects),
    )


def findings(boxes: MeasuredBoxes, **changes) -> Findings:
    """Of the paper's thresholds and two classes."""
    setting = dict(
        network="teacher",
        weights="model.pth",
        dataset="some_images",
        images=2,
        class_names=["cat", "dog"],
        lowest_score=0.05,
        score_thresh=0.9,
        candidate_thresh=0.5,
        variance_thresh=0.02,
    )
    return Findings(boxes, Setting(**{**setting, **changes}))
