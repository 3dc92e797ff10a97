"""The findings about pseudo labels as text, JSON, CSV and one HTML page."""

import csv
import json
from dataclasses import asdict
from pathlib import Path

from detectron2.utils.collect_env import collect_env_info
from tabulate import tabulate

from ..monitoring.page import embedded_picture, preformatted, write_page
from ..utils.atomic import atomic_write
from .findings import Findings, Table
from .pseudo_label_figure import pseudo_label_figure

__all__ = ["report_text", "write_findings"]

FILES = ("report.html", "figure3.png", "summary.json", "curves.csv")


def report_text(findings: Findings) -> str:
    """All tables, for a terminal."""
    parts = [f"{findings.title}\nweights: {findings.setting.weights}"]
    parts += [f"{table.title}\n\n{_formatted(table, 'simple')}" for table in findings.tables()]
    return "\n\n".join(parts) + "\n"


def write_findings(
    findings: Findings, folder: Path, *, comparison: Path | None = None, command: str = ""
) -> list[Path]:
    """Writes Fig. 3, the numbers, and a page of it all that needs no other file.

    Args:
        folder: exists.
        comparison: PNG file of Fig. 4, for the page.
        command: for the page.

    Returns:
        the files, the page first.
    """
    page, figure, summary, curves = (folder / name for name in FILES)
    pseudo_label_figure(findings, str(figure))
    _write_summary(findings, summary)
    _write_curves(findings, curves)
    _write_page(findings, page, {"Figure 3": figure, "Figure 4": comparison}, command)
    return [page, figure, summary, curves]


def _write_summary(findings: Findings, path: Path) -> None:
    """The setting and the tables."""
    tables = {
        table.name: [dict(zip(table.header, row)) for row in table.rows]
        for table in findings.tables()
    }
    with atomic_write(str(path)) as file:
        json.dump({"setting": asdict(findings.setting), **tables}, file, indent=1)
        file.write("\n")


def _write_curves(findings: Findings, path: Path) -> None:
    """Precision and recall at every threshold; a share of nothing is an empty cell."""
    with atomic_write(str(path)) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["class", "threshold", "boxes", "precision", "recall", "f1"])
        for name, curve in findings.named_curves():
            places = range(len(curve.thresholds))
            writer.writerows([name, *curve.point(place)] for place in places)


def _write_page(findings: Findings, path: Path, pictures: dict[str, Path], command: str) -> None:
    sections = {
        heading: embedded_picture(picture.read_bytes(), picture.name)
        for heading, picture in pictures.items()
        if picture is not None
    }
    sections |= {table.title: _formatted(table, "html") for table in findings.tables()}
    weights = findings.setting.weights
    texts = {"Weights": weights, "Command": command, "Versions": collect_env_info()}
    sections |= {heading: preformatted(text) for heading, text in texts.items()}
    write_page(path, findings.title, sections)


def _formatted(table: Table, style: str) -> str:
    return tabulate(table.rows, table.header, style, floatfmt=".3f", intfmt=",", missingval="-")
