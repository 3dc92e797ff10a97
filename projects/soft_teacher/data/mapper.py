"""Dataset dict -> sample: a view of a labeled image, two of an unlabeled one, one to detect in."""

import copy

import cv2
import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from ..geometry import transform_matrix, weak_to_strong
from . import unlabeled_annotations as U
from .augmentation.instance_paste import InstancePaste
from .augmentation.spatial import never_empty
from .images.image import MAX_PIXELS, UnreadableImage, read_image
from .masks import MASK_FORMATS, has_masks, masks_in_view
from .semantic_maps import SEMANTIC_MAP, SemanticMaps, in_view

__all__ = ["InferenceMapper", "LabeledDatasetMapper", "TwoViewDatasetMapper", "augmented"]

# Shape of what a detector sees in the place of an image that cannot be read.
BLANK = (3, 32, 32)


class LabeledDatasetMapper(DatasetMapper):
    """Detectron2's training DatasetMapper, reading through :func:`.images.image.read_image`."""

    def __init__(
        self,
        *,
        augmentations: list[T.Augmentation],
        image_format: str,
        max_pixels: int = MAX_PIXELS,
        mask_format: str | None = None,
        semantic_maps: SemanticMaps | None = None,
        instance_paste: InstancePaste | None = None,
    ):
        """
        Args:
            augmentations: "labeled image training" of Table 2.
            image_format, max_pixels: of :func:`.images.image.read_image`.
            mask_format: of ``instances.gt_masks``, "polygon" or "bitmask"; None makes none.
            semantic_maps: where ``sem_seg`` comes from; None makes none.
            instance_paste: moves labeled objects before the augmentations; None leaves them.
        """
        super().__init__(
            True,
            augmentations=augmentations,
            image_format=image_format,
            use_instance_mask=mask_format is not None,
            instance_mask_format=mask_format or MASK_FORMATS[0],
        )
        self.max_pixels = max_pixels
        self.semantic_maps = semantic_maps
        self.instance_paste = instance_paste

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Returns:
            a copy of a dict in Detectron2's format with ``image`` (uint8 (C, H, W)) and, in its
            frame, ``instances``; without annotations. Instances whose box or mask is empty there
            are dropped. An image with a semantic map has ``sem_seg`` (uint8 (H, W)) as well, in the
            same frame.

        Raises:
            UnreadableImage: the file or its map cannot be read, or is not of the size that the
                dataset says.
        """
        sample = copy.deepcopy(dataset_dict)
        image = read_image(sample["file_name"], self.image_format, self.max_pixels)
        _check_size(sample, image)
        labels = self.semantic_maps and self.semantic_maps.read(sample, image.shape[:2])
        if self.instance_paste is not None and "annotations" in sample:
            moved = self.instance_paste(image, sample["annotations"], labels)
            image, sample["annotations"], labels = moved
        view = T.AugInput(image)
        transforms = self.augmentations(view)
        sample["image"] = _tensor(view.image)
        if labels is not None:
            sample[SEMANTIC_MAP] = in_view(labels, transforms)
        if "annotations" in sample:
            self._transform_annotations(sample, transforms, view.image.shape[:2])
        return sample


class TwoViewDatasetMapper:
    """One decode, two independent views, and the matrix between them.

    Annotations are not read; held-out ground truth and precomputed pseudo labels
    (:mod:`.unlabeled_annotations`) change nothing but their own keys.
    """

    def __init__(
        self,
        *,
        weak_augmentations: list[T.Augmentation],
        strong_augmentations: list[T.Augmentation],
        image_format: str,
        max_pixels: int = MAX_PIXELS,
        mask_format: str | None = None,
    ):
        """
        Args:
            weak_augmentations, strong_augmentations: "pseudo-label generation" and "unlabeled
                image training" of Table 2; they sample from ``np.random`` and move coordinates by
                affine maps only.
            image_format, max_pixels: of :func:`.images.image.read_image`.
            mask_format: of held-out masks, "polygon" or "bitmask"; None makes no masks.
        """
        self.weak = T.AugmentationList(weak_augmentations)
        self.strong = T.AugmentationList(strong_augmentations)
        self.image_format = image_format
        self.max_pixels = max_pixels
        self.mask_format = mask_format

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Returns:
            a copy of a dict in Detectron2's format without annotations, with ``image`` (strong
            view, uint8 (C, H, W)), ``weak_image`` (uint8 (C, h, w)), ``weak_to_strong`` (float32
            (3, 3), absolute pixels of the weak view to those of the strong view), and the
            ``height`` and ``width`` that the file really has. ``hidden_annotations`` become
            ``hidden_instances`` and ``given_annotations`` ``given_instances``, in the weak view and
            with masks where all annotations of the image have one.

        Raises:
            UnreadableImage: the file cannot be read, or its precomputed pseudo labels were made
                for an image of another size.
        """
        sample = copy.copy(dataset_dict)
        sample.pop("annotations", None)
        hidden = sample.pop(U.HIDDEN_ANNOTATIONS, None)
        given = sample.pop(U.GIVEN_ANNOTATIONS, None)
        image = read_image(sample["file_name"], self.image_format, self.max_pixels)
        if given is not None:
            _check_size(sample, image)
        sample["height"], sample["width"] = image.shape[:2]
        # An augmentation that writes into its input must not change the other view.
        sample["weak_image"], weak = augmented(self.weak, image.copy())
        sample["image"], strong = augmented(self.strong, image)
        matrix = weak_to_strong(transform_matrix(weak), transform_matrix(strong))
        sample["weak_to_strong"] = torch.as_tensor(matrix, dtype=torch.float32)
        view = sample["weak_image"].shape[1:]
        if hidden is not None:
            seen = self._in_view(hidden, weak, image.shape[:2], view)
            sample[U.HIDDEN_INSTANCES] = U.ground_truth_in_view(*seen)
        if given is not None:
            seen = self._in_view(given, weak, image.shape[:2], view)
            sample[U.GIVEN_INSTANCES] = U.pseudo_labels_in_view(*seen)
        return sample

    def _in_view(self, annotations: list[dict], transforms, size, view):
        """Arguments of :func:`.unlabeled_annotations.ground_truth_in_view`."""
        masks = None
        if self.mask_format is not None and has_masks(annotations, size):
            masks = masks_in_view(annotations, transforms, tuple(view), self.mask_format)
        return annotations, transform_matrix(transforms), tuple(view), masks


