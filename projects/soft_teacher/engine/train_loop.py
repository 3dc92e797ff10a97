"""One step of the optimizer: forward, backward, and an update that all ranks agree on."""

import time
from contextlib import nullcontext

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from ..data.streams.seeds import STEP, sample_seed
from .nonfinite import NonFiniteGuard
from .step_report import StepReport

__all__ = ["SoftTeacherLoop"]


class SoftTeacherLoop(SimpleTrainer):
    """Detectron2's SimpleTrainer with micro-batches, mixed precision and a guard against NaN.

    A process divides its images of a step into ``micro_batches`` and accumulates the gradients, as
    if each were another process. A step depends on (seed, process and micro-batch, step) alone, so
    that there is no RNG state to save.
    """

    def __init__(
        self,
        model,
        data_loader,
        optimizer,
        guard: NonFiniteGuard,
        *,
        seed: int = 0,
        micro_batches: int = 1,
        precision: torch.dtype | None = None,
    ):
        """
        Args:
            model: already wrapped for the ranks.
            data_loader: a TwoStreamLoader with as many micro-batches; its start_step is set.
            micro_batches: gradient accumulation.
            precision: torch.float16 or torch.bfloat16 for mixed precision.
        """
        super().__init__(model, data_loader, optimizer)
        self.guard = guard
        self.seed = seed
        self.micro_batches = micro_batches
        self.precision = precision
        device = next(model.parameters()).device.type
        self._autocast = lambda: torch.autocast(
            device, dtype=precision, enabled=precision is not None
        )
        # bf16 has the range of float32 and needs no scaling.
        self.grad_scaler = torch.amp.GradScaler(device, enabled=precision is torch.float16)
        # Set from outside; shared with all ranks in the step's report.
        self.wants_to_stop = False
        self.stops = False
        # The step whose update was the last to begin.
        self.last_update = -1

    def run_step(self) -> None:
        """Trains on one batch per micro-batch.

        Raises TrainingError after too many non-finite losses, ConfigError for unreadable images.
        """
        if self._data_loader_iter_obj is None:
            self.data_loader.start_step = self.iter
        start = time.perf_counter()
        batches = [next(self._data_loader_iter) for _ in range(self.micro_batches)]
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        with self.guard.kept_if_broken():
            report = self._gradients(batches)
            report.read()
        self.stops = report.stop
        if not self.guard.skips(self.iter, report, batches):
            self._update()
            if comm.is_main_process():
                total = sum(report.losses.values())
                get_event_storage().put_scalars(total_loss=total, **report.losses)
        get_event_storage().put_scalar("data_time", data_time)

    def _gradients(self, batches: list[list]) -> StepReport:
        losses: list[dict[str, torch.Tensor]] = []
        for number, batch in enumerate(batches):
            last = number == self.micro_batches - 1
            with nullcontext() if last else self._without_reduction():
                losses.append(self._forward(number, batch))
                if last:
                    report = StepReport(losses, stop=self.wants_to_stop)
                total = sum(losses[-1].values()) / self.micro_batches
                self.grad_scaler.scale(total).backward()
        self.after_backward()
        return report

    def _forward(self, number: int, batch: list) -> dict[str, torch.Tensor]:
        place = comm.get_rank() * self.micro_batches + number
        torch.manual_seed(sample_seed(self.seed, STEP, place, self.iter))
        with self._autocast():
            return self.model(batch)

    def _without_reduction(self):
        return self.model.no_sync() if hasattr(self.model, "no_sync") else nullcontext()

    def _update(self) -> None:
        self.last_update = self.iter
        # Gradients are clipped inside the optimizer's step, at their true size.
        self.grad_scaler.unscale_(self.optimizer)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict:
        return {
            **super().state_dict(),
            "grad_scaler": self.grad_scaler.state_dict(),
            "skipped_steps": self.guard.skipped,
        }

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
        self.guard.skipped = state_dict["skipped_steps"]
