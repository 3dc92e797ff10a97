"""Dataset dict of an unlabeled image -> the teacher's weak view and the student's strong view."""

import copy
from typing import List

import numpy as np
import torch
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from ..geometry import transform_matrix, weak_to_strong

__all__ = ["TwoViewDatasetMapper"]


class TwoViewDatasetMapper:
    """One decode, two independent views, and the matrix between them. Annotations are not read."""

    def __init__(
        self,
        *,
        weak_augmentations: List[T.Augmentation],
        strong_augmentations: List[T.Augmentation],
        image_format: str,
    ):
        """
        Args:
            weak_augmentations, strong_augmentations: "pseudo-label generation" and "unlabeled
                image training" of Table 2; they draw from ``np.random`` and move coordinates by
                affine maps only.
            image_format: of :func:`detectron2.data.detection_utils.read_image`.
        """
        self.weak = T.AugmentationList(weak_augmentations)
        self.strong = T.AugmentationList(strong_augmentations)
        self.image_format = image_format

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: in Detectron2's format; ``file_name`` is read.

        Returns:
            a copy without annotations, with ``image`` (strong view, uint8 (C, H, W)),
            ``weak_image`` (uint8 (C, h, w)) and ``weak_to_strong`` (float32 (3, 3), absolute
            pixels of the weak view to those of the strong view).
        """
        sample = copy.copy(dataset_dict)
        sample.pop("annotations", None)
        image = utils.read_image(sample["file_name"], format=self.image_format)
        utils.check_image_size(sample, image)
        weak_image, weak_matrix = self._view(self.weak, image)
        strong_image, strong_matrix = self._view(self.strong, image)
        sample["image"] = strong_image
        sample["weak_image"] = weak_image
        matrix = weak_to_strong(weak_matrix, strong_matrix)
        sample["weak_to_strong"] = torch.as_tensor(matrix, dtype=torch.float32)
        return sample

    @staticmethod
    def _view(augmentations: T.AugmentationList, image: np.ndarray):
        view = T.AugInput(image.copy())
        matrix = transform_matrix(augmentations(view))
        tensor = torch.as_tensor(np.ascontiguousarray(view.image.transpose(2, 0, 1)))
        return tensor, matrix
