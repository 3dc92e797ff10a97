import logging

import pytest
from detectron2.utils.logger import setup_logger
from full_disk import full_disk

from soft_teacher.experiment.logs import set_up_log


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Logs of a training, which leave no handlers behind."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "soft_teacher")]
    for logger in loggers:
        monkeypatch.setattr(logger, "handlers", [])
    setup_logger(str(tmp_path))
    for _ in range(2):
        set_up_log(str(tmp_path))
    yield lambda text: [logger.info(text) for logger in loggers]
    setup_logger.cache_clear()


def test_every_message_is_in_the_file_once(log, tmp_path):
    assert (tmp_path / "log.txt").read_text() == ""
    log("größer")
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split(": ")[-1] for line in lines] == ["größer"] * 2


def test_a_full_disk_costs_messages_and_nothing_else(log, tmp_path, capfd):
    with full_disk():
        log("lost")
    log("found")
    assert "Error" not in capfd.readouterr().err
    text = (tmp_path / "log.txt").read_text()
    assert "lost" not in text and text.count("found") == 2
