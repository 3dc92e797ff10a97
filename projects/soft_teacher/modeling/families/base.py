"""What the method asks of a detector; a family answers for one kind of detector.

A family holds settings and no parameters, so that student and teacher keep the state dicts of stock
detectors. A new one is a folder beside the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from detectron2.structures import ImageList, Instances
from fvcore.common.registry import Registry
from torch import nn

from ...utils.errors import ConfigError
from ..step_record import PseudoLabels
from ..views import ViewTransport

__all__ = [
    "FAMILY_REGISTRY",
    "Candidates",
    "DetectorFamily",
    "Encoded",
    "MeasuresStability",
    "MergesViews",
    "PseudoLosses",
    "TeacherPass",
    "Thresholds",
    "family_of",
]

FAMILY_REGISTRY = Registry("DETECTOR_FAMILY")
FAMILY_REGISTRY.__doc__ = "Detector families; each is called with a config."


def family_of(detector: str, key: str = "SOFT_TEACHER.DETECTOR") -> type[DetectorFamily]:
    """The registered family that wraps a meta-architecture, by its name.

    Args:
        key: where the user wrote the name.

    Raises:
        ConfigError: no family wraps it.
    """
    known = {name: family for _, family in FAMILY_REGISTRY for name in family.detectors}
    if detector not in known:
        raise ConfigError(f"{key} '{detector}' cannot be wrapped: use {', '.join(sorted(known))}")
    return known[detector]


@dataclass(frozen=True)
class Encoded:
    """A batch after the backbone: padded images and feature maps."""

    images: ImageList
    features: dict[str, torch.Tensor]

    def __getitem__(self, rows: slice) -> "Encoded":
        """That of some of the images."""
        images = ImageList(self.images.tensor[rows], self.images.image_sizes[rows])
        return Encoded(images, {name: maps[rows] for name, maps in self.features.items()})


@dataclass(frozen=True)
class Candidates:
    """What a network finds in an image, before a box suppresses another.

    Attributes:
        boxes: (n, 4), absolute XYXY, maybe beyond the image; or (n, 4 K), a box for each class.
        scores: (n, K + 1) probabilities of the classes and, last, of the background.
    """

    boxes: torch.Tensor
    scores: torch.Tensor


@dataclass(frozen=True)
class PseudoLosses:
    """Losses of unlabeled images, and the mean r of their background samples (Eq. 5).

    Attributes:
        background_reliability: a scalar on the device; None without weights.
    """

    losses: dict[str, torch.Tensor]
    background_reliability: torch.Tensor | None = None


@dataclass(frozen=True)
class Thresholds:
    """That suit the scores of a kind of detector, until somebody knows better.

    Attributes:
        score: see ``PseudoLabeler.score_thresh``.
        candidate, variance: likewise.
    """

    score: float
    candidate: float
    variance: float


class TeacherPass:
    """A forward pass over weak views. A family's own pass keeps what later questions need.

    Precomputed pseudo labels are a pass that answers none.

    Attributes:
        detections: per image, Instances with ``pred_boxes`` (weak view, absolute XYXY),
            ``pred_classes`` and ``scores``, after NMS; and ``pred_masks``, (n, 1, M, M)
            probabilities on the boxes, where the student learns masks.
    """

    def __init__(self, detections: list[Instances]):
        self.detections = detections


class MeasuresStability(ABC):
    """A pass that measures how reliably a detection is localized."""

    @abstractmethod
    def variances(self, rows: list[torch.Tensor], seeds: list[int]) -> list[torch.Tensor]:
        """Box regression variances (Eq. 7-9), the lower the more reliable.

        Args:
            rows: per image, (n,) int64 rows of ``detections``.
            seeds: per image, of whatever is random.
        """


class MergesViews(ABC):
    """A family whose detections can be chosen among the candidates of several views of an image.

    With one view all steps together are an evaluation, to the bit. Networks are in eval mode.
    """

    @abstractmethod
    def encode_views(self, network: nn.Module, views: list[torch.Tensor]) -> Encoded:
        """Views, each (C, H, W), with all features that the questions below need."""

    @abstractmethod
    def candidates(self, network: nn.Module, encoded: Encoded) -> list[Candidates]:
        """Per view, in its frame."""

    @abstractmethod
    def select(
        self, network: nn.Module, candidates: Candidates, size: tuple[int, int]
    ) -> Instances:
        """Detections of an image of (height, width), by the network's own post-processing."""

    @abstractmethod
    def add_masks(
        self, network: nn.Module, encoded: Encoded, found: list[Instances]
    ) -> list[Instances]:
        """Adds ``pred_masks``, (n, 1, M, M) probabilities on the boxes, where there is a mask head.

        Args:
            found: per view, with ``pred_boxes`` in its frame and ``pred_classes``.
        """


