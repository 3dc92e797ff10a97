"""A Cascade R-CNN of smaller box heads, on top of soft_teacher.py or supervised.py."""

from detectron2.layers import ShapeSpec

from ..common.cascade import use_cascade as use_stock_cascade

FC_DIM = 128


def use_cascade(model, dataloader) -> None:
    """Changes the config in place."""
    heads = model.student.roi_heads
    heads.box_head.fc_dims = [FC_DIM]
    heads.box_predictor.input_shape = ShapeSpec(channels=FC_DIM)
    use_stock_cascade(model)
    keep_boxes_tight(model, dataloader)


def keep_boxes_tight(model, dataloader) -> None:
    """Settings of good boxes, which pseudo boxes spoil otherwise.

    With an alpha of 4 and views turned by up to 4 degrees AP50 rose by 22, AP75 fell by 7.
    """
    model.alpha = 2.0
    dataloader.train.strong_augmentations.max_angle = 0.0
