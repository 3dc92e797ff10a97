"""The test of every equation is shown to notice another constant in it.

The package is copied, one expression of the copy is changed, and the test that docs/paper.md names
for the equation is run on the copy. It has to fail, and by an assertion of its own.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, NamedTuple
from xml.etree import ElementTree

import pytest
from coco import ROOT
from paper_page import PAGE, rows, symbols

PACKAGE = ROOT / "projects" / "soft_teacher"

STEP = "tests/modeling/test_equations.py"
WEIGHTS = "tests/modeling/test_background_weights.py"
HEADS = "tests/modeling/test_roi_heads.py"
JITTER = "tests/modeling/test_box_jitter.py"
MEANS = "tests/data/streams/test_loader.py"
EMA = "tests/engine/test_ema.py"
SHARE = "tests/data/streams/test_schedule.py"
DEFAULTS = "tests/test_config.py::test_the_defaults_are_the_paper_s_for_partial_data"


class Mutation(NamedTuple):
    """One expression of the package changed, and who has to notice."""

    of: str
    file: str
    source: str
    changed: str
    test: str


# fmt: off
MUTATIONS = [Mutation(*row) for row in (
    # alpha
    ("Eq. 1", "modeling/soft_teacher.py",
     "self.alpha * v",
     "v",
     f"{STEP}::test_equation_1"),
    ("Eq. 1", "config.py",
     "_C.ALPHA = 4.0",
     "_C.ALPHA = 2.0",
     DEFAULTS),
    # 1 / N_l of all ranks
    ("Eq. 2", "modeling/soft_teacher.py",
     "{k: v * share for k, v in losses.items()}",
     "losses",
     f"{STEP}::test_equation_2"),
    ("Eq. 2", "data/streams/loader.py",
     "self.schedule.world_size / total",
     "1 / total",
     f"{MEANS}::test_an_image_weighs_the_number_of_ranks_over_the_images_of_the_global_batch"),
    # 1 / N_u
    ("Eq. 3", "modeling/families/rcnn/roi_heads.py",
     "classification_weights(f, r, self.cls_formula) / len(samples)",
     "classification_weights(f, r, self.cls_formula)",
     f"{STEP}::test_equations_3_and_11"),
    # 1 / N_fg: by foregrounds and backgrounds together
    ("Eq. 4", "modeling/background_weights.py",
     "is_fg / total_fg.clamp(min=1)",
     "is_fg / len(is_fg)",
     f"{HEADS}::test_classification_loss_of_equations_4_to_6"),
    # weights that sum to 1: divided by N_bg instead of the sum of r
    ("Eq. 5", "modeling/background_weights.py",
     "r / total_r.clamp(min=tiny)",
     "r / (1 - is_fg).sum().clamp(min=1)",
     f"{WEIGHTS}::test_weights_by_hand"),
    # 1 - |difference|
    ("Eq. 6", "modeling/background_weights.py",
     "1 - (student_bg - teacher_bg).abs()",
     "2 - (student_bg - teacher_bg).abs()",
     f"{HEADS}::test_classification_loss_of_equations_4_to_6"),
    # offsets from [-0.06, 0.06], 10 copies, refined by the teacher
    ("Eq. 7", "modeling/box_jitter.py",
     "generator=generator) * 2 - 1",
     "generator=generator) * 2 - 0.9",
     f"{JITTER}::test_uniform_offsets_fill_plus_minus_scale_of_the_width_and_of_the_height"),
    ("Eq. 7", "config.py",
     "_C.JITTER.SCALE = 0.06",
     "_C.JITTER.SCALE = 0.05",
     f"{JITTER}::test_the_paper_is_the_default"),
    ("Eq. 7", "config.py",
     "_C.JITTER.NUM = 10",
     "_C.JITTER.NUM = 9",
     f"{JITTER}::test_the_paper_is_the_default"),
    ("Eq. 7", "modeling/families/rcnn/teacher_pass.py",
     "deltas.float()), proposals",
     "0.5 * deltas.float()), proposals",
     f"{JITTER}::test_candidates_are_jittered_refined_as_their_own_class_and_measured"),
    # 1 / 4 of the four coordinates
    ("Eq. 8", "modeling/box_jitter.py",
     "sigma.mean(dim=1) / half",
     "sigma.sum(dim=1) / half",
     f"{JITTER}::test_variance_by_hand"),
    # 0.5 (h + w), the unbiased standard deviation
    ("Eq. 9", "modeling/box_jitter.py",
     "half = sides.mean(dim=1)",
     "half = sides.sum(dim=1)",
     f"{JITTER}::test_variance_of_many_boxes_in_float64"),
    ("Eq. 9", "modeling/box_jitter.py",
     "refined.float().std(dim=1)",
     "refined.float().std(dim=1, unbiased=False)",
     f"{JITTER}::test_variance_of_many_boxes_in_float64"),
    # 1 / N_fg of the draw for regression, not of all its samples
    ("Eq. 10", "modeling/families/rcnn/roi_heads.py",
     'if self.reg_normalizer == "foreground"',
     "if False",
     f"{HEADS}::test_regression_loss_of_equation_10"),
    ("Eq. 10", "modeling/families/rcnn/fast_rcnn.py",
     "self._weighted_regression(deltas, proposals)",
     "0.5 * self._weighted_regression(deltas, proposals)",
     f"{HEADS}::test_regression_loss_of_equation_10"),
    # 1 / N_u of all ranks, and boxes of its own for the regression
    ("Eq. 11", "modeling/soft_teacher.py",
     'sum(x["image_weight"] for x in stream)',
     "1.0",
     f"{STEP}::test_equations_3_and_11"),
    ("Eq. 11", "modeling/families/rcnn/roi_heads.py",
     "proposals, pseudo.regression)",
     "proposals, pseudo.classification)",
     f"{STEP}::test_equations_3_and_11"),
    # the thresholds of G_cls and G_reg
    ("tau_cls", "config.py",
     "_C.SCORE_THRESH = 0.9",
     "_C.SCORE_THRESH = 0.8",
     DEFAULTS),
    ("tau_var", "config.py",
     "_C.JITTER.VARIANCE_THRESH = 0.02",
     "_C.JITTER.VARIANCE_THRESH = 0.03",
     DEFAULTS),
    # the moving average and the labeled share
    ("EMA", "engine/ema.py",
     "1 - 1 / (t + 1)) if",
     "1 - 1 / (t + 2)) if",
     f"{EMA}::test_the_ramp_is_the_mean_of_the_first_teacher_and_all_students"),
    ("EMA", "config.py",
     "_C.EMA.MOMENTUM = 0.999",
     "_C.EMA.MOMENTUM = 0.9996",
     DEFAULTS),
    ("s_r", "data/streams/schedule.py",
     "share * np.minimum(left, 1)",
     "share * np.minimum(2 * left, 1)",
     f"{SHARE}::test_the_share_is_constant_and_falls_linearly_to_zero_over_the_last_steps"),
)]
# fmt: on


def ids(mutation: Mutation) -> str:
    return f"{mutation.of}: {mutation.source} -> {mutation.changed}"


every_mutation = pytest.mark.parametrize("mutation", MUTATIONS, ids=ids)


@pytest.mark.parametrize("equation", [f"Eq. {number}" for number in range(1, 12)])
def test_every_equation_is_changed_and_its_test_is_the_page_s(equation):
    (row,) = [row for row in rows(PAGE.read_text()) if row.get("Equation") == equation]
    tests = {mutation.test for mutation in MUTATIONS if mutation.of == equation}
    assert tests and tests <= set(symbols(row, "tests/"))


@every_mutation
def test_what_is_changed_stands_in_the_source_once(mutation):
    """Where this fails the code has moved on: bring the table here up to it."""
    assert (PACKAGE / mutation.file).read_text().count(mutation.source) == 1


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def failures(folder: Path, tests: List[str]) -> List[str]:
    """What the tests say, run on the copy of the package in ``folder``."""
    report = folder / "report.xml"
    options = ["-q", "-x", "-p", "no:cacheprovider", f"--junitxml={report}"]
    path = [str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
    )
    # 0: all passed, 1: some failed; others mean that they did not run
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = [failure.get("message") for failure in ElementTree.parse(report).iter("failure")]
    assert bool(found) == done.returncode, done.stdout
    return found


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_unchanged_package_passes(copy):
    assert failures(copy, sorted({mutation.test for mutation in MUTATIONS})) == []


@pytest.mark.long
@pytest.mark.timeout(1200)
@every_mutation
def test_the_changed_package_fails(mutation, copy):
    path = copy / PACKAGE.name / mutation.file
    path.write_text(path.read_text().replace(mutation.source, mutation.changed))
    found = failures(copy, [mutation.test])
    assert found and all(message.startswith(("assert", "AssertionError")) for message in found)
