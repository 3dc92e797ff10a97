import json
import logging

import pytest

from soft_teacher import ConfigError
from soft_teacher.monitoring.events import trim_metrics
from soft_teacher.monitoring.metrics_file import read_metrics

# A line may be anything: another program's, or what a broken disk made of it.
NO_EVENTS = [
    *(b"", b"5", b"null", b"[]", b'"iteration"', b"{}", b'{"lr": 1}'),
    *(b'{"iteration": %s}' % value for value in (b'"a"', b"null", b"true", b"3.5", b"NaN", b"-1")),
    *(b'{"iteration": 1, "lr": "high"}', b'{"iteration": 1, "lr": [1]}'),
    *(b'{"iteration": 1' + b"0" * 30 + b"}", b'{"iteration": ' + b"1" * 5000 + b"}"),
    b'{"iteration": 1} {"iteration": 2}',
    *(b"\xff\xfe", '{"iteration": 1}'.encode("utf-16"), b"[" * 100_000, b"\x00" * 40),
]
EVENTS = [b'{"iteration": 3, "loss": NaN}', b'{"iteration": 7, "loss": 1e-300, "best": 5}']


def write(folder, *lines):
    (folder / "metrics.json").write_bytes(b"".join(line + b"\n" for line in lines))


def test_a_folder_without_the_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no run: .*metrics.json is missing"):
        read_metrics(tmp_path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(ConfigError, match="metrics.json cannot be read"):
        read_metrics(tmp_path)


def test_events_are_read_in_order_and_an_unfinished_last_line_is_not_worth_a_warning(
    tmp_path, caplog
):
    write(tmp_path)
    assert read_metrics(tmp_path) == []
    write(tmp_path, *EVENTS)
    with (tmp_path / "metrics.json").open("ab") as file:
        file.write(b'{"iteration": 9, "lo')
    assert [event["iteration"] for event in read_metrics(tmp_path)] == [3, 7]
    assert caplog.text == ""


@pytest.mark.parametrize("line", NO_EVENTS, ids=range(len(NO_EVENTS)))
def test_a_line_that_is_not_an_event_is_dropped_with_a_warning(line, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    write(tmp_path, EVENTS[0], line, EVENTS[1])
    assert [event["iteration"] for event in read_metrics(tmp_path)] == [3, 7]
    assert "1 of 3 lines are not events" in caplog.text
    trim_metrics(str(tmp_path), 10)
    assert (tmp_path / "metrics.json").read_bytes() == b"\n".join([*EVENTS, b""])


def test_lines_that_stay_keep_their_bytes(tmp_path):
    odd = b'{ "iteration":2 ,"loss":  0.10000000000000001}'
    write(tmp_path, odd, *EVENTS)
    trim_metrics(str(tmp_path), 3)
    assert (tmp_path / "metrics.json").read_bytes() == odd + b"\n"
    assert json.loads(odd)["loss"] == 0.1
