"""A Cascade R-CNN of smaller box heads, on top of soft_teacher.py or supervised.py."""

from detectron2.layers import ShapeSpec

from ..common.cascade import use_cascade as use_stock_cascade

FC_DIM = 128


def use_cascade(model) -> None:
    """Changes the config in place."""
    heads = model.student.roi_heads
    heads.box_head.fc_dims = [FC_DIM]
    heads.box_predictor.input_shape = ShapeSpec(channels=FC_DIM)
    use_stock_cascade(model)
