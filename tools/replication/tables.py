"""Tables 1, 3 to 11 and Figure 1 of the paper: their rows, their numbers, and the runs behind.

Beside them are tables of what the paper does not have.
"""

from dataclasses import dataclass

from soft_teacher.utils.errors import ConfigError, did_you_mean

__all__ = ["MASK", "METRICS", "OUR_TABLES", "TABLES", "Row", "Table", "find_table"]

METRICS = ("AP", "AP50", "AP75")
# Before the name of a metric of masks; the others are of boxes.
MASK = "mask "
NAMES = {  # of what is no table of the paper
    "fig1": "Figure 1",
    "masks": "Masks and cascades",
    "dense": "Single-stage detectors",
}
QUOTED = "quoted from other work"
MULTI_SCALE = "the single-scale row's weights, evaluated as docs/coco.md says"


@dataclass(frozen=True)
class Row:
    name: str  # as in the paper
    paper: tuple[float, ...]  # its AP, AP50 and AP75 there, as far as they are; none for our own
    run: str | None = None  # name of the recipe, if there is one
    spread: float | None = None  # of the paper's AP, the number after its +-
    group: str = ""  # rows of one group are compared with each other
    note: str = ""  # why there is no run

    @property
    def paper_ap(self) -> float | None:
        return self.paper[0] if self.paper else None


@dataclass(frozen=True)
class Table:
    key: str  # its name on the command line
    title: str  # shortened from the paper
    rows: tuple[Row, ...]  # in the paper's order
    folds: bool = False  # whether the paper averages over folds; the ablations are of one

    @property
    def name(self) -> str:
        return NAMES.get(self.key, f"Table {self.key}")

    @property
    def stem(self) -> str:
        """Of its files."""
        return self.key if self.key in NAMES else f"table{self.key}"


E2E_EMA = (31.2, 48.8, 34.0)
SOFT_TEACHER_ALONE = (33.6, 52.9, 36.6)
FULL_METHOD = (34.2, 52.6, 37.3)

# Of val2017; docs/coco.md has those of test-dev2017, which COCO's server measures.
TABLE_1 = (
    Row("Supervised", (57.1,), "htcpp_supervised", group="single-scale"),
    Row("Soft Teacher", (59.1,), "htcpp_soft_teacher", group="single-scale"),
    Row("Soft Teacher*", (60.1,), "htcpp_soft_teacher_objects365", group="single-scale"),
    Row("Supervised", (58.2,), note=MULTI_SCALE, group="multi-scale"),
    Row("Soft Teacher", (59.9,), note=MULTI_SCALE, group="multi-scale"),
    Row("Soft Teacher*", (60.7,), note=MULTI_SCALE, group="multi-scale"),
)
TABLE_3 = (
    Row("Supervised", (10.0,), "supervised_1p", 0.26, "1 %"),
    Row("Supervised (STAC)", (9.83,), None, 0.23, "1 %", QUOTED),
    Row("STAC", (13.97,), None, 0.35, "1 %", QUOTED),
    Row("Soft Teacher", (20.46,), "soft_teacher_1p", 0.39, "1 %"),
    Row("Supervised", (20.92,), "supervised_5p", 0.15, "5 %"),
    Row("Supervised (STAC)", (21.18,), None, 0.20, "5 %", QUOTED),
    Row("STAC", (24.38,), None, 0.12, "5 %", QUOTED),
    Row("Soft Teacher", (30.74,), "soft_teacher_5p", 0.08, "5 %"),
    Row("Supervised", (26.94,), "supervised_10p", 0.111, "10 %"),
    Row("Supervised (STAC)", (26.18,), None, 0.12, "10 %", QUOTED),
    Row("STAC", (28.64,), None, 0.21, "10 %", QUOTED),
    Row("Soft Teacher", (34.04,), "soft_teacher_10p", 0.14, "10 %"),
)
TABLE_4 = (
    Row("Proposal learning, supervised", (37.4,), note=QUOTED, group="Proposal learning"),
    Row("Proposal learning", (38.4,), note=QUOTED, group="Proposal learning"),
    Row("STAC, supervised", (39.5,), note=QUOTED, group="STAC"),
    Row("STAC", (39.2,), note=QUOTED, group="STAC"),
    Row("Self-training, supervised", (41.1,), note=QUOTED, group="Self-training"),
    Row("Self-training", (41.9,), note=QUOTED, group="Self-training"),
    Row("Supervised", (40.9,), "supervised_full", group="Ours"),
    Row("Soft Teacher", (44.5,), "soft_teacher_full", group="Ours"),
)
TABLE_5 = (
    Row("Supervised", (40.9,), "supervised_full", group="R-50"),
    Row("Soft Teacher", (44.5,), "soft_teacher_full", group="R-50"),
    Row("Supervised", (43.8,), "supervised_full_R_101", group="R-101"),
    Row("Soft Teacher", (46.8,), "soft_teacher_full_R_101", group="R-101"),
    Row("Supervised", (57.1,), "htcpp_supervised", group="HTC++"),
    Row("Soft Teacher", (59.1,), "htcpp_soft_teacher", group="HTC++"),
    Row("Supervised", (58.2,), note=MULTI_SCALE, group="HTC++ multi-scale"),
    Row("Soft Teacher", (59.9,), note=MULTI_SCALE, group="HTC++ multi-scale"),
)
TABLE_6 = (
    Row("Supervised", (27.1, 44.6, 28.6), "supervised_10p"),
    Row("Multi-Stage", (28.7, 47.0, 30.9), "multi_stage"),
    Row("E2E", (30.0, 47.4, 32.4), "end_to_end"),
    Row("E2E+EMA", E2E_EMA, "end_to_end_ema"),
)
TABLE_7 = (
    Row("E2E+EMA", E2E_EMA, "end_to_end_ema"),
    Row("+ soft teacher", SOFT_TEACHER_ALONE, "without_jitter"),
    Row("+ box jittering", FULL_METHOD, "soft_teacher_10p"),
    Row("beyond the paper", (), "beyond_the_paper"),
)
TABLE_8 = (
    Row("w/o weight", E2E_EMA, "end_to_end_ema"),
    Row("IoU", (31.7, 51.4, 34.2), "indicator_iou"),
    Row("Reverse-IoU", (31.6, 49.5, 34.1), "indicator_reverse_iou"),
    Row("Pred-Diff", (32.3, 51.0, 34.6), "indicator_pred_diff"),
    Row("BG-S", (25.9, 44.4, 27.0), "indicator_bg_student"),
    Row("BG-T", SOFT_TEACHER_ALONE, "without_jitter"),
)
TABLE_9 = (
    Row("0.70", (29.9, 48.6, 32.1), "threshold_0.70"),
    Row("0.80", (33.2, 52.8, 35.9), "threshold_0.80"),
    Row("0.90", SOFT_TEACHER_ALONE, "without_jitter"),
    Row("0.95", (32.1, 50.6, 34.7), "threshold_0.95"),
)
TABLE_10 = (
    Row("0.04", (33.8, 52.3, 36.7), "variance_0.04"),
    Row("0.03", (34.0, 52.5, 36.9), "variance_0.03"),
    Row("0.02", FULL_METHOD, "soft_teacher_10p"),
    Row("0.01", (32.9, 52.2, 35.8), "variance_0.01"),
)
TABLE_11 = (
    Row("5", (34.0, 52.3, 37.0), "jitter_5"),
    Row("10", FULL_METHOD, "soft_teacher_10p"),
    Row("15", (34.2, 52.5, 37.4), "jitter_15"),
)
FIGURE_1 = (
    *(row for row in TABLE_3 if row.name != "Supervised (STAC)"),
    Row("Supervised", (40.9,), "supervised_full", group="100 %"),
    Row("STAC", (39.2,), group="100 %", note=QUOTED),
    Row("Soft Teacher", (44.5,), "soft_teacher_full", group="100 %"),
)

