"""Does a run that is killed and resumed end where an uninterrupted one does, in float32?

A GPU adds up gradients in another order each time, so there the difference between two
uninterrupted runs is the measure for a resumed one.
"""

import os
import signal

import torch
from detectron2.engine import HookBase
from gpu_sections.digits import demo_config, make_demo_data
from gpu_sections.job import Job, Rows, exact
from section_process import in_children

from soft_teacher.experiment import SoftTeacherTrainer

__all__ = ["rows"]

FINAL, START = "model_final.pth", "start.pth"
# Of two differences of the same kind; and what counts as none.
SPREAD, NONE = 4.0, 1e-6


class _Kill(HookBase):
    """Ends the process as a power cut does."""

    def __init__(self, step: int):
        self.step = step

    def after_step(self) -> None:
        if self.trainer.iter + 1 == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def rows(job: Job) -> Rows:
    make_demo_data(job)
    kill = job.size.resume_steps[1]
    again = ["again"] * job.on_gpu
    codes = in_children(_train, (job, "whole"), (job, "killed", kill), *((job, n) for n in again))
    if codes != [0, -signal.SIGKILL, *(0 for _ in again)]:
        raise RuntimeError(f"the runs ended with {codes}")
    (code,) = in_children(_train, (job, "killed"))
    if code != 0:
        raise RuntimeError(f"the resumed run ended with {code}")
    noise = _difference(job, "again") if again else 0.0
    found = _difference(job, "killed")
    yield "share of the way from the first weights to the last", {
        "resumed and uninterrupted": found,
        "uninterrupted twice": noise if again else "the same bits on a CPU",
        "holds": found <= (SPREAD * noise + NONE if again else 0.0),
    }


def _train(job: Job, name: str, kill: int | None = None) -> None:
    """Trains from the last checkpoint of the folder ``name``, or from the start."""
    period, _, steps = job.size.resume_steps
    warmup = {"SOLVER__WARMUP_ITERS": 0, "SOLVER__CHECKPOINT_PERIOD": period}
    cfg = demo_config(job, name, job.device, steps, **warmup)
    exact()
    torch.manual_seed(0)
    trainer = SoftTeacherTrainer(cfg)
    torch.save(trainer.soft_teacher.state_dict(), job.folder / name / START)
    if kill is not None:
        trainer.register_hooks([_Kill(kill)])
    trainer.resume_or_load(resume=True)
    trainer.train()


def _difference(job: Job, name: str) -> float:
    """Of the last weights from those of "whole", over the way that these have come."""
    start = _flat(torch.load(job.folder / "whole" / START, map_location="cpu", weights_only=True))
    whole, other = (
        _flat(torch.load(job.folder / n / FINAL, map_location="cpu", weights_only=True)["model"])
        for n in ("whole", name)
    )
    return float((other - whole).norm() / (whole - start).norm())


def _flat(state: dict) -> torch.Tensor:
    return torch.cat([state[name].double().reshape(-1) for name in sorted(state)])
