"""Hybrid Task Cascade in place of the Faster R-CNN, on top of any config."""

from .htc_model import detector


def use_htc(model, dataloader, semantic_maps, *, mask_format: str = "polygon") -> None:
    """Changes the config in place.

    Args:
        semantic_maps: of ``soft_teacher.data.semantic_maps``, with ``num_classes``.
        mask_format: of the annotations as they are read, "polygon" or "bitmask".
    """
    model.student = detector
    model.student.roi_heads.semantic_head.num_classes = semantic_maps.num_classes
    model.family._target_ = "soft_teacher.modeling.HTCFamily"
    dataloader.train.update(masks=True, mask_format=mask_format, semantic_maps=semantic_maps)
    dataloader.evaluator.tasks = ("bbox", "segm")
