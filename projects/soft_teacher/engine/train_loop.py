"""One step of the optimizer: forward, backward, and an update that all ranks agree on."""

import time
from contextlib import nullcontext
from typing import Dict, List, Optional

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from ..data.streams.seeds import STEP, sample_seed
from .nonfinite import NonFiniteGuard
from .step_report import StepReport

__all__ = ["SoftTeacherLoop"]


class SoftTeacherLoop(SimpleTrainer):
    """Detectron2's SimpleTrainer with chunks, mixed precision and a guard against NaN.

    A process takes its images of a step in ``chunks`` and adds up the gradients, as if each chunk
    were another process. A step depends on (seed, process and chunk, step) alone, so that there
    is no RNG state to save.
    """

    def __init__(
        self,
        model,
        data_loader,
        optimizer,
        guard: NonFiniteGuard,
        *,
        seed: int = 0,
        chunks: int = 1,
        precision: Optional[torch.dtype] = None,
    ):
        """
        Args:
            model: wrapped for the ranks already.
            data_loader: a TwoStreamLoader; it gives a batch for each chunk and is told where to
                start.
            optimizer: of the student.
            guard: decides what happens to steps with a non-finite loss.
            seed: of the training.
            chunks: gradient accumulation.
            precision: torch.float16 or torch.bfloat16 for mixed precision.
        """
        super().__init__(model, data_loader, optimizer)
        self.guard = guard
        self.seed = seed
        self.chunks = chunks
        self.precision = precision
        device = next(model.parameters()).device.type
        self._autocast = lambda: torch.autocast(
            device, dtype=precision, enabled=precision is not None
        )
        # bf16 has the range of float32 and needs no scaling.
        self.grad_scaler = torch.amp.GradScaler(device, enabled=precision is torch.float16)
        # Set from outside; all ranks learn of it with the step's report.
        self.wants_to_stop = False
        self.stops = False
        # The step whose update was the last to begin.
        self.last_update = -1

    def run_step(self) -> None:
        """Trains on one batch of every chunk.

        Raises:
            TrainingError: too many steps had a loss that is not finite.
            ConfigError: too many images are unreadable.
        """
        if self._data_loader_iter_obj is None:
            self.data_loader.start_step = self.iter
        start = time.perf_counter()
        batches = [next(self._data_loader_iter) for _ in range(self.chunks)]
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        with self.guard.kept_if_broken():
            report = self._gradients(batches)
            report.read()
        self.stops = report.stop
        if not self.guard.skips(self.iter, report, batches):
            self._update()
            self._log(report.losses)
        get_event_storage().put_scalar("data_time", data_time)

    def _gradients(self, batches: List[list]) -> StepReport:
        losses: List[Dict[str, torch.Tensor]] = []
        for chunk, batch in enumerate(batches):
            last = chunk == self.chunks - 1
            with nullcontext() if last else self._without_reduction():
                losses.append(self._forward(chunk, batch))
                if last:
                    report = StepReport(losses, stop=self.wants_to_stop)
                total = sum(losses[-1].values()) / self.chunks
                self.grad_scaler.scale(total).backward()
        self.after_backward()
        return report

    def _forward(self, chunk: int, batch: list) -> Dict[str, torch.Tensor]:
        place = comm.get_rank() * self.chunks + chunk
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

    def _log(self, losses: Dict[str, float]) -> None:
        if comm.is_main_process():
            get_event_storage().put_scalars(total_loss=sum(losses.values()), **losses)

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
