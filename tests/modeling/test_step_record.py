"""What a step shows to observers, and that looking changes nothing."""

from collections import Counter

import numpy as np
import torch
from detectron2.engine import SimpleTrainer
from torch.utils._python_dispatch import TorchDispatchMode

from soft_teacher.data.streams.schedule import BatchSchedule
from soft_teacher.engine.ema import EMAHook
from soft_teacher.modeling.step_record import COLUMNS, table
from soft_teacher.monitoring.hooks import PictureHook, WatchHook

BOXES = [[10, 10, 40, 40], [50, 20, 90, 60], [4, 40, 24, 60], [70, 2, 94, 22]]
CLASSES = [0, 2, 1, 2]
SCORES = [0.95, 0.6, 0.91, 0.3]
FLIP = np.array([[-1.0, 0, 96], [0, 1, 0], [0, 0, 1]])
LENIENT = ("SOFT_TEACHER.JITTER.VARIANCE_THRESH", 0.9)


def boxes(labels):
    return [g.gt_boxes.tensor.tolist() for g in labels]


def seen_by(model, batch):
    seen = []
    model.observers.append(seen.append)
    model(batch)
    model.observers.clear()
    return seen


# --- what is shown


def test_without_unlabeled_images_nothing_is_shown(build, labeled):
    assert seen_by(build(), []) == seen_by(build(), [labeled()]) == []


def test_a_step_shows_the_samples_the_teachers_boxes_and_the_students_targets(
    build, labeled, unlabeled, inject, detections, known_variances, monkeypatch
):
    model = build()
    variances = torch.tensor([0.03, 0.01, 0.005])
    known_variances(model, [variances])
    inject(model, [detections(BOXES, CLASSES, SCORES)])
    pseudo_losses, returned = model.family.pseudo_losses, []

    def overheard(*args):
        returned.append(pseudo_losses(*args))
        return returned[0]

    monkeypatch.setattr(model.family, "pseudo_losses", overheard)
    images = [unlabeled(0, FLIP), labeled()]
    (view,) = seen_by(model, images)

    assert len(view.samples) == 1 and view.samples[0] is images[0]
    (found,) = view.teacher_boxes
    assert found.detections.pred_boxes.tensor.tolist() == BOXES
    assert found.confident.tolist() == [0, 2]
    assert found.candidates.tolist() == [0, 1, 2]
    assert found.variances is variances
    assert found.stable.tolist() == [1, 2]

    flipped = [[96.0 - x1, y0, 96.0 - x0, y1] for x0, y0, x1, y1 in BOXES]
    assert boxes(view.labels.classification) == [[flipped[0], flipped[2]]]
    assert boxes(view.labels.regression) == [[flipped[1], flipped[2]]]
    assert 0 < view.background_reliability < 1
    assert view.background_reliability is returned[0].background_reliability


def test_without_jitter_no_box_is_a_candidate(build, unlabeled, inject, detections):
    model = build("SOFT_TEACHER.JITTER.ENABLED", False)
    inject(model, [detections(BOXES, CLASSES, SCORES), detections()])
    (view,) = seen_by(model, [unlabeled(0), unlabeled(1)])
    first, second = view.teacher_boxes
    assert first.confident.tolist() == first.stable.tolist() == [0, 2]
    assert len(first.candidates) == len(first.variances) == len(second.detections) == 0


def test_every_observer_sees_every_step(build, unlabeled):
    model = build()
    first, second = [], []
    model.observers += [first.append, second.append]
    for key in range(3):
        model([unlabeled(key)])
    assert len(first) == 3 and all(a is b for a, b in zip(first, second))


# --- as one table


def test_the_table_of_no_detections_has_no_rows(build, unlabeled, inject, detections):
    model = build()
    inject(model, [detections()])
    (view,) = seen_by(model, [unlabeled()])
    assert table(view.teacher_boxes).shape == (0, len(COLUMNS))


