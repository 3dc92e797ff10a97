"""The images that are worth a look first, as CSV.

A box is worth a look if it is unstable, or if its score is so near the threshold that the detector
nearly decided otherwise. Images with most of such boxes come first.
"""

import csv
import math

from ...utils.atomic import atomic_write
from ..detections import Detections
from .about import About, Rows

__all__ = ["COLUMNS", "MARGIN", "write"]

# Scores this near to the threshold, on either side.
MARGIN = 0.1
COLUMNS = ("file", "boxes", "unstable", "near_threshold", "lowest_score", "largest_variance")


def write(rows: Rows, about: About) -> str:
    """``review.csv``; images without such boxes are not in it."""
    found = [_judged(row, about) for row in rows() if not row.unreadable]
    found = [image for image in found if image["unstable"] or image["near_threshold"]]
    found.sort(key=lambda image: (-image["unstable"] - image["near_threshold"], image["file"]))
    path = about.folder / "review.csv"
    with atomic_write(str(path)) as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(found)
    return str(path)


def _judged(row: Detections, about: About) -> dict:
    variances = [v for v in row.variances or () if not math.isnan(v)]
    return {
        "file": about.below_root(row.file),
        "boxes": len(row.boxes),
        "unstable": sum(v >= about.variance_thresh for v in variances),
        "near_threshold": row.near,
        "lowest_score": min(row.scores, default=None),
        "largest_variance": max(variances, default=None),
    }
