"""What a format of annotations gives: COCO's shape, with nothing checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["NOT_MEASURED", "RawDataset", "example"]

# Of an annotation: learned from as any other, but ignored by an evaluation as a crowd is.
NOT_MEASURED = "not_measured"


@dataclass
class RawDataset:
    """Images, annotations and categories as a file has them; every value may be anything.

    Attributes:
        where: the file or folder, for messages.
        folder: that relative file names start from.
        images: COCO's, with ``id`` and ``file_name``, and maybe ``height`` and ``width``.
        annotations: COCO's, with ``image_id``, ``category_id`` and ``bbox`` (XYWH in absolute
            pixels), and maybe ``id``, ``area``, ``iscrowd``, ``segmentation``, ``score`` and
            ``not_measured``.
        categories: COCO's, with ``id`` and ``name``.
        notes: messages for the user, a line each.
        json_file: COCO JSON that holds just this, if there is one that COCO's evaluation can open.
    """

    where: str
    folder: str
    images: list
    annotations: list
    categories: list
    notes: list[str] = field(default_factory=list)
    json_file: str | None = None


def example(found: Sequence[str], what: str) -> list[str]:
    """One line that counts what was found and shows the first; none if nothing was."""
    return [" ".join(f"{len(found)} {what}, first {found[0]}".splitlines())] if found else []
