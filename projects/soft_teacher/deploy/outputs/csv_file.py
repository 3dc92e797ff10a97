"""CSV: a row for each box."""

import csv

from ...utils.atomic import atomic_write
from .about import About, Rows

__all__ = ["COLUMNS", "write"]

COLUMNS = ("file", "frame", "width", "height", "class", "score")
COLUMNS += ("x_min", "y_min", "x_max", "y_max", "variance")


def write(rows: Rows, about: About) -> str:
    """``predictions.csv``; corners in absolute pixels, numbers empty where there are none."""
    path = about.folder / "predictions.csv"
    with atomic_write(str(path)) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in rows():
            image = [about.below_root(row.file), row.frame, row.width, row.height]
            variances = row.variances or [None] * len(row.boxes)
            for box, number, score, variance in zip(
                row.boxes, row.classes, row.scores, variances, strict=True
            ):
                name = about.class_names[number]
                table.writerow([*image, name, score, *box, variance])
    return str(path)
