"""Hooks that log and draw what the model shows of its unlabeled images."""

import contextlib
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.engine import launch
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils import comm
from PIL import Image
from watching import LEFT, RIGHT, step_view, targets, teacher_boxes

from soft_teacher import ConfigError
from soft_teacher.data.streams.schedule import BatchSchedule
from soft_teacher.distributed.launch import leave_group
from soft_teacher.evaluation.pseudo_label_quality import Matches
from soft_teacher.monitoring.hooks import PictureHook, WatchHook
from soft_teacher.monitoring.statistics import Totals

MAX_ITER = 12
HIT = teacher_boxes([LEFT], [1], [0.95], confident=[0], variances={0: 0.01}, stable=[0])
MISS = teacher_boxes([RIGHT], [1], [0.91], confident=[0], variances={0: 0.03})
TRUTH = targets([LEFT], [1])


def model():
    labeler = SimpleNamespace(score_thresh=0.9, variance_thresh=0.02, measure_stability=True)
    return SimpleNamespace(
        observers=[],
        device=torch.device("cpu"),
        pseudo_labeler=labeler,
        label_source="teacher",
    )


def schedule(**changes):
    """Four images per step, one of them labeled."""
    settings = dict(
        batch_size=4, share=0.25, decay_steps=0, max_iter=MAX_ITER, burn_in=0, draw="global",
        world_size=1, seed=0,
    )  # fmt: skip
    return BatchSchedule(**{**settings, **changes})


class Trainer(TrainerBase):
    """Shows given views at given steps, and keeps what is logged at each step."""

    def __init__(self, model, hooks, views, interrupted_at=None, broken_at=None):
        super().__init__()
        self.model = model
        self.views = views
        self.watchers = {}
        self.interrupted_at, self.broken_at = interrupted_at, broken_at
        self.register_hooks(hooks)

    def run_step(self):
        if self.iter == self.interrupted_at:
            raise KeyboardInterrupt
        self.watchers[self.iter] = len(self.model.observers)
        for view in self.views.get(self.iter, ()):
            for observe in self.model.observers:
                observe(view)
        if self.iter == self.broken_at:
            raise KeyboardInterrupt

    def logged(self, name):
        """{step: value}"""
        history = self.storage.histories().get(name)
        return {int(step): value for value, step in history.values()} if history else {}


def watched(
    views,
    *,
    start=0,
    stop=MAX_ITER,
    state=None,
    interrupted_at=None,
    broken_at=None,
    saves=lambda done: False,
    **changes,
):
    """A trainer that has run with a WatchHook of period 5."""
    watch = WatchHook(model(), schedule(**changes), period=5, patience=5, saves=saves)
    trainer = Trainer(watch.model, [watch], views, interrupted_at, broken_at)
    if state is not None:
        trainer.load_state_dict(state)
    with contextlib.suppress(KeyboardInterrupt):
        trainer.train(start, stop)
    return trainer


def step(*images, **fields):
    return [step_view(*images, **fields)]


# --- scalars


def test_a_training_without_unlabeled_images_logs_their_absence_and_no_more():
    trainer = watched({}, share=1.0)
    assert trainer.logged("labeled_share") == {4: 1.0, 9: 1.0, 11: 1.0}
    names = set(trainer.storage.histories())
    assert names == {"labeled_share", "images_per_second"}


def test_each_line_is_about_the_steps_since_the_last_one():
    views = {
        0: step(HIT, reliability=0.5, truths=[TRUTH]),
        4: step(MISS, HIT, reliability=1.0, truths=[TRUTH, TRUTH]),
        5: step(MISS, truths=[TRUTH]),
        # 9: a line without any
        11: step(HIT, truths=[TRUTH]),
    }
    trainer = watched(views)
    assert trainer.logged("pseudo/precision_cls") == {4: pytest.approx(2 / 3), 9: 0.0, 11: 1.0}
    assert trainer.logged("pseudo/recall_reg") == {4: pytest.approx(2 / 3), 9: 0.0, 11: 1.0}
    assert trainer.logged("pseudo/precision_reg") == {4: 1.0, 11: 1.0}
    assert trainer.logged("pseudo/mean_variance") == pytest.approx(
        {4: (0.01 + 0.03 + 0.01) / 3, 9: 0.03, 11: 0.01}
    )
    assert trainer.logged("pseudo/best_score") == pytest.approx({4: 0.95, 9: 0.91, 11: 0.95})
    assert trainer.logged("unsup/mean_background_reliability") == {4: 0.75}


