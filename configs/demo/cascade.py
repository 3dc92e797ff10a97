"""A Cascade R-CNN of smaller box heads, on top of soft_teacher.py or supervised.py: 1,200 steps."""

from detectron2.layers import ShapeSpec

from ..common.cascade import use_cascade as use_stock_cascade

FC_DIM = 128
STEPS = 1200


def use_cascade(model, lr_multiplier, train) -> None:
    """Changes the config in place."""
    heads = model.student.roi_heads
    heads.box_head.fc_dims = [FC_DIM]
    heads.box_predictor.input_shape = ShapeSpec(channels=FC_DIM)
    use_stock_cascade(model)
    train.max_iter = STEPS
    lr_multiplier.scheduler.milestones = [1000, STEPS]
    lr_multiplier.warmup_length = 100 / STEPS
