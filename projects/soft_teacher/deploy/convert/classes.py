"""The order of classes: mmdetection's is that of the JSON file, Detectron2's that of the ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from detectron2.data import MetadataCatalog

from ...data.datasets.formats.coco import parse_file
from ...data.values import has_only
from ...experiment.class_file import is_category
from ...utils.checks import check_file
from ...utils.errors import ConfigError

__all__ = ["Classes", "classes_of"]

PREDICTOR = "roi_heads.box_predictor."
COCO = "coco_2017_train"


@dataclass(frozen=True)
class Classes:
    """Classes by their ids.

    Attributes:
        names: by Detectron2's class number.
        rows: mmdetection's class number of each.
    """

    names: list[str]
    rows: list[int]

    def permuted(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights by Detectron2's names with the rows of both predictors in Detectron2's order.

        Scores have one row a class and then the background's, boxes four rows a class.
        """
        scores = torch.tensor([*self.rows, len(self.rows)])
        boxes = (torch.tensor(self.rows)[:, None] * 4 + torch.arange(4)).flatten()
        found = dict(weights)
        for layer, order in (("cls_score", scores), ("bbox_pred", boxes)):
            for kind in ("weight", "bias"):
                found[f"{PREDICTOR}{layer}.{kind}"] = weights[f"{PREDICTOR}{layer}.{kind}"][order]
        return found


def classes_of(number: int, said: Sequence[str], annotations: str = "") -> Classes:
    """The classes of a detector.

    Args:
        number: how many it has.
        said: names that its checkpoint gives; empty if it gives none.
        annotations: the COCO JSON that it was trained on; empty for COCO's own.

    Raises:
        ConfigError: the file is not of these classes, or there is none for classes of one's own.
    """
    if annotations:
        return _by_file(number, said, annotations)
    names = list(MetadataCatalog.get(COCO).thing_classes)
    if number != len(names) or (said and set(said) != set(names)):
        raise ConfigError(
            f"its {number} classes are not COCO's, and their order is that of the JSON that it was "
            "trained on: name that file by --annotations"
        )
    return Classes(names, list(range(number)))


def _by_file(number: int, said: Sequence[str], file: str) -> Classes:
    categories = _categories(file)
    if said:  # mmdetection numbers those that it was told to learn
        categories = [c for c in categories if c["name"] in said]
    if len(categories) != number:
        what = "of the checkpoint's classes" if said else "classes"
        raise ConfigError(
            f"--annotations '{file}' has {len(categories)} {what}, the detector has {number}"
        )
    rows = sorted(range(number), key=lambda row: categories[row]["id"])
    return Classes([categories[row]["name"] for row in rows], rows)


def _categories(file: str) -> list[dict]:
    check_file("--annotations", file)
    found = parse_file(file, "").categories
    if not found or not all(map(is_category, found)):
        raise ConfigError(f"--annotations '{file}' has no categories with id and name")
    ids = [category["id"] for category in found]
    if len(set(ids)) < len(ids) or not (has_only(ids, int) or has_only(ids, str)):
        raise ConfigError(f"--annotations '{file}' gives ids twice or of two kinds")
    return found
