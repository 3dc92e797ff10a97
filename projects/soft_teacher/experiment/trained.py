"""A trained model and the view that it is evaluated on."""

from dataclasses import dataclass
from typing import List

from detectron2.data import build_detection_test_loader

from ..data.mapper import InferenceMapper
from ..modeling import SoftTeacher

__all__ = ["Trained"]


@dataclass(frozen=True)
class Trained:
    """A config with its weights, in either language.

    Attributes:
        model: in eval mode, on its device.
        weights: where they were loaded from.
        mapper: makes the view for evaluation.
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
