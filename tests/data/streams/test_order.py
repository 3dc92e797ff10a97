import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soft_teacher.data.roles import LABELED, UNLABELED
from soft_teacher.data.streams.order import StreamOrder, grouped


def positions(order, count):
    return [order.index(position) for position in range(count)]


# --- grouping one pass --------------------------------------------------------------------------


def test_nothing_to_group():
    nothing = np.zeros(0, dtype=int)
    assert grouped(nothing, nothing.astype(bool), 3).tolist() == []


def test_blocks_stand_in_the_order_in_which_a_pass_fills_them():
    order = np.array([4, 0, 5, 1, 2, 3])
    wide = np.array([True, True, True, False, False, False])
    # The tall 4 and 5 are together after three images, the wide 0 and 1 after four.
    assert grouped(order, wide, 2).tolist() == [4, 5, 0, 1, 2, 3]


def test_images_left_over_stand_at_both_ends_so_that_blocks_keep_to_multiples():
    order = np.arange(7)
    wide = np.array([True, False, True, False, True, False, True])
    # Positions 4 5 | 6 7 8 | 9 10: there is room for one whole block.
    assert grouped(order, wide, 3, first=4).tolist() == [1, 3, 0, 2, 4, 5, 6]


@given(
    wide=st.lists(st.booleans(), min_size=1, max_size=60),
    block=st.integers(1, 9),
    first=st.integers(0, 200),
    seed=st.integers(0, 9),
)
def test_every_image_stays_and_few_blocks_are_mixed(wide, block, first, seed):
    wide = np.array(wide)
    order = np.random.default_rng(seed).permutation(len(wide))
    found = grouped(order, wide, block, first=first)
    np.testing.assert_array_equal(np.sort(found), np.arange(len(wide)))
    whole = [
        found[start : start + block]
        for start in range(-first % block, len(found) - block + 1, block)
    ]
    mixed = [part for part in whole if len(set(wide[part].tolist())) > 1]
    assert len(mixed) <= 2


# --- a stream -----------------------------------------------------------------------------------


def test_one_orientation_is_no_grouping_at_all():
    plain = positions(StreamOrder(7, seed=1, stream=LABELED), 35)
    for wide in (np.ones(7, dtype=bool), np.zeros(7, dtype=bool)):
        order = StreamOrder(7, seed=1, stream=LABELED, wide=wide, block=3)
        assert positions(order, 35) == plain


@pytest.mark.parametrize("size, block", [(2, 4), (10, 4), (11, 3), (12, 4), (50, 8)])
def test_a_grouped_stream_still_visits_every_image_once_a_pass(size, block):
    wide = np.arange(size) % 3 == 0
    order = StreamOrder(size, seed=1, stream=UNLABELED, wide=wide, block=block)
    seen = np.reshape(positions(order, 5 * size), (5, size))
    np.testing.assert_array_equal(np.sort(seen, axis=1), np.tile(np.arange(size), (5, 1)))
    assert len(np.unique(seen, axis=0)) > 1


def test_most_blocks_of_a_long_stream_have_one_orientation():
    wide = np.random.default_rng(0).random(101) < 0.7
    order = StreamOrder(101, seed=1, stream=UNLABELED, wide=wide, block=4)
    blocks = wide[np.reshape(positions(order, 4000), (1000, 4))]
    pure = (blocks.all(1) | ~blocks.any(1)).mean()
    assert pure > 0.85
    random = wide[np.reshape(positions(StreamOrder(101, seed=1, stream=UNLABELED), 4000), (-1, 4))]
    assert (random.all(1) | ~random.any(1)).mean() < 0.35


def test_positions_may_be_asked_in_any_order():
    wide = np.arange(9) % 2 == 0
    forwards = positions(StreamOrder(9, seed=1, stream=LABELED, wide=wide, block=2), 90)
    order = StreamOrder(9, seed=1, stream=LABELED, wide=wide, block=2)
    for position in np.random.default_rng(0).permutation(90):
        assert order.index(int(position)) == forwards[position]


# --- substitutes --------------------------------------------------------------------------------


def test_substitutes_are_all_images_in_an_order_of_the_position():
    order = StreamOrder(30, seed=1, stream=LABELED)
    lists = [tuple(order.substitutes(position)) for position in range(20)]
    assert len(set(lists)) == 20
    assert all(sorted(found) == list(range(30)) for found in lists)
    assert lists == [
        tuple(StreamOrder(30, seed=1, stream=LABELED).substitutes(p)) for p in range(20)
    ]


def test_substitutes_depend_on_the_seed_and_the_stream():
    found = {
        tuple(StreamOrder(30, seed=seed, stream=stream).substitutes(0))
        for seed in (1, 2)
        for stream in (LABELED, UNLABELED)
    }
    assert len(found) == 4
