"""Small hooks of the training loop."""

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..data.sampler import STEP, sample_seed

__all__ = ["ReproducibleSteps"]


class ReproducibleSteps(HookBase):
    """Makes a step depend on (seed, rank, step) alone, so that there is no RNG state to save."""

    def __init__(self, data_loader, seed: int):
        """
        Args:
            data_loader: a TwoStreamLoader; it is told where to start.
            seed: of the training.
        """
        self.data_loader = data_loader
        self.seed = seed

    def before_train(self) -> None:
        self.data_loader.start_step = self.trainer.iter

    def before_step(self) -> None:
        torch.manual_seed(sample_seed(self.seed, STEP, comm.get_rank(), self.trainer.iter))
