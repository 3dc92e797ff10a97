"""Hybrid Task Cascade on a tiny Swin from scratch, supervised: 300 steps."""

from detectron2.config import LazyCall as L
from detectron2.modeling import FPN

from soft_teacher.modeling.backbones.swin import Swin

from .base import CHANNELS
from .htc import use_htc
from .supervised import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_htc(model, dataloader, lr_multiplier, train, steps=300)
model.student.backbone = L(FPN)(
    bottom_up=L(Swin)(
        embed_dim=24,
        depths=(2, 2, 2),
        num_heads=(2, 4, 8),
        window_size=4,
        drop_path_rate=0.1,
        out_indices=(0, 1, 2),
    ),
    in_features=["p0", "p1", "p2"],
    out_channels=CHANNELS,
)
train.output_dir = "output/demo/htc_swin_lazy"
