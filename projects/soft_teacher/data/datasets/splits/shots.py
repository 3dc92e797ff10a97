"""k-shot splits: for every class at least k labeled images that show it.

Comparisons with few labels count images per class (arXiv 2601.13380), few-shot detection counts
boxes; here it is images. An image shows a class if it has a box of it that can be learned from.

The fold, as a seed, puts all images in one random order. Then there are k rounds. In round n the
classes take turns, the one that the fewest images show first, and of equals the one with the lower
category id: a class with fewer than n labeled images gets the next image of the order that shows
it and is not labeled yet. Therefore

- an image that one class gets counts for every class that it shows;
- a class that fewer than k images show gets all of them;
- the order of the JSON's lists and of dicts makes no difference;
- of one fold, the labeled images of a smaller k are among those of a larger one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from ....utils.errors import ConfigError
from ..reading.annotation_checks import check_annotations
from ..reading.raw_dataset import RawDataset
from ..reading.records import records_of
from .families import SHOTS, checked_ids, random_state
from .manifest import Split

__all__ = ["Shown", "labeled_images", "scarce_classes", "shots_split", "shown_in"]


@dataclass(frozen=True)
class Shown:
    """Which classes images show.

    Attributes:
        images: image id -> category ids; empty for an image without boxes.
        classes: category id -> name.
    """

    images: Mapping[int, Set[int]]
    classes: Mapping[int, str]


def shown_in(coco: dict, where: str) -> Shown:
    """What the images of a COCO JSON show; their files are not looked for.

    Args:
        where: the JSON, for messages.

    Raises:
        ConfigError: images or categories cannot be distinguished.
    """
    found = (coco.get(key) for key in ("images", "annotations", "categories"))
    lists = [value if isinstance(value, list) else [] for value in found]
    records = records_of(RawDataset(where, "", *lists))
    if records.faults:
        raise ConfigError(records.faults[0].line)
    ids = checked_ids(record["image_id"] for record in records.dicts)
    category_ids = {number: category for category, number in records.id_map.items()}
    checked = check_annotations(records.dicts, len(category_ids))
    images: dict[int, set[int]] = {i: set() for i in ids}
    for n in np.flatnonzero(checked.reasons < 0).tolist():
        category = category_ids[checked.annotations[n]["category_id"]]
        images[ids[checked.places[n]]].add(category)
    names = {category_ids[number]: name for number, name in enumerate(records.classes)}
    return Shown(images, names)


def shots_split(shown: Shown, shots: int, fold: int = 1, *, source: str = "") -> Split:
    """The split with at least ``shots`` labeled images for every class; all others are unlabeled.

    Args:
        shown: all images of the dataset and their classes.
        shots: images for each class; it is the split's ``count``.
        fold: seed of numpy's legacy generator.
        source: recorded in the split.

    Raises:
        ConfigError: an argument is out of range, or no image shows a class.
    """
    ids = sorted(checked_ids(shown.images))
    if shots < 1:
        raise ConfigError(f"shots = {shots}: use at least 1")
    order = [ids[p] for p in random_state(fold).permutation(len(ids))]
    labeled = labeled_images(shown.images, order, shots)
    if not labeled:
        raise ConfigError(f"{source or 'the dataset'}: no image shows a class, so none is labeled")
    return Split(
        source=str(source),
        family=SHOTS,
        percent=None,
        count=int(shots),
        fold=int(fold),
        labeled=tuple(sorted(labeled)),
        unlabeled=tuple(i for i in ids if i not in labeled),
    )


def labeled_images(images: Mapping[int, Set[int]], order: Sequence[int], shots: int) -> set[int]:
    """Which images are labeled if they are taken in an order.

    Args:
        images: image id -> the classes that it shows.
        order: all image ids.
        shots: images for each class.
    """
    showing: dict[int, list[int]] = {}
    for image in order:
        for category in images[image]:
            showing.setdefault(category, []).append(image)
    rarest_first = sorted(showing, key=lambda category: (len(showing[category]), category))
    waiting = {category: iter(found) for category, found in showing.items()}
    labeled: set[int] = set()
    counts: Counter = Counter()
    for wanted in range(1, min(shots, max(map(len, showing.values()), default=0)) + 1):
        for category in rarest_first:
            if counts[category] < wanted:
                found = next((i for i in waiting[category] if i not in labeled), None)
                if found is not None:
                    labeled.add(found)
                    counts.update(images[found])
    return labeled


def scarce_classes(shown: Shown, shots: int) -> list[str]:
    """A line that names the classes with fewer than ``shots`` images, if there are any."""
    counts = Counter(category for found in shown.images.values() for category in found)
    names = [
        f"{name} ({counts[category] or 'none'})"
        for category, name in sorted(shown.classes.items())
        if counts[category] < shots
    ]
    return [f"fewer than {shots} images show {', '.join(names)}"] if names else []
