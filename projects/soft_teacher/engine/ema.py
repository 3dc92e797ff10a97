"""The teacher is an exponential moving average of the student (section 3.1)."""

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..utils.checks import check_not_negative
from ..utils.errors import ConfigError

__all__ = ["ema_momentum", "ema_update", "EMAHook"]


def ema_momentum(steps_done: int, *, momentum: float, ramp: bool, burn_in: int = 0) -> float:
    """Momentum of the update that follows ``steps_done`` optimizer steps.

    With t = steps_done - burn_in: 0 for t <= 0 (the teacher copies the student), then
    ``momentum``, or min(momentum, 1 - 1 / (t + 1)) with a ramp (released code).
    """
    t = steps_done - burn_in
    if t <= 0:
        return 0.0
    return min(momentum, 1 - 1 / (t + 1)) if ramp else momentum


@torch.no_grad()
def ema_update(teacher: list[torch.Tensor], student: list[torch.Tensor], momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, in place, tensor by tensor."""
    if teacher:
        get_ema_multi_avg_fn(momentum)(teacher, student, None)


class EMAHook(HookBase):
    """Updates the teacher after every ``interval`` optimizer steps.

    Register it before the checkpointer, so that a checkpoint holds the updated teacher.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        momentum: float = 0.999,
        ramp: bool = True,
        interval: int = 1,
        burn_in: int = 0,
        through_burn_in: bool = False,
        buffers: bool = True,
    ):
        """
        Args:
            student, teacher: networks with the same state dict.
            momentum, ramp, burn_in: see :func:`ema_momentum`.
            through_burn_in: average from the first step on instead of copying the student.
            interval: steps between updates; the end of the burn-in is always one.
            buffers: average floating-point buffers and copy the others; False leaves the
                teacher's buffers as they are.
        """
        if not 0 <= momentum < 1:
            raise ConfigError(f"EMAHook.momentum must lie in [0, 1), got {momentum}")
        if interval < 1:
            raise ConfigError(f"EMAHook.interval must be at least 1, got {interval}")
        check_not_negative("EMAHook.burn_in", burn_in)
        copied = 0 if through_burn_in else burn_in
        self.schedule = {"momentum": momentum, "ramp": ramp, "burn_in": copied}
        self.interval = interval
        self.burn_in = burn_in
        self._shared = _pairs(student.named_parameters(), teacher.named_parameters())
        pairs = _pairs(student.named_buffers(), teacher.named_buffers()) if buffers else []
        self._float_buffers = [pair for pair in pairs if pair[0].is_floating_point()]
        self._other_buffers = [pair for pair in pairs if not pair[0].is_floating_point()]

    def after_step(self) -> None:
        steps_done = self.trainer.iter + 1
        if steps_done % self.interval and steps_done != self.burn_in:
            return
        momentum = ema_momentum(steps_done, **self.schedule)
        _broadcast([s for _, s in self._float_buffers + self._other_buffers])
        for pairs in (self._shared, self._float_buffers):
            ema_update([t for t, _ in pairs], [s for _, s in pairs], momentum)
        for teacher, student in self._other_buffers:
            teacher.copy_(student)
        self.trainer.storage.put_scalar("ema_momentum", momentum, smoothing_hint=False)


def _pairs(student, teacher) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(teacher, student) tensors of the same name."""
    students = dict(student)
    return [(tensor.detach(), students[name].detach()) for name, tensor in teacher]


def _broadcast(buffers: list[torch.Tensor]) -> None:
    """Copies rank 0's buffers to all ranks: BN statistics that are not synchronized differ by rank.

    One message per dtype saves the latency of one per buffer.
    """
    if comm.get_world_size() == 1:
        return
    for dtype in dict.fromkeys(b.dtype for b in buffers):
        alike = [b for b in buffers if b.dtype == dtype]
        message = torch.cat([b.reshape(-1) for b in alike])
        torch.distributed.broadcast(message, src=0)
        parts = message.split([b.numel() for b in alike])
        torch._foreach_copy_(alike, [part.view_as(b) for part, b in zip(parts, alike)])
