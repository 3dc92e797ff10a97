"""Detectron2's Cascade R-CNN in place of the Faster R-CNN, on top of any config with a box head."""

from detectron2 import model_zoo

from soft_teacher.modeling import SoftFastRCNNOutputLayers, SoftTeacherCascadeROIHeads


def use_cascade(model) -> None:
    """Changes the config in place: every stage has the box head that there was."""
    stock = model_zoo.get_config("common/models/cascade_rcnn.py").model.roi_heads
    heads = model.student.roi_heads
    head, predictor, _ = map(heads.pop, ("box_head", "box_predictor", "proposal_matcher"))
    heads.update(
        _target_=SoftTeacherCascadeROIHeads,
        scores="stage",
        jitter="all",
        box_heads=[head] * len(stock.box_heads),
        box_predictors=stock.box_predictors,
        proposal_matchers=stock.proposal_matchers,
    )
    for stage in heads.box_predictors:
        stage._target_ = SoftFastRCNNOutputLayers
        stage.input_shape = predictor.input_shape
        stage.update(soft_nms=predictor.soft_nms, soft_nms_sigma=predictor.soft_nms_sigma)
