import logging

import pytest
from detectron2.utils.events import EventStorage

from soft_teacher.monitoring.progress import ProgressLine, progress_line


def test_before_anything_is_known_the_line_has_the_step():
    assert progress_line(1, 1000, None, {}) == "step 1/1,000 (0.1%)"


def test_the_line_has_what_is_known():
    values = {
        "total_loss": 1.5,
        "sup/loss_cls": 0.25,
        "sup/loss_box_reg": 0.25,
        "unsup/loss_cls": 1.0,
        "pseudo/num_cls_boxes": 2.25,
        "teacher/bbox/AP": 12.36,
        "lr": 0.01,
        "data_time": 0.02,
    }
    assert progress_line(1200, 2000, 0.5, values, 7.96) == (
        "step 1,200/2,000 (60.0%), 0:06:40 left | loss 1.5 = sup 0.5 + unsup 1 | "
        "2.2 pseudo boxes per image | teacher AP 12.4 | lr 0.01 | 0.5 s per step, "
        "0.02 s for data | 8.0 GiB"
    )


def test_masks_have_an_ap_beside_the_boxes():
    values = {"teacher/segm/AP": 10.04, "teacher/bbox/AP": 12.36, "student/bbox/AP": 9.0}
    assert progress_line(1, 2, None, values) == (
        "step 1/2 (50.0%) | student AP 9.0 | teacher AP 12.4 | teacher mask AP 10.0"
    )


@pytest.mark.parametrize("seconds, left", [(1.0, "1 day, 1:00:00"), (0.1, "2:30:00")])
def test_the_time_left_follows_from_the_steps_left(seconds, left):
    assert f", {left} left" in progress_line(10_000, 100_000, seconds, {})


def test_the_line_is_logged_and_the_time_left_is_a_scalar(caplog):
    with EventStorage(0) as storage, caplog.at_level(logging.INFO):
        for storage.iter in range(10):
            storage.put_scalars(time=3.0 if storage.iter == 5 else 0.5, total_loss=2.0)
        storage.iter = 9
        ProgressLine(110).write()
        assert storage.latest()["eta_seconds"] == (50.0, 9)
    assert "step 10/110 (9.1%), 0:00:50 left | loss 2" in caplog.text
