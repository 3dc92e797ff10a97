"""Which annotations of dataset dicts can be used, checked for all of them at once."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from detectron2.structures import BoxMode

from ...values import LARGEST_NUMBER, as_box, as_flag, as_id, as_number, has_only
from .balance import Reason

__all__ = ["REASONS", "Checked", "check_annotations"]

MODES = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
REASONS = list(Reason)
# A side of one pixel may come out a little smaller as a difference of corners.
PIXEL = 1 - 1e-6


@dataclass
class Checked:
    """The annotations of all images, one after the other.

    Attributes:
        originals: as they were.
        annotations: the same with their values in the right types.
        places: (N,) index of each one's image.
        boxes: (N, 4) XYWH in absolute pixels; NaN where there is none.
        sizes: (N, 2) widths and heights of their images; NaN where unknown.
        reasons: (N,) index into ``Reason`` of why it cannot be learned from; -1 if it can.
        converted: (N,) whether a value had another type.
        sided: (N,) whether the box is given by its sides.
    """

    originals: list[dict]
    annotations: list[dict]
    places: np.ndarray
    boxes: np.ndarray
    sizes: np.ndarray
    reasons: np.ndarray
    converted: np.ndarray
    sided: np.ndarray

    def are(self, *reasons: Reason) -> np.ndarray:
        """(N,) whether an annotation is left out for one of these reasons."""
        return np.isin(self.reasons, [REASONS.index(reason) for reason in reasons])


def check_annotations(dicts: Sequence[dict], num_classes: int | None) -> Checked:
    """Checks the annotations of dataset dicts, which stay as they are.

    Args:
        num_classes: of the dataset; None if they are not known.
    """
    found = [d.get("annotations") or () for d in dicts]
    originals = list(itertools.chain.from_iterable(found))
    annotations = originals if _are_plain(originals) else list(map(_normalised, originals))
    places = np.repeat(np.arange(len(dicts)), [len(part) for part in found])
    sides = [(d.get("width", np.nan), d.get("height", np.nan)) for d in dicts]
    sizes = np.array(sides, dtype=np.float64).reshape(-1, 2)[places]
    boxes, sided = _boxes(annotations)
    classes = [a["category_id"] for a in annotations]
    classes = np.array([-1 if c is None else c for c in classes], dtype=np.int64)
    known = (classes >= 0) & (classes < (np.inf if num_classes is None else num_classes))
    crowds = np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool)
    changed = (a is not b for a, b in zip(annotations, originals))
    return Checked(
        originals=originals,
        annotations=annotations,
        places=places,
        boxes=boxes,
        sizes=sizes,
        reasons=_reasons(boxes, sizes, known, crowds),
        converted=np.fromiter(changed, bool, len(originals)),
        sided=sided,
    )


def _reasons(boxes, sizes, known, crowds) -> np.ndarray:
    starts, sides = boxes[:, :2], boxes[:, 2:]
    tests = {
        Reason.CLASS: ~known,
        Reason.NUMBERS: ~(np.abs(boxes) <= LARGEST_NUMBER).all(axis=1),
        Reason.EXTENT: (sides <= 0).any(axis=1),
        Reason.OUTSIDE: ((starts >= sizes) | (starts + sides <= 0)).any(axis=1),
        Reason.PIXEL: (sides < PIXEL).any(axis=1),
        Reason.CROWD: crowds,
    }
    return np.select(list(tests.values()), [REASONS.index(reason) for reason in tests], -1)


def _are_plain(annotations: list[dict]) -> bool:
    """Whether all values are of the types that JSON has for them, so that none needs converting."""
    boxes = [a.get("bbox") for a in annotations]
    return (
        has_only(boxes, list)
        and set(map(len, boxes)) <= {4}
        and has_only(itertools.chain.from_iterable(boxes), int, float)
        and {a.get("bbox_mode") for a in annotations} <= set(MODES)
        and has_only((a.get("category_id") for a in annotations), int, type(None))
        and has_only((a.get("iscrowd", 0) for a in annotations), int)
        and {a.get("iscrowd", 0) for a in annotations} <= {0, 1}
        and has_only((a.get("score", 0) for a in annotations), int, float)
        and max(map(max, boxes), default=0) <= LARGEST_NUMBER
        and min(map(min, boxes), default=0) >= -LARGEST_NUMBER
    )


def _boxes(annotations: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    values = itertools.chain.from_iterable(a["bbox"] for a in annotations)
    boxes = np.fromiter(values, np.float64, 4 * len(annotations)).reshape(-1, 4)
    sided = np.array([a["bbox_mode"] == BoxMode.XYWH_ABS for a in annotations], dtype=bool)
    boxes[~sided, 2:] -= boxes[~sided, :2]
    return boxes, sided


def _normalised(annotation: dict) -> dict:
    """The annotation with values of the right types; itself if it has them.

    A box of NaN represents one that cannot be read, None a class that cannot.
    """
    box, mode = _read_box(annotation.get("bbox"), annotation.get("bbox_mode"))
    category = as_id(annotation.get("category_id"))
    crowd = as_flag(annotation.get("iscrowd", 0))
    score = as_number(annotation.get("score", 0))
    if crowd is None:
        box, crowd = [np.nan] * 4, 0
    wanted = {
        "bbox": box,
        "bbox_mode": mode,
        "category_id": category if isinstance(category, int) else None,
        "iscrowd": crowd,
        "score": score,
    }
    held = {"iscrowd", "score"} - annotation.keys()
    changes = {k: v for k, v in wanted.items() if k not in held and v is not annotation.get(k)}
    return {**annotation, **changes} if changes else annotation


def _read_box(box, mode) -> tuple[Sequence, BoxMode]:
    if mode == BoxMode.XYWHA_ABS and isinstance(box, (list, tuple)) and len(box) == 5:
        if None not in map(as_number, box):  # the upright box around it, as Detectron2 takes it
            return BoxMode.convert([*box], mode, BoxMode.XYXY_ABS), BoxMode.XYXY_ABS
    found = as_box(box) if mode in MODES else None
    return (found, mode) if found is not None else ([np.nan] * 4, BoxMode.XYWH_ABS)
