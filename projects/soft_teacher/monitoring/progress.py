"""One line on the terminal: where a run is, how it goes, and how long it will still take."""

import datetime
import logging

import torch
from detectron2.utils.events import EventWriter, get_event_storage

__all__ = ["ProgressLine", "progress_line"]

# Steps that the time of a step is the median of: an evaluation in between does not count.
WINDOW = 200


class ProgressLine(EventWriter):
    """Logs :func:`progress_line` each time it is asked to write."""

    def __init__(self, max_iter: int):
        self.max_iter = max_iter
        self.logger = logging.getLogger(__name__)

    def write(self) -> None:
        storage = get_event_storage()
        smoothed = storage.latest_with_smoothing_hint(20)
        values = {name: value for name, (value, _) in smoothed.items()}
        seconds = storage.history("time").median(WINDOW) if "time" in values else None
        done = storage.iter + 1
        if seconds is not None:
            left = seconds * (self.max_iter - done)
            storage.put_scalar("eta_seconds", left, smoothing_hint=False)
        memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
        self.logger.info(progress_line(done, self.max_iter, seconds, values, memory))


def progress_line(
    done: int,
    max_iter: int,
    seconds: float | None,
    values: dict[str, float],
    memory: float | None = None,
) -> str:
    """
    Args:
        done: steps done, of ``max_iter``.
        seconds: per step; None if not known yet.
        values: scalars by name; those that are missing are left out.
        memory: peak on this GPU, GiB.

    Returns:
        e.g. "step 1,200/180,000 (0.7%), 1 day, 3:20:11 left | loss 1.31 = sup 0.84 + unsup 0.47 |
        2.3 pseudo boxes per image | teacher AP 12.4 | lr 0.01 | 0.54 s per step".
    """
    where = f"step {done:,}/{max_iter:,} ({done / max_iter:.1%})"
    if seconds is not None:
        where += f", {datetime.timedelta(seconds=int(seconds * (max_iter - done)))} left"
    parts = [where]
    if "total_loss" in values:
        sums = {
            stream: sum(v for k, v in values.items() if k.startswith(f"{stream}/loss"))
            for stream in ("sup", "unsup")
        }
        split = " + ".join(f"{stream} {value:.3g}" for stream, value in sums.items())
        parts.append(f"loss {values['total_loss']:.3g} = {split}")
    if "pseudo/num_cls_boxes" in values:
        parts.append(f"{values['pseudo/num_cls_boxes']:.2g} pseudo boxes per image")
    parts += [
        f"{network} {what} {values[f'{network}/{task}/AP']:.1f}"
        for network in ("student", "teacher")
        for task, what in (("bbox", "AP"), ("segm", "mask AP"))
        if f"{network}/{task}/AP" in values
    ]
    if "lr" in values:
        parts.append(f"lr {values['lr']:.3g}")
    if seconds is not None:
        parts.append(f"{seconds:.3g} s per step, {values.get('data_time', 0):.2g} s for data")
    if memory is not None:
        parts.append(f"{memory:.1f} GiB")
    return " | ".join(parts)
