"""The parts of a training that the CfgNode trainer and the LazyConfig entry share."""

import inspect
from typing import Callable, List, Optional

import torch
from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, create_ddp_model, hooks
from detectron2.utils import comm

from ..checks import check_choice
from ..errors import ConfigError
from .hooks import ReproducibleSteps

__all__ = ["build_train_loop", "build_hooks", "check_amp", "wrap_ddp", "PRECISIONS"]

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


def build_train_loop(model, data_loader, optimizer, *, amp: bool, precision: str) -> SimpleTrainer:
    """Detectron2's SimpleTrainer or AMPTrainer.

    Args:
        model: wrapped for the ranks already.
        amp: mixed precision; ``precision`` is "fp16" or "bf16".

    Raises:
        ConfigError: if this Detectron2's AMPTrainer cannot be told the precision.
    """
    if not amp:
        return SimpleTrainer(model, data_loader, optimizer)
    if "precision" in inspect.signature(AMPTrainer).parameters:
        return AMPTrainer(model, data_loader, optimizer, precision=PRECISIONS[precision])
    if precision != "fp16":
        raise ConfigError(f"SOLVER.AMP.PRECISION '{precision}' needs a newer Detectron2")
    return AMPTrainer(model, data_loader, optimizer)


def build_hooks(
    *,
    seed: int,
    data_loader,
    ema: HookBase,
    checkpointer,
    checkpoint_period: int,
    eval_period: int,
    evaluate: Callable,
    build_writers: Callable,
    log_period: int = 20,
    scheduler: Optional[HookBase] = None,
    max_to_keep: Optional[int] = None,
) -> List[Optional[HookBase]]:
    """Hooks in the order they must run: the teacher is updated before it is saved or evaluated."""
    is_main = comm.is_main_process()
    saver = hooks.PeriodicCheckpointer(checkpointer, checkpoint_period, max_to_keep=max_to_keep)
    return [
        hooks.IterationTimer(),
        ReproducibleSteps(data_loader, seed),
        scheduler or hooks.LRScheduler(),
        ema,
        saver if is_main else None,
        hooks.EvalHook(eval_period, evaluate),
        hooks.PeriodicWriter(build_writers(), period=log_period) if is_main else None,
    ]
