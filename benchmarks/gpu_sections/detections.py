"""How lower precision and another memory format change the detections of a trained network.

The demo's detector, trained with labels for some steps: scores and boxes of random weights depend
on their last digits, those of trained ones do not.
"""

import statistics
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from bench_report import Row
from detectron2.structures import Instances
from gpu_sections.boxes import kept, score_changes
from gpu_sections.digits import demo_config, make_demo_data
from gpu_sections.job import Job, Rows, exact

from soft_teacher.experiment import SoftTeacherTrainer

__all__ = ["rows"]

SAME_BOX = 0.5  # IoU
SURE = 0.5  # score


def rows(job: Job) -> Rows:
    exact()
    make_demo_data(job)
    steps = job.size.trained_steps
    how = {"SOFT_TEACHER__BURN_IN": steps, "SOLVER__WARMUP_ITERS": steps // 5}
    cfg = demo_config(job, "trained", job.device, steps, **how)
    cfg.SOFT_TEACHER.EVAL_NETWORKS = ["teacher"]
    torch.manual_seed(0)
    trainer = SoftTeacherTrainer(cfg)
    trainer.train()
    model = trainer.soft_teacher.eval()
    loader = list(trainer.build_test_loader(cfg, "digits_val"))

    def detected(context: Callable) -> tuple[list[Instances], float]:
        with context(), torch.no_grad():
            found = [x["instances"] for batch in loader for x in model.teacher(batch)]
            return found, SoftTeacherTrainer.test(cfg, model)["teacher"]["bbox"]["AP"]

    half = {"fp16": torch.float16, "bf16": torch.bfloat16}
    contexts = {n: partial(torch.autocast, job.device, dtype=d) for n, d in half.items()}
    expected, ap = detected(nullcontext)
    title = f"the demo's detector after {steps} steps with labels, beside float32"
    yield title, {"what": "fp32", "AP": ap}
    for name, context in contexts.items():
        yield title, {"what": name, **_changes(expected, *detected(context))}
    model.to(memory_format=torch.channels_last)
    yield title, {"what": "channels_last", **_changes(expected, *detected(nullcontext))}


def _changes(expected: list[Instances], found: list[Instances], ap: float) -> Row:
    pairs = list(zip(expected, found, strict=True))
    both = [(a[a.scores > SURE], b) for pair in pairs for a, b in (pair, pair[::-1])]
    still = [k for pair in both for k in kept(*pair, iou=SAME_BOX)]
    changes = [c for pair in both for c in score_changes(*pair, iou=SAME_BOX)]
    return {
        "AP": ap,
        f"boxes above {SURE}, of both": len(still),
        "that the other has, too": statistics.fmean(still) if still else None,
        "mean change of a score": statistics.fmean(changes) if changes else None,
    }
