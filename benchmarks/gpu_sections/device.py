"""What the figures hold for."""

import torch
from bench_report import machine
from gpu_sections.job import Job, Rows

__all__ = ["rows"]


def rows(job: Job) -> Rows:
    facts = {"device": "the CPU", **machine()}
    if job.on_gpu:
        card = torch.cuda.get_device_properties(0)
        facts |= {
            "device": card.name,
            "GPU memory": f"{card.total_memory / 2**30:.1f} GiB",
            "compute capability": f"{card.major}.{card.minor}",
            "multiprocessors": card.multi_processor_count,
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        }
    for name, value in facts.items():
        yield "machine", {"": name, "value": value}
