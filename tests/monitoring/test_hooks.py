"""The hook that logs what the model shows of its unlabeled images, and the report."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.engine import launch
from detectron2.structures import PolygonMasks
from detectron2.utils import comm
from watching import (
    HIT,
    LEFT,
    MISS,
    RIGHT,
    TRUTH,
    Trainer,
    schedule,
    step,
    targets,
    teacher_boxes,
    watched,
    watched_model,
)

from soft_teacher.distributed.launch import leave_group
from soft_teacher.evaluation.pseudo_label_quality import Matches
from soft_teacher.monitoring.hooks import HTMLReport, WatchHook
from soft_teacher.monitoring.statistics import Totals

HOOKS = "soft_teacher.monitoring.hooks"


def totals_of(trainer):
    """In the trainer's checkpoint."""
    return trainer.state_dict()["hooks"]["WatchHook"]["totals"]


# --- scalars


def test_a_run_without_unlabeled_images_logs_their_absence_and_no_more():
    trainer = watched({}, share=1.0)
    assert trainer.logged("labeled_share") == {4: 1.0, 9: 1.0, 11: 1.0}
    assert set(trainer.storage.histories()) == {"labeled_share", "images_per_second"}


def test_each_line_is_about_the_steps_since_the_last_one():
    views = {
        0: step(HIT, reliability=0.5, truths=[TRUTH]),
        # Two passes of one step count alike.
        4: [*step(MISS, HIT, reliability=1.0, truths=[TRUTH, TRUTH]), *step(HIT)],
        5: step(MISS, truths=[TRUTH]),
        # 9: a line without any
        11: step(HIT, truths=[TRUTH]),
    }
    trainer = watched(views)
    assert set(trainer.observed.values()) == {1}
    assert trainer.logged("pseudo/precision_cls") == {4: pytest.approx(2 / 3), 9: 0.0, 11: 1.0}
    assert trainer.logged("pseudo/recall_reg") == {4: pytest.approx(2 / 3), 9: 0.0, 11: 1.0}
    assert trainer.logged("pseudo/precision_reg") == {4: 1.0, 11: 1.0}
    assert trainer.logged("pseudo/mean_variance") == pytest.approx(
        {4: (0.01 + 0.03 + 0.01 + 0.01) / 4, 9: 0.03, 11: 0.01}
    )
    assert trainer.logged("pseudo/best_score") == pytest.approx({4: 0.95, 9: 0.91, 11: 0.95})
    assert trainer.logged("unsup/mean_background_reliability") == {4: 0.75}


def test_share_and_throughput_are_those_of_the_schedule_over_all_ranks(monkeypatch):
    clock = iter(np.arange(100) * 0.5)
    monkeypatch.setattr(f"{HOOKS}.time.perf_counter", lambda: next(clock))
    trainer = watched({}, burn_in=4)
    # Four steps of one labeled image alone, then one of four. Every step takes half a second.
    assert trainer.logged("labeled_share") == pytest.approx({4: 5 / 8, 9: 0.25, 11: 0.25})
    assert trainer.logged("images_per_second") == {4: 8 / 2.5, 9: 8.0, 11: 8.0}


def test_gpu_memory_is_logged_on_a_gpu_alone(monkeypatch):
    assert watched({}).logged("gpu_memory_gib") == {}
    monkeypatch.setattr(f"{HOOKS}._gpu_memory", lambda device: 2.5)
    assert watched({}).logged("gpu_memory_gib") == {4: 2.5, 9: 2.5, 11: 2.5}


def test_a_run_that_fails_before_its_first_step_raises_its_own_error():
    class Fails(WatchHook):
        def before_train(self):
            raise FloatingPointError

    watch = WatchHook(watched_model(), schedule())
    trainer = Trainer(watch.model, [Fails(watch.model, schedule()), watch], {})
    with pytest.raises(FloatingPointError):
        trainer.train(0, 3)


def test_boxes_per_image_are_logged_in_all_and_by_class():
    views = {
        0: step(HIT, MISS, labeled=[targets([LEFT, RIGHT], [0, 1])]),
        1: step(labeled=[targets(), targets([LEFT], [0])]),
        5: step(HIT),
    }
    trainer = watched(views)
    logged = {n: trainer.logged(n) for n in trainer.storage.histories() if "boxes_per_image" in n}
    assert logged == {
        "pseudo/boxes_per_image": {4: 1.0, 9: 1.0},
        "pseudo/boxes_per_image/cat": {4: 0.0, 9: 0.0},
        "pseudo/boxes_per_image/dog": {4: 1.0, 9: 1.0},
        "pseudo/labeled_boxes_per_image": {4: 1.0},
        "pseudo/labeled_boxes_per_image/cat": {4: pytest.approx(2 / 3)},
        "pseudo/labeled_boxes_per_image/dog": {4: pytest.approx(1 / 3)},
    }


def test_labeled_images_of_the_burn_in_are_not_compared_with_pseudo_boxes():
    views = {n: step(labeled=[targets([LEFT], [n])]) for n in range(5)}
    trainer = watched(views, burn_in=3)
    assert trainer.logged("pseudo/labeled_boxes_per_image/dog") == {4: 0.0}
    assert watched(views, burn_in=2).logged("pseudo/labeled_boxes_per_image") == {4: 1.0}


