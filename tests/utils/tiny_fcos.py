"""An FCOS that is built from the tiny YAML config, for tests that build every kind of detector."""

from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead

from soft_teacher.modeling import FCOSFamily
from soft_teacher.modeling.families.base import FAMILY_REGISTRY


@META_ARCH_REGISTRY.register()
class TinyFCOS(FCOS):
    """With the classes, levels and layers of the config's RetinaNet."""

    def __init__(self, cfg):
        backbone, ours = build_backbone(cfg), cfg.MODEL.RETINANET
        shapes = [backbone.output_shape()[name] for name in ours.IN_FEATURES]
        super().__init__(
            backbone=backbone,
            head=FCOSHead(
                input_shape=shapes,
                num_classes=ours.NUM_CLASSES,
                conv_dims=[shapes[0].channels] * ours.NUM_CONVS,
                prior_prob=ours.PRIOR_PROB,
            ),
            head_in_features=ours.IN_FEATURES,
            num_classes=ours.NUM_CLASSES,
            test_score_thresh=ours.SCORE_THRESH_TEST,
            pixel_mean=cfg.MODEL.PIXEL_MEAN,
            pixel_std=cfg.MODEL.PIXEL_STD,
        )


@FAMILY_REGISTRY.register()
class TinyFCOSFamily(FCOSFamily):
    detectors = ("TinyFCOS",)