def test_several_passes_of_one_step_count_alike():
    trainer = watched({0: [*step(HIT, truths=[TRUTH]), *step(MISS, truths=[TRUTH])]})
    assert trainer.logged("pseudo/precision_cls") == {4: 0.5}


def test_images_without_truth_give_no_precision():
    trainer = watched({0: step(HIT)})
    assert trainer.logged("pseudo/best_score") != {}
    assert trainer.logged("pseudo/precision_cls") == trainer.logged("pseudo/recall_cls") == {}


def test_the_labeled_share_is_that_of_the_schedule():
    trainer = watched({}, burn_in=4)
    # Four steps of one labeled image alone, then one of four.
    assert trainer.logged("labeled_share") == pytest.approx({4: 5 / 8, 9: 0.25, 11: 0.25})


def test_throughput_counts_the_images_of_all_ranks(monkeypatch):
    clock = iter(np.arange(100) * 0.5)
    monkeypatch.setattr("soft_teacher.monitoring.hooks.time.perf_counter", lambda: next(clock))
    trainer = watched({}, burn_in=4)
    # Every step takes half a second.
    assert trainer.logged("images_per_second") == {4: 8 / 2.5, 9: 8.0, 11: 8.0}


def test_gpu_memory_is_logged_on_a_gpu_alone(monkeypatch):
    assert watched({}).logged("gpu_memory_gib") == {}
    monkeypatch.setattr("soft_teacher.monitoring.hooks._gpu_memory", lambda device: 2.5)
    assert watched({}).logged("gpu_memory_gib") == {4: 2.5, 9: 2.5, 11: 2.5}


def test_the_model_is_left_alone_after_the_training():
    trainer = watched({0: step(HIT)})
    assert set(trainer.watchers.values()) == {1} and trainer.model.observers == []


def test_a_training_that_fails_before_its_first_step_tells_its_own_error():
    class Fails(WatchHook):
        def before_train(self):
            raise FloatingPointError

    watch = WatchHook(model(), schedule())
    trainer = Trainer(watch.model, [Fails(watch.model, schedule()), watch], {})
    with pytest.raises(FloatingPointError):
        trainer.train(0, 3)


def test_a_resumed_training_logs_what_an_uninterrupted_one_does():
    views = {n: step([HIT, MISS][n % 2], truths=[TRUTH], reliability=n / 20) for n in range(12)}
    whole = watched(views)
    first = watched(views, interrupted_at=8)
    state = json.loads(json.dumps(first.state_dict()))  # numbers, as a checkpoint wants
    rest = watched(views, start=8, state=state)
    for name in set(whole.storage.histories()) - {"images_per_second"}:
        expected = {s: v for s, v in whole.logged(name).items() if s >= 8}
        assert expected and rest.logged(name) == expected, name


def test_a_step_that_was_broken_off_is_not_counted():
    views = {0: step(HIT, truths=[TRUTH]), 1: step(MISS, truths=[TRUTH])}
    trainer = watched(views, broken_at=1)
    totals = trainer.state_dict()["hooks"]["WatchHook"]["totals"]
    assert (totals["images"], totals["confident"]) == (1, 1)
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
    totals = trainer.state_dict()["hooks"]["WatchHook"]["totals"]
    assert totals["images"] == 2 * 2 + 1  # the last step was on this rank alone
    rest = watched(views, start=3, stop=5, state=trainer.state_dict())
    assert rest.logged("pseudo/best_score") == pytest.approx({4: 0.95})


