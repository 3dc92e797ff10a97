"""The parts of a training that the CfgNode trainer and the LazyConfig entry share."""

from typing import Callable, List, Optional, Sequence

import torch
from detectron2.engine import HookBase, create_ddp_model, hooks
from detectron2.utils import comm

from ..distributed.sync_bn import check_no_idle_rank, synchronize_batch_norm
from ..engine.evaluation_hooks import Evaluation, PendingEvaluation
from ..engine.nonfinite import NonFiniteGuard
from ..engine.saving import BestTeacher, LastStepSaver, Saver, StepsDone
from ..engine.stopping import StopOnSignal
from ..engine.train_loop import SoftTeacherLoop
from ..monitoring.events import EventFiles, EventHistory
from ..monitoring.hooks import HTMLReport
from ..utils.checks import check_choice
from ..utils.errors import ConfigError

__all__ = [
    "PRECISIONS",
    "build_hooks",
    "build_train_loop",
    "check_amp",
    "saves_after",
    "wrap_ddp",
]

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16}


def wrap_ddp(model):
    """DistributedDataParallel over the ranks, also without GPUs; the model itself on one rank."""
    on_gpu = model.device.type == "cuda"
    device_ids = [comm.get_local_rank()] if on_gpu else None
    return create_ddp_model(model, broadcast_buffers=False, device_ids=device_ids)


def check_amp(enabled: bool, precision: str, device: str) -> None:
    """Raises ConfigError if mixed precision is asked for where it cannot run."""
    check_choice("SOLVER.AMP.PRECISION", precision, tuple(PRECISIONS))
    if not enabled:
        return
    if not torch.cuda.is_available() or torch.device(device).type != "cuda":
        raise ConfigError("SOLVER.AMP.ENABLED needs a CUDA GPU: set it to False")
    if precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise ConfigError("SOLVER.AMP.PRECISION 'bf16' is not supported by this GPU: use 'fp16'")


def build_train_loop(
    model,
    data_loader,
    optimizer,
    *,
    output_dir: str,
    seed: int,
    chunks: int = 1,
    max_nonfinite: int = 0,
    amp: bool = False,
    precision: str = "fp16",
) -> SoftTeacherLoop:
    """The loop over the steps.

    Args:
        model: a SoftTeacher.
        data_loader: a TwoStreamLoader for as many chunks.
        output_dir: folder of the training.
        seed, chunks: see :class:`SoftTeacherLoop`.
        max_nonfinite: steps with a non-finite loss that are skipped.
        amp: mixed precision; ``precision`` is "fp16" or "bf16".
    """
    synchronize_batch_norm(model)
    schedule = data_loader.schedule
    check_no_idle_rank(model, schedule.images, schedule.world_size)
    return SoftTeacherLoop(
        wrap_ddp(model),
        data_loader,
        optimizer,
        NonFiniteGuard(model, output_dir, max_nonfinite),
        seed=seed,
        chunks=chunks,
        precision=PRECISIONS[precision] if amp else None,
    )


def saves_after(loop: SoftTeacherLoop, checkpoint_period: int, eval_period: int) -> Callable:
    """steps done -> whether a checkpoint may be saved then; all ranks know it alike.

    An evaluation can be broken off by a signal, after which there is no time to ask other ranks.
    """

    def saves(done: int) -> bool:
        evaluates = eval_period > 0 and done % eval_period == 0
        return done % checkpoint_period == 0 or evaluates or loop.stops

    return saves


def build_hooks(
    *,
    loop: SoftTeacherLoop,
    output_dir: str,
    ema: HookBase,
    checkpointer,
    checkpoint_period: int,
    eval_period: int,
    evaluate: Callable,
    best_metric: str,
    build_writers: Callable,
    log_period: int = 20,
    watch: Sequence[HookBase] = (),
    scheduler: Optional[HookBase] = None,
    max_to_keep: Optional[int] = None,
) -> List[Optional[HookBase]]:
    """Hooks in the order they must run.

    The teacher is updated before it is evaluated; evaluations and events are on the disk before
    the checkpoint that stands for them. The last step is saved before its evaluation, too.

    Args:
        loop, output_dir: of the training.
        ema: updates the teacher.
        checkpointer: a SoftTeacherCheckpointer.
        checkpoint_period, max_to_keep: see :class:`~soft_teacher.engine.saving.Saver`.
        eval_period, evaluate: see :class:`~soft_teacher.engine.evaluation_hooks.Evaluation`.
        best_metric: see :class:`~soft_teacher.engine.saving.BestTeacher`.
        build_writers, log_period: see :class:`~soft_teacher.monitoring.events.EventFiles`.
        watch: hooks that show what the teacher does.
        scheduler: of the learning rate; the trainer's own if None.
    """
    stop = StopOnSignal(loop)
    steps_done = StepsDone(loop)
    evaluation = Evaluation(eval_period, stop.interruptible(evaluate))
    before, closing = [], []
    if comm.is_main_process():
        saver = Saver(checkpointer, steps_done, checkpoint_period, max_to_keep)
        files = EventFiles(output_dir, build_writers, log_period)
        before = [LastStepSaver(saver)]
        closing = [BestTeacher(checkpointer, best_metric), files, EventHistory(files), saver]
        closing += [HTMLReport(output_dir)]
    return [
        hooks.IterationTimer(),
        scheduler or hooks.LRScheduler(),
        ema,
        steps_done,
        *watch,
        *before,
        evaluation,
        *closing,
        stop,
        PendingEvaluation(evaluation, closing),
    ]
