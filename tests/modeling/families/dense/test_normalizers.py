"""What divides the losses of a dense detector, over the steps and the ranks of a run."""

import io
from types import SimpleNamespace

import pytest
import tiny_fcos  # noqa: F401  registers a family
import torch
from contract import let_find
from counted_runs import DEALT, CountedRun, parts_of
from detectron2.solver import build_optimizer
from steps import batch_of, detections, labeled, targets, unlabeled

from soft_teacher.engine import pending as pending_module
from soft_teacher.engine.pending import PendingHook
from soft_teacher.modeling.families.dense.normalizers import (
    LABELED,
    UNLABELED,
    LossNormalizers,
)

# Of each image of a step: stream, positives of its 9 places, boxes.
Image = tuple[int, int, int]
STEPS: list[list[Image]] = [
    [(LABELED, 3, 2), (LABELED, 6, 1), (UNLABELED, 5, 1), (UNLABELED, 0, 0)],
    [(LABELED, 0, 0), (LABELED, 0, 0), (UNLABELED, 0, 0), (UNLABELED, 0, 0)],
    [(LABELED, 9, 4), (UNLABELED, 0, 1), (UNLABELED, 0, 0), (UNLABELED, 0, 0)],
    [(UNLABELED, 9, 3), (UNLABELED, 7, 2), (UNLABELED, 0, 0), (UNLABELED, 9, 2)],
    [(LABELED, 1, 1), (LABELED, 2, 1), (LABELED, 9, 4), (LABELED, 0, 0)],
]


def by_hand(steps, initial=100.0):
    """Means of both streams after each step, in Python's own numbers."""
    means, found = [initial, initial], []
    for images in steps:
        for stream in (LABELED, UNLABELED):
            mine = [image for image in images if image[0] == stream]
            boxes = sum(boxes for _, _, boxes in mine)
            if mine and (stream == LABELED or boxes):
                positives = max(sum(n for _, n, _ in mine) / len(mine), 1)
                means[stream] = means[stream] * 0.9 + positives * (1 - 0.9)
        found.append(list(means))
    return found


class Run(CountedRun):
    def __init__(self):
        self.normalizers = LossNormalizers(100)
        super().__init__(PendingHook(self.normalizers, period=2))

    def count(self, images):
        count(self.normalizers, images)

    def state(self):
        return self.normalizers.values.tolist()


def count(normalizers, images):
    """What a forward pass counts."""
    for stream in (LABELED, UNLABELED):
        mine = [image for image in images if image[0] == stream]
        positive = torch.zeros(len(mine), 9, dtype=torch.bool)
        for row, (_, n, _) in zip(positive, mine):
            row[:n] = True
        normalizers.count(stream, positive, sum(boxes for _, _, boxes in mine))


EXPECTED = by_hand(STEPS)


def test_nothing_has_the_initial_number_of_positives():
    normalizers = LossNormalizers(300)
    assert [normalizers.of(stream, 2).item() for stream in (0, 1)] == [600, 600]
    assert normalizers.of(0, 1).dtype == torch.float32
    assert Run().step() == Run().step([]) == [100, 100]


@pytest.mark.parametrize("counts", DEALT.values(), ids=DEALT)
def test_a_step_updates_once_however_it_is_divided(counts):
    run = Run()
    assert [run.step(*parts_of(images, counts)) for images in STEPS] == EXPECTED


@pytest.mark.parametrize("counts", [c for c in DEALT.values() if len(c) == 2], ids=str)
def test_processes_are_one_to_the_bit(counts, monkeypatch):
    ranks = [Run(), Run()]
    monkeypatch.setattr(pending_module.comm, "get_world_size", lambda: 2)
    for images, expected in zip(STEPS, EXPECTED):
        parts, pending = parts_of(images, counts), LossNormalizers(1)
        count(pending, images)
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: x.copy_(pending.pending))
        for rank, part in zip(ranks, parts):
            assert rank.step(part) == expected


@pytest.mark.parametrize("done", [0, 1, 4])
def test_a_resumed_run_goes_on_to_the_bit(done):
    first = Run()
    for images in STEPS[:done]:
        first.step(images)
    first.hook.before_step()
    count(first.normalizers, STEPS[done])  # and then the machine is gone
    file = io.BytesIO()
    torch.save(first.hook.state_dict(), file)
    file.seek(0)
    resumed = Run()
    resumed.hook.load_state_dict(torch.load(file, weights_only=True))
    assert [resumed.step(images) for images in STEPS[done:]] == EXPECTED[done:]


def test_both_are_logged():
    run = Run()
    run.step(STEPS[0])
    assert run.storage.latest() == {}
    values = run.step(STEPS[1])
    found = {name: value for name, (value, _) in run.storage.latest().items()}
    assert found == dict(zip(("sup/normalizer", "unsup/normalizer"), values))


# --- in a run

DETECTORS = {"RetinaNet": ("RetinaNet", 100), "FCOS": ("TinyFCOS", 300)}


@pytest.fixture(params=DETECTORS.values(), ids=DETECTORS.keys())
def detector(request):
    return request.param


@pytest.fixture
def model(build, detector):
    return build("SOFT_TEACHER.DETECTOR", detector[0], "MODEL.RESNETS.NORM", "FrozenBN")


def test_a_step_is_divided_by_what_was_counted_before_it(model, detector):
    _, initial = detector
    model.pseudo_labeler.score_thresh = 0.5
    let_find(model, [detections([[8, 8, 40, 40]], [0], [0.9])] * 2)
    first, batch = model(batch_of(1, 2)), batch_of(1, 2)
    values = model.family.normalizers.values
    assert values.tolist() == [initial, initial]
    model.family.counted().update()
    assert values[LABELED] < initial and values[UNLABELED] < initial
    second = model(batch)
    for name, loss in first.items():
        stream = UNLABELED if name.startswith("unsup") else LABELED
        assert second[name].item() == pytest.approx(loss.item() * initial / values[stream].item())


@pytest.mark.long
def test_200_steps_without_a_box_leave_the_losses_of_both_streams_bounded(
    model, detector, tiny_cfg
):
    """Labeled images are divided by 1 in the end, as in Detectron2, unlabeled ones as before."""
    _, initial = detector
    optimizer = build_optimizer(tiny_cfg, model)
    hook = PendingHook(model.family.counted(), period=1000)
    hook.trainer = SimpleNamespace(iter=0)
    let_find(model, [detections()])
    batch, history = [labeled(instances=targets()), unlabeled()], []
    for _ in range(200):
        hook.before_step()
        losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        hook.after_step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert model.family.normalizers.values.tolist() == [pytest.approx(1), initial]
    for name, first in history[0].items():
        limit = first * (initial if name.startswith("sup") else 1.001)
        assert all(0 <= losses[name] <= limit for losses in history), name
