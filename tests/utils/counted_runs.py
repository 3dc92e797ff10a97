"""What a run counts step by step, with its hook, one process at a time."""

from types import SimpleNamespace

from detectron2.utils.events import EventStorage

__all__ = ["DEALT", "CountedRun", "parts_of"]

# How the four images of a step are divided.
DEALT = {"one process": [4], "3 + 1": [3, 1], "accumulation 2": [2, 2], "4 + none": [4, 0]}


def parts_of(images, counts):
    """Lists of so many images each."""
    images = list(images)
    return [[images.pop(0) for _ in range(n)] for n in counts]


class CountedRun:
    """One process with its hook; a subclass has ``count(images)`` and ``state()``."""

    def __init__(self, hook):
        self.hook = hook
        self.storage = EventStorage()
        hook.trainer = SimpleNamespace(iter=-1, storage=self.storage)

    def step(self, *micro_batches):
        """The state after a step of these micro-batches."""
        self.hook.trainer.iter += 1
        self.hook.before_step()
        for images in micro_batches:
            self.count(images)
        self.hook.after_step()
        self.storage.step()
        return self.state()
