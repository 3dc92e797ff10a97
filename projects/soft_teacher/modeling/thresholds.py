"""Score thresholds of each class, from how many boxes the labels have per image."""

import torch
from detectron2.config import configurable
from detectron2.structures import Instances
from torch import nn

from ..utils.checks import check_fraction, shown
from ..utils.errors import ConfigError

__all__ = ["DensityThresholds", "density_thresholds"]

BINS = 500


def density_thresholds(
    histogram: torch.Tensor, images: torch.Tensor, wanted: torch.Tensor
) -> torch.Tensor:
    """Per class, the lowest score above which there are no more boxes per image than wanted.

    Args:
        histogram: (C, B) detections by class and score, the bins dividing [0, 1] evenly.
        images: scalar, the images that they were found on.
        wanted: (C,) boxes per image.

    Returns:
        (C,) scores, each the lower edge of a bin or 1: without images 0, where none is wanted 1,
        whatever has been found so far.
    """
    above = histogram.flip(1).cumsum(dim=1) / images.clamp(min=torch.finfo(wanted.dtype).tiny)
    bins = histogram.shape[1]
    return (1 - (above <= wanted[:, None]).sum(dim=1) / bins).where(wanted > 0, 1.0)


class DensityThresholds(nn.Module):
    """Thresholds by which pseudo boxes are as dense as labeled boxes, class by class.

    The score that a detector gives its good boxes differs between classes and rises in the course
    of a run; how many objects of a class an image shows, the labels tell (LabelMatch). What every
    step finds waits in ``pending`` until :class:`.DensityThresholdsHook` adds that of all ranks.
    """

    @configurable
    def __init__(
        self,
        *,
        foreground: float = 0.8,
        ignore: float = 0.0,
        regression: float = 0.0,
        window: int = 200,
        floor: float = 0.05,
    ):
        """
        Args:
            foreground: pseudo boxes per labeled box.
            ignore: detections per labeled box above the lower threshold: those between the two
                are neither objects nor background. 0 does without it.
            regression: pseudo boxes for regression per labeled box, those of the best scores, in
                place of box jittering; 0 leaves the choice to that.
            window: unlabeled images over which scores are averaged, exponentially.
            floor: no threshold is lower.

        Raises:
            ConfigError: for a value outside its range, naming the parameter.
        """
        super().__init__()
        if not foreground > 0:
            raise ConfigError(
                f"DensityThresholds.foreground must be positive, got {shown(foreground)}"
            )
        if ignore and not ignore > foreground:
            raise ConfigError(
                f"DensityThresholds.ignore must be 0 or above foreground, which is {foreground}, "
                f"got {shown(ignore)}"
            )
        if not 0 <= regression <= foreground:
            raise ConfigError(
                f"DensityThresholds.regression must lie between 0 and foreground, which is "
                f"{foreground}, got {shown(regression)}"
            )
        if window < 1:
            raise ConfigError(f"DensityThresholds.window must be at least 1, got {shown(window)}")
        check_fraction("DensityThresholds.floor", floor)
        densities = {"foreground": foreground, "ignore": ignore, "regression": regression}
        self.densities = {name: density for name, density in densities.items() if density}
        self.window = window
        self.floor = floor

    @classmethod
    def from_config(cls, cfg):
        density = cfg.SOFT_TEACHER.DENSITY
        return {
            "foreground": density.FOREGROUND,
            "ignore": density.IGNORE,
            "regression": density.REGRESSION,
            "window": density.WINDOW,
            "floor": density.FLOOR,
        }

    @property
    def ignores(self) -> bool:
        """Whether there is a lower threshold, above which boxes are no background."""
        return "ignore" in self.densities

    @property
    def regresses(self) -> bool:
        """Whether there is a threshold for the boxes of G_reg."""
        return "regression" in self.densities

    def allocate(self, num_classes: int, score_thresh: float) -> None:
        """Starts anew for so many classes, with one threshold for all until both streams are seen.

        The state is not the model's but the run's: weights are stock, a resume has it from the
        hook.
        """
        start = torch.full((len(self.densities), num_classes), max(score_thresh, self.floor))
        self.register_buffer("thresholds", start, persistent=False)
        sizes = {"scores": num_classes * BINS, "images": 1, "boxes": num_classes, "labeled": 1}
        self._sizes = list(sizes.values())
        for name, size in sizes.items():
            dtype = torch.int64 if name in ("boxes", "labeled") else torch.float32
            self.register_buffer(name, torch.zeros(size, dtype=dtype), persistent=False)
        pending = torch.zeros(sum(self._sizes), dtype=torch.int64)
        self.register_buffer("pending", pending, persistent=False)

    def above(self, detections: Instances) -> dict[str, torch.Tensor]:
        """(n,) masks of the detections above each threshold in use, by the name of its density."""
        masks = detections.scores > self.thresholds[:, detections.pred_classes]
        return dict(zip(self.densities, masks))

    def totals(self) -> dict[str, torch.Tensor]:
        """The state by name, what is pending apart: the thresholds follow from it."""
        return {name: getattr(self, name) for name in ("scores", "images", "boxes", "labeled")}

    @torch.no_grad()
    def count_labels(self, labeled: list[dict]) -> None:
        """Adds the boxes of labeled images, as they come from the loader, to what is pending."""
        if not labeled:
            return
        *_, boxes, images = self.pending.split(self._sizes)
        # On the CPU, where a count of classes is no host-device sync.
        classes = torch.cat([sample["instances"].gt_classes for sample in labeled])
        boxes += classes.bincount(minlength=len(boxes)).to(boxes.device, non_blocking=True)
        images += len(labeled)

    @torch.no_grad()
    def count_scores(self, detections: list[Instances]) -> None:
        """Adds the teacher's detections on unlabeled images to what is pending."""
        scores, images, *_ = self.pending.split(self._sizes)
        for found in detections:
            bins = (found.scores.float() * BINS).long().clamp(0, BINS - 1)
            scores.index_add_(0, found.pred_classes * BINS + bins, torch.ones_like(bins))
        images += len(detections)

    @torch.no_grad()
    def update(self) -> None:
        """New thresholds from what is pending, which by now is that of all ranks."""
        scores, images, boxes, labeled = self.pending.split(self._sizes)
        kept = (1 - 1 / self.window) ** images
        self.scores.mul_(kept).add_(scores)
        self.images.mul_(kept).add_(images)
        self.boxes += boxes
        self.labeled += labeled
        self.pending.zero_()
        per_image = self.boxes / self.labeled.clamp(min=1)
        histogram = self.scores.view(-1, BINS)
        for row, density in zip(self.thresholds, self.densities.values()):
            new = density_thresholds(histogram, self.images, density * per_image)
            seen = (self.images > 0) & (self.labeled > 0)
            row.copy_(new.clamp(min=self.floor).where(seen, row))