MASKS = (
    Row("Supervised", (), "mask_supervised", group="Mask R-CNN"),
    Row("Soft Teacher, boxes alone", (), "mask_boxes_alone", group="Mask R-CNN"),
    Row("Soft Teacher", (), "mask_soft_teacher", group="Mask R-CNN"),
    Row("Supervised", (), "cascade_supervised", group="Cascade R-CNN"),
    Row("Soft Teacher", (), "cascade_soft_teacher", group="Cascade R-CNN"),
    Row("Supervised", (), "cascade_mask_supervised", group="Cascade Mask R-CNN"),
    Row("Soft Teacher", (), "cascade_mask_soft_teacher", group="Cascade Mask R-CNN"),
    Row("Supervised", (), "htc_supervised", group="Hybrid Task Cascade"),
    Row("Soft Teacher", (), "htc_soft_teacher", group="Hybrid Task Cascade"),
)

DENSE = (
    Row("Supervised", (), "retinanet_supervised", group="RetinaNet"),
    Row("Soft Teacher", (), "retinanet_soft_teacher", group="RetinaNet"),
    Row("Soft Teacher, boxes by spread", (), "retinanet_by_spread", group="RetinaNet"),
    Row("Supervised", (), "fcos_supervised", group="FCOS"),
    Row("Soft Teacher", (), "fcos_soft_teacher", group="FCOS"),
    Row("Soft Teacher, boxes by spread", (), "fcos_by_spread", group="FCOS"),
)

TABLES: dict[str, Table] = {
    table.key: table
    for table in (
        Table("fig1", "AP by labeled share", FIGURE_1, folds=True),
        Table("1", "HTC++ with Swin-L", TABLE_1),
        Table("3", "Partially labeled data", TABLE_3, folds=True),
        Table("4", "Fully labeled data", TABLE_4),
        Table("5", "Other detectors, fully labeled data", TABLE_5),
        Table("6", "Multi-stage and end-to-end", TABLE_6),
        Table("7", "Soft teacher and box jittering", TABLE_7),
        Table("8", "Indicators of reliability", TABLE_8),
        Table("9", "Foreground score threshold", TABLE_9),
        Table("10", "Threshold of the box regression variance", TABLE_10),
        Table("11", "Number of jittered boxes", TABLE_11),
    )
}

OUR_TABLES: dict[str, Table] = {
    "masks": Table("masks", "Detectors that the paper does not report on", MASKS),
    "dense": Table("dense", "Detectors without a second stage", DENSE),
}


def find_table(key: str) -> Table:
    """The table that a user means by "6" or "fig1".

    Raises:
        ConfigError: there is none.
    """
    known = {**TABLES, **OUR_TABLES}
    if key not in known:
        raise ConfigError(
            f"there is no table '{key}'{did_you_mean(key, known)}; known are {', '.join(known)}"
        )
    return known[key]
