"""Sampled proposals of unlabeled images, for one pass of a box head."""

from collections.abc import Sequence

import torch
from detectron2.structures import Boxes, Instances

__all__ = ["PseudoSamples", "StageSamples", "stacked"]


class PseudoSamples:
    """Sampled proposals of unlabeled images for one pass of a box head (strong view).

    Attributes:
        classification: S_cls, per image in the form of ``label_and_sample_proposals``.
        regression: S_reg, likewise.
        sizes: per image, the number of S_reg and of the backgrounds sampled with them, a scalar on
            the device.
        rows: per image, S_cls followed by S_reg, with the fields that a box predictor reads.
    """

    def __init__(
        self,
        classification: list[Instances],
        regression: list[Instances],
        sizes: list[torch.Tensor] | None = None,
    ):
        """
        Args:
            sizes: those of ``regression`` if None.
        """
        self.classification = classification
        self.regression = regression
        self.sizes = sizes or [r.gt_classes.new_full((), len(r)) for r in regression]
        self.rows = [stacked(s, r) for s, r in zip(classification, regression)]


class StageSamples(PseudoSamples):
    """Samples of a stage, where some rows belong to S_cls and to S_reg.

    Attributes:
        passing: per image, Instances with ``proposal_boxes`` of every row, once: those of S_cls
            alone, shared ones, those of S_reg alone.
    """

    def __init__(
        self, classification: list[Instances], regression: list[Instances], shared: list[int]
    ):
        """
        Args:
            shared: per image, how many of the last of S_cls are the first of S_reg.
        """
        super().__init__(classification, regression)
        both = [*zip(classification, regression, shared)]
        self._ends = [(len(c) - n, len(c)) for c, _, n in both]
        self.passing = [
            Instances(
                c.image_size, proposal_boxes=Boxes.cat([c.proposal_boxes, r.proposal_boxes[n:]])
            )
            for c, r, n in both
        ]

    def of_rows(self, predictions: tuple[torch.Tensor, torch.Tensor]):
        """(scores, deltas) of ``rows``, from those of ``passing``."""
        sizes = [len(p) for p in self.passing]
        return tuple(
            torch.cat([p for x, (i, j) in zip(x.split(sizes), self._ends) for p in (x[:j], x[i:])])
            for x in predictions
        )

    def parts(self, values: Sequence[torch.Tensor]) -> tuple[list, list, list]:
        """Per image, what belongs to S_cls alone, to both, and to S_reg alone, of ``passing``."""
        split = [(x[:i], x[i:j], x[j:]) for x, (i, j) in zip(values, self._ends)]
        alone, shared, others = zip(*split)
        return alone, shared, others


def stacked(*parts: Instances) -> Instances:
    """Samples one after the other, with the fields that losses() reads."""
    boxes = [p.proposal_boxes for p in parts]
    # Without pseudo boxes there are no gt_boxes; the value is not used then.
    targets = [p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes for p in parts]
    return Instances(
        parts[0].image_size,
        proposal_boxes=Boxes.cat(boxes),
        gt_boxes=Boxes.cat(targets),
        gt_classes=torch.cat([p.gt_classes for p in parts]),
    )
