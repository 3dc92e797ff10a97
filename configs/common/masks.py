"""Instance masks, on top of any config: the mask head of Detectron2's Mask R-CNN."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L

from soft_teacher.modeling import PseudoMasks


def load_masks(dataloader, mask_format: str) -> None:
    """Masks of annotations are read and evaluated, too. Changes the config in place.

    Args:
        mask_format: of the annotations as they are read, "polygon" or "bitmask".
    """
    dataloader.train.update(masks=True, mask_format=mask_format)
    dataloader.evaluator.tasks = ("bbox", "segm")


def use_masks(model, dataloader, *, mask_format: str = "polygon") -> None:
    """Changes the config in place; see :func:`load_masks`."""
    stock = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model.roi_heads
    heads = model.student.roi_heads
    heads.update({key: stock[key] for key in ("mask_in_features", "mask_pooler", "mask_head")})
    heads.pseudo_masks = L(PseudoMasks)(
        enabled=False, targets="regression", soft=False, ignore=0.0, quality=False
    )
    load_masks(dataloader, mask_format)
