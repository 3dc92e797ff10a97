"""Box jittering (section 3.3, Eq. 7-9): how far the teacher's refinement of a box moves."""

from typing import Callable, List

import torch
from detectron2.config import configurable
from detectron2.structures import Boxes, Instances

from ..utils.checks import check_choice
from ..utils.errors import ConfigError

__all__ = ["BoxJitter", "jitter_boxes", "box_variance"]

DISTRIBUTIONS = ("uniform", "normal")
NORMALIZERS = ("candidate", "refined")
Refine = Callable[[List[Boxes], List[torch.Tensor]], List[torch.Tensor]]


def jitter_boxes(
    boxes: torch.Tensor,
    *,
    num: int,
    scale: float,
    distribution: str,
    generator: torch.Generator,
) -> torch.Tensor:
    """``num`` jittered copies of each box, the inner part of Eq. 7.

    Each coordinate moves by an offset relative to the box's own side: x by the width, y by the
    height.

    Args:
        boxes: (n, 4) absolute XYXY, any device.
        num: copies per box, N_jitter of the paper.
        scale: half-width of the uniform offset ("uniform", the paper) or its standard deviation
            ("normal", the released code, where a side counts as 1 pixel at least).
        distribution: "uniform" or "normal".
        generator: a CPU generator; box i's offsets do not depend on the boxes after it.

    Returns:
        (n, num, 4) absolute XYXY in the same view, float32.
    """
    boxes = boxes.float()
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    shape = (len(boxes), num, 4)
    if distribution == "uniform":
        noise = torch.rand(shape, generator=generator) * 2 - 1
    else:
        noise = torch.empty(shape)
        for row in noise:  # one draw of all rows would not give the first ones the same numbers
            row.normal_(generator=generator)
        sides = sides.clamp(min=1)
    noise = noise.to(boxes.device, non_blocking=True)
    return boxes[:, None] + noise * scale * sides[:, None]


def box_variance(refined: torch.Tensor, candidates: torch.Tensor, normalizer: str) -> torch.Tensor:
    """Box regression variance of Eq. 8 and 9, the lower the more reliable.

    Args:
        refined: (n, N, 4) refined jittered boxes, absolute XYXY, N >= 2.
        candidates: (n, 4) the boxes that were jittered, same view.
        normalizer: "candidate" divides every standard deviation by 0.5 (h + w) of the candidate
            (Eq. 9); "refined" divides x by the width and y by the height of the mean refined box,
            each at least 1 pixel (released code).

    Returns:
        (n,) mean over the four coordinates of the normalised standard deviation (unbiased, as
        released). Infinite where the candidate has no extent.
    """
    if len(refined) == 0:
        return refined.new_zeros(0)
    sigma = refined.float().std(dim=1)
    if normalizer == "candidate":
        sides = candidates[:, 2:].float() - candidates[:, :2].float()
        half = sides.mean(dim=1)
        variance = sigma.mean(dim=1) / half
        return torch.where(half > 0, variance, torch.full_like(variance, float("inf")))
    mean = refined.float().mean(dim=1)
    sides = (mean[:, 2:] - mean[:, :2]).clamp(min=1)
    return (sigma / sides.repeat(1, 2)).mean(dim=1)


class BoxJitter:
    """Measures the localization reliability of boxes by how the teacher refines copies of them."""

    @configurable
    def __init__(
        self,
        *,
        num: int = 10,
        scale: float = 0.06,
        distribution: str = "uniform",
        normalizer: str = "candidate",
        clip: bool = False,
    ):
        """
        Args:
            num: N_jitter, at least 2.
            scale, distribution: see :func:`jitter_boxes`.
            normalizer: see :func:`box_variance`.
            clip: clip refined boxes to the image (released code).

        Raises:
            ConfigError: for a value outside its range, naming the key.
        """
        if num < 2:
            raise ConfigError(f"BoxJitter.num must be at least 2, got {num}")
        if not scale > 0:
            raise ConfigError(f"BoxJitter.scale must be positive, got {scale}")
        check_choice("BoxJitter.distribution", distribution, DISTRIBUTIONS)
        check_choice("BoxJitter.normalizer", normalizer, NORMALIZERS)
        self.num = num
        self.scale = scale
        self.distribution = distribution
        self.normalizer = normalizer
        self.clip = clip

    @classmethod
    def from_config(cls, cfg):
        jitter = cfg.SOFT_TEACHER.JITTER
        return {
            "num": jitter.NUM,
            "scale": jitter.SCALE,
            "distribution": jitter.DISTRIBUTION,
            "normalizer": jitter.NORMALIZER,
            "clip": jitter.CLIP_REFINED,
        }

    @torch.no_grad()
    def variances(
        self, refine: Refine, candidates: List[Instances], seeds: List[int]
    ) -> List[torch.Tensor]:
        """
        Args:
            refine: one pass of the teacher over all jittered boxes: per image (m, 4) boxes and
                (m,) classes, weak view, to (m, 4) refined boxes of these classes.
            candidates: per image, Instances with ``pred_boxes`` and ``pred_classes`` (weak view).
            seeds: per image, the seed of its jitter.

        Returns:
            per image, the (n,) box regression variances.
        """
        boxes = [self._jittered(c, seed) for c, seed in zip(candidates, seeds)]
        # The class picks the regressor: a candidate's copies are refined as its own class.
        classes = [c.pred_classes.repeat_interleave(self.num) for c in candidates]
        return [self._spread(r, c) for r, c in zip(refine(boxes, classes), candidates)]

    def _jittered(self, candidates: Instances, seed: int) -> Boxes:
        boxes = jitter_boxes(
            candidates.pred_boxes.tensor,
            num=self.num,
            scale=self.scale,
            distribution=self.distribution,
            generator=torch.Generator().manual_seed(seed),
        )
        return Boxes(boxes.flatten(0, 1))

    def _spread(self, refined: torch.Tensor, candidates: Instances) -> torch.Tensor:
        if self.clip:
            boxes = Boxes(refined.clone())
            boxes.clip(candidates.image_size)
            refined = boxes.tensor
        refined = refined.view(len(candidates), self.num, 4)
        return box_variance(refined, candidates.pred_boxes.tensor, self.normalizer)
