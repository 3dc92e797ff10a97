"""Hybrid Task Cascade in place of the Faster R-CNN, on top of any config."""

from .htc_model import detector
from .masks import load_masks

# What the config below says of the method, not of the detector.
OF_METHOD = ("indicator", "cls_formula", "reg_normalizer", "average")


def use_htc(model, dataloader, semantic_maps, *, mask_format: str = "polygon") -> None:
    """Changes the config in place.

    Args:
        semantic_maps: of ``soft_teacher.data.semantic_maps``, with ``num_classes``.
        mask_format: see :func:`load_masks`.
    """
    method = {key: model.student.roi_heads[key] for key in OF_METHOD}
    model.student = detector
    model.student.roi_heads.update(method)
    model.student.roi_heads.semantic_head.num_classes = semantic_maps.num_classes
    model.family._target_ = "soft_teacher.modeling.HTCFamily"
    load_masks(dataloader, mask_format)
    dataloader.train.semantic_maps = semantic_maps
