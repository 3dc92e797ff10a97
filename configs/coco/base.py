"""Section 4.2 without what differs between the settings, as base.yaml describes it."""

from ..common.data import dataloader_of
from ..common.model import model  # noqa: F401
from ..common.optimizer import sgd as optimizer  # noqa: F401
from ..common.optimizer import warmup_multistep  # noqa: F401
from ..common.train import ema, train  # noqa: F401

view = dict(short_edge=800, max_size=1333, scale_range=(0.5, 1.5), flip=True, max_angle=30.0)
dataloader = dataloader_of("coco_2017_val", view, num_workers=4)
dataloader.train.filter_empty = True
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
