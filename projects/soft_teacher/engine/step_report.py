"""The losses of a step on their way from the device to the host, the same on every rank."""

import torch
from detectron2.utils import comm

__all__ = ["StepReport"]


class StepReport:
    """Means of the losses over micro-batches and ranks, what is not finite, and whether to stop.

    Everything is in one vector: one reduction over the ranks and one copy to the host. Make it
    between forward and backward, and :meth:`read` it after: the host-device sync waits for the
    forward alone, while the device runs the backward.
    """

    def __init__(self, losses: list[dict[str, torch.Tensor]], *, stop: bool = False):
        """
        Args:
            losses: a dict of scalars per micro-batch, with the same keys everywhere.
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

        * losses: name -> mean over micro-batches and ranks;
        * nonfinite: names of the losses that are infinite or NaN anywhere;
        * here: those that are so on this rank;
        * stop: whether any rank wants to stop.
        """
        values, count = self._copy.values(), len(self._names)
        means, bad, mine = (values[i : i + count] for i in (0, count, 2 * count + 1))
        self.losses = dict(zip(self._names, means))
        self.nonfinite = [name for name, flag in zip(self._names, bad) if flag]
        self.here = [name for name, flag in zip(self._names, mine) if flag]
        self.stop = bool(values[2 * count])


class _HostCopy:
    """A tensor's numbers, copied without waiting for what the device is given afterwards."""

    def __init__(self, tensor: torch.Tensor):
        self._host, self._arrived = tensor, None
        if tensor.is_cuda:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def values(self) -> list[float]:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host.tolist()
