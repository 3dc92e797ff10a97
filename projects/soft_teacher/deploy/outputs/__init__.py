"""Files of predictions, each format by itself, all made of the same detections."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from . import coco, csv_file, label_studio, review, voc, yolo
from .about import About, Rows

__all__ = ["DRAWN", "FORMATS", "About", "Rows", "Writer"]

# (rows, folder of the output, about) -> a line for the user: the file, and how to name it as data.
Writer = Callable[[Rows, "About"], str]
FORMATS: Mapping[str, Writer] = MappingProxyType(
    {
        "coco": coco.write,
        "csv": csv_file.write,
        "label-studio": label_studio.write,
        "review": review.write,
        "voc": voc.write,
        "yolo": yolo.write,
        "yolo-seg": yolo.write_polygons,
    }
)
# Drawn while the images are at hand.
DRAWN = ("pictures", "video")
