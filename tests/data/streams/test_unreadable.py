import logging

import pytest

from soft_teacher import ConfigError
from soft_teacher.data.streams.unreadable import UnreadableImages

KEY = "unlabeled_names"


def refusal(call, *args):
    with pytest.raises(ConfigError) as error:
        call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_nothing_unreadable_is_no_news(caplog):
    UnreadableImages(KEY, 10, 0.0).add([])
    assert not caplog.records


@pytest.mark.parametrize("total, share, allowed", [(200, 0.01, 2), (199, 0.01, 1), (3, 1.0, 3)])
def test_a_share_of_the_images_may_be_unreadable_and_no_more(total, share, allowed):
    images = UnreadableImages(KEY, total, share)
    for number in range(allowed):
        images.add([f"{number}.jpg: the file is empty"])
    found = refusal(images.add, ["last.jpg: cut off"])
    assert f"{KEY}: {allowed + 1} of {total} images are unreadable" in found
    assert "last.jpg: cut off" in found and "UnreadableImages.max_share" in found


def test_each_is_named_once_and_counted_once(caplog):
    images = UnreadableImages(KEY, 100, 0.02)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            images.add(["a.jpg: cut off", "b.jpg: the file is empty"])
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2 and all(KEY in text for text in texts)
    assert "(1 of at most 2): a.jpg: cut off" in texts[0]
    assert "(2 of at most 2): b.jpg: the file is empty" in texts[1]


def test_a_place_that_cannot_be_filled_stops_at_once():
    images = UnreadableImages(KEY, 100, 1.0)
    images.add(["a.jpg: cut off"])
    assert "no other was found" in refusal(images.give_up)


def test_a_negative_share_is_refused():
    assert "UnreadableImages.max_share" in refusal(UnreadableImages, KEY, 10, -0.1)
