"""The test of every equation is shown to notice a wrong constant or operator.

A mutation wraps one public function of the package, so that it is given or returns something else.
A test that docs/paper.md names for the equation then runs in a process of its own and has to fail,
by an assertion.
"""

import os
import pkgutil
import re
import subprocess
import sys
from dataclasses import replace
from typing import Callable, NamedTuple

import pytest
from coco import ROOT
from paper_page import PAGE, rows, symbols

ROWS = list(rows(PAGE.read_text()))
TESTS = {s.rpartition("::")[2]: s for row in ROWS for s in symbols(row, "tests/")}
DEFAULTS = "test_the_defaults_are_the_paper_s_for_partial_data"
FORWARD = "modeling.soft_teacher.SoftTeacher.forward"
PSEUDO_LOSSES = "modeling.families.rcnn.roi_heads.SoftTeacherROIHeads.pseudo_losses"
CLS_WEIGHTS = "modeling.background_weights.classification_weights"
VARIANCE = "modeling.box_jitter.box_variance"


class Mutation(NamedTuple):
    of: str
    what: str
    target: str  # below soft_teacher
    change: Callable  # maps the target to what replaces it
    test: str


def given(change):
    """The target gets other arguments."""
    return lambda target: lambda *args: target(*change(*args))


def returns(change):
    """The target's value is changed, knowing its arguments."""
    return lambda target: lambda *args, **kwargs: change(target(*args, **kwargs), *args)


def default(key, value):
    """Another default of SOFT_TEACHER.``key``."""
    change = returns(lambda _, cfg: cfg.merge_from_list([f"SOFT_TEACHER.{key}", value]))
    return f"{key} = {value}", "config.add_soft_teacher_config", change


def without_image_weight(model, batch):
    return model, [{k: v for k, v in x.items() if k != "image_weight"} for x in batch]


def without_world_size(batches, loader):
    ranks = loader.schedule.world_size
    for batch in batches:
        yield [{**x, "image_weight": x["image_weight"] / ranks} for x in batch]


def one_set_of_boxes(heads, features, proposals, pseudo, score):
    pseudo = replace(pseudo, regression=pseudo.classification)
    return heads, features, proposals, pseudo, score


