"""Videos are read frame by frame, and written with a codec that works."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from soft_teacher import ConfigError
from soft_teacher.data.images.image import UnreadableImage
from soft_teacher.deploy import video
from soft_teacher.deploy.video import Frames, VideoWriter


def clip(path, count=5, size=(48, 64), codec="MJPG"):
    """Writes a video whose frame n is n * 40 bright; returns its path."""
    with VideoWriter(path, codec=codec, rate=10, size=size) as writer:
        for n in range(count):
            writer.write(np.full((*size, 3), n * 40, np.uint8))
    return writer.path


@pytest.mark.parametrize("codec", ["MJPG", "mp4v"])
def test_frames_come_back_in_order(tmp_path, codec):
    path = clip(tmp_path / "a.b", codec=codec)
    assert path.name in ("a.b.mp4", "a.b.avi") and list(tmp_path.iterdir()) == [path]
    frames = Frames(str(path))
    assert (frames.rate, frames.count, frames.size) == (10, 5, (48, 64))
    found = list(frames)
    assert [round(f.mean() / 40) for f in found] == [0, 1, 2, 3, 4]
    assert found[0].dtype == np.uint8 and found[0].shape == (48, 64, 3)


def test_another_codec_is_used_where_the_wanted_one_cannot_be_written(tmp_path, caplog):
    path = clip(tmp_path / "a", codec="ZZZZ")
    assert len(list(Frames(str(path)))) == 5
    assert "OpenCV cannot write the codec ZZZZ: using mp4v" in caplog.text


def test_no_codec_at_all_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_opened", lambda *args: None)
    with pytest.raises(ConfigError, match="--codec mp4v: OpenCV can write neither it nor any"):
        clip(tmp_path / "a", codec="mp4v")


def test_a_video_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyError):
        with VideoWriter(tmp_path / "a", codec="MJPG", rate=10, size=(48, 64)):
            raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, b"", b"no video"])
def test_what_is_no_video_is_named(tmp_path, content):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableImage, match="a.mp4: OpenCV cannot read it as a video"):
        Frames(str(path))


def test_a_cut_video_gives_what_is_there(tmp_path, caplog, monkeypatch):
    path = clip(tmp_path / "a")
    frames = Frames(str(path))
    monkeypatch.setattr(frames, "count", 9)
    assert len(list(frames)) == 5
    assert "5 of 9 frames can be read" in caplog.text


def test_a_reader_that_is_left_stops(tmp_path):
    frames = iter(Frames(str(clip(tmp_path / "a"))))
    next(frames)
    frames.close()


def test_a_rate_that_is_not_known_is_guessed(tmp_path, monkeypatch):
    path = clip(tmp_path / "a")

    opened = cv2.VideoCapture(str(path))
    told = {cv2.CAP_PROP_FPS: 0.0, cv2.CAP_PROP_FRAME_COUNT: -1.0}
    vague = SimpleNamespace(read=opened.read, isOpened=opened.isOpened, get=told.get)
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda path: vague)
    frames = Frames(str(path))
    assert frames.rate == video.DEFAULT_RATE and frames.count is None