def test_bad_health_is_told(caplog):
    unsure = teacher_boxes([LEFT], [1], [0.4])
    watched({n: step(unsure) for n in range(MAX_ITER)})
    (text,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert text.startswith("step 4, last 5 steps: no detection is a pseudo box")


def test_burn_in_is_no_bad_health(caplog):
    watched({}, burn_in=MAX_ITER)
    assert [r for r in caplog.records if r.levelname == "WARNING"] == []


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
    watch = WatchHook(model(), schedule())
    watch.load_state_dict(state["hooks"]["WatchHook"])
    assert watch.state_dict()["totals"] == Totals().state_dict()


def _rank(folder):
    """Rank 0 sees a hit at every step, rank 1 two misses at the first step alone."""
    if comm.get_rank() == 0:
        views = {n: step(HIT, truths=[TRUTH]) for n in range(5)}
    else:
        views = {0: step(MISS, MISS, truths=[TRUTH, TRUTH], reliability=0.5)}
    trainer = watched(views, stop=5, world_size=2)
    found = {name: trainer.logged(name) for name in trainer.storage.histories()}
    with open(f"{folder}/rank{comm.get_rank()}.json", "w") as file:
        json.dump(found, file)
    leave_group()


def test_ranks_are_counted_together_and_the_main_one_logs(tmp_path):
    launch(_rank, 2, dist_url="auto", args=(str(tmp_path),))
    first, second = (json.loads((tmp_path / f"rank{n}.json").read_text()) for n in range(2))
    assert second == {}
    assert first["pseudo/precision_cls"] == {"4": pytest.approx(5 / 7)}
    assert first["pseudo/recall_reg"] == {"4": pytest.approx(5 / 7)}
    assert first["unsup/mean_background_reliability"] == {"4": 0.5}
    assert first["labeled_share"] == {"4": 0.25}


# --- pictures


def drawn(folder, views, *, period, stop=MAX_ITER):
    hook = PictureHook(model(), str(folder), period=period, class_names=["a", "b"])
    trainer = Trainer(hook.model, [hook], views)
    trainer.train(0, stop)
    return trainer


def pictures(folder):
    return sorted(p.name for p in folder.glob("*")) if folder.is_dir() else []


def test_without_unlabeled_images_there_is_no_picture_and_no_folder(tmp_path):
    folder = tmp_path / "pictures"
    drawn(folder, {}, period=2)
    assert not folder.exists()


def test_without_a_period_nothing_is_drawn(tmp_path):
    drawn(tmp_path, {n: step(HIT) for n in range(MAX_ITER)}, period=0)
    assert pictures(tmp_path) == []


def test_a_negative_period_is_refused():
    with pytest.raises(ConfigError, match="^PictureHook.period must not be negative, got -1"):
        PictureHook(model(), "", period=-1)


def test_a_picture_every_period_and_no_look_at_other_steps(tmp_path):
    trainer = drawn(tmp_path, {n: step(HIT) for n in range(MAX_ITER)}, period=5)
    assert pictures(tmp_path) == [f"step_{n:07d}.png" for n in (0, 5, 10)]
    assert [n for n, watchers in trainer.watchers.items() if watchers] == [0, 5, 10]


def test_a_step_without_unlabeled_images_is_made_up_for(tmp_path):
    drawn(tmp_path, {n: step(HIT) for n in (3, 4, 6, 7)}, period=5)
    assert pictures(tmp_path) == ["step_0000003.png", "step_0000006.png"]


def test_a_picture_that_cannot_be_written_is_told_once_and_no_end(tmp_path, caplog):
    (tmp_path / "file").touch()
    trainer = drawn(tmp_path / "file", {n: step(HIT) for n in range(MAX_ITER)}, period=2)
    assert len(trainer.storage._vis_data) > 1
    (record,) = [r for r in caplog.records if "no picture" in r.getMessage()]
    assert str(tmp_path / "file") in record.getMessage()


def test_the_event_storage_gets_the_picture_of_the_file(tmp_path):
    trainer = drawn(tmp_path, {0: step(HIT)}, period=5, stop=1)
    ((name, picture, number),) = trainer.storage._vis_data
    assert (name, number) == ("pseudo_boxes", 0)
    assert picture.dtype == np.uint8 and picture.shape[0] == 3
    saved = np.asarray(Image.open(tmp_path / "step_0000000.png"))
    np.testing.assert_array_equal(picture.transpose(1, 2, 0), saved)


def test_of_several_passes_the_first_is_drawn(tmp_path, monkeypatch):
    seen = []

    def picture(view, **options):
        seen.append((view, options))
        return np.zeros((2, 2, 3), dtype=np.uint8)

    monkeypatch.setattr("soft_teacher.monitoring.hooks.training_picture", picture)
    views = {5: [*step(HIT), *step(MISS)]}
    drawn(tmp_path, views, period=5)
    ((view, options),) = seen
    assert view is views[5][0]
    assert options == {"class_names": ["a", "b"], "image_format": "BGR", "title": "step 5"}


def test_the_model_is_not_looked_at_after_the_training(tmp_path):
    trainer = drawn(tmp_path, {}, period=5)
    assert trainer.model.observers == []