# fmt: off
MUTATIONS = [Mutation(*row) for row in (
    ("Eq. 1", "without alpha", FORWARD,
     returns(lambda losses, model, _:
             {k: v / model.alpha if "unsup" in k else v for k, v in losses.items()}),
     "test_equation_1"),
    ("Eq. 1", *default("ALPHA", 2.0), DEFAULTS),
    ("Eq. 2", "without 1 / N_l", FORWARD, given(without_image_weight), "test_equation_2"),
    ("Eq. 2", "1 / N_l of one rank", "data.streams.loader.TwoStreamLoader.__iter__",
     returns(without_world_size),
     "test_an_image_weighs_the_number_of_ranks_over_the_images_of_the_global_batch"),
    ("Eq. 3", "without 1 / N_u", PSEUDO_LOSSES,
     returns(lambda out, heads, features, proposals, *_:
             ({**out[0], "loss_cls": out[0]["loss_cls"] * len(proposals)}, out[1])),
     "test_equations_3_and_11"),
    ("Eq. 4", "1 / (N_fg + N_bg)", CLS_WEIGHTS,
     returns(lambda w, is_fg, *_: w.where(~is_fg, 1 / max(len(is_fg), 1))),
     "test_classification_loss_of_equations_4_to_6"),
    ("Eq. 5", "r / N_bg", CLS_WEIGHTS,
     returns(lambda w, is_fg, r, _: w.where(is_fg, r / (~is_fg).sum())), "test_weights_by_hand"),
    ("Eq. 6", "2 - |p_S - p_T|", "modeling.background_weights.reliability",
     returns(lambda r, indicator: r + (indicator == "pred_diff")),
     "test_classification_loss_of_equations_4_to_6"),
    ("Eq. 7", "wider offsets", "modeling.box_jitter.jitter_boxes",
     lambda jitter: lambda boxes, *, scale, **kwargs: jitter(boxes, scale=1.05 * scale, **kwargs),
     "test_uniform_offsets_fill_plus_minus_scale_of_the_width_and_of_the_height"),
    ("Eq. 7", *default("JITTER.SCALE", 0.05), "test_the_paper_is_the_default"),
    ("Eq. 7", *default("JITTER.NUM", 9), "test_the_paper_is_the_default"),
    ("Eq. 7", "without refine", "modeling.box_jitter.BoxJitter.variances",
     given(lambda self, refine, *args: (self, lambda boxes, _: [b.tensor for b in boxes], *args)),
     "test_candidates_are_jittered_refined_as_their_own_class_and_measured"),
    ("Eq. 8", "sum for mean", VARIANCE, returns(lambda v, *_: 4 * v), "test_variance_by_hand"),
    ("Eq. 9", "h + w for its half", VARIANCE, returns(lambda v, *_: v / 2),
     "test_variance_of_many_boxes_in_float64"),
    ("Eq. 9", "biased deviation", VARIANCE,
     returns(lambda v, refined, *_: v * (1 - 1 / refined.shape[1]) ** 0.5),
     "test_variance_of_many_boxes_in_float64"),
    ("Eq. 10", "1 / samples", PSEUDO_LOSSES,
     given(lambda self, *args: (vars(self).update(reg_normalizer="samples") or self, *args)),
     "test_regression_loss_of_equation_10"),
    ("Eq. 10", "halved", PSEUDO_LOSSES,
     returns(lambda out, *_: ({**out[0], "loss_box_reg": out[0]["loss_box_reg"] / 2}, out[1])),
     "test_regression_loss_of_equation_10"),
    ("Eq. 11", "without 1 / N_u", FORWARD, given(without_image_weight), "test_equations_3_and_11"),
    ("Eq. 11", "G_cls for G_reg", PSEUDO_LOSSES, given(one_set_of_boxes),
     "test_equations_3_and_11"),
    ("tau_cls", *default("SCORE_THRESH", 0.8), DEFAULTS),
    ("tau_var", *default("JITTER.VARIANCE_THRESH", 0.03), DEFAULTS),
    ("EMA", "a step late", "engine.ema.ema_momentum",
     lambda momentum: lambda steps_done, **kwargs: momentum(steps_done + 1, **kwargs),
     "test_the_ramp_is_the_mean_of_the_first_teacher_and_all_students"),
    ("EMA", *default("EMA.MOMENTUM", 0.9996), DEFAULTS),
    ("s_r", "falls in half the steps", "data.streams.schedule.labeled_share",
     lambda share: lambda step, *, decay_steps, **kwargs:
         share(step, decay_steps=decay_steps // 2, **kwargs),
     "test_the_share_is_constant_and_falls_linearly_to_zero_over_the_last_steps"),
)]
# fmt: on


def mutate(mutation: Mutation) -> None:
    """Replaces the target where it is defined and wherever the package has imported it."""
    owner, _, name = f"soft_teacher.{mutation.target}".rpartition(".")
    owner = pkgutil.resolve_name(owner)
    original = getattr(owner, name)
    for place in (owner, *(m for key, m in sys.modules.items() if key.startswith("soft_teacher"))):
        if vars(place).get(name) is original:
            setattr(place, name, mutation.change(original))


def run(index: str, *tests: str) -> subprocess.CompletedProcess:
    """Runs the tests under MUTATIONS[index], or under none where that is empty."""
    path = os.pathsep.join([str(ROOT / "tests" / "utils"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, index, "-qxp", "no:cacheprovider", "--tb=short", *tests]
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("equation", [f"Eq. {number}" for number in range(1, 12)])
def test_every_equation_is_mutated_and_its_test_is_the_page_s(equation):
    (row,) = [row for row in ROWS if row.get("Equation") == equation]
    tests = {TESTS[mutation.test] for mutation in MUTATIONS if mutation.of == equation}
    assert tests and tests <= set(symbols(row, "tests/"))


def test_every_target_exists():
    assert all(callable(pkgutil.resolve_name(f"soft_teacher.{m.target}")) for m in MUTATIONS)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_tests_pass_without_a_mutation():
    done = run("", *sorted({TESTS[mutation.test] for mutation in MUTATIONS}))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "index", range(len(MUTATIONS)), ids=[f"{m.of}: {m.what}" for m in MUTATIONS]
)
def test_a_mutation_is_noticed_by_an_assertion(index):
    done = run(str(index), TESTS[MUTATIONS[index].test])
    # 0: all passed, 1: some failed; others mean that they did not run
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^E +(assert|AssertionError)\b", done.stdout, flags=re.M), done.stdout


if __name__ == "__main__":
    if sys.argv[1]:
        mutate(MUTATIONS[int(sys.argv[1])])
    sys.exit(pytest.main(sys.argv[2:]))
