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


def draw(dataset_dict):
    """A mapper that records which image it got and what it drew."""
    numbers = [random.random(), *np.random.rand(2), np.random.randint(1 << 30)]
    return {"index": dataset_dict["index"], "numbers": numbers}


def stream_of(size, *, seed=5, stream=LABELED, mapper=draw):
    dicts = [{"index": index, "boxes": [index]} for index in range(size)]
    return StreamDataset(dicts, mapper, StreamOrder(size, seed=seed, stream=stream))


def indices(stream, positions):
    return [stream[position]["index"] for position in positions]


# --- order --------------------------------------------------------------------------------------


def test_a_single_image_is_every_position_each_time_drawn_anew():
    stream = stream_of(1)
    samples = [stream[position] for position in range(20)]
    assert {sample["index"] for sample in samples} == {0}
    assert len({tuple(sample["numbers"]) for sample in samples}) == 20


@pytest.mark.parametrize("size", [2, 7, 30])
def test_every_pass_visits_every_image_once(size):
    seen = np.reshape(indices(stream_of(size), range(6 * size)), (6, size))
    np.testing.assert_array_equal(np.sort(seen, axis=1), np.tile(np.arange(size), (6, 1)))


def test_every_pass_has_a_new_order_and_none_is_the_given_one():
    seen = np.reshape(indices(stream_of(30), range(8 * 30)), (8, 30))
    assert len({tuple(row) for row in seen.tolist()} | {tuple(range(30))}) == 9


def test_passes_may_be_visited_in_any_order():
    forwards = indices(stream_of(7), range(70))
    positions = np.random.default_rng(0).permutation(70)
    jumping = indices(stream_of(7), positions)
    assert jumping == [forwards[p] for p in positions]


def test_the_order_depends_on_the_seed_and_the_stream():
    def order(**key):
        return tuple(indices(stream_of(30, **key), range(30)))

    assert order() == order()
    assert len({order(), order(seed=6), order(stream=UNLABELED)}) == 3


# --- samples ------------------------------------------------------------------------------------


def test_a_sample_depends_on_seed_stream_and_position_alone():
    first = [stream_of(5)[position] for position in range(15)]
    random.seed(1), np.random.seed(1)
    again = stream_of(5)
    for position in reversed(range(15)):
        np.random.rand(3), random.random()
        assert again[position] == first[position]


@pytest.mark.parametrize("other", [dict(seed=6), dict(stream=UNLABELED)])
def test_another_seed_or_stream_draws_other_numbers(other):
    one, two = stream_of(1), stream_of(1, **other)
    for position in range(5):
        ours, theirs = one[position]["numbers"], two[position]["numbers"]
        assert all(a != b for a, b in zip(ours, theirs))


def test_every_position_carries_a_seed_of_its_own():
    seeds = [
        stream_of(3, stream=stream)[position]["seed"]
        for stream in (LABELED, UNLABELED)
        for position in range(300)
    ]
    assert len(set(seeds)) == 600


def test_the_global_states_are_untouched():
    random.seed(2), np.random.seed(2)
    before = random.getstate(), pickle.dumps(np.random.get_state())
    stream_of(3)[4]
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == before


def test_the_global_states_are_untouched_even_if_the_mapper_fails():
    def fail(dataset_dict):
        np.random.rand(), random.random()
        raise KeyError("broken mapper")

    before = random.getstate(), pickle.dumps(np.random.get_state())
    with pytest.raises(KeyError, match="broken mapper"):
        stream_of(3, mapper=fail)[0]
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == before


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


def test_the_length_is_the_number_of_images():
    assert [len(stream_of(size)) for size in (1, 4)] == [1, 4]


# --- memory and identity ------------------------------------------------------------------------


class Record(dict):
    """A dict that can be watched."""


def test_a_stream_keeps_no_dict():
    records = [Record(index=index) for index in range(3)]
    watched = [weakref.ref(record) for record in records]
    stream = StreamDataset(records, draw, StreamOrder(3, seed=5, stream=LABELED))
    del records
    assert not any(reference() for reference in watched)
    assert sorted(indices(stream, range(3))) == [0, 1, 2]


