"""What happens when a loss is infinite or NaN."""

import logging
import os
from contextlib import contextmanager
from typing import Dict, List

import torch
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import nn

from ..utils.atomic import atomic_write
from ..utils.checks import check_not_negative
from ..utils.errors import TrainingError, one_line
from .step_report import StepReport

__all__ = ["NonFiniteGuard", "plain"]

logger = logging.getLogger(__name__)


class NonFiniteGuard:
    """Dumps the batch behind a non-finite loss, and lets a limited number of such steps pass."""

    def __init__(self, model: nn.Module, output_dir: str, max_skips: int):
        """
        Args:
            model: its running BN statistics are put back after a skipped or broken step.
            output_dir: batches are dumped to its folder ``nonfinite``.
            max_skips: steps that may be skipped in a training; one more stops it.
        """
        check_not_negative("NonFiniteGuard.max_skips", max_skips)
        self.folder = os.path.join(output_dir, "nonfinite")
        self.max_skips = max_skips
        self.skipped = 0
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self._statistics = [b for m in norms if m.track_running_stats for b in m.buffers()]
        self._kept = [b.clone() for b in self._statistics]

    @contextmanager
    def kept_if_broken(self):
        """Surrounds the forwards of a step, which spoil the running BN statistics if one fails.

        An error, and :meth:`skips`, put the statistics back as they were before the step.
        """
        if self._statistics:
            torch._foreach_copy_(self._kept, [b.detach() for b in self._statistics])
        try:
            yield
        except BaseException:
            self._put_back()
            raise

    def _put_back(self) -> None:
        if self._statistics:
            torch._foreach_copy_(self._statistics, self._kept)

    def skips(self, step: int, report: StepReport, batches: List[List[dict]]) -> bool:
        """Whether the optimizer must not step; all ranks decide alike.

        Args:
            step: number of the step.
            report: of this step, read.
            batches: of this rank.

        Raises:
            TrainingError: more steps were skipped than allowed.
        """
        if not report.nonfinite:
            return False
        self._put_back()
        if report.here:
            self._dump(step, report, batches)
        names = ", ".join(report.nonfinite)
        if self.skipped >= self.max_skips:
            raise TrainingError(
                f"step {step}: {names} is not finite, after {self.skipped} skipped steps: the "
                f"batches are in {self.folder}; lower optimizer.lr, clip gradients with "
                "clip_gradients, or raise NonFiniteGuard.max_skips"
            )
        self.skipped += 1
        logger.error(
            "step %d: %s is not finite; skipped (%d of at most %d), its images are in %s",
            step,
            names,
            self.skipped,
            self.max_skips,
            self.folder,
        )
        return True

    def _dump(self, step: int, report: StepReport, batches: List[List[dict]]) -> None:
        path = os.path.join(self.folder, f"step_{step:07d}_rank{comm.get_rank()}.pth")
        content = {"step": step, "nonfinite": report.here, "batches": plain(batches)}
        try:
            os.makedirs(self.folder, exist_ok=True)
            with atomic_write(path, "wb") as file:
                torch.save(content, file)
        except OSError as error:
            reason = one_line(error)
            logger.error(
                "the batch of step %d cannot be saved in %s: %s", step, self.folder, reason
            )


def plain(value):
    """Nested lists and dicts with Instances as dicts of tensors, for ``weights_only`` loading."""
    if isinstance(value, Instances):
        fields: Dict[str, torch.Tensor] = value.get_fields()
        return {k: getattr(v, "tensor", v) for k, v in fields.items()}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value
