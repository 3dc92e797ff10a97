"""Detectron2's single-stage detectors in place of the Faster R-CNN, on top of any config.

These rows are ours, not the paper's.
"""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L

from soft_teacher.modeling import FCOSFamily, RetinaNetFamily


def use_retinanet(model) -> None:
    """Changes the config in place."""
    # Sigmoids of a focal loss are modest, and boxes before NMS are further apart than refined
    # copies of one box.
    model.pseudo_labeler.update(score_thresh=0.5, candidate_thresh=0.3, variance_thresh=0.1)
    use_dense(model, "retinanet", RetinaNetFamily)


def use_fcos(model) -> None:
    """Changes the config in place."""
    # Scores are geometric means of two sigmoids, and NMS suppresses what overlaps more.
    model.pseudo_labeler.update(score_thresh=0.6, candidate_thresh=0.4, variance_thresh=0.07)
    use_dense(model, "fcos", FCOSFamily)
    model.family.stability = "spread"


def use_dense(model, name: str, family: type) -> None:
    """Changes the config in place.

    Args:
        name: of the model in Detectron2's zoo.
        family: that wraps it.
    """
    heads = model.student.roi_heads
    model.student = model_zoo.get_config(f"common/models/{name}.py").model
    model.student.backbone.bottom_up.freeze_at = 2
    model.family = L(family)(indicator=heads.indicator, cls_formula=heads.cls_formula)
