"""Hooks that draw steps and test images."""

from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.engine import HookBase
from examples import example
from PIL import Image
from watching import HIT, MAX_ITER, MISS, Trainer, step

from soft_teacher import ConfigError
from soft_teacher.monitoring.picture_hooks import (
    PictureFolder,
    PictureHook,
    ValidationPictureHook,
)

HOOKS = "soft_teacher.monitoring.picture_hooks"


# --- files


def test_a_folder_is_made_when_it_is_needed_and_tells_once_why_it_fails(tmp_path, caplog):
    picture, blocked = np.zeros((2, 3, 3), dtype=np.uint8), tmp_path / "new"
    folder = PictureFolder(str(blocked / "pictures"))
    blocked.touch()
    folder.save(picture, "a.png"), folder.save(picture, "b.png")
    assert len(caplog.records) == 1 and "training continues" in caplog.text
    blocked.unlink()
    folder.save(picture, "c.png")
    assert [path.name for path in (blocked / "pictures").iterdir()] == ["c.png"]


# --- steps


def drawn(folder, views, *, period=5, stop=MAX_ITER):
    model = SimpleNamespace(observers=[])
    hook = PictureHook(model, str(folder), period=period, class_names=["a", "b"])
    trainer = Trainer(model, [hook], views)
    trainer.train(0, stop)
    assert trainer.model.observers == []
    return trainer


@pytest.mark.parametrize(
    "steps, period, expected",
    [
        ((), 2, ()),
        (range(MAX_ITER), 0, ()),
        (range(MAX_ITER), 5, (0, 5, 10)),
        ((3, 4, 6, 7), 5, (3, 6)),  # steps 0 and 5 have no unlabeled image
    ],
)
def test_a_picture_every_period_and_no_look_at_other_steps(steps, period, expected, tmp_path):
    folder = tmp_path / "pictures"
    trainer = drawn(folder, {n: step(HIT) for n in steps}, period=period)
    assert folder.exists() == bool(expected)
    assert sorted(p.name for p in folder.glob("*")) == [f"step_{n:07d}.png" for n in expected]
    if len(steps) == MAX_ITER:
        assert [n for n, count in trainer.observed.items() if count] == list(expected)


def test_a_view_without_unlabeled_images_is_not_drawn(tmp_path):
    drawn(tmp_path, {0: step(), 1: step(HIT)}, period=5, stop=3)
    assert [path.name for path in tmp_path.iterdir()] == ["step_0000001.png"]


def test_a_negative_period_is_refused():
    with pytest.raises(ConfigError, match="^PictureHook.period must not be negative, got -1"):
        PictureHook(SimpleNamespace(), "", period=-1)


def test_a_picture_that_cannot_be_written_is_logged_once_and_the_run_continues(tmp_path, caplog):
    (tmp_path / "file").touch()
    trainer = drawn(tmp_path / "file", {n: step(HIT) for n in range(MAX_ITER)}, period=2)
    assert len(trainer.storage._vis_data) > 1
    (text,) = [r.getMessage() for r in caplog.records if "no picture" in r.getMessage()]
    assert str(tmp_path / "file") in text


def test_the_event_storage_gets_the_picture_of_the_file(tmp_path):
    trainer = drawn(tmp_path, {0: step(HIT)}, stop=1)
    ((name, picture, number),) = trainer.storage._vis_data
    assert (name, number) == ("pseudo_boxes", 0)
    assert picture.dtype == np.uint8 and picture.shape[0] == 3
    saved = np.asarray(Image.open(tmp_path / "step_0000000.png"))
    np.testing.assert_array_equal(picture.transpose(1, 2, 0), saved)


def test_of_several_passes_the_first_is_drawn(tmp_path, monkeypatch):
    seen, picture = [], np.zeros((2, 2, 3), dtype=np.uint8)
    record = lambda view, **options: seen.append((view, options)) or picture
    monkeypatch.setattr(f"{HOOKS}.training_picture", record)
    views = {5: [*step(HIT), *step(MISS)]}
    drawn(tmp_path, views)
    ((view, options),) = seen
    assert view is views[5][0]
    assert options == {"class_names": ["a", "b"], "image_format": "BGR", "title": "step 5"}


# --- test images


class Evaluates(HookBase):
    """Succeeds after the given numbers of steps."""

    def __init__(self, *steps):
        self.steps, self.evaluated = steps, 0

    def after_step(self):
        done = self.trainer.iter + 1
        self.evaluated = done if done in self.steps else self.evaluated


def detected(folder, *steps, examples, monkeypatch):
    """The trainer that has evaluated after some steps, and what was asked of the detector."""
    asked = []
    record = lambda *arguments: asked.append(arguments) or examples
    monkeypatch.setattr(f"{HOOKS}.some_dicts", lambda name, count: [name, count])
    monkeypatch.setattr(f"{HOOKS}.detect_examples", record)
    network, evaluation = SimpleNamespace(teacher="teacher", observers=[]), Evaluates(*steps)
    options = dict(dataset="mine", mapper="mapper", class_names=["a", "b"])
    hook = ValidationPictureHook(network, evaluation, str(folder), **options)
    trainer = Trainer(network, [evaluation, hook], {})
    trainer.train(0, MAX_ITER)
    return trainer, asked


def test_without_an_evaluation_no_test_image_is_drawn(tmp_path, monkeypatch):
    trainer, asked = detected(tmp_path, examples=[example()], monkeypatch=monkeypatch)
    assert asked == trainer.storage._vis_data == list(tmp_path.iterdir()) == []


def test_after_every_evaluation_the_teacher_detects_on_the_same_images(tmp_path, monkeypatch):
    trainer, asked = detected(tmp_path, 5, 12, examples=[example()], monkeypatch=monkeypatch)
    assert asked == [("teacher", ["mine", 4], "mapper")] * 2
    names = ["validation_0000005.png", "validation_0000012.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    (name, picture, number), (*_, last) = trainer.storage._vis_data
    assert (name, number, last) == ("validation", 4, 11)
    saved = np.asarray(Image.open(tmp_path / names[0]))
    np.testing.assert_array_equal(picture.transpose(1, 2, 0), saved)


def test_with_unreadable_images_alone_there_is_no_picture(tmp_path, monkeypatch):
    trainer, asked = detected(tmp_path, 5, examples=[], monkeypatch=monkeypatch)
    assert len(asked) == 1 and trainer.storage._vis_data == list(tmp_path.iterdir()) == []


def test_a_picture_of_test_images_that_cannot_be_written_stops_no_run(
    tmp_path, monkeypatch, caplog
):
    (tmp_path / "file").touch()
    where = tmp_path / "file"
    trainer, _ = detected(where, 3, 6, examples=[example()], monkeypatch=monkeypatch)
    assert trainer.iter == MAX_ITER and len(trainer.storage._vis_data) == 2
    (text,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert text.startswith(f"no picture in {where} (") and text.endswith("training continues")
