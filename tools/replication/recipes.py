"""The distinct runs behind the tables; rows of several tables may share one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "BETTER",
    "BURN_IN",
    "DETECTORS",
    "HTCPP",
    "LAZY",
    "RECIPES",
    "SINGLE_STAGE",
    "SOFT_TEACHER",
    "SUPERVISED",
    "Recipe",
]

BURN_IN = "burn_in"
SUPERVISED = "supervised"
SOFT_TEACHER = "soft_teacher"
# Detectors with configs of their own, {DETECTOR}_supervised and {DETECTOR}_soft_teacher.
DETECTORS = ("mask", "cascade", "cascade_mask", "htc")
SINGLE_STAGE = ("retinanet", "fcos")
# Those that have LazyConfigs alone.
LAZY = ("htc", "fcos")
# Of full labels, in LazyConfigs of the paper alone.
HTCPP = "htcpp"
# In the place of a network: the better of both, at its best evaluation.
BETTER = "better"


@dataclass(frozen=True)
class Recipe:
    """One run, on whatever data."""

    config: str = SOFT_TEACHER  # which config of a benchmark it starts from
    opts: Mapping[str, object] = field(default_factory=dict)  # overrides
    percent: float | None = 10.0  # labeled share; None where the config has all labeled
    # Whose AP counts. The paper does not say which it reports; here the student's where there is
    # no teacher or the teacher is the student.
    network: str = "teacher"
    # Recipe whose detector labels the unlabeled images once, before the run (multi-stage).
    labeled_by: str | None = None


def _supervised(percent: float | None, config: str = SUPERVISED) -> Recipe:
    return Recipe(config, percent=percent, network="student")


# Section 4.4: Tables 8 and 9 are without box jittering, their best row is Table 7's second one.
WITH_JITTER, WITHOUT_JITTER = ({"SOFT_TEACHER.JITTER.ENABLED": on} for on in (True, False))
END_TO_END = {**WITHOUT_JITTER, "SOFT_TEACHER.INDICATOR": "none"}
# The teacher is the student.
WITHOUT_EMA = {
    **END_TO_END,
    "SOFT_TEACHER.EMA.MOMENTUM": 0.0,
    "SOFT_TEACHER.EVAL_NETWORKS": "('student',)",
}

# Boxes for regression are chosen by spread or by density.
BY_SPREAD = {**WITH_JITTER, "SOFT_TEACHER.DENSITY.REGRESSION": 0.0}

# Not the paper's: docs/real_data.md.
BEYOND = {
    "SOFT_TEACHER.DENSITY.ENABLED": True,
    "SOFT_TEACHER.DENSITY.IGNORE": 1.3,
    "SOFT_TEACHER.DENSITY.REGRESSION": 0.6,
    "SOFT_TEACHER.JITTER.ENABLED": False,
    "SOFT_TEACHER.STATISTICS": "labeled",
    "SOFT_TEACHER.AUGMENTATION.MAX_ANGLE": 0.0,
}

# What tools/convert_checkpoint.py makes of a detector trained on Objects365.
OBJECTS365 = "output/pretrained/objects365/model.pth"

# Whatever the default is.
WITH_MASKS, WITHOUT_MASKS = ({"SOFT_TEACHER.MASK.ENABLED": learn} for learn in (True, False))

RECIPES: dict[str, Recipe] = {
    **{f"burn_in_{percent}p": Recipe(BURN_IN, percent=percent) for percent in (1, 5, 10)},
    **{f"supervised_{percent}p": _supervised(percent) for percent in (1, 5, 10)},
    **{f"soft_teacher_{percent}p": Recipe(percent=percent) for percent in (1, 5, 10)},
    "supervised_full": _supervised(None, "supervised_full"),
    "soft_teacher_full": Recipe("soft_teacher_full", percent=None),
    "supervised_full_R_101": _supervised(None, "supervised_full_R_101"),
    "soft_teacher_full_R_101": Recipe("soft_teacher_full_R_101", percent=None),
    f"{HTCPP}_{SUPERVISED}": _supervised(None, f"{HTCPP}_{SUPERVISED}"),
    f"{HTCPP}_{SOFT_TEACHER}": Recipe(f"{HTCPP}_{SOFT_TEACHER}", percent=None),
    f"{HTCPP}_{SOFT_TEACHER}_objects365": Recipe(
        f"{HTCPP}_{SOFT_TEACHER}", {"MODEL.WEIGHTS": OBJECTS365}, percent=None
    ),
    "multi_stage": Recipe(
        opts={**WITHOUT_EMA, "SOFT_TEACHER.LABEL_SOURCE": "dataset"},
        network="student",
        labeled_by="supervised_10p",
    ),
    "end_to_end": Recipe(opts=WITHOUT_EMA, network="student"),
    "end_to_end_ema": Recipe(opts=END_TO_END),
    "without_jitter": Recipe(opts=WITHOUT_JITTER),
    "beyond_the_paper": Recipe(opts=BEYOND),
    **{
        f"indicator_{name}": Recipe(opts={**WITHOUT_JITTER, "SOFT_TEACHER.INDICATOR": name})
        for name in ("iou", "reverse_iou", "pred_diff", "bg_student")
    },
    **{
        f"threshold_{value:.2f}": Recipe(
            opts={**WITHOUT_JITTER, "SOFT_TEACHER.SCORE_THRESH": value}
        )
        for value in (0.70, 0.80, 0.95)
    },
    **{
        f"variance_{value:.2f}": Recipe(opts={"SOFT_TEACHER.JITTER.VARIANCE_THRESH": value})
        for value in (0.01, 0.03, 0.04)
    },
    # The demo's protocol, which is kind to the baseline.
    **{
        f"{detector}_{SUPERVISED}": Recipe(f"{detector}_{SUPERVISED}", percent=None, network=BETTER)
        for detector in (*DETECTORS, *SINGLE_STAGE)
    },
    **{
        f"{detector}_{SOFT_TEACHER}": Recipe(
            f"{detector}_{SOFT_TEACHER}", WITH_MASKS if detector == "mask" else {}, percent=None
        )
        for detector in (*DETECTORS, *SINGLE_STAGE)
    },
    **{
        f"{detector}_by_spread": Recipe(f"{detector}_{SOFT_TEACHER}", BY_SPREAD, percent=None)
        for detector in SINGLE_STAGE
    },
    "mask_boxes_alone": Recipe(f"mask_{SOFT_TEACHER}", WITHOUT_MASKS, percent=None),
    **{f"jitter_{count}": Recipe(opts={"SOFT_TEACHER.JITTER.NUM": count}) for count in (5, 15)},
}
