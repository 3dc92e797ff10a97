import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soft_teacher.data.roles import LABELED, UNLABELED
from soft_teacher.data.streams.order import StreamOrder, grouped
from soft_teacher.data.streams.seeds import sample_seed, shuffled


def positions(order, count):
    return [order.index(position) for position in range(count)]


# --- grouping one pass --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order, wide, block, first, expected",
    [
        ([], [], 3, 0, []),
        # Blocks come as a pass fills them: the tall 4 and 5 are together after three images, the
        # wide 0 and 1 after four.
        ([4, 0, 5, 1, 2, 3], [1, 1, 1, 0, 0, 0], 2, 0, [4, 5, 0, 1, 2, 3]),
        # Images left over are at both ends; positions 4 5 | 6 7 8 | 9 10: room for one block.
        (range(7), [1, 0, 1, 0, 1, 0, 1], 3, 4, [1, 3, 0, 2, 4, 5, 6]),
    ],
)
def test_grouping_by_hand(order, wide, block, first, expected):
    order, wide = np.array(order, dtype=int), np.array(wide, dtype=bool)
    assert grouped(order, wide, block, first=first).tolist() == expected


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
    starts = range(-first % block, len(found) - block + 1, block)
    mixed = [n for n in starts if len(set(wide[found[n : n + block]].tolist())) > 1]
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

    def pure_share(**options):
        order = StreamOrder(101, seed=1, stream=UNLABELED, **options)
        blocks = wide[np.reshape(positions(order, 4000), (1000, 4))]
        return (blocks.all(1) | ~blocks.any(1)).mean()

    assert pure_share(wide=wide, block=4) > 0.85 and pure_share() < 0.35


@pytest.mark.parametrize("wide", [None, np.arange(9) % 2 == 0])
def test_positions_may_be_asked_in_any_order(wide):
    forwards = positions(StreamOrder(9, seed=1, stream=LABELED, wide=wide, block=2), 90)
    order = StreamOrder(9, seed=1, stream=LABELED, wide=wide, block=2)
    for position in np.random.default_rng(0).permutation(90):
        assert order.index(int(position)) == forwards[position]


def test_substitutes_are_all_images_in_an_order_of_the_position():
    def lists(seed=1, stream=LABELED):
        order = StreamOrder(30, seed=seed, stream=stream)
        return [tuple(order.substitutes(position)) for position in range(20)]

    assert all(sorted(found) == list(range(30)) for found in lists())
    assert lists() == lists()
    assert len({*lists(), *lists(seed=2), *lists(stream=UNLABELED)}) == 60


# --- keyed randomness ---------------------------------------------------------------------------


def test_seeds_fit_32_bits_and_every_part_of_the_key_counts():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**31 - 1, 1, 10**9)]
    keys += [(7, 1, position) for position in range(5000)]
    seeds = [sample_seed(*key) for key in keys]
    assert seeds == [sample_seed(*key) for key in keys] and len(set(seeds)) == len(keys)
    assert all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("size", [0, 1, 2, 50])
def test_shuffled_is_a_permutation_and_every_part_of_the_key_counts(size):
    keys = [(4, 0, 0), (4, 0, 0), (5, 0, 0), (4, 1, 0), (4, 0, 1)]
    orders = [tuple(shuffled(size, *key)) for key in keys]
    assert all(sorted(order) == list(range(size)) for order in orders)
    assert orders[0] == orders[1] and (size < 50 or len(set(orders)) == 4)
