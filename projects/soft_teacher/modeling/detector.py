"""Which detectors a SoftTeacher can wrap, and how it can label with them."""

from detectron2.modeling import GeneralizedRCNN
from torch import nn

from ..checks import check_choice
from ..data.given_labels import LABEL_SOURCES
from ..errors import ConfigError
from .given_labels import check_given_labels
from .pseudo_labels import PseudoLabeler
from .roi_heads import SoftTeacherROIHeads

__all__ = ["check_detector", "check_label_source", "detector_config"]


def detector_config(cfg):
    """The config of the wrapped detector: the user's, with our heads in place of the stock ones.

    Raises:
        ConfigError: for a detector that cannot be wrapped.
    """
    heads = cfg.MODEL.ROI_HEADS.NAME
    if heads not in ("StandardROIHeads", "SoftTeacherROIHeads"):
        raise ConfigError(
            f"MODEL.ROI_HEADS.NAME '{heads}' cannot be wrapped by SoftTeacher: use StandardROIHeads"
        )
    for key in ("MASK_ON", "KEYPOINT_ON"):
        if cfg.MODEL[key]:
            raise ConfigError(f"MODEL.{key} is not supported by SoftTeacher: set it to False")
    detector = cfg.clone()
    detector.defrost()
    detector.MODEL.ROI_HEADS.NAME = "SoftTeacherROIHeads"
    return detector


def check_detector(detector: nn.Module) -> None:
    """Raises ConfigError unless ``detector`` is a box-only Faster R-CNN with our heads."""
    heads = getattr(detector, "roi_heads", None)
    if not isinstance(detector, GeneralizedRCNN) or not isinstance(heads, SoftTeacherROIHeads):
        raise ConfigError(
            "SoftTeacher wraps a GeneralizedRCNN with SoftTeacherROIHeads, got "
            f"{type(detector).__name__} with {type(heads).__name__}"
        )
    if detector.proposal_generator is None:
        raise ConfigError("SoftTeacher needs an RPN: set MODEL.PROPOSAL_GENERATOR.NAME to 'RPN'")
    if heads.mask_on or heads.keypoint_on:
        raise ConfigError("SoftTeacher wraps box-only detectors: switch masks and keypoints off")
    if getattr(heads.box_predictor, "use_sigmoid_ce", False):
        raise ConfigError(
            "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE leaves no background score: set it to False"
        )


def check_label_source(source: str, heads: SoftTeacherROIHeads, labeler: PseudoLabeler) -> None:
    """Raises ConfigError unless the source is known and suits the settings."""
    check_choice("SOFT_TEACHER.LABEL_SOURCE", source, LABEL_SOURCES)
    check = check_score_threshold if source == "teacher" else check_given_labels
    check(heads, labeler)


def check_score_threshold(heads: SoftTeacherROIHeads, labeler: PseudoLabeler) -> None:
    """Raises ConfigError if the teacher's test threshold would cut pseudo boxes off."""
    lowest = labeler.score_thresh
    if labeler.jitter is not None:
        lowest = min(lowest, labeler.jitter.score_thresh)
    if heads.box_predictor.test_score_thresh > lowest:
        raise ConfigError(
            f"MODEL.ROI_HEADS.SCORE_THRESH_TEST ({heads.box_predictor.test_score_thresh}) is above "
            f"the lowest threshold of pseudo boxes ({lowest}): lower it"
        )
