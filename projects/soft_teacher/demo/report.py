"""Table, results.json and pictures of the demo."""

import json
from pathlib import Path
from statistics import mean

import torch
from detectron2.data.detection_utils import build_augmentation
from tabulate import tabulate

from ..analysis.pictures import ap_curves, detection_sheet
from ..engine import SoftTeacherCheckpointer
from ..experiment import SoftTeacherTrainer

METRICS = ("AP", "AP50", "AP75")
ROWS = ("supervised", "student", "teacher")
LABELS = {
    ("supervised", "student"): "supervised",
    ("supervised", "teacher"): "supervised, EMA",
    ("soft_teacher", "student"): "Soft Teacher, student",
    ("soft_teacher", "teacher"): "Soft Teacher, teacher",
}


def summarize(supervised: dict, soft_teacher: dict) -> dict[str, dict]:
    """The three rows of the table.

    Args:
        supervised, soft_teacher: histories of the two runs.

    Returns:
        "supervised": the better of the baseline and its EMA at its best evaluation; "student" and
        "teacher" of Soft Teacher at their last.
    """
    evaluations = [values for history in supervised.values() for _, values in history]
    rows = {network: soft_teacher[network][-1][1] for network in ("student", "teacher")}
    rows = {"supervised": max(evaluations, key=lambda values: values["AP"]), **rows}
    return {row: {metric: values[metric] for metric in METRICS} for row, values in rows.items()}


def report(results: dict[int, dict[str, dict]], output: Path) -> None:
    """Prints the tables and writes results.json and, for several seeds, seeds.md.

    results.json holds the rows of the first seed, or their mean over several seeds, and all seeds
    under "seeds".
    """
    averaged = {
        row: {m: mean(r[row][m] for r in results.values()) for m in METRICS} for row in ROWS
    }
    text = json.dumps({**averaged, "seeds": results}, indent=1)
    (output / "results.json").write_text(text + "\n")
    print("\n" + _table([[row, *averaged[row].values()] for row in ROWS], ["", *METRICS]))
    if len(results) > 1:
        text = per_seed_table(results)
        (output / "seeds.md").write_text(text + "\n")
        print("\n" + text)
    print(f"\nwritten: {output / 'results.json'} and pictures in {output}/seed*")


def per_seed_table(results: dict[int, dict[str, dict]]) -> str:
    """AP of every seed and the gain of the teacher over the baseline, in Markdown."""
    rows = []
    for seed, result in results.items():
        ap = [result[row]["AP"] for row in ROWS]
        rows.append([str(seed), *ap, ap[2] - ap[0]])
    rows.append(["mean", *(mean(column) for column in list(zip(*rows))[1:])])
    return _table(rows, ["seed", *ROWS, "teacher - supervised"])


def _table(rows: list[list], headers: list[str]) -> str:
    return tabulate(rows, headers=headers, floatfmt=".1f", tablefmt="github")


def write_pictures(runs, folder: Path) -> None:
    """detections.png and ap.png of one pair of runs."""
    curves = {
        LABELS[run.name, network]: [(step, values["AP"]) for step, values in evaluations]
        for run in runs
        for network, evaluations in run.history().items()
    }
    ap_curves(curves, folder / "ap.png")
    torch.set_num_threads(1)
    cfg = runs[0].cfg
    detection_sheet(
        {LABELS[run.name, "teacher"]: _teacher(run) for run in runs},
        cfg.DATASETS.TEST[0],
        folder / "detections.png",
        augmentations=build_augmentation(cfg, is_train=False),
        image_format=cfg.INPUT.FORMAT,
    )


def _teacher(run):
    """The teacher of a finished run, ready to detect."""
    model = SoftTeacherTrainer.build_model(run.cfg)
    SoftTeacherCheckpointer(model, str(run.folder)).resume_or_load("", resume=True)
    return model.teacher.eval()
