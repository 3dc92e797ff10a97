"""When a run that is watched warns: at the step that ends patience, also across resumes."""

import json

import pytest
from watching import HIT, LEFT, MAX_ITER, TRUTH, step, targets, teacher_boxes, warnings, watched


def test_bad_health_is_logged_and_burn_in_is_not_bad_health(caplog):
    watched({}, burn_in=MAX_ITER)
    assert warnings(caplog) == []
    watched({n: step(teacher_boxes([LEFT], [1], [0.4])) for n in range(MAX_ITER)})
    (text,) = warnings(caplog)
    assert text.startswith("step 4, last 5 steps: no detection is a pseudo box")


ILL = step(teacher_boxes([LEFT], [1], [0.4]))
# At step n the losses of unlabeled images weigh n times as much. Other scalars are no losses.
HEAVY = {
    n: {
        **{"sup/loss_cls_stage0": 0.25, "sup/loss_mask": 0.75},
        **{"unsup/loss_cls_stage0": n / 2, "unsup/loss_mask": n / 2, "unsup/num_a": 99.0},
    }
    for n in range(30)
}


@pytest.mark.parametrize("burn_in, patience, expected", [(0, 12, [11]), (3, 4, [6]), (3, 9, [11])])
def test_a_diagnosis_follows_the_very_step_that_ends_patience(burn_in, patience, expected, caplog):
    views = {n: ILL for n in range(burn_in, MAX_ITER)}
    trainer = watched(views, burn_in=burn_in, patience=patience)
    starts = [f"step {n}, last {patience} steps: no detection" for n in expected]
    assert [text[: len(start)] for text, start in zip(warnings(caplog), starts)] == starts
    assert len(warnings(caplog)) == len(starts)
    # What is logged is not divided by it.
    assert set(trainer.logged("pseudo/best_score")) == {4, 9, 11}


@pytest.mark.parametrize(
    "losses, expected",
    [
        ({}, []),
        # (10 + 11 + 12 + 13) / 4; at the steps before there are no unlabeled images
        (HEAVY, ["step 13, last 4 steps: the losses of unlabeled images are 11.5 times those"]),
        ({n: HEAVY[n - 8] for n in range(8, 30)}, []),
        # Steps that were skipped logged no loss: (10 + 13) / 2.
        ({n: HEAVY[n] for n in (9, 10, 13)}, ["step 13, last 4 steps: the losses of unlabeled "
                                              "images are 11.5 times those"]),
    ],
)  # fmt: skip
def test_losses_of_steps_with_both_streams_are_compared(losses, expected, caplog):
    views = {n: step(HIT) for n in range(10, 14)}
    watched(views, burn_in=10, patience=4, losses=losses, stop=14, max_iter=14)
    assert [text.partition(" of labeled")[0] for text in warnings(caplog)] == expected


@pytest.mark.parametrize("interrupted_at", range(1, 20))
def test_a_resumed_run_warns_as_an_uninterrupted_one(interrupted_at, caplog):
    few = step(HIT, labeled=[targets([LEFT] * 60, [0] * 60)] * 60)
    views = {**dict.fromkeys(range(10), few), **dict.fromkeys(range(10, 20), ILL)}
    options = dict(patience=7, max_iter=20, burn_in=1, losses=HEAVY)
    watched(views, stop=20, **options)
    whole = warnings(caplog)
    starts = ["step 7, last 7 steps: 1.0 pseudo boxes per", "step 14, last 7 steps: the losses of"]
    assert [text[: len(start)] for text, start in zip(whole, starts, strict=True)] == starts
    caplog.clear()
    first = watched(views, stop=20, interrupted_at=interrupted_at, **options)
    state = json.loads(json.dumps(first.state_dict()))
    watched(views, start=interrupted_at, stop=20, state=state, **options)
    assert warnings(caplog) == whole


def test_a_checkpoint_of_a_version_that_counted_no_classes_resumes(caplog):
    views = dict.fromkeys(range(8), step(HIT))
    state = watched(views, interrupted_at=8).state_dict()
    watch = state["hooks"]["WatchHook"]
    newer = ("scores", "classes", "labeled_images", "labeled_classes", "labeled_loss")
    for totals in (watch["totals"], watch["health"]["totals"]):
        for name in (*newer, "unlabeled_loss"):
            del totals[name]
    rest = watched(views | {8: step(HIT, labeled=[TRUTH])}, start=8, state=state)
    assert rest.logged("pseudo/boxes_per_image") == {9: 1.0}
    assert rest.logged("pseudo/labeled_boxes_per_image") == {9: 1.0}
    assert warnings(caplog) == []
