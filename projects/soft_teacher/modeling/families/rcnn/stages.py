"""What cascaded ROI heads answer as a teacher, whatever a stage is."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from detectron2.config import configurable
from detectron2.structures import Instances

from ....utils.checks import check_choice
from .fast_rcnn import SoftFastRCNNOutputLayers

__all__ = ["Stages"]

SCORES = ("stage", "mean")
JITTER = ("all", "last")


class Stages:
    """Mixin of Detectron2's CascadeROIHeads: background scores and refined boxes of a teacher."""

    @configurable
    def __init__(self, *, scores: str = "stage", jitter: str = "all", **kwargs):
        """
        Args:
            scores: how a teacher scores the background of the boxes of a stage, by its "stage" of
                the same number, or by the "mean" over its stages, through which the boxes pass as
                proposals do in an evaluation.
            jitter: stages that refine jittered boxes, "all" or the "last" one alone.
            kwargs: of the heads.

        Raises:
            ConfigError: for an unknown choice, naming the parameter.
        """
        super().__init__(**kwargs)
        check_choice("Stages.scores", scores, SCORES)
        check_choice("Stages.jitter", jitter, JITTER)
        self.scores = scores
        self.jitter = jitter

    @classmethod
    def from_config(cls, cfg, input_shape):
        return {
            **super().from_config(cfg, input_shape),
            "scores": cfg.SOFT_TEACHER.CASCADE.SCORES,
            "jitter": cfg.SOFT_TEACHER.CASCADE.JITTER,
        }

    @property
    def predictors(self) -> list[SoftFastRCNNOutputLayers]:
        return list(self.box_predictor)

    def stage_names(self, *names: str) -> tuple[str, ...]:
        """Names of losses at every stage, as Detectron2 makes them."""
        stages = range(self.num_cascade_stages)
        return tuple(f"{name}_stage{stage}" for stage in stages for name in names)

    def joint_scores(
        self, predictions: Sequence[tuple], proposals: list[Instances]
    ) -> list[torch.Tensor]:
        """Per image, (n, K + 1) class probabilities of boxes, from what some stages predict.

        Args:
            predictions: (scores, deltas) of each of the stages.
            proposals: per image, the n boxes.
        """
        raise NotImplementedError

    def candidates(
        self, features: dict[str, torch.Tensor], proposals: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """See :meth:`.SoftTeacherROIHeads.candidates`: boxes of the last stage, joint scores."""
        predictions, boxes = zip(*self.run_stages(features, proposals))
        return boxes[-1], self.joint_scores(predictions, proposals)

    @torch.no_grad()
    def background_scores(
        self, features: dict[str, torch.Tensor], proposals: list[Instances], stage: int = 0
    ) -> list[torch.Tensor]:
        """Per image, the (n,) background probability of each box, float32; in eval mode.

        Args:
            features: feature maps of a batch of images.
            proposals: per image, with ``proposal_boxes`` in the frame of those images.
            stage: that the boxes come to.
        """
        stages = [stage] if self.scores == "stage" else None
        predictions = [
            (scores.float(), deltas)
            for (scores, deltas), _ in self.run_stages(features, proposals, stages)
        ]
        return [p[:, self.num_classes] for p in self.joint_scores(predictions, proposals)]

    @torch.no_grad()
    def refine(
        self, features: dict[str, torch.Tensor], proposals: list[Instances]
    ) -> list[torch.Tensor]:
        """Per image, (n, 4) boxes after the last stage, not clipped; in eval mode.

        Args:
            features: feature maps of a batch of images.
            proposals: per image, with ``proposal_boxes`` in the frame of those images.
        """
        stages = None if self.jitter == "all" else [self.num_cascade_stages - 1]
        *_, (_, boxes) = self.run_stages(features, proposals, stages)
        return boxes

    def run_stages(
        self,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        stages: Iterable[int] | None = None,
    ) -> Iterator[tuple]:
        """(predictions, boxes that they lead to per image) of each stage, as in an evaluation.

        In eval mode every stage has the same rows.

        Args:
            features, proposals: see :meth:`refine`.
            stages: numbers of the stages; None for all.
        """
        maps = [features[f] for f in self.box_in_features]
        sizes = [p.image_size for p in proposals]
        boxes = None
        for stage in range(self.num_cascade_stages) if stages is None else stages:
            if boxes is not None:
                proposals = self._create_proposals_from_boxes(boxes, sizes)
            predictions = self._run_stage(maps, proposals, stage)
            boxes = self.box_predictor[stage].predict_boxes(predictions, proposals)
            yield predictions, boxes
