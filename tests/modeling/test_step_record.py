"""What a step shows to observers, and that observing changes nothing."""

import numpy as np
import pytest
import torch
from bench_reads import DeviceReads
from detectron2.engine import SimpleTrainer
from steps import (
    BOXES,
    CLASSES,
    LENIENT,
    detections,
    inject,
    known_variances,
    labeled,
    step_views,
    targets,
    unlabeled,
)

from soft_teacher.data.streams.schedule import BatchSchedule
from soft_teacher.engine.ema import EMAHook
from soft_teacher.modeling.step_record import COLUMNS, table
from soft_teacher.monitoring.hooks import WatchHook
from soft_teacher.monitoring.picture_hooks import PictureHook
from soft_teacher.monitoring.window import Window

FLIP = np.array([[-1.0, 0, 96], [0, 1, 0], [0, 0, 1]])
FOUND = detections(BOXES, CLASSES, [0.95, 0.6, 0.91, 0.3])


def test_without_images_nothing_is_shown(build):
    assert step_views(build(), []) == []


def test_without_unlabeled_images_the_labeled_ones_are_shown(build):
    image = labeled()
    (view,) = step_views(build(), [image])
    assert len(view.labeled) == 1 and view.labeled[0] is image
    assert view.samples == view.teacher_boxes == view.labels.classification == []
    assert view.labels.regression == [] and view.background_reliability is None


def test_a_step_shows_the_samples_the_teachers_boxes_and_the_students_targets(build):
    model = build()
    known_variances(model, [[0.03, 0.01, 0.005]])
    inject(model, [FOUND])
    pseudo_losses, returned = model.family.pseudo_losses, []
    model.family.pseudo_losses = lambda *args: returned.append(pseudo_losses(*args)) or returned[0]
    images = [unlabeled(0, FLIP), labeled()]
    (view,) = step_views(model, images)

    assert len(view.samples) == 1 and view.samples[0] is images[0]
    assert len(view.labeled) == 1 and view.labeled[0] is images[1]
    (found,) = view.teacher_boxes
    assert found.detections.pred_boxes.tensor.tolist() == BOXES
    assert found.confident.tolist() == [0, 2]
    assert found.candidates.tolist() == [0, 1, 2]
    assert found.variances.tolist() == pytest.approx([0.03, 0.01, 0.005])
    assert found.stable.tolist() == [1, 2]

    flipped = [[96.0 - x1, y0, 96.0 - x0, y1] for x0, y0, x1, y1 in BOXES]
    (g_cls,), (g_reg,) = view.labels.classification, view.labels.regression
    assert g_cls.gt_boxes.tensor.tolist() == [flipped[0], flipped[2]]
    assert g_reg.gt_boxes.tensor.tolist() == [flipped[1], flipped[2]]
    assert 0 < view.background_reliability < 1
    assert view.background_reliability is returned[0].background_reliability


def test_every_observer_sees_every_step(build):
    model = build()
    first, second = [], []
    model.observers += [first.append, second.append]
    for key in range(3):
        model([unlabeled(key)])
    assert len(first) == 3 and all(a is b for a, b in zip(first, second))


def test_the_table_holds_a_row_per_detection(build):
    model = build()
    known_variances(model, [[], [0.25], [0.5, 0.0078125]])
    first = detections(BOXES[:1], CLASSES[:1], [0.75])
    second = detections(BOXES[1:], CLASSES[1:], [0.9375, 0.25, 0.625])
    inject(model, [detections(), first, second])
    (view,) = step_views(model, [unlabeled(n) for n in range(3)])
    assert table(view.teacher_boxes[:1]).shape == (0, len(COLUMNS))
    found = table(view.teacher_boxes)
    assert found.dtype == torch.float32
    # score, class, confident, candidate, variance, stable
    assert found.tolist() == [
        [*BOXES[0], 0.75, 0, 0, 1, 0.25, 0],
        [*BOXES[1], 0.9375, 2, 1, 1, 0.5, 0],
        [*BOXES[2], 0.25, 1, 0, 0, 0, 0],
        [*BOXES[3], 0.625, 2, 0, 1, 0.0078125, 1],
    ]


def test_observing_causes_no_host_device_sync(build):
    model = build(*LENIENT)
    inject(model, [FOUND, detections()])
    (view,) = step_views(model, [unlabeled(0), unlabeled(1), labeled()])
    with DeviceReads() as reads:
        table(view.teacher_boxes)
        Window().add(view)
        Window().add_losses(1.0, 2.0)
    assert not sum(reads.by_file.values())


def trained(build, folder, fields=(), *, monitored):
    """Losses of every step, the weights after the last one, and the scalars.

    Args:
        fields: more fields of the unlabeled images.
    """
    fields = fields or [{}] * 8
    batches = [
        [labeled(n), *(unlabeled(2 * n + k, **fields[2 * n + k]) for k in range(2))]
        for n in range(4)
    ]
    low = ("SOFT_TEACHER.SCORE_THRESH", 0.4, "SOFT_TEACHER.JITTER.SCORE_THRESH", 0.4)
    model = build(*LENIENT, *low)
    optimizer = torch.optim.SGD(model.student.parameters(), lr=1e-3)
    trainer = SimpleTrainer(model, batches, optimizer)
    hooks = [EMAHook(model.student, model.teacher, momentum=0.5)]
    if monitored:
        schedule = BatchSchedule(
            batch_size=3, share=1 / 3, decay_steps=0, max_iter=4, burn_in=0, draw="global",
            world_size=1, seed=0,
        )  # fmt: skip
        hooks.append(WatchHook(model, schedule, period=2, patience=1))
        hooks.append(PictureHook(model, str(folder / "pictures"), period=2))
    trainer.register_hooks(hooks)
    torch.manual_seed(0)
    trainer.train(0, 4)
    histories = {n: h.values() for n, h in trainer.storage.histories().items() if "loss" in n}
    return histories, model.state_dict(), trainer.storage


def test_held_out_ground_truth_and_monitoring_change_no_loss_and_no_weight(build, tmp_path):
    held_out = {
        "none": (),
        "empty": [{"hidden_instances": targets()}] * 8,
        "full": [
            {"hidden_instances": targets(BOXES[: n % 4 + 1], CLASSES[: n % 4 + 1])}
            for n in range(8)
        ],
    }
    losses, weights, storage = trained(build, tmp_path, monitored=False)
    assert len(losses["total_loss"]) == 4 and "pseudo/recall_cls" not in storage.histories()
    assert max(value for value, _ in storage.history("pseudo/num_reg_boxes").values()) > 0
    for name, fields in held_out.items():
        other_losses, other_weights, storage = trained(
            build, tmp_path / name, fields, monitored=True
        )
        assert other_losses == losses
        assert all(torch.equal(other_weights[k], v) for k, v in weights.items())
    # The ground truth does reach what it is for.
    assert "pseudo/recall_cls" in storage.histories()
    assert len(list((tmp_path / "full" / "pictures").iterdir())) == 2
