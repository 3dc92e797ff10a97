"""What a dataset contains, and what is wrong with it, before a run starts."""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from detectron2.data import MetadataCatalog
from tqdm import tqdm

from ..data.annotations import annotated_boxes
from ..data.datasets.dataset_dicts import dataset_reading
from ..data.datasets.reading.balance import Balance, Reason
from ..data.datasets.role_checks import check_images
from ..data.images.image import MAX_PIXELS, UnreadableImage, image_size, read_image
from ..data.roles import ROLES

__all__ = ["DatasetCheck", "check_dataset", "odd_boxes", "shared_content"]

# Pixels by which a box may reach over the edge: annotations are rounded.
EDGE = 1.0


@dataclass
class DatasetCheck:
    """The findings about one dataset.

    Attributes:
        role: "labeled", "unlabeled" or "test".
        name: of the dataset, or its path.
        images: number of images.
        empty: images without boxes, crowds aside; all of them if the dataset has no labels.
        boxes: class name -> number of boxes, classes without a box included.
        box_sides: (M,) square roots of the boxes' areas, pixels.
        sizes: (N, 2) heights and widths of the readable images, pixels.
        balance: of the annotations.
        odd: a line for each implausible box.
        unreadable: a line for each image that cannot be used.
        digests: file -> checksum of its bytes.
    """

    role: str
    name: str
    images: int
    empty: int
    boxes: Counter
    box_sides: np.ndarray
    sizes: np.ndarray
    balance: Balance
    odd: list[str]
    unreadable: list[str]
    digests: dict[str, str] = field(repr=False)


class _File(NamedTuple):
    path: str
    size: tuple[int, int] | None = None
    digest: str | None = None
    problem: str | None = None


def check_dataset(
    role: str, name: str, *, headers_only: bool = False, max_pixels: int = MAX_PIXELS
) -> DatasetCheck:
    """Reads every image and every annotation of a dataset.

    Args:
        role: "labeled", "unlabeled" or "test"; annotations of unlabeled images are ignored.
        name: a registered dataset, or a path.
        headers_only: assume that a file with a readable header is intact, which is much faster.
        max_pixels: images with more of them count as unreadable.

    Raises:
        ConfigError: it is not registered, cannot be read, or is empty.
    """
    reading = dataset_reading(ROLES[role], name)
    check_images(f"{ROLES[role]} '{name}'", reading)
    dicts = reading.dicts
    labeled = [] if role == "unlabeled" else dicts
    size_of = image_size if headers_only else _decoded_size
    inspect = partial(
        _inspected,
        size_of=partial(size_of, max_pixels=max_pixels),
        check_size=role != "unlabeled",
    )
    records = list({d["file_name"]: d for d in dicts}.values())
    with ThreadPoolExecutor() as pool:
        files = list(tqdm(pool.map(inspect, records), "images", len(records), leave=False))
    boxes = [annotated_boxes(record) for record in labeled]
    classes = MetadataCatalog.get(name).get("thing_classes", [])
    counts = Counter({label: 0 for label in classes} if labeled else {})
    for record, found in zip(labeled, boxes):
        counts.update(_label(classes, category) for category in found[1])
    corners = np.concatenate([found[0] for found in boxes]) if boxes else np.zeros((0, 4))
    return DatasetCheck(
        role=role,
        name=name,
        images=len(dicts),
        empty=len(dicts) - sum(len(found[0]) > 0 for found in boxes),
        boxes=counts,
        box_sides=np.sqrt((corners[:, 2:] - corners[:, :2]).clip(0).prod(axis=1)),
        sizes=np.array([f.size for f in files if f.size], dtype=int).reshape(-1, 2),
        balance=reading.balance if labeled else Balance(len(dicts)),
        odd=[
            *(
                str(found)
                for found in reading.balance.left_out
                if labeled and found.reason != Reason.CROWD
            ),
            *(line for record in labeled for line in odd_boxes(record)),
        ],
        unreadable=[f.problem for f in files if f.problem],
        digests={f.path: f.digest for f in files if f.digest},
    )


def odd_boxes(record: dict) -> list[str]:
    """A line for each box of a dataset dict that exceeds the image or is a duplicate."""
    corners, categories = annotated_boxes(record)
    limit = np.array([record.get("width", np.inf), record.get("height", np.inf)])
    seen, lines = set(), []
    for box, category in zip(corners, categories):
        text = f"{record['file_name']}: box {box.round(1).tolist()} of class {category}"
        if (box[:2] < -EDGE).any() or (box[2:] > limit + EDGE).any():
            lines.append(f"{text} exceeds the image of {limit.tolist()} pixels")
        elif (*box, category) in seen:
            lines.append(f"{text} is a duplicate")
        seen.add((*box, category))
    return lines


def shared_content(checks: Sequence[DatasetCheck]) -> list[str]:
    """A line for each two roles, or a role and itself, that share files of the same content."""
    copies: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for check in checks:
        for file, digest in check.digests.items():
            copies[digest][check.role].append(file)
    pairs = defaultdict(list)
    for by_role in copies.values():
        for role, files in by_role.items():
            if len(files) > 1:
                pairs[role, role].append(files[:2])
        for one, other in itertools.combinations(sorted(by_role), 2):
            pairs[one, other].append((by_role[one][0], by_role[other][0]))
    return [
        f"{one} and {other}: {len(found)} images are the same, first {found[0][0]} and "
        f"{found[0][1]}"
        for (one, other), found in sorted(pairs.items())
    ]


def _label(classes: Sequence[str], category: int) -> str:
    return classes[category] if category < len(classes) else f"class {category}"


def _decoded_size(path: str, *, max_pixels: int) -> tuple[int, int]:
    return read_image(path, max_pixels=max_pixels).shape[:2]


def _inspected(record: dict, *, size_of: Callable, check_size: bool) -> _File:
    path = record["file_name"]
    try:
        size = size_of(path)
    except UnreadableImage as error:
        return _File(path, problem=str(error))
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "blake2b").hexdigest()
    stated = record.get("height", size[0]), record.get("width", size[1])
    problem = None
    if check_size and stated != size:
        problem = f"{path}: height and width are {size}, the dataset says {stated}"
    return _File(path, size, digest, problem)
