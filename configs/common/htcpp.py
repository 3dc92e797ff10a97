"""HTC++ with Swin-L, on top of a config of COCO, as far as it was published.

docs/paper.md has the source of every value.
"""

from detectron2.config import LazyCall as L
from detectron2.modeling import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from soft_teacher.data.augmentation.instance_paste import InstancePaste
from soft_teacher.data.semantic_maps import MapFiles
from soft_teacher.modeling.backbones.global_attention import GlobalAttention
from soft_teacher.modeling.backbones.swin import Swin

from .htc import use_htc

FORMAT, MEAN, STD = "RGB", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
# Of Swin-L's stages.
CHANNELS, HEADS = 192, (6, 12, 24, 48)

swin_l = L(FPN)(
    bottom_up=L(Swin)(
        embed_dim=CHANNELS,
        depths=(2, 2, 18, 2),
        num_heads=HEADS,
        window_size=7,
        drop_path_rate=0.2,
        out_indices=(0, 1, 2, 3),
        # Memory for time: about a third more of it.
        use_checkpoint=True,
        # None leaves it out.
        global_attention=L(GlobalAttention)(
            channels=8 * CHANNELS, num_heads=HEADS[-1], mlp_ratio=4.0, drop_path_rate=0.2
        ),
    ),
    in_features=["p0", "p1", "p2", "p3"],
    out_channels=256,
    top_block=L(LastLevelMaxPool)(),
)


def use_htcpp(model, dataloader, optimizer, train) -> None:
    """Changes the config in place.

    Args:
        optimizer: AdamW.
    """
    maps = L(MapFiles)(folders="coco/stuffthingmaps/train2017", num_classes=183)
    use_htc(model, dataloader, maps, mask_format="bitmask")
    detector = model.student
    detector.update(backbone=swin_l, pixel_mean=MEAN, pixel_std=STD)
    for head in detector.roi_heads.box_heads:
        head.update(conv_dims=[256] * 4, fc_dims=[1024])
    for predictor in detector.roi_heads.box_predictors:
        predictor.soft_nms = "linear"
    _use_scales(dataloader)
    dataloader.train.instance_paste = L(InstancePaste)(
        prob=0.5, scale_range=(0.8, 1.2), max_angle=1.0, max_shift=1 / 15
    )
    optimizer.update(lr=1e-4, weight_decay=0.05)
    optimizer.params.overrides = dict(relative_position_bias_table=dict(weight_decay=0.0))
    # What tools/convert_checkpoint.py makes of Swin's file of that name.
    train.init_checkpoint = "output/pretrained/swin_large_patch4_window7_224_22k/model.pth"


def _use_scales(dataloader) -> None:
    """Short edges of 400 to 1400 pixels in training and 1400 at test, long ones up to 1600.

    The several scales of a multi-scale test are CBNetV2's.
    """
    mapper = dataloader.test.mapper
    dataloader.train.image_format = mapper.image_format = FORMAT
    for view in ("labeled", "strong", "weak"):
        dataloader.train[f"{view}_augmentations"].update(
            short_edge=800, scale_range=(0.5, 1.75), max_size=1600, image_format=FORMAT
        )
    mapper.augmentations[0].update(short_edge_length=1400, max_size=1600)
    dataloader.test_aug.update(
        min_sizes=[1000, 1400, 1200, 1600], max_sizes=[1600, 1600, 1800, 1800]
    )
