"""Precomputed pseudo labels, as in the second stage of STAC, in place of a teacher's pass."""

from ..data.unlabeled_annotations import GIVEN_INSTANCES
from ..utils.errors import ConfigError
from .families.base import TeacherPass

__all__ = ["precomputed_pass"]


def precomputed_pass(unlabeled: list[dict], device) -> TeacherPass:
    """The pass whose detections come with the samples, under ``given_instances``.

    Raises:
        ConfigError: a sample has none.
    """
    if not all(GIVEN_INSTANCES in sample for sample in unlabeled):
        raise ConfigError(
            "SoftTeacher.label_source is 'dataset' for the model but not for the loader, whose "
            "unlabeled images have no pseudo labels: set it for both"
        )
    return TeacherPass([sample[GIVEN_INSTANCES].to(device) for sample in unlabeled])
