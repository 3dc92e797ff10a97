"""The Soft Teacher meta-architecture: a student, its EMA teacher, and one training step."""

import copy
from dataclasses import dataclass
from typing import Callable, Dict, List

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import Boxes, ImageList
from detectron2.utils.events import get_event_storage
from torch import nn

from ..checks import check_choice, check_not_negative
from ..geometry import clip_boxes, invert_affine, transform_boxes
from .detect import PROPOSAL_SETTINGS, detect
from .detector import check_detector, check_score_threshold, detector_config
from .observation import StepView
from .pseudo_labels import PseudoLabeler, PseudoLabels

__all__ = ["SoftTeacher", "LOSS_NAMES"]

LOSS_NAMES = ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")


@dataclass(frozen=True)
class TeacherView:
    """What the teacher knows of the weak views of a batch."""

    features: Dict[str, torch.Tensor]
    image_sizes: List[tuple]
    labels: PseudoLabels


@META_ARCH_REGISTRY.register()
class SoftTeacher(nn.Module):
    """Student and teacher GeneralizedRCNN trained end to end (Fig. 2, Eq. 1).

    In training it maps a batch of labeled and unlabeled images to losses; in evaluation it is
    the teacher. Checkpoints hold both networks under ``student.`` and ``teacher.``.

    Attributes:
        observers: functions that every training step with unlabeled images is shown to, as a
            :class:`~soft_teacher.modeling.observation.StepView`; none at first.
    """

    @configurable
    def __init__(
        self,
        *,
        student: GeneralizedRCNN,
        pseudo_labeler: PseudoLabeler,
        alpha: float = 4.0,
        rpn_on_unlabeled: bool = True,
        teacher_proposals: str = "test",
    ):
        """
        Args:
            student: a box-only GeneralizedRCNN with SoftTeacherROIHeads. The teacher starts as
                its copy.
            pseudo_labeler: chooses pseudo boxes from the teacher's detections.
            alpha: weight of the unsupervised loss in Eq. 1.
            rpn_on_unlabeled: train the RPN on G_cls of unlabeled images, too.
            teacher_proposals: number of RPN proposals of the teacher while it labels, that of
                "test" or of "train" (released code).

        Raises:
            ConfigError: if the detector cannot be wrapped or a value is out of range.
        """
        super().__init__()
        check_detector(student)
        check_score_threshold(student.roi_heads, pseudo_labeler)
        check_not_negative("SOFT_TEACHER.ALPHA", alpha)
        check_choice("SOFT_TEACHER.TEACHER_PROPOSALS", teacher_proposals, PROPOSAL_SETTINGS)
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.pseudo_labeler = pseudo_labeler
        self.alpha = alpha
        self.rpn_on_unlabeled = rpn_on_unlabeled
        self.teacher_proposals = teacher_proposals
        self.per_image = student.roi_heads.average == "image"
        self.observers: List[Callable[[StepView], None]] = []

    @classmethod
    def from_config(cls, cfg):
        return {
            "student": GeneralizedRCNN(detector_config(cfg)),
            "pseudo_labeler": PseudoLabeler(cfg),
            "alpha": cfg.SOFT_TEACHER.ALPHA,
            "rpn_on_unlabeled": cfg.SOFT_TEACHER.RPN_ON_UNLABELED,
            "teacher_proposals": cfg.SOFT_TEACHER.TEACHER_PROPOSALS,
        }

    @property
    def device(self):
        return self.student.device

    def train(self, mode: bool = True):
        """The teacher stays in eval mode whatever the student's mode is."""
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def copy_student_to_teacher(self) -> None:
        """teacher = student, parameters and buffers."""
        self.teacher.load_state_dict(self.student.state_dict())

    def forward(self, batched_inputs: List[dict]):
        """
        Args:
            batched_inputs: labeled and unlabeled images in any number and order. Each dict has

                * image: (C, H, W) tensor, the view that the student learns from;
                * instances: ground truth in that view (labeled images);
                * weak_image, weak_to_strong, seed (unlabeled images): the teacher's (C, h, w)
                  view, the (3, 3) matrix from it to ``image`` (absolute pixels), and the seed of
                  the image's jitter;
                * image_weight (optional): (number of ranks) / (images of this stream in the
                  global batch), so that ranks average to Eq. 2 and 3; 1 / (images of this stream
                  in the list) without it.

        Returns:
            in training a dict of losses, "sup/..." and "unsup/..." (already times alpha), with
            the same keys on every step; a stream without images gives zeros that are connected
            to every parameter, boxes that are NaN make all losses NaN. In evaluation, what the
            teacher's GeneralizedRCNN returns.
        """
        if not self.training:
            return self.teacher(batched_inputs)
        if not batched_inputs:
            return self._losses(self._absent_stream(LOSS_NAMES), self._absent_unsup())
        try:
            return self._step(batched_inputs)
        except FloatingPointError:
            # Detectron2's RPN found NaN. Only this rank knows; it has to go on to the backward.
            losses = self._losses(self._absent_stream(LOSS_NAMES), self._absent_unsup())
            return {name: loss * float("nan") for name, loss in losses.items()}

    def _step(self, batched_inputs: List[dict]) -> Dict[str, torch.Tensor]:
        labeled = [x for x in batched_inputs if "weak_image" not in x]
        unlabeled = [x for x in batched_inputs if "weak_image" in x]
        view = self._teach(unlabeled) if unlabeled else None

        images = self.student.preprocess_image(labeled + unlabeled)
        features = self.student.backbone(images.tensor)
        if labeled:
            part = _stream(images, features, slice(0, len(labeled)))
            sup = self._scaled(self._labeled_losses(labeled, *part), labeled)
        else:
            sup = self._absent_stream(LOSS_NAMES)
        if unlabeled:
            part = _stream(images, features, slice(len(labeled), None))
            with get_event_storage().name_scope("unsup"):
                unsup = self._scaled(self._unlabeled_losses(unlabeled, view, *part), unlabeled)
        else:
            unsup = self._absent_unsup()
        return self._losses(sup, unsup)

    def _losses(self, sup: dict, unsup: dict) -> Dict[str, torch.Tensor]:
        """Eq. 1, term by term."""
        losses = {f"sup/{k}": v for k, v in sup.items()}
        losses.update({f"unsup/{k}": self.alpha * v for k, v in unsup.items()})
        return losses

    @torch.no_grad()
    def _teach(self, unlabeled: List[dict]) -> TeacherView:
        views = [x["weak_image"] for x in unlabeled]
        images, features, detections = detect(self.teacher, views, self.teacher_proposals)
        with get_event_storage().name_scope("pseudo"):
            labels = self.pseudo_labeler(
                self.teacher.roi_heads, features, detections, [x["seed"] for x in unlabeled]
            )
        return TeacherView(features, images.image_sizes, labels)

    def _labeled_losses(self, labeled, images, features) -> Dict[str, torch.Tensor]:
        targets = [x["instances"].to(self.device) for x in labeled]
        proposals, losses = self.student.proposal_generator(images, features, targets)
        _, detector_losses = self.student.roi_heads(images, features, proposals, targets)
        return {**losses, **detector_losses}

    def _unlabeled_losses(self, unlabeled, view, images, features) -> Dict[str, torch.Tensor]:
        to_strong = [x["weak_to_strong"].to(self.device, non_blocking=True) for x in unlabeled]
        to_weak = [invert_affine(m) for m in to_strong]
        labels = view.labels.carried(to_strong, images.image_sizes)
        proposals, losses = self.student.proposal_generator(images, features, labels.classification)
        if not self.rpn_on_unlabeled:
            losses = {}

        def score_with_teacher(boxes: List[Boxes]) -> List[torch.Tensor]:
            return self._teacher_background(view, boxes, to_weak)

        detector_losses = self.student.roi_heads.pseudo_losses(
            features, proposals, labels, score_with_teacher
        )
        if self.observers:
            reliability = self.student.roi_heads.background_reliability
            shown = StepView(unlabeled, view.labels.chosen_from, labels, reliability)
            for observe in self.observers:
                observe(shown)
        return {**losses, **detector_losses}

    @torch.no_grad()
    def _teacher_background(self, view: TeacherView, boxes, to_weak) -> List[torch.Tensor]:
        """Background probabilities that the teacher's head gives to boxes of the strong views."""
        heads = self.teacher.roi_heads
        weak = [
            Boxes(clip_boxes(transform_boxes(b.tensor, m), size))
            for b, m, size in zip(boxes, to_weak, view.image_sizes)
        ]
        return heads.background_scores(heads.predict(view.features, weak), weak)

    def _scaled(self, losses: Dict[str, torch.Tensor], stream: List[dict]):
        """Per-GPU means times this rank's share of the global batch (Eq. 2, 3).

        Detectron2 takes the mean of labeled images over all their samples, which is the mean over
        images where each has as many samples.
        """
        if not self.per_image or "image_weight" not in stream[0]:
            return losses
        share = sum(x["image_weight"] for x in stream)
        return {k: v * share for k, v in losses.items()}

    def _absent_unsup(self) -> Dict[str, torch.Tensor]:
        return self._absent_stream(LOSS_NAMES if self.rpn_on_unlabeled else LOSS_NAMES[2:])

    def _absent_stream(self, names) -> Dict[str, torch.Tensor]:
        """Zeros that give every trainable parameter a gradient of zero, as DDP wants."""
        zero = sum(p.sum() for p in self.student.parameters() if p.requires_grad) * 0.0
        return dict.fromkeys(names, zero)


def _stream(images: ImageList, features: Dict[str, torch.Tensor], rows: slice):
    """The images and features of one stream out of the joint backbone pass."""
    part = ImageList(images.tensor[rows], images.image_sizes[rows])
    return part, {k: v[rows] for k, v in features.items()}
