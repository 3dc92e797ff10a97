"""The record of what has been done survives a kill between any two bytes."""

import json

import pytest
from predictions import instances

from soft_teacher import ConfigError
from soft_teacher.deploy.detections import Detections
from soft_teacher.deploy.record import RECORD, Record

SETTINGS = {"weights": "a.pth", "tile": None}
ONE = Detections.of(instances([[0, 1, 2.5, 3]], [1], [0.5]), "/a/one.jpg", "one", near=2)
TWO = Detections("/a/two.jpg", "two", unreadable="/a/two.jpg: empty")
MOVING = Detections.of(
    instances([[0, 1, 2, 3]], [0], [0.1], variances=[float("inf")]), "/a/v.mp4", "v", frame=0
)


def written(folder, *rows, settings=SETTINGS, resume=False):
    with Record(folder, settings, resume=resume) as record:
        for row in rows:
            record.append(row)
        return list(record.read())


def test_nothing_done_yet(tmp_path):
    assert written(tmp_path) == [] == written(tmp_path, resume=True)


def test_lines_come_back_as_they_were(tmp_path):
    rows = [ONE, TWO, MOVING]
    assert written(tmp_path, *rows) == rows == written(tmp_path, resume=True)
    with Record(tmp_path, SETTINGS, resume=True) as record:
        assert record["/a/two.jpg", None] == TWO and record["/a/v.mp4", 0] == MOVING
        assert ("/a/v.mp4", 1) not in record and ("/a/one.jpg", None) in record
        assert record.names == {"/a/one.jpg": "one", "/a/two.jpg": "two", "/a/v.mp4": "v"}


def test_a_file_cut_anywhere_goes_on_after_its_last_whole_line(tmp_path):
    written(tmp_path, ONE, TWO)
    whole = (tmp_path / RECORD).read_bytes()
    lines = whole.splitlines(keepends=True)
    for length in range(len(whole) + 1):
        (tmp_path / RECORD).write_bytes(whole[:length])
        left = [row for row, end in ((ONE, 2), (TWO, 3)) if length >= sum(map(len, lines[:end]))]
        assert written(tmp_path, MOVING, resume=True) == [*left, MOVING]


def test_a_line_is_on_the_disk_as_soon_as_it_is_appended(tmp_path):
    with Record(tmp_path, SETTINGS, resume=False) as record:
        record.append(ONE)
        assert len((tmp_path / RECORD).read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "change, resume, message",
    [
        ({}, False, "already holds predictions: add --resume"),
        ({"weights": "b.pth"}, True, "was predicted with another weights: use the same one"),
        ({"tile": 512}, True, "was predicted with another tile"),
    ],
)
def test_another_prediction_is_not_gone_on_with(tmp_path, change, resume, message):
    written(tmp_path, ONE)
    before = (tmp_path / RECORD).read_bytes()
    with pytest.raises(ConfigError, match=message):
        written(tmp_path, settings={**SETTINGS, **change}, resume=resume)
    assert (tmp_path / RECORD).read_bytes() == before


@pytest.mark.parametrize("text", ["hello\n", "[]\n", "{}\n", json.dumps({"file": "a"}) + "\n"])
def test_another_file_of_this_name_is_left_alone(tmp_path, text):
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(ConfigError, match="is no record of predictions: remove it"):
        written(tmp_path, resume=True)
    assert (tmp_path / RECORD).read_text() == text
