"""The order of classes: mmdetection's is that of the JSON file, Detectron2's that of the ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from detectron2.data import MetadataCatalog

from ...data.datasets.formats.coco import parse_file
from ...data.values import has_only
from ...experiment.class_file import is_category
from ...utils.checks import check_file
from ...utils.errors import ConfigError

__all__ = ["CLASS_LAYER", "Classes", "classes_of"]

# Layers with rows for each class.
CLASS_LAYER = re.compile(
    r"roi_heads\.(?:box_predictor|mask_head)(?:\.\d)?\."
    r"(?P<layer>cls_score|bbox_pred|predictor)\.(?:weight|bias)"
)
# Rows of each class, and of the background.
ROWS = {"cls_score": (1, 1), "bbox_pred": (4, 0), "predictor": (1, 0)}
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
        """Weights by Detectron2's names with the rows of all predictors in Detectron2's order.

        Scores have one row a class and then the background's, boxes four rows a class, masks one;
        what does not depend on the class stays.
        """
        return {name: self._permuted(name, value) for name, value in weights.items()}

    def _permuted(self, name: str, value: torch.Tensor) -> torch.Tensor:
        found = CLASS_LAYER.fullmatch(name)
        each, background = ROWS[found["layer"]] if found else (0, 0)
        end = each * len(self.rows)
        if not found or len(value) != end + background:
            return value
        order = (torch.tensor(self.rows)[:, None] * each + torch.arange(each)).flatten()
        return torch.cat([value[order], value[end:]])


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
