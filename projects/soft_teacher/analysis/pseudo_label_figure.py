"""Figure 3 of the paper: how score and variance of pseudo boxes relate to their quality."""

import numpy as np
from matplotlib.figure import Figure

from .box_measures import Correlation, Curve, trend
from .findings import Findings

__all__ = ["pseudo_label_figure"]

DPI = 100
SIZE = (12.6, 4.1)  # inches
POINTS = 3000  # drawn at full strength; more of them are fainter
# Share of the variances that the axis shows: a few are outliers.
SHOWN = 0.99


def pseudo_label_figure(findings: Findings, path: str) -> None:
    """Draws (a) precision and recall, (b) IoU against score, (c) IoU against variance.

    A point of (b) and (c) is a candidate; the line joins the means of ten parts of equal size.
    The training's thresholds are dashed.

    Args:
        path: of the PNG file.
    """
    setting, boxes = findings.setting, findings.candidates
    figure = Figure(figsize=SIZE, layout="constrained")
    figure.suptitle(findings.title, fontsize=11)
    first, second, third = figure.subplots(1, 3)
    _draw_curve(first, findings.overall)
    _mark(first, setting.score_thresh)
    _draw_points(second, boxes.scores, boxes.overlaps)
    second.set_title(f"(b) {_text(findings.correlations['score'])}", fontsize=10)
    second.set_xlabel("foreground score")
    second.set_xlim(setting.candidate_thresh, 1)
    finite = boxes.where(np.isfinite(boxes.variances))
    _draw_points(third, finite.variances, finite.overlaps)
    third.set_title(f"(c) {_text(findings.correlations['variance'])}", fontsize=10)
    third.set_xlabel("box regression variance")
    limit = np.quantile(finite.variances, SHOWN) if len(finite.variances) else 0
    third.set_xlim(0, max(limit, 1.5 * setting.variance_thresh))
    _mark(third, setting.variance_thresh)
    figure.savefig(path, format="png", dpi=DPI)


def _draw_curve(axis, curve: Curve) -> None:
    axis.plot(curve.thresholds, curve.precision, label="precision")
    axis.plot(curve.thresholds, curve.recall, label="recall")
    axis.plot(curve.thresholds, curve.f1, ":", color="gray", label="F1")
    axis.set_title("(a) foreground precision and recall", fontsize=10)
    axis.set_xlabel("foreground score threshold")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.02)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="lower left")


def _draw_points(axis, x: np.ndarray, overlaps: np.ndarray) -> None:
    alpha = min(0.5, 0.5 * POINTS / max(len(x), 1))
    axis.scatter(x, overlaps, s=5, alpha=max(alpha, 0.01), linewidths=0, rasterized=True)
    axis.plot(*trend(x, overlaps).T, color="black", marker=".")
    axis.set_ylabel("IoU with ground truth")
    axis.set_ylim(0, 1.02)
    axis.grid(alpha=0.3)


def _mark(axis, threshold: float) -> None:
    axis.axvline(threshold, color="tab:red", linestyle="--", linewidth=1)
    place = dict(xytext=(2, 3), textcoords="offset points", fontsize=8, color="tab:red")
    axis.annotate(f"{threshold:g}", (threshold, 0), **place)


def _text(found: Correlation) -> str:
    return f"Pearson {_number(found.pearson)}, Spearman {_number(found.spearman)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
