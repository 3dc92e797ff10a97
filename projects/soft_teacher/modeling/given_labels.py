"""Pseudo boxes that come with the unlabeled images, as the second stage of STAC has them."""

from typing import List

from detectron2.structures import Instances

from ..data.given_labels import INSTANCES
from ..errors import ConfigError
from .pseudo_labels import PseudoLabeler
from .reliability import NEEDS_TEACHER
from .roi_heads import SoftTeacherROIHeads

__all__ = ["check_given_labels", "given_detections"]


def given_detections(unlabeled: List[dict], device) -> List[Instances]:
    """What stands for the teacher's detections on unlabeled images.

    Args:
        unlabeled: samples with ``given_instances``.
        device: of the model.

    Returns:
        per image, Instances with ``pred_boxes`` (weak view, absolute XYXY), ``pred_classes`` and
        ``scores``.

    Raises:
        ConfigError: the loader has carried no labels.
    """
    if not all(INSTANCES in sample for sample in unlabeled):
        raise ConfigError(
            "SOFT_TEACHER.LABEL_SOURCE is 'dataset' for the model but not for the loader, whose "
            "unlabeled images carry no labels: set it for both"
        )
    return [sample[INSTANCES].to(device) for sample in unlabeled]


def check_given_labels(heads: SoftTeacherROIHeads, labeler: PseudoLabeler) -> None:
    """Raises ConfigError for settings that would ask the teacher about given boxes."""
    fixes = []
    if labeler.jitter is not None:
        fixes.append("SOFT_TEACHER.JITTER.ENABLED to False")
    if heads.indicator in NEEDS_TEACHER:
        fixes.append(f"SOFT_TEACHER.INDICATOR, now '{heads.indicator}', to 'none'")
    if fixes:
        raise ConfigError(
            "while SOFT_TEACHER.LABEL_SOURCE is 'dataset' no teacher looks at unlabeled images: "
            f"set {' and '.join(fixes)}"
        )
