"""The losses of a step on their way from the device to the host, the same on every rank."""

from typing import Dict, List

import torch
from detectron2.utils import comm

__all__ = ["StepReport"]


class StepReport:
    """Means of the losses over chunks and ranks, what is not finite, and whether to stop.

    Everything travels in one vector: one reduction over the ranks and one copy to the host. Make
    it between forward and backward, and :meth:`read` it after: the copy waits for the forward
    alone, while the device goes on with the backward.
    """

    def __init__(self, losses: List[Dict[str, torch.Tensor]], *, stop: bool = False):
        """
        Args:
            losses: a dict of scalars per chunk, with the same keys on all chunks and ranks.
            stop: whether this rank wants to stop after the step.
        """
        self._names = list(losses[0])
        table = torch.stack([torch.stack([d[k].detach().float() for k in d]) for d in losses])
        bad = (~torch.isfinite(table)).any(dim=0).float()
        shared = torch.cat([table.mean(dim=0), bad, bad.new_full((1,), float(stop))])
        world_size = comm.get_world_size()
        if world_size > 1:
            torch.distributed.all_reduce(shared)
        shared[: len(self._names)] /= world_size
        self._copy = _HostCopy(torch.cat([shared, bad]))

    def read(self) -> None:
        """Waits for the numbers and fills the attributes.

        * losses: name -> mean over chunks and ranks;
        * nonfinite: names of the losses that are infinite or NaN anywhere;
        * here: those that are so on this rank;
        * stop: whether any rank wants to stop.
        """
        count = len(self._names)
        values = self._copy.values()
        means, bad, (stop,), mine = (
            values[:count],
            values[count : 2 * count],
            values[2 * count : 2 * count + 1],
            values[2 * count + 1 :],
        )
        self.losses = dict(zip(self._names, means))
        self.nonfinite = [name for name, flag in zip(self._names, bad) if flag]
        self.here = [name for name, flag in zip(self._names, mine) if flag]
        self.stop = bool(stop)


class _HostCopy:
    """A tensor's numbers, copied without waiting for what is put on the device afterwards."""

    def __init__(self, tensor: torch.Tensor):
        self._host, self._arrived = tensor, None
        if tensor.is_cuda:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def values(self) -> List[float]:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host.tolist()
