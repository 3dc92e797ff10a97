import pickle
import random
import weakref
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from soft_teacher.data.images.image import UnreadableImage
from soft_teacher.data.roles import LABELED, UNLABELED
from soft_teacher.data.streams.dataset import TRIES, StreamDataset, dicts_digest, seeded
from soft_teacher.data.streams.order import StreamOrder


def sample(dataset_dict):
    """A mapper that records which image it got and which random numbers."""
    numbers = [random.random(), *np.random.rand(2), np.random.randint(1 << 30)]
    return {"index": dataset_dict["index"], "numbers": numbers}


def stream_of(size, *, seed=5, stream=LABELED, mapper=sample):
    dicts = [{"index": index, "boxes": [index]} for index in range(size)]
    return StreamDataset(dicts, mapper, StreamOrder(size, seed=seed, stream=stream))


def indices(stream, positions):
    return [stream[position]["index"] for position in positions]


def global_states():
    return random.getstate(), pickle.dumps(np.random.get_state())


# --- order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_every_pass_visits_every_image_once(size):
    assert len(stream_of(size)) == size
    seen = np.reshape(indices(stream_of(size), range(6 * size)), (6, size))
    np.testing.assert_array_equal(np.sort(seen, axis=1), np.tile(np.arange(size), (6, 1)))


def test_every_pass_has_a_new_order_that_depends_on_the_seed_and_the_stream():
    passes = [
        tuple(row)
        for key in ({}, {"seed": 6}, {"stream": UNLABELED})
        for row in np.reshape(indices(stream_of(30, **key), range(4 * 30)), (4, 30)).tolist()
    ]
    assert len({*passes, tuple(range(30))}) == 3 * 4 + 1


# --- samples ------------------------------------------------------------------------------------


def test_a_sample_depends_on_seed_stream_and_position_alone():
    first = [stream_of(5)[position] for position in range(15)]
    random.seed(1), np.random.seed(1)
    again = stream_of(5)
    for position in reversed(range(15)):
        np.random.rand(3), random.random()
        assert again[position] == first[position]


def test_every_position_of_a_stream_and_a_seed_has_a_seed_and_numbers_of_its_own():
    streams = [stream_of(3), stream_of(3, stream=UNLABELED), stream_of(3, seed=6)]
    samples = [stream[position] for stream in streams for position in range(200)]
    assert len({found["seed"] for found in samples}) == 600
    assert len({tuple(found["numbers"]) for found in samples}) == 600


def test_the_global_states_are_untouched_even_if_the_mapper_fails():
    def fail(dataset_dict):
        np.random.rand(), random.random()
        raise KeyError("broken mapper")

    before = global_states()
    stream_of(3)[4]
    assert global_states() == before
    with pytest.raises(KeyError, match="broken mapper"):
        stream_of(3, mapper=fail)[0]
    assert global_states() == before


def test_seeded_seeds_both_generators():
    def numbers(seed):
        with seeded(seed):
            return random.random(), np.random.rand()

    assert numbers(1) == numbers(1)
    assert all(a != b for a, b in zip(numbers(1), numbers(2)))


def test_a_mapper_may_change_the_dict_it_gets():
    def spoil(dataset_dict):
        dataset_dict["boxes"].append("spoiled")
        return dataset_dict

    stream = stream_of(1, mapper=spoil)
    assert [stream[p]["boxes"] for p in range(3)] == [[0, "spoiled"]] * 3


# --- memory and identity ------------------------------------------------------------------------


class Record(dict):
    """A dict that can be referenced weakly."""


def test_a_stream_keeps_no_dict():
    records = [Record(index=index) for index in range(3)]
    references = [weakref.ref(record) for record in records]
    stream = StreamDataset(records, sample, StreamOrder(3, seed=5, stream=LABELED))
    del records
    assert not any(reference() for reference in references)
    assert sorted(indices(stream, range(3))) == [0, 1, 2]


def test_a_worker_that_is_no_fork_is_not_sent_the_images():
    one, many = (len(ForkingPickler.dumps(stream_of(size))) for size in (1, 5000))
    assert many < one + 100


def test_the_digest_is_the_one_that_checkpoints_know():
    box = {"bbox": [1, 2, 3, 4.5], "category_id": 7}
    records = [{"file_name": "a/1.jpg", "annotations": [box]}, {"file_name": "a/2.jpg"}]
    found = dicts_digest([]), dicts_digest(records)
    assert [digest[:16] for digest in found] == ["e3b0c44298fc1c14", "38f5da079d8ca260"]
    assert dicts_digest(records[::-1]) != found[1]


def test_the_digest_is_of_names_and_of_boxes_and_masks_to_learn_alone():
    def digest(folder="a", **fields):
        return dicts_digest([{"file_name": f"{folder}/1.jpg", **fields}])

    def box(**fields):
        return [{"bbox": [1, 2, 3, 4], "category_id": 0, **fields}]

    assert digest() == digest(folder="b") == digest(annotations=[]) == digest(hidden_annotations=[])
    learned = [
        digest(),
        digest(annotations=box()),
        digest(annotations=box(bbox=[1, 2, 3, 4.5])),
        digest(annotations=box(category_id=1)),
        digest(given_annotations=box(score=0.9)),
        digest(given_annotations=box(score=0.8)),
        digest(annotations=box(segmentation=[[0, 0, 1, 0, 1, 1]])),
        digest(annotations=box(segmentation=[[0, 0, 1, 0, 1, 1.5]])),
        digest(annotations=box(segmentation=[[0, 0, 1], [0, 1, 1]])),
        digest(annotations=box(segmentation={"size": [1, 2], "counts": "02"})),
        digest(annotations=box(segmentation={"size": [2, 1], "counts": "02"})),
    ]
    assert len(set(learned)) == len(learned)
    assert digest(given_annotations=box()) == digest(annotations=box(keypoints=[1, 1, 2]))


# --- unreadable images --------------------------------------------------------------------------


def reading_only(*readable):
    """A mapper that reads these images and no other."""

    def read(dataset_dict):
        if dataset_dict["index"] in readable:
            return sample(dataset_dict)
        raise UnreadableImage(f"image {dataset_dict['index']}")

    return read


def test_of_no_readable_image_only_the_report_is_left_and_not_all_are_tried():
    found = stream_of(3, mapper=reading_only())[0]
    assert list(found) == ["unreadable"]
    assert set(found["unreadable"]) == {"image 0", "image 1", "image 2"}
    assert len(stream_of(1000, mapper=reading_only())[0]["unreadable"]) == 1 + TRIES


def test_readable_images_keep_their_positions_and_samples():
    whole, broken = stream_of(10), stream_of(10, mapper=reading_only(*range(8)))
    for position in range(50):
        if whole[position]["index"] < 8:
            assert broken[position] == whole[position] and whole[position]["unreadable"] == []


def test_the_only_readable_image_is_found():
    stream = stream_of(TRIES, mapper=reading_only(4))
    assert indices(stream, range(50)) == [4] * 50


def test_a_substitute_depends_on_seed_stream_and_position_alone():
    def samples(positions):
        stream = stream_of(20, mapper=reading_only(*range(10)))
        return {position: stream[position] for position in positions}

    first = samples(range(60))
    assert samples(reversed(range(60))) == first
    replaced = [p for p, found in first.items() if found["unreadable"]]
    assert 20 < len(replaced) < 40
    # Not one and the same image for all.
    assert len({first[p]["index"] for p in replaced}) > 5