def test_a_resumed_run_logs_what_an_uninterrupted_one_does():
    masked = teacher_boxes([LEFT], [1], [0.95], stable=[0], masks=np.tri(28, 28, 9).T[None])
    truth = targets([LEFT], [1])
    truth.gt_masks = PolygonMasks([[np.array([4.0, 10, 24, 10, 24, 30])]])
    views = {
        n: step([HIT, MISS, masked][n % 3], truths=[truth], reliability=n / 20, labeled=[TRUTH] * n)
        for n in range(12)
    }
    whole = watched(views)
    first = watched(views, interrupted_at=8)
    state = json.loads(json.dumps(first.state_dict()))  # numbers, as a checkpoint wants
    rest = watched(views, start=8, state=state)
    for name in set(whole.storage.histories()) - {"images_per_second"}:
        expected = {s: v for s, v in whole.logged(name).items() if s >= 8}
        assert expected and rest.logged(name) == expected, name
    assert 0 < rest.logged("pseudo/mask_iou")[9] < 1


def test_an_interrupted_step_is_not_counted():
    views = {0: step(HIT, truths=[TRUTH]), 1: step(MISS, truths=[TRUTH])}
    trainer = watched(views, broken_at=1)
    assert (totals_of(trainer)["images"], totals_of(trainer)["confident"]) == (1, 1)
    rest = watched(views, start=1, state=trainer.state_dict())
    assert rest.logged("pseudo/precision_cls") == {4: 0.5}


def test_a_checkpoint_holds_what_all_ranks_saw(monkeypatch):
    collected = []

    def gather(mine):
        collected.append(mine)
        return [mine, mine]

    monkeypatch.setattr(comm, "gather", gather)
    views = {n: step(HIT) for n in range(5)}
    trainer = watched(views, stop=4, interrupted_at=3, saves=lambda done: done == 2)
    assert len(collected) == 1
    assert totals_of(trainer)["images"] == 2 * 2 + 1  # the last step was on this rank alone
    rest = watched(views, start=3, stop=5, state=trainer.state_dict())
    assert rest.logged("pseudo/best_score") == pytest.approx({4: 0.95})


def test_what_other_ranks_saw_is_added(monkeypatch):
    def gather(mine):
        totals, memory = mine
        other = replace(totals, classification=Matches(0, 3, 0), best_score=0.99, images=7)
        return [(totals, 1.5), (other, 2.0)]

    monkeypatch.setattr(comm, "gather", gather)
    trainer = watched({0: step(HIT, truths=[TRUTH])}, stop=5)
    assert trainer.logged("pseudo/precision_cls") == {4: 0.25}
    assert trainer.logged("pseudo/best_score") == {4: 0.99}
    assert trainer.logged("gpu_memory_gib") == {4: 2.0}


def test_the_state_of_the_main_rank_is_not_counted_on_the_others(monkeypatch):
    state = watched({0: step(HIT, truths=[TRUTH])}, interrupted_at=1).state_dict()
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    watch = WatchHook(watched_model(), schedule())
    watch.load_state_dict(state["hooks"]["WatchHook"])
    assert watch.state_dict()["totals"] == Totals().state_dict()


def _rank(folder):
    """Rank 0 sees a hit at every step, rank 1 two misses at the first step alone.

    Labeled images are at steps of their own, and a diagnosis follows the fourth step.
    """
    if comm.get_rank() == 0:
        views = {n: step(HIT, truths=[TRUTH]) for n in range(5)}
    else:
        views = {0: step(MISS, MISS, truths=[TRUTH, TRUTH], reliability=0.5)}
        views[1] = step(labeled=[targets([LEFT] * 50, [0] * 50)] * 10)
    trainer = watched(views, stop=5, world_size=2, patience=4)
    found = {name: trainer.logged(name) for name in trainer.storage.histories()}
    found["warned"] = trainer.state_dict()["hooks"]["WatchHook"]["health"]["warned"]
    with open(f"{folder}/rank{comm.get_rank()}.json", "w") as file:
        json.dump(found, file)
    leave_group()


@pytest.mark.long
def test_ranks_are_counted_together_and_the_main_one_logs(tmp_path):
    launch(_rank, 2, dist_url="auto", args=(str(tmp_path),))
    first, second = (json.loads((tmp_path / f"rank{n}.json").read_text()) for n in range(2))
    assert second == {"warned": {}}
    assert first["pseudo/precision_cls"] == {"4": pytest.approx(5 / 7)}
    assert first["pseudo/recall_reg"] == {"4": pytest.approx(5 / 7)}
    assert first["unsup/mean_background_reliability"] == {"4": 0.5}
    assert first["labeled_share"] == {"4": 0.25}
    assert first["pseudo/boxes_per_image/dog"] == {"4": 1.0}
    assert first["pseudo/labeled_boxes_per_image/cat"] == {"4": 50.0}
    assert first["warned"] == {"pseudo boxes unlike labels": 3}


# --- the report


def test_a_complete_run_is_reported_with_its_command_and_fails_with_no_report(
    tmp_path, monkeypatch, caplog
):
    def report_after(folder, steps):
        hook = HTMLReport(str(folder))
        hook.trainer = SimpleNamespace(iter=steps, max_iter=5)
        hook.after_train()

    monkeypatch.setattr("sys.argv", ["train_net.py", "SEED", "7"])
    (tmp_path / "metrics.json").write_text('{"iteration": 4, "lr": 0.1}\n')
    report_after(tmp_path, steps=4)
    assert not (tmp_path / "report.html").exists()
    report_after(tmp_path, steps=5)
    assert "python train_net.py SEED 7" in (tmp_path / "report.html").read_text()
    report_after(tmp_path / "gone", steps=5)
    assert "no report" in caplog.text
