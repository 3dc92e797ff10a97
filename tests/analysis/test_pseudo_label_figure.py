"""Fig. 3 is drawn whatever there is to be seen."""

import pytest
from boxes import NAN, findings, measured
from matplotlib.axes import Axes
from PIL import Image

from soft_teacher.analysis.pseudo_label_figure import pseudo_label_figure

INFINITE = float("inf")
PAPER = [(0, 0.9, 0.01, 0.8, True), (0, 0.6, 0.03, 0.4, False), (1, 0.7, 0.05, 0.6, True)]


@pytest.fixture
def titles(monkeypatch):
    """Of the panels, as they are drawn."""
    texts, set_title = [], Axes.set_title

    def keep(axis, text, **options):
        texts.append(text)
        return set_title(axis, text, **options)

    monkeypatch.setattr(Axes, "set_title", keep)
    return texts


@pytest.mark.parametrize(
    "boxes, score, variance",
    [
        ([], "Pearson -, Spearman -", "Pearson -, Spearman -"),
        ([(0, 0.3, NAN, 0.8, True)], "Pearson -, Spearman -", "Pearson -, Spearman -"),
        # Deviations score: .5 -.4 -.1 (x 1/3), variance: -.02 0 .02, IoU: .2 -.2 0
        (PAPER, "Pearson 0.98, Spearman 1.00", "Pearson -0.50, Spearman -0.50"),
        ([(0, 0.8, INFINITE, 0.8, True)], "Pearson -, Spearman -", "Pearson -, Spearman -"),
    ],
)
def test_the_panels_tell_their_correlations(boxes, score, variance, titles, tmp_path):
    path = tmp_path / "figure3.png"
    pseudo_label_figure(findings(measured(*boxes, objects=(2, 1))), str(path))
    assert titles == ["(a) foreground precision and recall", f"(b) {score}", f"(c) {variance}"]
    assert Image.open(path).size == (1260, pytest.approx(410, abs=1))
