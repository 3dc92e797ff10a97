"""Batches whose images are pinned, or on the device a step before they are asked for."""

import torch

__all__ = ["Copied"]

IMAGES = ("image", "weak_image")


class Copied:
    """A loader's batches on their way to the device.

    A loader with a thread that pins, as PyTorch's has, takes no time of the step for it. So a batch
    is pinned once here, and this loader must give the same list of samples again and again.
    """

    def __init__(self, loader, device: str, *, pinned: bool = False, ahead: bool = False):
        """
        Args:
            loader: of batches; all its attributes are this one's, too.
            device: to copy to.
            pinned: whether the images lie in memory that is not paged.
            ahead: copy them on a stream of their own, one step before.
        """
        self._loader, self._device = loader, device
        self._pinned, self._ahead = pinned, ahead
        self._pins: dict[int, list[dict]] = {}

    def __getattr__(self, name: str):
        return getattr(self._loader, name)

    def __iter__(self):
        batches = map(self._pin, self._loader) if self._pinned else iter(self._loader)
        return self._copied_ahead(batches) if self._ahead else batches

    def _pin(self, batch: list[dict]) -> list[dict]:
        if id(batch) not in self._pins:
            self._pins[id(batch)] = _with_images(batch, torch.Tensor.pin_memory)
        return self._pins[id(batch)]

    def _copied_ahead(self, batches):
        stream = torch.cuda.Stream()

        def copy(batch):
            with torch.cuda.stream(stream):
                return _with_images(batch, lambda x: x.to(self._device, non_blocking=True))

        coming = copy(next(batches))
        for batch in batches:
            torch.cuda.current_stream().wait_stream(stream)
            ready, coming = coming, copy(batch)
            for sample in ready:
                for name in IMAGES:
                    if name in sample:
                        sample[name].record_stream(torch.cuda.current_stream())
            yield ready


def _with_images(batch: list[dict], change) -> list[dict]:
    return [{k: change(v) if k in IMAGES else v for k, v in x.items()} for x in batch]
