"""BatchNorm over the images of all ranks."""

from collections.abc import Callable, Mapping, Sequence

import torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.utils import comm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..utils.errors import ConfigError

__all__ = ["synchronize_batch_norm", "check_no_idle_rank"]

SYNCHRONIZED = (nn.SyncBatchNorm, NaiveSyncBatchNorm)


def synchronize_batch_norm(model: nn.Module, *, supervised: bool = False) -> nn.Module:
    """Makes the BatchNorm layers of the student's backbone see all ranks' images, in place.

    Parameters and buffers stay the same tensors under the same names, so that an optimizer or the
    EMA hook may already hold them. FrozenBN and the teacher, which is always in eval mode, are left
    alone, and so are a single process and BatchNorm in the heads: a head runs once per stream, and
    a rank may lack a stream. Synchronized layers in the heads are fine where there is one stream.

    Args:
        model: a SoftTeacher on its device, not yet wrapped for the ranks; it is returned.
        supervised: the run has labeled images alone, on every rank.

    Raises:
        ConfigError: for a synchronized BatchNorm in the heads, which would deadlock.
    """
    if comm.get_world_size() == 1:
        return model
    student = model.student
    for name, module in student.named_modules():
        in_heads = isinstance(module, SYNCHRONIZED) and not name.startswith("backbone.")
        if in_heads and not supervised:
            raise ConfigError(
                f"'{name}' is a synchronized BatchNorm outside of the backbone, and a process "
                "without images of a stream would not take part: set its NORM to 'GN' or 'BN'"
            )
    on_cpu = next(student.parameters()).device.type == "cpu"
    _replace(student.backbone, _for_cpu if on_cpu else _for_gpu)
    if on_cpu:
        _replace(student, lambda norm: _for_cpu(norm) if isinstance(norm, SYNCHRONIZED) else norm)
    return model


def check_no_idle_rank(model: nn.Module, images: Mapping[str, Sequence[int]], batches: int) -> None:
    """Raises ConfigError if BatchNorm would wait for a rank that has no image at a step.

    Args:
        model: a SoftTeacher after :func:`synchronize_batch_norm`.
        images: of each step over all ranks, by the stream that has a pass of its own; "" for both
            together.
        batches: that a step deals them to.
    """
    modules = model.student.backbone.modules() if comm.get_world_size() > 1 else ()
    if not any(isinstance(module, SYNCHRONIZED) for module in modules):
        return
    for stream, counts in images.items():
        for step, count in enumerate(counts):
            if 0 < count < batches:
                raise ConfigError(_too_few(stream, step, count, batches))


def _too_few(stream: str, step: int, count: int, batches: int) -> str:
    where = "SoftTeacher.statistics 'labeled'"
    fix = "set SoftTeacher.statistics to 'all', raise BatchSchedule.batch_size"
    if not stream:  # after the burn-in, images of both streams together fill the batch
        where, fix = "BatchSchedule.burn_in", "raise BatchSchedule.share"
    return (
        f"{where}: step {step} has {count} {stream or 'labeled'} images for {batches} batches, and "
        f"BatchNorm needs one in each: {fix} or set the norm of the backbone to 'FrozenBN'"
    )


def _replace(module: nn.Module, synchronized: Callable[[_BatchNorm], _BatchNorm]) -> None:
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, synchronized(child))
        else:
            _replace(child, synchronized)


def _for_gpu(norm: _BatchNorm) -> _BatchNorm:
    return norm if isinstance(norm, SYNCHRONIZED) else nn.SyncBatchNorm.convert_sync_batchnorm(norm)


def _for_cpu(norm: _BatchNorm) -> _BatchNorm:
    """Detectron2's layer: torch's own refuses tensors on the CPU."""
    if isinstance(norm, NaiveSyncBatchNorm):
        return norm
    with torch.device("meta"):  # its own tensors are replaced at once
        found = NaiveSyncBatchNorm(
            norm.num_features, eps=norm.eps, momentum=norm.momentum, stats_mode="N"
        )
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(found, name, getattr(norm, name))
    return found.train(norm.training)
