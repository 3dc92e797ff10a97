"""A trained model and what it takes to look at it."""

from dataclasses import dataclass
from typing import List

from detectron2.data import build_detection_test_loader

from ..data.mapper import InferenceMapper
from ..modeling import SoftTeacher

__all__ = ["Trained"]


@dataclass(frozen=True)
class Trained:
    """What a config and its weights stand for, whichever language the config speaks.

    Attributes:
        model: in eval mode, on its device.
        weights: where they came from.
        mapper: makes the view that the config evaluates on.
        num_workers: processes that load images.
    """

    model: SoftTeacher
    weights: str
    mapper: InferenceMapper
    num_workers: int

    @property
    def num_classes(self) -> int:
        """Of both networks."""
        return self.model.family.num_classes(self.model.student)

    def loader(self, dataset_dicts: List[dict]):
        """Batches of one image each, in order, as the mapper makes them."""
        return build_detection_test_loader(
            dataset_dicts, mapper=self.mapper, num_workers=self.num_workers
        )
