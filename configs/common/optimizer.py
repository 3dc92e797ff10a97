"""SGD as in section 4.2, AdamW for small networks from scratch, and their learning rates."""

import torch
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import MultiStepParamScheduler

sgd = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(base_lr="${..lr}", weight_decay_norm=0.0),
    lr=0.01,
    momentum=0.9,
    weight_decay=1e-4,
    foreach=True,
)
adamw = L(torch.optim.AdamW)(
    params=L(get_default_optimizer_params)(base_lr="${..lr}", weight_decay_norm=0.0),
    lr=0.001,
    weight_decay=0.01,
)


def warmup_multistep(max_iter: int, milestones: list):
    """The learning rate's factor: a tenth at every milestone, after 500 steps of linear warm-up."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(
            values=[1.0, 0.1, 0.01],
            milestones=milestones,
            num_updates=max_iter,
        ),
        warmup_length=500 / max_iter,
        warmup_factor=0.001,
        warmup_method="linear",
    )
