"""Small single-stage detectors for the digits, on top of soft_teacher.py or supervised.py."""

from detectron2.layers import ShapeSpec

from ..common.dense import use_fcos as use_stock_fcos
from ..common.dense import use_retinanet as use_stock_retinanet

# GroupNorm has 32 groups.
CHANNELS = 64


def use_retinanet(model) -> None:
    """Changes the config in place."""
    use_small(model, use_stock_retinanet, ["p2", "p3", "p4"])
    model.student.smooth_l1_beta = 0.1
    model.student.head.num_anchors = 4
    model.student.anchor_generator.update(
        sizes=[[18, 23], [28, 35], [44, 55]], aspect_ratios=[1.0, 1.6], strides=[4, 8, 16]
    )


def use_fcos(model) -> None:
    """Changes the config in place."""
    # No digit is so large that p4 would learn it.
    use_small(model, use_stock_fcos, ["p2", "p3"])
    # As of the other detectors of the demo.
    model.student.test_score_thresh = 0.05


def use_small(model, use_stock, levels: list[str]) -> None:
    """Changes the config in place: two layers of a head on some levels of the small backbone.

    Args:
        use_stock: puts a detector in the place of the Faster R-CNN.
    """
    backbone = model.student.backbone
    use_stock(model)
    backbone.out_channels = CHANNELS
    model.student.update(backbone=backbone, num_classes=5, head_in_features=levels)
    model.student.head.update(
        input_shape=[ShapeSpec(channels=CHANNELS)] * len(levels),
        conv_dims=[CHANNELS] * 2,
        norm="GN",
    )
    # What the spread says of a supervised detector's boxes it no longer says once that has learned
    # from pseudo boxes.
    model.pseudo_labeler.update(score_thresh=0.5, measure_stability=False)
