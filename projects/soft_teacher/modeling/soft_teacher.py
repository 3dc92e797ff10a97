"""The Soft Teacher meta-architecture: a student, its EMA teacher, and one training step."""

import copy
from collections.abc import Callable
from contextlib import nullcontext

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import get_event_storage
from torch import nn

from ..data.unlabeled_annotations import LABEL_SOURCES
from ..utils.checks import check_choice, check_not_negative
from ..utils.errors import ConfigError
from .batch_norm import SOURCES, fixed_statistics
from .families.base import DetectorFamily, family_of
from .precomputed import precomputed_pass
from .pseudo_labels import PseudoLabeler
from .step_record import PseudoLabels, StepView
from .views import ViewTransport

__all__ = ["SoftTeacher"]


@META_ARCH_REGISTRY.register()
class SoftTeacher(nn.Module):
    """A student detector and its EMA teacher, trained end to end (Fig. 2, Eq. 1).

    In training it maps a batch of labeled and unlabeled images to losses; in evaluation it is
    the teacher. Checkpoints hold both networks under ``student.`` and ``teacher.``.

    Attributes:
        observers: called with the :class:`~soft_teacher.modeling.step_record.StepView` of every
            training step that has images; none at first.
    """

    @configurable
    def __init__(
        self,
        *,
        student: nn.Module,
        family: DetectorFamily,
        pseudo_labeler: PseudoLabeler,
        alpha: float = 4.0,
        label_source: str = "teacher",
        statistics: str = "all",
    ):
        """
        Args:
            student: a detector of the family. The teacher starts as its copy.
            family: how that kind of detector learns and labels.
            pseudo_labeler: chooses pseudo boxes from the detections.
            alpha: weight of the unsupervised loss in Eq. 1.
            label_source: of the detections on unlabeled images: "teacher", end to end; "dataset",
                precomputed pseudo labels, so that no teacher runs on these images.
            statistics: the images whose BatchNorm statistics the student keeps, and the teacher
                averages: "all", in one pass of both streams, or "labeled", in a pass of their
                own.

        Raises:
            ConfigError: if the detector cannot be wrapped or a value is out of range.
        """
        super().__init__()
        family.check(student)
        check_not_negative("SoftTeacher.alpha", alpha)
        check_choice("SoftTeacher.label_source", label_source, LABEL_SOURCES)
        check_choice("SoftTeacher.statistics", statistics, SOURCES)
        if pseudo_labeler.density is not None:
            _prepare_density(family, student, pseudo_labeler)
        check = _check_score_floor if label_source == "teacher" else _check_precomputed
        check(family, student, pseudo_labeler)
        if pseudo_labeler.measure_stability and not family.measures_stability:
            raise ConfigError(
                "the detector cannot measure how stable its boxes are: set "
                "PseudoLabeler.measure_stability to False"
            )
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.family = family
        self.pseudo_labeler = pseudo_labeler
        self.alpha = alpha
        self.label_source = label_source
        self.statistics = statistics
        self.observers: list[Callable[[StepView], None]] = []

    @classmethod
    def from_config(cls, cfg):
        name = cfg.SOFT_TEACHER.DETECTOR
        family = family_of(name)(cfg)
        return {
            "student": META_ARCH_REGISTRY.get(name)(family.detector_config(cfg)),
            "family": family,
            "pseudo_labeler": PseudoLabeler(cfg),
            "alpha": cfg.SOFT_TEACHER.ALPHA,
            "label_source": cfg.SOFT_TEACHER.LABEL_SOURCE,
            "statistics": cfg.SOFT_TEACHER.STATISTICS,
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

    def forward(self, batched_inputs: list[dict]):
        """
        Args:
            batched_inputs: labeled and unlabeled images in any number and order. Each dict has

                * image: (C, H, W) tensor, the view that the student learns from;
                * instances: ground truth in that view (labeled images), with ``gt_masks`` for a
                  detector with masks;
                * weak_image, weak_to_strong, seed (unlabeled images): the teacher's (C, h, w)
                  view, the (3, 3) matrix from it to ``image`` (absolute pixels), and the seed of
                  the image's jitter;
                * given_instances (unlabeled images, label source "dataset"): ``pred_boxes``,
                  ``pred_classes`` and ``scores`` in the weak view, with ``pred_masks`` if masks are
                  learned, as of :class:`~.families.base.TeacherPass`;
                * image_weight (optional): (number of ranks) / (images of this stream in the
                  global batch), so that ranks average to Eq. 2 and 3; 1 / (images of this stream
                  in the list) without it.

        Returns:
            in training a dict of losses, "sup/..." and "unsup/..." (already times alpha), with
            the same keys on every step; a stream without images gives zeros that are connected
            to every parameter, boxes that are NaN make all losses NaN. In evaluation, what the
            teacher returns.
        """
        if not self.training:
            return self.teacher(batched_inputs)
        try:
            return self._step(batched_inputs)
        except FloatingPointError:
            # Detectron2 found NaN, on this rank alone perhaps: its backward must still run.
            return {name: loss * float("nan") for name, loss in self._step([]).items()}

    def _step(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor]:
        labeled = [x for x in batched_inputs if "weak_image" not in x]
        unlabeled = [x for x in batched_inputs if "weak_image" in x]
        if self.pseudo_labeler.density is not None:
            self.pseudo_labeler.density.count_labels(labeled)
        taught = self._teach(unlabeled) if unlabeled else None
        weak, strong = self._encode(labeled, unlabeled)
        if labeled:
            sup = self._scaled(self.family.losses(self.student, weak, labeled), labeled)
        else:
            sup = self._absent_stream(self.family.loss_names(self.student))
        if unlabeled:
            with get_event_storage().name_scope("unsup"), self._kept_statistics():
                found = self.family.pseudo_losses(self.student, strong, unlabeled, *taught)
            unsup = self._scaled(found.losses, unlabeled)
            self._show(labeled, unlabeled, taught[0], found.background_reliability)
        else:
            unsup = self._absent_stream(self.family.pseudo_loss_names(self.student))
            self._show(labeled)
        # Eq. 1, term by term.
        losses = {f"sup/{k}": v for k, v in sup.items()}
        return {**losses, **{f"unsup/{k}": self.alpha * v for k, v in unsup.items()}}

    def _encode(self, labeled: list[dict], unlabeled: list[dict]):
        """What the student's backbone makes of each stream; None for a stream without images."""

        def encode(inputs):
            return self.family.encode(self.student, inputs) if inputs else None

        if self.statistics == "labeled":
            with self._kept_statistics():
                strong = encode(unlabeled)
            return encode(labeled), strong
        joint = encode(labeled + unlabeled)
        return joint and joint[: len(labeled)], joint and joint[len(labeled) :]

    def _kept_statistics(self):
        labeled_only = self.statistics == "labeled"
        return fixed_statistics(self.student) if labeled_only else nullcontext()

    @torch.no_grad()
    def _teach(self, unlabeled: list[dict]):
        """Pseudo labels, the teacher's pass, and the transport between the views."""
        if self.label_source == "teacher":
            teacher_pass = self.family.teach(self.teacher, [x["weak_image"] for x in unlabeled])
        else:
            teacher_pass = precomputed_pass(unlabeled, self.device)
        transport = ViewTransport.of(unlabeled, self.device)
        with get_event_storage().name_scope("pseudo"):
            labels = self.pseudo_labeler(teacher_pass, transport, [x["seed"] for x in unlabeled])
        return labels, teacher_pass, transport

    def _show(self, labeled, unlabeled=(), labels=None, reliability=None) -> None:
        """Shows a step that has images to the observers."""
        if not (self.observers and (labeled or unlabeled)):
            return
        labels = labels or PseudoLabels([], [])
        view = StepView(list(unlabeled), labels.chosen_from, labels, reliability, labeled)
        for observe in self.observers:
            observe(view)

    def _scaled(self, losses: dict[str, torch.Tensor], stream: list[dict]):
        """A rank's means times its share of the global batch (Eq. 2, 3)."""
        if not self.family.averages_images(self.student) or "image_weight" not in stream[0]:
            return losses
        share = sum(x["image_weight"] for x in stream)
        return {k: v * share for k, v in losses.items()}

    def _absent_stream(self, names) -> dict[str, torch.Tensor]:
        """Zeros that give every trainable parameter a gradient of zero, as DDP needs."""
        zero = sum(p.sum() for p in self.student.parameters() if p.requires_grad) * 0.0
        return dict.fromkeys(names, zero)


def _prepare_density(family: DetectorFamily, student: nn.Module, labeler: PseudoLabeler) -> None:
    if labeler.density.ignores and not family.ignores_boxes(student):
        raise ConfigError(
            "the detector cannot leave boxes out of its losses: set DensityThresholds.ignore to 0"
        )
    labeler.density.allocate(family.num_classes(student), labeler.score_thresh)


def _check_score_floor(family: DetectorFamily, student: nn.Module, labeler: PseudoLabeler) -> None:
    """Raises ConfigError if the teacher's test threshold would drop pseudo boxes."""
    if family.score_floor(student) > labeler.lowest_score:
        raise ConfigError(
            f"{family.score_floor_parameter} ({family.score_floor(student)}) is above the lowest "
            f"threshold of pseudo boxes ({labeler.lowest_score}): lower it"
        )


def _check_precomputed(family: DetectorFamily, student: nn.Module, labeler: PseudoLabeler) -> None:
    """Raises ConfigError for settings that need a teacher's pass."""
    fixes = family.questions_to_teacher(student)
    if labeler.measure_stability:
        fixes = ["PseudoLabeler.measure_stability to False", *fixes]
    if labeler.density is not None:  # labels are cut at one threshold, if they have scores at all
        fixes = [*fixes, "PseudoLabeler.by_density to False"]
    if fixes:
        raise ConfigError(
            "while SoftTeacher.label_source is 'dataset' no teacher runs on unlabeled images: "
            f"set {' and '.join(fixes)}"
        )