class InferenceMapper:
    """The view that a detector is evaluated on, of any image that training could read.

    It replaces Detectron2's DatasetMapper, which raises where an image cannot be read.
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: list[T.Augmentation],
        image_format: str,
        max_pixels: int = MAX_PIXELS,
    ):
        """
        Args:
            augmentations: of the evaluation, without randomness.
            image_format, max_pixels: of :func:`.images.image.read_image`.
        """
        self.augmentations = T.AugmentationList([never_empty(a) for a in augmentations])
        self.image_format = image_format
        self.max_pixels = max_pixels

    @classmethod
    def from_config(cls, cfg):
        return {
            "augmentations": utils.build_augmentation(cfg, is_train=False),
            "image_format": cfg.INPUT.FORMAT,
            "max_pixels": cfg.INPUT.MAX_PIXELS,
        }

    def whole(self) -> "InferenceMapper":
        """One that makes no other view of an image than the image itself."""
        return InferenceMapper(
            augmentations=[], image_format=self.image_format, max_pixels=self.max_pixels
        )

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Returns:
            a copy of a dict in Detectron2's format without annotations, with the ``height`` and
            ``width`` that the file has, and ``image`` (uint8 (C, h, w)). If the file cannot be
            read, or is not of the size that its annotations were made for, the image is a small
            black one, and ``unreadable`` says why.
        """
        sample = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        try:
            image = read_image(sample["file_name"], self.image_format, self.max_pixels)
            if "annotations" in dataset_dict:
                _check_size(sample, image)
        except UnreadableImage as error:
            return {**sample, "unreadable": str(error), "image": torch.zeros(BLANK).byte()}
        return {**sample, **self.view_of(image)}

    def view_of(self, image: np.ndarray) -> dict:
        """The view of an image that has been read, uint8 (H, W, C).

        Returns:
            ``image`` (uint8 (C, h, w)), and the ``height`` and ``width`` that detections are
            rescaled to, those of the image.
        """
        height, width = image.shape[:2]
        seen, _ = augmented(self.augmentations, image)
        return {"height": height, "width": width, "image": seen}


def _check_size(sample: dict, image: np.ndarray) -> None:
    """Raises UnreadableImage if the dataset, and so its boxes, is about another size."""
    try:
        utils.check_image_size(sample, image)
    except utils.SizeMismatchError as error:
        raise UnreadableImage(" ".join(str(error).split())) from error


def augmented(augmentations: T.AugmentationList, image: np.ndarray):
    """What augmentations make of an image (H, W, C), a tensor (C, h, w), and their transforms."""
    view = T.AugInput(image)
    transforms = augmentations(view)
    return _tensor(view.image), transforms


def _tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, C) to (C, H, W); splitting is the fastest way to transpose."""
    planes = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    cv2.split(image, list(planes))
    return torch.from_numpy(planes)
