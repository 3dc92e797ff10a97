"""Predicting on many files: what is kept, drawn and left out, and going on after a stop."""

import json

import numpy as np
import pytest
from predictions import FakePredictor, confidence, instances, photo

from soft_teacher import ConfigError
from soft_teacher.deploy.prediction import predict
from soft_teacher.deploy.predictor import Prediction
from soft_teacher.deploy.record import RECORD
from soft_teacher.deploy.sources import find_sources
from soft_teacher.deploy.video import Frames, VideoWriter

SETTINGS = {"weights": "model.pth"}


class Stopped(Exception):
    """In place of a kill."""


@pytest.fixture
def photos(tmp_path):
    """Seven images, two of which cannot be read."""
    for n in range(5):
        photo(tmp_path / "in" / f"{n}.png", seed=n)
    (tmp_path / "in" / "1b.png").write_bytes(b"")
    (tmp_path / "in" / "9.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    return tmp_path / "in"


@pytest.fixture
def clip(tmp_path):
    with VideoWriter(tmp_path / "clip", codec="MJPG", rate=10, size=(48, 64)) as writer:
        for n in range(6):
            writer.write(np.full((48, 64, 3), 40 * n, np.uint8))
    return writer.path


def run(source, folder, predictor=None, **options):
    options = {
        "formats": ("pictures", "coco", "csv"),
        "confidence": confidence(),
        "settings": SETTINGS,
        **options,
    }
    folder.mkdir(exist_ok=True)
    sources = find_sources([str(source)])
    return predict(predictor or FakePredictor(), sources, folder, **options)


def stopping(predictor, after: int):
    """The predictor, which stops after so many images."""
    stream = predictor.stream

    def cut(images):
        for n, prediction in enumerate(stream(images)):
            if n == after:
                raise Stopped
            yield prediction

    predictor.stream = cut
    return predictor


def files(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def test_every_image_is_predicted_on_and_unreadable_ones_are_named(photos, tmp_path, caplog):
    summary = run(photos, tmp_path / "out")
    assert (summary.images, summary.boxes, summary.unreadable) == (5, 5, 2)
    assert caplog.text.count("left out: ") == 2 and "1b.png: the file is empty" in caplog.text
    assert sorted(p.name for p in (tmp_path / "out/pictures").iterdir()) == [
        f"{n}.jpg" for n in range(5)
    ]
    assert summary.written[1] == f"{tmp_path}/out/coco/dataset.json@{photos}"


def test_boxes_above_the_threshold_of_their_class_are_kept(photos, tmp_path):
    assert run(photos, tmp_path / "a", confidence=confidence(0.95, 0.4)).boxes == 5
    assert run(photos, tmp_path / "b", confidence=confidence(0.1, 0.1)).boxes == 10
    rows = (tmp_path / "b" / RECORD).read_text().splitlines()[1:]
    near = [json.loads(row).get("near", 0) for row in rows]
    assert near == [0] * 7
    # 0.45 is near 0.5 and not kept.
    run(photos, tmp_path / "c")
    assert [json.loads(r).get("near") for r in (tmp_path / "c" / RECORD).open()][1:3] == [1, 1]


def test_no_readable_image_is_one_line(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ConfigError, match="none of 1 files can be read"):
        run(tmp_path / "a.png", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [RECORD]


@pytest.mark.parametrize("after", range(8))
def test_a_stop_between_any_two_images_is_gone_on_from(photos, tmp_path, after):
    whole = run(photos, tmp_path / "whole")
    folder, first, second = tmp_path / "out", FakePredictor(), FakePredictor()
    if after < 7:
        with pytest.raises(Stopped):
            run(photos, folder, stopping(first, after))
        assert not (folder / "coco").exists() and not (folder / "predictions.csv").exists()
    else:
        run(photos, folder, first)
    resumed = run(photos, folder, second, resume=True)
    assert (resumed.images, resumed.boxes) == (whole.images, whole.boxes)
    # The fake looks at one more image before it stops.
    assert (
        len(set(first.seen) | set(second.seen)) == 5 and len(second.seen) <= 5 - min(after, 5) + 2
    )
    one, other = files(tmp_path / "whole"), files(folder)
    assert one.keys() == other.keys()
    assert all(one[name] == other[name] for name in one)


def test_formats_may_be_added_without_looking_again(photos, tmp_path):
    run(photos, tmp_path / "out", formats=["csv"])
    again = FakePredictor()
    run(photos, tmp_path / "out", again, formats=["pictures", "voc"], resume=True)
    assert again.seen == []
    assert len(list((tmp_path / "out/pictures").iterdir())) == 5
    assert len(list((tmp_path / "out/voc/Annotations").iterdir())) == 5


def test_files_that_are_new_are_predicted_on_when_it_goes_on(photos, tmp_path):
    run(photos, tmp_path / "out")
    photo(photos / "0.bmp", seed=7)
    again = FakePredictor()
    summary = run(photos, tmp_path / "out", again, resume=True)
    assert again.seen == [str(photos / "0.bmp")] and summary.images == 6
    assert (tmp_path / "out/pictures/0_bmp.jpg").exists()


def test_a_video_becomes_a_video_and_a_table(clip, tmp_path):
    summary = run(clip, tmp_path / "out", formats=("video", "csv"))
    assert (summary.images, summary.boxes) == (6, 6)
    frames = list(Frames(str(tmp_path / "out/videos/clip.mp4")))
    assert len(frames) == 6 and frames[0].shape == (48, 64, 3)
    lines = (tmp_path / "out/predictions.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == ["frame", *"012345"]


def test_a_video_goes_on_after_its_last_frame(clip, tmp_path):
    folder, again = tmp_path / "out", FakePredictor()
    with pytest.raises(Stopped):
        run(clip, folder, stopping(FakePredictor(), 4), formats=["video"])
    assert not list((folder / "videos").iterdir())
    run(clip, folder, again, formats=["video"], resume=True)
    assert len(again.seen) == 2
    assert len(list(Frames(str(folder / "videos/clip.mp4")))) == 6
    run(clip, folder, again, formats=["video"], resume=True)
    assert len(again.seen) == 2


def test_a_video_that_cannot_be_read_is_left_out(clip, tmp_path, caplog):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    sources = find_sources([str(clip), str(tmp_path / "a.mp4")])
    (tmp_path / "out").mkdir()
    options = {"formats": ["csv"], "confidence": confidence(), "settings": SETTINGS}
    summary = predict(FakePredictor(), sources, tmp_path / "out", **options)
    assert (summary.images, summary.unreadable) == (6, 1)
    assert "left out: " in caplog.text


@pytest.mark.parametrize(
    "name, formats, message",
    [
        ("in", ["video"], "--format video is not for images"),
        ("clip.avi", ["coco"], "--format coco is not for a video: use csv, video"),
        ("clip.avi", ["pictures"], "--format pictures is not for a video"),
    ],
)
def test_formats_must_suit_the_sources(photos, clip, tmp_path, name, formats, message):
    source = clip if name.startswith("clip") else tmp_path / name
    with pytest.raises(ConfigError, match=message):
        run(source, tmp_path / "out", formats=formats)
    assert not list((tmp_path / "out").iterdir())


def test_rgb_predictors_see_rgb_and_pictures_keep_their_colours(tmp_path, clip):
    class Red(FakePredictor):
        image_format = "RGB"

        def stream(self, images):
            for image in images:
                self.seen.append(image.mean(axis=(0, 1)))
                yield Prediction(image, image, instances(size=image.shape[:2]))

    blue = np.zeros((48, 64, 3), np.uint8)
    blue[:, :, 0] = 200
    with VideoWriter(tmp_path / "blue", codec="MJPG", rate=10, size=(48, 64)) as writer:
        writer.write(blue)
    predictor = Red()
    run(writer.path, tmp_path / "out", predictor, formats=["video"])
    assert predictor.seen[0].argmax() == 2
    (frame,) = Frames(str(tmp_path / "out/videos/blue.mp4"))
    assert frame.mean(axis=(0, 1)).argmax() == 0
