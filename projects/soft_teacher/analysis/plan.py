"""Settings for a dataset of one's own, each with its reason.

Rules of thumb, for a first run that is neither hours too long nor worse than its labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..modeling.families.base import DetectorFamily, Thresholds
from .data_stats import DataStats, size_text, weighted_quantiles

__all__ = ["Hardware", "Override", "Plan", "plan"]

# Images of a process at a step, and the weight at which each of them counts as much.
LABELED_IMAGES, UNLABELED_IMAGES = 4, 4
ALPHA = UNLABELED_IMAGES / LABELED_IMAGES
# Steps for one labeled image; they grow with the square root of the number of images.
STEPS_OF_ONE_IMAGE = 180
SHORTEST, LONGEST = 800, 180_000
# Evaluations in a run. The labels alone are learned from until the second of them.
EVALUATIONS, BURN_IN = 8, 2
# Boxes below this, in pixels of the view, have less than four cells of the finest level.
SMALL_BOX = 16.0
# Longest short edge of a view: the paper's on a GPU, what is bearable on a CPU.
SHORT_EDGE = {"cuda": 800, "cpu": 240}
LONG_EDGE = 1333
RATIO_QUANTILES = (1 / 4, 3 / 4)
# Of a GPU for all these images at 800 pixels, which take 6.5 GiB in float32 with R-50-FPN.
GIB_OF_IMAGES = 8.0
# Views have the same short edge, so that images of another scale show other sizes of objects.
OTHER_SIZE = 1.5
# With fewer labeled images than this nobody knows the score that suits a class.
MANY_LABELS = 1000
# Unlabeled images for each class over which scores are averaged, and the fewest for all.
WINDOW_OF_CLASS, WINDOW = 25, 200
# No threshold of a class is lower, unless the detector's is.
LOWEST = 0.05
# Fewer boxes than this do not teach a class.
FEW_BOXES = 10


@dataclass(frozen=True)
class Hardware:
    """What a run has.

    Attributes:
        device: "cuda" or "cpu".
        processes: GPUs, or processes on the CPU.
        memory: of a GPU, GiB; 0 on a CPU.
    """

    device: str
    processes: int = 1
    memory: float = 0.0


@dataclass(frozen=True)
class Override:
    """A value for a key of YAML, and why."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """Overrides, and what no override can fix."""

    overrides: list[Override]
    notes: list[str]


def plan(
    labeled: DataStats,
    unlabeled: DataStats,
    hardware: Hardware,
    *,
    pretrained: bool,
    base_lr: float,
    classes_key: str,
    levels: int,
    thresholds: Thresholds = DetectorFamily.thresholds,
    ignore: float = DetectorFamily.ignore,
    score_floor: float = 0.0,
) -> Plan:
    """Overrides for a config of ``configs/custom``.

    Args:
        labeled: of the labeled images, at least one with a box.
        unlabeled: of the unlabeled images.
        hardware: that will train.
        pretrained: whether the config starts from a detector; its anchors then stay as they are.
        base_lr: the config's learning rate for each labeled image of a step.
        classes_key: of the detector's number of classes.
        levels: feature maps with anchors; 0 for a detector without.
        thresholds: that suit the scores of the detector.
        ignore: see :class:`.DetectorFamily`.
        score_floor: below which it detects nothing.
    """
    edge, sizes = _sizes(labeled, hardware)
    images_of_step, of_batch = _batch(hardware, base_lr)
    overrides = [
        Override(classes_key, len(labeled.boxes), ", ".join(labeled.boxes)),
        *sizes,
        *(_anchors(labeled, edge, levels) if levels and not pretrained else []),
        *of_batch,
        *_steps(labeled.images, images_of_step, pretrained),
        *_pseudo_labels(labeled, thresholds, ignore, score_floor),
    ]
    return Plan(overrides, _notes(labeled, unlabeled, edge))


def _sizes(data: DataStats, hardware: Hardware) -> tuple[int, list[Override]]:
    short, long = sorted(data.size)
    small = data.small_side
    wanted = max(short, short * SMALL_BOX / small)
    edge = _rounded(min(wanted, SHORT_EDGE[hardware.device]), 16)
    long_edge = min(_rounded(edge * long / short * 1.2, 16), LONG_EDGE)
    limit = f"the longest for a {'GPU' if hardware.device == 'cuda' else 'CPU'}"
    why = limit if wanted > SHORT_EDGE[hardware.device] else f"images of {short:g} x {long:g}"
    if edge > short:
        why = f"a tenth of the boxes is below {small:.0f} pixels, {SMALL_BOX:g} are needed"
    found = [
        Override("SOFT_TEACHER.AUGMENTATION.SHORT_EDGE", edge, why),
        Override("SOFT_TEACHER.AUGMENTATION.MAX_SIZE", long_edge, "room for longer images"),
        Override("INPUT.MIN_SIZE_TEST", edge, "tested as trained"),
        Override("INPUT.MAX_SIZE_TEST", long_edge, "tested as trained"),
    ]
    return edge, found


def _anchors(data: DataStats, edge: int, levels: int) -> list[Override]:
    scale = edge / min(data.size)
    # In the middle of the share of each level.
    middles = (np.arange(levels) + 0.5) / levels
    quantiles = weighted_quantiles(data.sides, data.weights, middles)
    sides = sorted({max(_rounded(s, 2), 4) for s in quantiles * scale})
    while len(sides) < levels:
        sides.append(_rounded(sides[-1] * 1.5, 2))
    low, high = (
        round(float(r), 1) for r in weighted_quantiles(data.ratios, data.weights, RATIO_QUANTILES)
    )
    ratios = [low, high] if high > low else [low, round(low * 1.5, 1)]
    return [
        Override(
            "MODEL.ANCHOR_GENERATOR.SIZES",
            [[side] for side in sides],
            "as many boxes for each, classes weighted alike; pixels of the view",
        ),
        Override(
            "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
            [ratios],
            "half of the boxes is between them (height / width)",
        ),
    ]


def _batch(hardware: Hardware, base_lr: float) -> tuple[int, list[Override]]:
    """The labeled images of a step, and the overrides."""
    fits = hardware.device == "cpu" or hardware.memory >= GIB_OF_IMAGES
    labeled, unlabeled = (
        n * hardware.processes // (1 if fits else 2) for n in (LABELED_IMAGES, UNLABELED_IMAGES)
    )
    batch = labeled + unlabeled
    why = f"{labeled} labeled and {unlabeled} unlabeled images, on {hardware.device}"
    if hardware.processes > 1:
        why += f", in {hardware.processes} processes"
    rate = float(f"{base_lr * labeled:.3g}")
    return labeled, [
        Override("SOLVER.IMS_PER_BATCH", batch, why),
        Override("SOFT_TEACHER.LABELED_SHARE", round(labeled / batch, 7), "of them are labeled"),
        Override("SOFT_TEACHER.ALPHA", ALPHA, "an unlabeled image counts as much as a labeled one"),
        Override("SOLVER.BASE_LR", rate, f"{base_lr:g} for each labeled image"),
    ]


def _steps(images: int, images_of_step: int, pretrained: bool) -> list[Override]:
    steps = STEPS_OF_ONE_IMAGE * images**0.5 * LABELED_IMAGES / images_of_step
    steps = _rounded(min(max(steps, SHORTEST), LONGEST), 100)
    period = max(_rounded(steps / EVALUATIONS, 50), 50)
    start = "the detector meets new classes" if pretrained else "random weights label nothing"
    seen = f"each labeled image is seen {steps * images_of_step / images:.0f} times"
    milestone = _rounded(steps * 0.8, 50)
    return [
        Override("SOLVER.MAX_ITER", steps, seen),
        Override("SOLVER.STEPS", (milestone,), "the last fifth at a tenth of the rate"),
        Override("SOLVER.CHECKPOINT_PERIOD", period, "an eighth of the run"),
        Override("TEST.EVAL_PERIOD", period, "model_best.pth is the best of them"),
        Override("SOFT_TEACHER.BURN_IN", BURN_IN * period, start),
    ]


def _pseudo_labels(
    labeled: DataStats, thresholds: Thresholds, ignore: float, score_floor: float
) -> list[Override]:
    own = [] if thresholds == DetectorFamily.thresholds else _of_detector(thresholds)
    if labeled.images >= MANY_LABELS:
        return own
    window = max(WINDOW_OF_CLASS * len(labeled.boxes), WINDOW)
    if score_floor > LOWEST:
        why = "nothing below is detected"
        own += [Override("SOFT_TEACHER.DENSITY.FLOOR", score_floor, why)]
    why = "what may be an object is no background either"
    if not ignore:
        why = "the detector's losses leave nothing out"
    return [
        *own,
        Override("SOFT_TEACHER.DENSITY.ENABLED", True, "as many pseudo boxes as labels have"),
        Override("SOFT_TEACHER.DENSITY.WINDOW", window, f"{len(labeled.boxes)} classes"),
        Override("SOFT_TEACHER.DENSITY.IGNORE", ignore, why),
        Override("SOFT_TEACHER.DENSITY.REGRESSION", 0.6, "the score tells more of a box"),
        Override("SOFT_TEACHER.JITTER.ENABLED", False, "than its variance under jitter"),
    ]


def _of_detector(thresholds: Thresholds) -> list[Override]:
    return [
        Override("SOFT_TEACHER.SCORE_THRESH", thresholds.score, "its scores are sigmoids"),
        Override("SOFT_TEACHER.JITTER.SCORE_THRESH", thresholds.candidate, "likewise"),
        Override("SOFT_TEACHER.JITTER.VARIANCE_THRESH", thresholds.variance, "of boxes before NMS"),
    ]


def _notes(labeled: DataStats, unlabeled: DataStats, edge: int) -> list[str]:
    rare = {name: n for name, n in labeled.boxes.items() if n < FEW_BOXES}
    notes = [
        f"class '{name}' has {n} boxes: label more of it, or leave it out"
        for name, n in rare.items()
    ]
    if unlabeled.images < labeled.images:
        notes.append(
            f"{unlabeled.images} unlabeled images for {labeled.images} labeled ones: there is "
            "little to gain"
        )
    ratio = min(unlabeled.size) / min(labeled.size)
    if ratio and not 1 / OTHER_SIZE < ratio < OTHER_SIZE:
        notes.append(
            f"unlabeled images are {size_text(unlabeled.size)}, labeled ones "
            f"{size_text(labeled.size)}: "
            "objects of another size in the views are found worse"
        )
    small = labeled.small_side * edge / min(labeled.size)
    if small < SMALL_BOX:
        notes.append(
            f"a tenth of the boxes is below {small:.0f} pixels in the views and will be missed: "
            "train at a larger size on a GPU, or on parts of the images"
        )
    return notes


def _rounded(value: float, to: int) -> int:
    return int(to * round(value / to))
