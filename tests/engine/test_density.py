"""Thresholds for each class over the ranks and the steps of a run."""

import io

import pytest
import torch
from contract import density_on_rank
from counted_runs import DEALT, CountedRun, parts_of
from detectron2.engine import launch
from steps import detections, labeled, targets

from soft_teacher.engine import pending as pending_module
from soft_teacher.engine.density import DensityThresholdsHook
from soft_teacher.modeling import DensityThresholds
from soft_teacher.modeling.step_record import MOST_CLASSES

CLASSES = 3
BOX = [1, 1, 9, 9]
RNG = torch.Generator().manual_seed(0)


def classes_of(n):
    return torch.randint(CLASSES, (n,), generator=RNG).tolist()


def image():
    """A labeled and an unlabeled image: the labels' classes, the detections' classes and scores."""
    n = int(torch.randint(5, (), generator=RNG))
    return classes_of(n), classes_of(9), torch.rand(9, generator=RNG).tolist()


STEPS = [[image() for _ in range(4)] for _ in range(5)]


def thresholds_of(**settings):
    found = DensityThresholds(**{"ignore": 2.0, "window": 7, **settings})
    found.allocate(CLASSES, 0.9)
    return found


def count(thresholds, images):
    """What a forward pass counts."""
    sup = [labeled(instances=targets([BOX] * len(c), c)) for c, _, _ in images]
    thresholds.count_labels(sup)
    thresholds.count_scores([detections([BOX] * len(c), c, s) for _, c, s in images])


class Run(CountedRun):
    def __init__(self, **settings):
        self.thresholds = thresholds_of(**settings)
        super().__init__(DensityThresholdsHook(self.thresholds))

    def count(self, images):
        count(self.thresholds, images)

    def state(self):
        return {name: b.clone() for name, b in self.thresholds.named_buffers()}


def assert_same(one, other):
    assert one.keys() == other.keys() and one
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.fixture
def whole():
    """States after each step of one process."""
    run = Run()
    return [run.step(images) for images in STEPS]


def test_a_step_without_images_changes_nothing():
    run = Run()
    before = run.state()
    assert_same(run.step(), before)
    first = run.step(STEPS[0])
    assert_same(run.step([]), first)
    assert not torch.equal(before["thresholds"], first["thresholds"])


@pytest.mark.parametrize("counts", DEALT.values(), ids=DEALT)
def test_micro_batches_are_one_step_to_the_bit(counts, whole):
    run = Run()
    for images, expected in zip(STEPS, whole):
        assert_same(run.step(*parts_of(images, counts)), expected)


@pytest.mark.parametrize("counts", [c for c in DEALT.values() if len(c) == 2], ids=str)
def test_processes_are_one_to_the_bit(counts, whole, monkeypatch):
    """Each adds what the others have pending, before it takes any of it."""
    ranks = [Run(), Run()]
    monkeypatch.setattr(pending_module.comm, "get_world_size", lambda: 2)
    for images, expected in zip(STEPS, whole):
        parts = parts_of(images, counts)
        pending = []
        for part in parts:
            counted = thresholds_of()
            count(counted, part)
            pending.append(counted.pending)
        total = sum(pending)
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: x.copy_(total))
        for rank, part in zip(ranks, parts):
            assert_same(rank.step(part), expected)


@pytest.mark.long
def test_two_processes_are_one_to_the_bit(whole, tmp_path):
    for counts in ([3, 1], [4, 0]):
        parts = [parts_of(images, counts) for images in STEPS]
        launch(density_on_rank, 2, dist_url="auto", args=(parts, Run, str(tmp_path)))
        for rank in range(2):
            assert_same(torch.load(tmp_path / f"{rank}.pth"), whole[-1])


def test_a_step_that_is_broken_off_and_repeated_counts_once(whole):
    run = Run()
    for images, expected in zip(STEPS, whole):
        run.hook.before_step()
        count(run.thresholds, images[:3])  # and then the machine is gone
        assert_same(run.step(images), expected)


@pytest.mark.parametrize("done", [0, 1, 4])
@pytest.mark.parametrize("broken_off", [False, True])
def test_a_resumed_run_goes_on_to_the_bit(whole, done, broken_off):
    first = Run()
    for images in STEPS[:done]:
        first.step(images)
    if broken_off:
        first.hook.before_step()
        count(first.thresholds, STEPS[done])
    file = io.BytesIO()
    torch.save(first.hook.state_dict(), file)
    file.seek(0)
    resumed = Run()
    resumed.hook.load_state_dict(torch.load(file, weights_only=True))
    for images, expected in zip(STEPS[done:], whole[done:]):
        assert_same(resumed.step(images), expected)


def test_other_densities_go_on_from_the_same_scores():
    """As of a run that is resumed although its settings changed."""
    first, expected, changed = Run(), Run(ignore=0.0), Run(ignore=0.0)
    first.step(STEPS[0]), expected.step(STEPS[0])
    changed.hook.load_state_dict(first.hook.state_dict())
    assert_same(changed.state(), expected.state())
    assert_same(changed.step(STEPS[1]), expected.step(STEPS[1]))


@pytest.mark.parametrize("names, tags", [((), "012"), ("abc", "abc"), ("ab", "012")])
def test_the_upper_thresholds_are_logged_by_class(names, tags):
    run = Run()
    run.hook.class_names, run.hook.period = names, 2
    run.step(STEPS[0])
    assert run.storage.latest() == {}
    thresholds = run.step(STEPS[1])["thresholds"][0].tolist()
    latest = {tag: value for tag, (value, _) in run.storage.latest().items()}
    mean = latest.pop("pseudo/score_thresh")
    assert mean == pytest.approx(sum(thresholds) / 3)
    assert latest == {f"pseudo/score_thresh/{t}": s for t, s in zip(tags, thresholds)}


def test_of_many_classes_the_mean_is_logged():
    run = Run()
    run.thresholds.allocate(MOST_CLASSES + 1, 0.7)
    run.hook.period = 1
    run.step()
    ((tag, (value, _)),) = run.storage.latest().items()
    assert tag == "pseudo/score_thresh" and value == pytest.approx(0.7)
