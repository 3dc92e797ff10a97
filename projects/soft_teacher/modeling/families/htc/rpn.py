"""How HTC's published configs match anchors to ground truth."""

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances

__all__ = ["BestAnchorMatcher", "InsideAnchorRPN"]


class BestAnchorMatcher(Matcher):
    """A Matcher that gives every ground truth its best anchors if these are good enough.

    Detectron2's low-quality matches label such anchors positive however bad they are, and leave
    them matched to the ground truth that they overlap most.
    """

    def __init__(self, thresholds: list[float], labels: list[int], min_quality: float = 0.3):
        """
        Args:
            thresholds, labels: see Matcher.
            min_quality: IoU that a best anchor needs.
        """
        super().__init__(thresholds, labels, allow_low_quality_matches=False)
        self.min_quality = min_quality

    def __call__(self, match_quality_matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See Matcher: (M, N) IoU to N matches in [0, M) and N labels.

        An anchor that is best for several ground truths is matched to the last of them.
        """
        matches, labels = super().__call__(match_quality_matrix)
        if match_quality_matrix.numel():
            best = match_quality_matrix.max(dim=1, keepdim=True).values
            is_best = (match_quality_matrix == best) & (best >= self.min_quality)
            number = torch.arange(len(best), device=best.device)[:, None]
            last = number.where(is_best, -1).max(dim=0).values
            matches = last.where(last >= 0, matches)
            labels = labels.masked_fill(last >= 0, 1)
        return matches, labels


class InsideAnchorRPN(RPN):
    """An RPN that matches the anchors inside an image alone.

    Detectron2's ``anchor_boundary_thresh`` matches all and then ignores those outside, and an
    object whose best anchor is one of these has none. State dict and settings are the stock ones.
    """

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """See RPN; anchors that are not matched are labeled -1."""
        places = Boxes.cat(anchors)
        results = [self._label(places, targets) for targets in gt_instances]
        labels, boxes = zip(*results)
        return list(labels), list(boxes)

    def matched(self, anchors: Boxes, image_size: tuple[int, int]) -> torch.Tensor:
        """Bool, the anchors that take part in the matching of an image.

        Args:
            image_size: (h, w).
        """
        return anchors.inside_box(image_size, max(self.anchor_boundary_thresh, 0))

    def _label(self, anchors: Boxes, targets: Instances) -> tuple[torch.Tensor, torch.Tensor]:
        matched = self.matched(anchors, targets.image_size)
        (found,), (goals,) = super().label_and_sample_anchors([anchors[matched]], [targets])
        labels = found.new_full((len(anchors),), -1)
        boxes = torch.zeros_like(anchors.tensor)
        labels[matched], boxes[matched] = found, goals
        return labels, boxes