class DetectorFamily(ABC):
    """How one kind of detector learns from labels and pseudo labels, and labels as a teacher.

    The losses of a call are means over its images, none of which depends on the others, so that
    ranks, weighted by their images, average to Eq. 2 and 3.

    Attributes:
        detectors: names of the meta-architectures that it wraps.
        thresholds: the paper's, which are softmax scores, unless its scores are others.
        ignore: see ``DensityThresholds.ignore``, for few labels; 0 without :meth:`ignores_boxes`.
        measures_stability: whether its passes are :class:`MeasuresStability`.
        num_classes_parameter, score_floor_parameter: ``Class.parameter`` of :meth:`num_classes` and
            of :meth:`score_floor`.
        anchor_levels_parameter: of the feature maps that have anchors; None without anchors.
        class_layers: prefix of the names of the parameters whose shape depends on the classes.
    """

    detectors: tuple[str, ...]
    thresholds = Thresholds(score=0.9, candidate=0.5, variance=0.02)
    ignore = 0.0
    measures_stability = True
    num_classes_parameter: str
    score_floor_parameter: str
    anchor_levels_parameter: str | None = None
    class_layers: str

    @classmethod
    def detector_config(cls, cfg):
        """The config of the wrapped detector, from the user's.

        Raises:
            ConfigError: for a detector that cannot be wrapped.
        """
        return cfg

    @abstractmethod
    def check(self, student: nn.Module) -> None:
        """Raises ConfigError unless ``student`` is of this family and can be wrapped."""

    @abstractmethod
    def loss_names(self, network: nn.Module) -> tuple[str, ...]:
        """Of labeled images, on every step."""

    def pseudo_loss_names(self, network: nn.Module) -> tuple[str, ...]:
        """Of unlabeled images, on every step."""
        return self.loss_names(network)

    @abstractmethod
    def num_classes(self, network: nn.Module) -> int:
        """Number of foreground classes of a network."""

    @abstractmethod
    def score_floor(self, network: nn.Module) -> float:
        """Score below which a network's detections are dropped."""

    def has_masks(self, network: nn.Module) -> bool:
        """Whether a network predicts masks, and learns them from ``gt_masks``."""
        return False

    def semantic_classes(self, network: nn.Module) -> int:
        """Classes of the semantic maps that a network learns from labeled images; 0 for none."""
        return 0

    def averages_images(self, student: nn.Module) -> bool:
        """Whether losses are means over images; else all ranks weigh the same (released code)."""
        return True

    def ignores_boxes(self, student: nn.Module) -> bool:
        """Whether :meth:`pseudo_losses` heeds the ignored boxes of the pseudo labels."""
        return False

    def counted(self) -> nn.Module | None:
        """What a run counts step by step, for a :class:`.PendingHook`; it belongs to no network."""
        return None

    def questions_to_teacher(self, student: nn.Module) -> list[str]:
        """Settings to change before a run without a teacher, each as "Class.parameter to x"."""
        return []

    def encode(self, student: nn.Module, inputs: list[dict]) -> Encoded:
        """Preprocesses all images and passes them through the backbone, once."""
        images = student.preprocess_image(inputs)
        return Encoded(images, student.backbone(images.tensor))

    @abstractmethod
    def losses(
        self, student: nn.Module, encoded: Encoded, inputs: list[dict]
    ) -> dict[str, torch.Tensor]:
        """The detector's own losses of labeled images, at least one, see :meth:`loss_names`."""

    @abstractmethod
    def pseudo_losses(
        self,
        student: nn.Module,
        encoded: Encoded,
        inputs: list[dict],
        labels: PseudoLabels,
        teacher_pass: TeacherPass,
        transport: ViewTransport,
    ) -> PseudoLosses:
        """Losses of unlabeled images, at least one, see :meth:`pseudo_loss_names`.

        Args:
            encoded, inputs, labels: of the strong views.
            teacher_pass: over the weak views.
            transport: between the two.
        """

    @abstractmethod
    def teach(
        self, teacher: nn.Module, views: list[torch.Tensor], *, as_evaluated: bool = False
    ) -> TeacherPass:
        """One pass of a network in eval mode over weak views, each (C, H, W).

        Args:
            as_evaluated: predict all that an evaluation does, also what no student learns.
        """