def test_the_table_holds_a_row_per_detection(build, unlabeled, inject, detections, known_variances):
    model = build()
    known_variances(model, [[0.25], [0.5, 0.0078125]])
    first = detections(BOXES[:1], CLASSES[:1], [0.75])
    second = detections(BOXES[1:], CLASSES[1:], [0.9375, 0.25, 0.625])
    inject(model, [first, second])
    (view,) = seen_by(model, [unlabeled(0), unlabeled(1)])
    found = table(view.teacher_boxes)
    assert found.dtype == torch.float32
    # score, class, confident, candidate, variance, stable
    assert found.tolist() == [
        [*BOXES[0], 0.75, 0, 0, 1, 0.25, 0],
        [*BOXES[1], 0.9375, 2, 1, 1, 0.5, 0],
        [*BOXES[2], 0.25, 1, 0, 0, 0, 0],
        [*BOXES[3], 0.625, 2, 0, 1, 0.0078125, 1],
    ]


# --- looking changes nothing


class HostReads(TorchDispatchMode):
    """Counts operations that make a GPU's host wait: their result's size or value is read."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        if masks or name in ("nonzero", "_local_scalar_dense", "masked_select", "equal"):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def test_looking_reads_nothing_from_the_device(build, unlabeled, inject, detections):
    counts = []
    for looks in (False, True):
        model = build(*LENIENT)
        inject(model, [detections(BOXES, CLASSES, SCORES), detections()])
        if looks:
            model.observers.append(lambda view: table(view.teacher_boxes))
        with HostReads() as reads:
            model([unlabeled(0), unlabeled(1)])
        counts.append(reads.found)
    assert counts[0] == counts[1] and counts[0]["nonzero"] > 0


def trained(build, batches, tmp_path, *, watch):
    """Losses of every step, and the weights after the last one."""
    model = build(
        *LENIENT, "SOFT_TEACHER.SCORE_THRESH", 0.4, "SOFT_TEACHER.JITTER.SCORE_THRESH", 0.4
    )
    optimizer = torch.optim.SGD(model.student.parameters(), lr=1e-3)
    trainer = SimpleTrainer(model, batches, optimizer)
    hooks = [EMAHook(model.student, model.teacher, momentum=0.5)]
    if watch:
        schedule = BatchSchedule(
            batch_size=3, share=1 / 3, decay_steps=0, max_iter=4, burn_in=0, draw="global",
            world_size=1, seed=0,
        )  # fmt: skip
        hooks.append(WatchHook(model, schedule, period=2, patience=1))
        hooks.append(PictureHook(model, str(tmp_path / "pictures"), period=2))
    trainer.register_hooks(hooks)
    torch.manual_seed(0)
    trainer.train(0, 4)
    histories = {n: h.values() for n, h in trainer.storage.histories().items() if "loss" in n}
    return histories, model.state_dict(), trainer.storage


def test_hidden_labels_and_watching_change_no_loss_and_no_weight(
    build, labeled, unlabeled, targets, tmp_path
):
    full = [targets(BOXES[: n % 4 + 1], CLASSES[: n % 4 + 1]) for n in range(8)]
    truths = {
        "none": [{}] * 8,
        "empty": [{"hidden_instances": targets()}] * 8,
        "full": [{"hidden_instances": truth} for truth in full],
    }
    results = []
    for name, watch in (("none", False), ("none", True), ("empty", True), ("full", True)):
        batches = [
            [labeled(n), *(unlabeled(2 * n + k, **truths[name][2 * n + k]) for k in range(2))]
            for n in range(4)
        ]
        results.append(trained(build, batches, tmp_path / name, watch=watch))
    (losses, weights, storage), *others = results
    assert len(losses["total_loss"]) == 4 and "pseudo/recall_cls" not in storage.histories()
    for other_losses, other_weights, _ in others:
        assert other_losses == losses
        assert all(torch.equal(other_weights[k], v) for k, v in weights.items())
    # The labels do reach what they are for.
    assert "pseudo/recall_cls" in others[2][2].histories()
    assert len(list((tmp_path / "full" / "pictures").iterdir())) == 2


def test_a_teacher_that_is_watched_finds_pseudo_boxes(build, labeled, unlabeled, tmp_path):
    """So that the comparison above is not one of empty sets."""
    batches = [[labeled(n), unlabeled(n), unlabeled(n + 9)] for n in range(4)]
    _, _, storage = trained(build, batches, tmp_path, watch=False)
    assert max(value for value, _ in storage.history("pseudo/num_reg_boxes").values()) > 0
