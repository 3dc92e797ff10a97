"""What is wrong with the pseudo boxes and losses of some steps, and the setting to try."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from ..modeling.step_record import MOST_CLASSES
from .statistics import SCORE_BINS, Totals

__all__ = ["Settings", "compared", "declined", "diagnose", "score_for"]

# More pseudo boxes per image than this are suspicious where no labeled boxes are known.
MANY_PER_IMAGE = 50
# So is a larger share of the detections than this.
NEARLY_ALL = 0.95
# And a share of the candidates that is smaller than this; its rest is the largest usual one.
FEW_STABLE = 0.05
# Fewer boxes than this say nothing about a share or a mean.
ENOUGH = 50
# Pseudo boxes per image are far from labeled boxes per image by this factor.
FAR = 3
# A class alone must differ by more: in the demo, whose teacher gets better, some come to 4.
FAR_ALONE = 10
# So many classes are named.
MOST_NAMES = 3
# The demo, where the teacher gains 16 AP, comes to 4.2 while the labeled losses fall.
OUTWEIGHED = 8
# Evaluations differ by so much AP without a cause.
AP_NOISE = 1
# Alpha is divided by this where nothing says how much is too much.
LESS = 4


@dataclass(frozen=True)
class Settings:
    """What a run can change.

    Attributes:
        score_thresh, variance_thresh: tau_cls; tau_var, None where it chooses no boxes.
        alpha: weight of the losses of unlabeled images.
        given: the pseudo labels are precomputed, so that most pass the threshold.
        class_names: by class number; other classes go by their number.
        density: pseudo boxes per labeled box, where that makes the thresholds; else None.
    """

    score_thresh: float
    variance_thresh: float | None
    alpha: float
    given: bool = False
    class_names: Sequence[str] = ()
    density: float | None = None

    @classmethod
    def of(cls, model, class_names: Sequence[str] = ()) -> "Settings":
        """Those of a SoftTeacher."""
        labeler = model.pseudo_labeler
        by_variance = labeler.measure_stability and not labeler.stable_share
        return cls(
            score_thresh=labeler.score_thresh,
            variance_thresh=labeler.variance_thresh if by_variance else None,
            alpha=model.alpha,
            given=model.label_source == "dataset",
            class_names=class_names,
            density=labeler.density and labeler.density.densities["foreground"],
        )

    @property
    def knob(self) -> str:
        """The setting that decides how many pseudo boxes there are."""
        if self.density is not None:
            return f"DensityThresholds.foreground, now {self.density:g}"
        return f"PseudoLabeler.score_thresh, now {self.score_thresh:g}"

    def change(self, *, fewer: bool) -> str:
        """That setting, and which way to turn it after too few pseudo boxes, or too many."""
        lower = fewer == (self.density is None)
        return f"{'lower' if lower else 'raise'} {self.knob}"


def diagnose(totals: Totals, settings: Settings, *, best_score: float) -> dict[str, str]:
    """
    Args:
        totals: of the steps.
        settings: of the run.
        best_score: the highest score that the teacher has given so far.

    Returns:
        condition -> one line that names the key to change.
    """
    if not totals.images:
        return {}
    found = _by_score(totals, settings, best_score)
    if settings.variance_thresh is not None and totals.candidates >= ENOUGH:
        found.update(_by_variance(totals, settings.variance_thresh))
    return {**found, **_by_loss(totals, settings.alpha)}


def _by_score(totals: Totals, settings: Settings, best_score: float) -> dict[str, str]:
    """One line at most: each of the conditions explains those after it."""
    if totals.confident == 0:
        return {"no pseudo boxes": _without_boxes(totals, settings, best_score)}
    far = compared(totals, settings)
    if far:
        return {"pseudo boxes unlike labels": far}
    advice = settings.change(fewer=False)
    per_image = totals.confident / totals.images
    if per_image > MANY_PER_IMAGE and sum(totals.labeled_classes) < ENOUGH:
        text = f"{per_image:.0f} pseudo boxes per image: {advice}"
        return {"many pseudo boxes": f"{text}, unless there are as many objects"}
    share = totals.confident / totals.detections
    if not settings.given and totals.detections >= ENOUGH and share > NEARLY_ALL:
        text = f"{share:.0%} of the teacher's detections are pseudo boxes: {advice}"
        return {"nearly every detection": f"{text}, unless the teacher is right as often"}
    return {}


def _without_boxes(totals: Totals, settings: Settings, best_score: float) -> str:
    advice = _other_score(totals, settings, True, totals.labeled_boxes_per_image)
    if settings.given:
        return (
            "no precomputed pseudo label is a pseudo box, the best score is "
            f"{best_score:.2f}: {advice}"
        )
    return (
        f"no detection is a pseudo box, the teacher's best score is {totals.best_score:.2f} "
        f"({best_score:.2f} since the start): {advice}"
    )


def compared(totals: Totals, settings: Settings) -> str:
    """A line where pseudo boxes per image are far from the boxes per labeled image, else nothing.

    Classes count by themselves unless there are too many of them.
    """
    images, labeled_images = totals.images, totals.labeled_images
    rate, labeled_rate = totals.boxes_per_image, totals.labeled_boxes_per_image
    if rate is None or labeled_rate is None:
        return ""
    far = _is_far(rate, labeled_rate, min(images, labeled_images), FAR)
    classes = _far_classes(totals, FAR if far else FAR_ALONE)
    if not far and (not classes or len(totals.labeled_classes) > MOST_CLASSES):
        return ""
    # Where the sums agree, the class with the largest difference decides.
    fewer = rate < labeled_rate if far else classes[0][1] < classes[0][2]
    return (
        f"{rate:.1f} pseudo boxes per image where labeled images hold {labeled_rate:.1f}"
        f"{_named(classes, settings.class_names)}: "
        f"{_other_score(totals, settings, fewer, labeled_rate if far else None)}"
    )


def _is_far(a: float, b: float, images: int, factor: float) -> bool:
    """Whether two numbers of boxes per image differ, if there are enough boxes to say so."""
    high, low = max(a, b), min(a, b)
    return high * images >= ENOUGH and high > factor * low


def _far_classes(totals: Totals, factor: float) -> list[tuple[int, float, float]]:
    """(class, pseudo boxes per image, labeled boxes per image), the largest difference first."""
    if sum(totals.classes) != totals.confident:
        return []  # a checkpoint of an older version had counted no classes
    images = totals.images, totals.labeled_images
    pairs = zip_longest(totals.classes, totals.labeled_classes, fillvalue=0)
    rates = [(c, a / images[0], b / images[1]) for c, (a, b) in enumerate(pairs)]
    far = [rate for rate in rates if _is_far(*rate[1:], min(images), factor)]
    return sorted(far, key=lambda rate: -abs(rate[1] - rate[2]))


def _named(classes: list[tuple[int, float, float]], names: Sequence[str]) -> str:
    if not classes:
        return ""
    texts = [
        f"{names[c] if c < len(names) else f'class {c}'} {_rounded(a)} for {_rounded(b)}"
        for c, a, b in classes[:MOST_NAMES]
    ]
    more = len(classes) - len(texts)
    return f" ({', '.join(texts + [f'{more} more'] * (more > 0))})"


def _rounded(rate: float) -> str:
    return f"{rate:.1f}" if rate >= 1 else f"{rate:.2f}"


def _other_score(totals: Totals, settings: Settings, fewer: bool, aim: float | None) -> str:
    """What to do about the threshold, with a value if one leaves ``aim`` boxes per image."""
    value = None
    if aim is not None and settings.density is None:
        value = score_for(totals, aim, settings.score_thresh, lower=fewer)
    text = settings.change(fewer=fewer)
    if value is not None:
        text += f", to {value:g}"
    elif fewer and not settings.given:
        text += ", or let the teacher learn longer from labels alone (BatchSchedule.burn_in)"
    return text


def score_for(totals: Totals, aim: float, now: float, *, lower: bool) -> float | None:
    """The threshold, a multiple of 1 / SCORE_BINS, that comes nearest to ``aim`` boxes per image.

    Args:
        now: the threshold in use.
        lower: look below it, not further than its half, else above it.

    Returns:
        None if no threshold comes nearer than the present one.
    """
    if sum(totals.scores) != totals.detections:
        return None  # a checkpoint of an older version had counted no scores
    found = [(abs(totals.confident / totals.images - aim), now)]
    for number in range(1, SCORE_BINS):
        score = number / SCORE_BINS
        if now / 2 <= score < now if lower else score > now:
            found.append((abs(sum(totals.scores[number:]) / totals.images - aim), score))
    best = min(found, key=lambda pair: (pair[0], abs(pair[1] - now)))[1]
    return None if best == now else best


def _by_variance(totals: Totals, threshold: float) -> dict[str, str]:
    share, mean = totals.stable / totals.candidates, totals.mean_variance
    known = "none finite" if mean is None else f"mean variance {mean:.3g}"
    text = (
        f"{totals.stable} of {totals.candidates} jittered boxes are pseudo boxes for regression, "
        f"{known}"
    )
    now = f"PseudoLabeler.variance_thresh, now {threshold:g}"
    value = float(f"{mean or 0:.2g}")
    if share < FEW_STABLE:
        aim = f", to {value:g}" if threshold < value < 1 else ""
        return {"few stable boxes": f"{text}: raise {now}{aim}"}
    if share > 1 - FEW_STABLE:
        aim = f", to {value:g}" if 0 < value < threshold else ""
        return {"many stable boxes": f"{text}: lower {now}{aim}"}
    return {}


def _by_loss(totals: Totals, alpha: float) -> dict[str, str]:
    ratio = totals.loss_ratio
    if ratio is None or ratio <= OUTWEIGHED:
        return {}
    return {
        "losses of unlabeled images": f"the losses of unlabeled images are {ratio:.1f} times those "
        f"of labeled ones: {_smaller(alpha, ratio)}, where both weigh the same"
    }


def _smaller(alpha: float, factor: float) -> str:
    """The advice to divide alpha."""
    return f"lower SoftTeacher.alpha, now {alpha:g}, to {alpha / factor:.2g}"


def declined(ap: float, reference: float, after: int, settings: Settings) -> str:
    """A line where the teacher's AP is below an earlier one by more than noise, else nothing.

    Args:
        ap: in percent; NaN without a single detection.
        reference: AP after ``after`` steps.
    """
    if ap >= reference - AP_NOISE or settings.alpha == 0:
        return ""
    return (
        f"the teacher's AP is {ap:.1f}, it was {reference:.1f} after {after} steps: "
        f"{_smaller(settings.alpha, LESS)}, or try another {settings.knob}"
    )
