"""As much of a run on several GPUs as one GPU can show.

NCCL refuses two ranks on one GPU. So there is one rank with NCCL, whose reductions are real ones
over itself, and two with gloo, whose BatchNorm is synchronized by CUDA's own kernels.
"""

import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from bench_report import Row
from bench_variants import Ours, make_work
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from gpu_sections.job import Job, Rows, exact
from section_process import in_children
from torch.nn.parallel import DistributedDataParallel

from soft_teacher.demo import small_resnet_fpn
from soft_teacher.distributed.sync_bn import synchronize_batch_norm

__all__ = ["rows"]

TITLE = "several ranks, as far as one GPU goes"
IMAGES, SIDE = 4, 64
TOLERANCE = 1e-4


def rows(job: Job) -> Rows:
    backend = "NCCL" if job.on_gpu else "gloo"
    compared = {
        f"a step in DistributedDataParallel, one rank, {backend}": (_step, 1),
        "SyncBatchNorm over two ranks on one device, gloo": (_backbone, 2),
    }
    codes = {}
    # All children before the first comparison, which computes.
    for name, (function, ranks) in compared.items():
        folder = job.folder / function.__name__
        folder.mkdir()
        together = [(job, function, folder, rank, ranks) for rank in range(ranks)]
        codes[name] = in_children(_run, *together, (job, function, folder, 0, 0))
    for name, (function, _) in compared.items():
        yield TITLE, {"what": name, **_compare(job.folder / function.__name__, codes[name])}


def _compare(folder: Path, codes: list[int]) -> Row:
    """The ranks beside the process without."""
    if any(codes):
        return {"did not run": f"the processes ended with {codes}", "holds": False}
    expected, found = (
        torch.load(folder / name, map_location="cpu", weights_only=True)
        for name in ("alone.pth", "ranks.pth")
    )
    changes = {
        name: float((found[name] - value).norm() / value.norm().clamp(min=1e-12))
        for name, value in expected.items()
    }
    worst = max(changes, key=changes.get)
    return {"difference": changes[worst], "of": worst, "holds": changes[worst] <= TOLERANCE}


def _run(job: Job, function: Callable, folder: Path, rank: int, ranks: int) -> None:
    exact()
    torch.manual_seed(0)
    if not ranks:
        torch.save(function(job, 0, 0), folder / "alone.pth")
        return
    backend = "nccl" if job.on_gpu and ranks == 1 else "gloo"
    if job.on_gpu:
        torch.cuda.set_device(0)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        backend, init_method=f"file://{folder / 'store'}", rank=rank, world_size=ranks
    )
    comm.create_local_process_group(ranks)
    found = function(job, rank, ranks)
    if rank == 0:
        torch.save(found, folder / "ranks.pth")
    comm.synchronize()
    dist.destroy_process_group()


def _step(job: Job, rank: int, ranks: int) -> dict[str, torch.Tensor]:
    """Losses and gradients of a step."""
    batch = job.size.batches[0]
    work = make_work(job.scenario(batch), job.photos(sum(batch[1:])))
    model = Ours(job.scenario(batch), work).model
    wrapped = model
    if ranks:
        devices = [0] if job.on_gpu else None
        wrapped = DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)
    torch.manual_seed(0)
    with EventStorage():
        losses = wrapped(work.batch)
    sum(losses.values()).backward()
    gradients = [p.grad.reshape(-1) for p in model.student.parameters() if p.grad is not None]
    found = torch.stack([loss.detach() for loss in losses.values()])
    if ranks:
        dist.all_reduce(found)
    return {"losses": found, "gradients": torch.cat(gradients)}


def _backbone(job: Job, rank: int, ranks: int) -> dict[str, torch.Tensor]:
    """Gradients and statistics of a backbone, whose images the ranks share."""
    model = torch.nn.Module()
    model.student = torch.nn.Module()
    model.student.backbone = small_resnet_fpn(
        stem_channels=8, stage_channels=(16, 32), blocks=(1, 1), out_channels=8, norm="BN"
    )
    backbone = synchronize_batch_norm(model.to(job.device)).student.backbone
    images = torch.randn(IMAGES, 3, SIDE, SIDE).to(job.device)
    mine = images.chunk(max(ranks, 1))[rank]
    wrapped = DistributedDataParallel(backbone) if ranks else backbone
    levels = wrapped(mine)
    # A mean over the images, as DistributedDataParallel makes it of the ranks' own means.
    sum(level.exp().mean() for level in levels.values()).backward()
    # Detectron2's layer, on a CPU, takes another estimate of the variance.
    means = [b for name, b in backbone.named_buffers() if name.endswith("running_mean")]
    gradients = [p.grad.reshape(-1) for p in backbone.parameters() if p.grad is not None]
    return {"gradients": torch.cat(gradients), "running means": torch.cat(means)}