def test_a_worker_is_handed_the_place_of_the_images_and_not_the_images():
    def handed_over(size):
        """Bytes that go to a worker that is not a fork."""
        return len(ForkingPickler.dumps(stream_of(size)))

    one, many = handed_over(1), handed_over(5000)
    assert many < one + 100


RECORDS = [
    {"file_name": "a/1.jpg", "annotations": [{"bbox": [1, 2, 3, 4.5], "category_id": 7}]},
    {"file_name": "a/2.jpg"},
]


def test_the_digest_is_the_one_that_checkpoints_know():
    found = dicts_digest([]), dicts_digest(RECORDS)
    assert [digest[:16] for digest in found] == ["e3b0c44298fc1c14", "38f5da079d8ca260"]


def test_the_digest_is_of_names_and_boxes_alone():
    elsewhere = [{**r, "file_name": r["file_name"].replace("a/", "b/")} for r in RECORDS]
    masked = [{**RECORDS[0]["annotations"][0], "segmentation": [[0, 0, 1, 1, 1, 0]]}]
    moved = [{**RECORDS[0]["annotations"][0], "bbox": [1, 2, 3, 4.6]}]
    known = dicts_digest(RECORDS)
    assert dicts_digest(elsewhere) == known
    assert dicts_digest([{**RECORDS[0], "annotations": masked}, RECORDS[1]]) == known
    assert dicts_digest([{**RECORDS[0], "annotations": moved}, RECORDS[1]]) != known
    assert dicts_digest(RECORDS[::-1]) != known


def test_the_digest_knows_the_names_and_the_boxes_to_learn_but_not_the_folder():
    def digest(folder="a", **fields):
        return dicts_digest([{"file_name": f"{folder}/1.jpg", **fields}])

    def box(**fields):
        return [{"bbox": [1, 2, 3, 4], "category_id": 0, **fields}]

    assert digest() == digest(folder="b") == digest(annotations=[]) == digest(hidden_annotations=[])
    learned = [
        digest(),
        digest(annotations=box()),
        digest(annotations=box(category_id=1)),
        digest(given_annotations=box(score=0.9)),
        digest(given_annotations=box(score=0.8)),
    ]
    assert len(set(learned)) == len(learned)
    assert digest(given_annotations=box()) == digest(annotations=box())


# --- unreadable images --------------------------------------------------------------------------


def reading_only(*readable):
    """A mapper that reads these images and no other."""

    def read(dataset_dict):
        if dataset_dict["index"] in readable:
            return draw(dataset_dict)
        raise UnreadableImage(f"image {dataset_dict['index']}")

    return read


def test_a_readable_image_reports_nothing():
    assert stream_of(3)[0]["unreadable"] == []


def test_of_no_readable_image_only_the_report_is_left():
    sample = stream_of(3, mapper=reading_only())[0]
    assert list(sample) == ["unreadable"]
    assert set(sample["unreadable"]) == {"image 0", "image 1", "image 2"}


def test_not_every_image_of_a_large_stream_is_tried():
    sample = stream_of(1000, mapper=reading_only())[0]
    assert len(sample["unreadable"]) == 1 + TRIES


def test_readable_images_keep_their_places_and_their_draws():
    whole, broken = stream_of(10), stream_of(10, mapper=reading_only(0, 1, 2, 3, 4, 5, 6, 7))
    for position in range(50):
        if whole[position]["index"] < 8:
            assert broken[position] == whole[position]


def test_the_only_readable_image_is_found():
    stream = stream_of(TRIES, mapper=reading_only(4))
    assert indices(stream, range(50)) == [4] * 50


def test_a_substitute_depends_on_seed_stream_and_position_alone():
    def samples(positions, **key):
        stream = stream_of(20, mapper=reading_only(*range(10)), **key)
        return {position: stream[position] for position in positions}

    first = samples(range(60))
    assert samples(reversed(range(60))) == first
    replaced = [p for p, sample in first.items() if sample["unreadable"]]
    assert 20 < len(replaced) < 40
    # Not one and the same image for all.
    assert len({first[p]["index"] for p in replaced}) > 5
