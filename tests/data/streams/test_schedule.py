import numpy as np
import pytest

from soft_teacher.data.roles import LABELED, UNLABELED
from soft_teacher.data.streams.schedule import (
    BatchSchedule,
    StreamBatchSampler,
    absent_streams,
    check_schedule,
    labeled_share,
)
from soft_teacher.data.streams.seeds import sample_seed, shuffled
from soft_teacher.utils.errors import ConfigError

STREAMS = [LABELED, UNLABELED]
WORLDS = [1, 2, 4]
DRAWS = ["global", "per_rank"]


def schedule(**changes):
    settings = dict(
        batch_size=8,
        share=0.3,
        decay_steps=0,
        max_iter=60,
        burn_in=0,
        draw="global",
        world_size=1,
        seed=3,
    )
    return BatchSchedule(**{**settings, **changes})


def totals(plan, stream):
    return np.array([plan.total(stream, t) for t in range(plan.max_iter)])


def counts(plan, stream):
    """(steps, ranks)"""
    ranks = range(plan.world_size)
    return np.array([[plan.count(stream, t, r) for r in ranks] for t in range(plan.max_iter)])


def global_positions(plan, stream, step):
    """Positions of all ranks at a step, rank after rank."""
    ranks = range(plan.world_size)
    return [p for rank in ranks for p in plan.positions(stream, step, rank)]


def assert_mean(values, mean, variance):
    assert abs(np.mean(values) - mean) <= 4 * np.sqrt(variance / np.size(values)) + 1e-9


# --- the share ----------------------------------------------------------------------------------

PARTIAL = dict(share=0.2, decay_steps=10_000, max_iter=180_000)
FULL = dict(share=0.5, decay_steps=20_000, max_iter=720_000)
SHORT = dict(share=0.2, decay_steps=4, max_iter=10)


@pytest.mark.parametrize(
    "setting, step, share",
    [
        (SHORT, [], []),
        (SHORT, range(10), [0.2] * 7 + [0.15, 0.1, 0.05]),
        (SHORT, 10, 0.0),
        (PARTIAL, [0, 169_999, 170_000], [0.2] * 3),
        (PARTIAL, [172_500, 175_000, 179_999], [0.15, 0.1, 0.2 / 10_000]),
        (FULL, [0, 700_000, 705_000, 710_000], [0.5, 0.5, 0.375, 0.25]),
        (dict(share=0.4, decay_steps=5, max_iter=5), range(5), [0.4, 0.32, 0.24, 0.16, 0.08]),
        (dict(share=0.4, decay_steps=0, max_iter=5), range(5), [0.4] * 5),
        (dict(share=0.4, decay_steps=1, max_iter=5), range(5), [0.4] * 5),
        (dict(share=1.0, decay_steps=0, max_iter=5), 4, 1.0),
    ],
)
def test_the_share_is_constant_and_falls_linearly_to_zero_over_the_last_steps(setting, step, share):
    result = labeled_share(np.array(step), **setting)
    assert np.shape(result) == np.shape(share)
    np.testing.assert_allclose(result, share, rtol=1e-12)


# --- numbers of images --------------------------------------------------------------------------


def test_a_training_of_no_steps_has_no_batches():
    for stream in STREAMS:
        sampler = StreamBatchSampler(schedule(max_iter=0), stream, ranks=[0])
        assert list(sampler) == [] and len(sampler) == 0


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("world_size", WORLDS)
def test_every_rank_gets_its_share_of_the_batch(world_size, draw):
    plan = schedule(world_size=world_size, draw=draw)
    sizes = counts(plan, LABELED) + counts(plan, UNLABELED)
    np.testing.assert_array_equal(sizes, np.full((60, world_size), 8 // world_size))
    for stream in STREAMS:
        np.testing.assert_array_equal(totals(plan, stream), counts(plan, stream).sum(1))
        assert counts(plan, stream).min() >= 0


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("world_size", WORLDS)
def test_at_share_one_all_images_are_labeled(world_size, draw):
    plan = schedule(share=1.0, batch_size=4, world_size=world_size, draw=draw)
    assert (totals(plan, LABELED) == 4).all() and (totals(plan, UNLABELED) == 0).all()


@pytest.mark.parametrize("batch_size, share", [(4, 0.25), (5, 0.2), (40, 0.2), (64, 0.5)])
def test_a_whole_number_of_labeled_images_is_not_rounded(batch_size, share):
    plan = schedule(batch_size=batch_size, share=share, max_iter=500)
    assert set(totals(plan, LABELED)) == {round(batch_size * share)}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("batch_size, share", [(1, 0.1), (8, 0.3), (10, 0.27), (16, 0.99)])
def test_stochastic_rounding_is_unbiased(batch_size, share, seed):
    expected = batch_size * share
    low, fraction = int(expected), expected % 1
    plan = schedule(batch_size=batch_size, share=share, max_iter=4000, seed=seed)
    found = totals(plan, LABELED)
    assert set(found) == {low, low + 1}
    assert_mean(found, expected, fraction * (1 - fraction))
    # Each step for itself: as often as chance wants, the next step repeats the number.
    repeats = found[1:] == found[:-1]
    same = fraction**2 + (1 - fraction) ** 2
    assert_mean(repeats, same, 4 * same * (1 - same))


def test_while_the_share_falls_rounding_stays_unbiased_and_ends_without_labeled_images():
    plan = schedule(share=0.5, batch_size=6, decay_steps=3000, max_iter=4000)
    expected = 3 * np.minimum((4000 - np.arange(4000)) / 3000, 1)
    found = totals(plan, LABELED)
    assert (found[:1001] == 3).all()
    assert (np.abs(found - expected) < 1).all()
    variance = (expected % 1) * (1 - expected % 1)
    assert abs((found - expected).sum()) <= 4 * np.sqrt(variance.sum())
    assert (found[-100:] == 0).mean() > 0.9
    assert (found + totals(plan, UNLABELED) == 6).all()


@pytest.mark.parametrize("draw", DRAWS)
def test_the_numbers_are_pure_in_the_seed(draw):
    def numbers(seed):
        np.random.seed(seed + 100)
        plan = schedule(seed=seed, draw=draw, world_size=2)
        return counts(plan, LABELED).tolist()

    assert numbers(5) == numbers(5)
    assert numbers(5) != numbers(6)


def test_a_longer_training_begins_with_the_same_numbers():
    np.testing.assert_array_equal(
        totals(schedule(max_iter=60), LABELED), totals(schedule(max_iter=90), LABELED)[:60]
    )


@pytest.mark.parametrize("world_size", WORLDS)
def test_a_global_draw_does_not_depend_on_the_number_of_ranks(world_size):
    alone, together = (schedule(world_size=n, decay_steps=20) for n in (1, world_size))
    for stream in STREAMS:
        for step in range(60):
            assert global_positions(alone, stream, step) == global_positions(together, stream, step)


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_global_draw_is_dealt_evenly_and_the_odd_images_go_round(world_size):
    # 8 * 0.375 is 3: uneven on two ranks and on four.
    labeled = counts(schedule(share=0.375, world_size=world_size), LABELED)
    assert (labeled.max(1) - labeled.min(1)).max() == 1
    assert len(set(labeled.sum(0))) == 1
    assert len({tuple(row) for row in labeled[:world_size]}) == world_size


# --- burn-in ------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("burn_in", [0, 1, 25, 60])
def test_burn_in_has_no_unlabeled_images_and_leaves_the_rest_as_it_is(burn_in, draw):
    plan = schedule(burn_in=burn_in, draw=draw, world_size=2)
    usual = schedule(draw=draw, world_size=2)
    assert (counts(plan, UNLABELED)[:burn_in] == 0).all()
    np.testing.assert_array_equal(
        counts(plan, UNLABELED)[burn_in:], counts(usual, UNLABELED)[burn_in:]
    )
    np.testing.assert_array_equal(counts(plan, LABELED), counts(usual, LABELED))
    if burn_in < 60:
        assert counts(plan, UNLABELED)[burn_in].sum() > 0
        assert global_positions(plan, UNLABELED, burn_in)[0] == 0


# --- one draw per rank --------------------------------------------------------------------------


def clipped_binomial(n, p):
    """Mean and variance of a binomial with 0 raised to 1 and n lowered to n - 1."""
    weights = [1.0]
    for _ in range(n):
        weights = np.convolve(weights, [1 - p, p])
    values = np.arange(n + 1).clip(1, n - 1)
    mean = weights @ values
    return mean, weights @ (values - mean) ** 2


def test_the_reference_mean_by_hand():
    # 5 images at 0.2: 5 * 0.2, one more where there would be none, one less where all would be.
    mean, _ = clipped_binomial(5, 0.2)
    assert mean == pytest.approx(1 + 0.8**5 - 0.2**5)


@pytest.mark.parametrize("per_rank, share", [(2, 0.2), (5, 0.2), (8, 0.5), (40, 0.5)])
def test_a_draw_per_rank_is_binomial_with_at_least_one_image_of_each_stream(per_rank, share):
    plan = schedule(
        batch_size=4 * per_rank, share=share, draw="per_rank", world_size=4, max_iter=1500
    )
    labeled = counts(plan, LABELED)
    assert labeled.min() >= 1 and counts(plan, UNLABELED).min() >= 1
    mean, variance = clipped_binomial(per_rank, share)
    assert_mean(labeled, mean, variance)
    if per_rank > 2:
        assert np.var(labeled) == pytest.approx(variance, rel=0.1)
        # Ranks draw for themselves.
        between = np.corrcoef(labeled.T)[np.triu_indices(4, 1)]
        assert np.abs(between).max() < 4 / np.sqrt(1500)


# --- positions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("world_size", WORLDS)
@pytest.mark.parametrize("changes", [{}, {"burn_in": 7}, {"decay_steps": 60}])
def test_positions_of_a_stream_follow_on_without_a_gap_or_a_double(world_size, draw, changes):
    plan = schedule(world_size=world_size, draw=draw, **changes)
    for stream in STREAMS:
        seen = [p for step in range(60) for p in global_positions(plan, stream, step)]
        assert seen == list(range(totals(plan, stream).sum())) and len(seen) > 0


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("start", [0, 1, 31, 60])
def test_a_start_in_the_middle_gives_the_batches_that_were_left(start, rank, stream):
    plan = schedule(world_size=2, burn_in=10)
    whole = list(StreamBatchSampler(plan, stream, [rank]))
    assert whole == [plan.positions(stream, t, rank) for t in range(60)]
    rest = StreamBatchSampler(plan, stream, [rank])
    rest.start_step = start
    assert len(rest) == 60 - start
    assert list(rest) == whole[start:]


# --- settings that cannot be --------------------------------------------------------------------


@pytest.mark.parametrize(
    "key, changes",
    [
        ("BatchSchedule.batch_size", dict(batch_size=0)),
        ("BatchSchedule.batch_size", dict(batch_size=-4)),
        ("BatchSchedule.batch_size", dict(batch_size=2, world_size=4)),
        ("BatchSchedule.batch_size", dict(batch_size=6, world_size=4)),
        ("BatchSchedule.share ", dict(share=0.0)),
        ("BatchSchedule.share ", dict(share=-0.2)),
        ("BatchSchedule.share ", dict(share=1.01)),
        ("BatchSchedule.share ", dict(share=float("nan"))),
        ("BatchSchedule.decay_steps", dict(decay_steps=-1)),
        ("BatchSchedule.decay_steps", dict(share=1.0, decay_steps=1)),
        ("BatchSchedule.burn_in", dict(burn_in=-1)),
        ("BatchSchedule.draw", dict(draw="both")),
        ("BatchSchedule.draw", dict(draw="per_rank", batch_size=4, world_size=4)),
    ],
)
def test_an_impossible_setting_is_one_line_that_names_the_key(key, changes):
    with pytest.raises(ConfigError) as error:
        schedule(**changes)
    assert key in str(error.value) and "\n" not in str(error.value)


def test_the_smallest_batches_that_are_possible():
    assert (totals(schedule(batch_size=1, share=1.0), LABELED) == 1).all()
    plan = schedule(batch_size=2, share=0.9, draw="per_rank")
    assert (totals(plan, LABELED) == 1).all() and (totals(plan, UNLABELED) == 1).all()
    assert (counts(schedule(batch_size=4, share=1.0, draw="per_rank", world_size=4), 0) == 1).all()


# --- keyed randomness ---------------------------------------------------------------------------


def test_seeds_fit_32_bits_and_every_part_of_the_key_counts():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**31 - 1, 1, 10**9)]
    seeds = [sample_seed(*key) for key in keys]
    assert seeds == [sample_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in seeds)
    assert len({sample_seed(7, 1, position) for position in range(5000)}) == 5000


@pytest.mark.parametrize("size", [0, 1, 2, 50])
def test_shuffled_is_a_permutation(size):
    assert sorted(shuffled(size, 1, 2, 3)) == list(range(size))


def test_every_part_of_the_key_changes_the_permutation():
    orders = [tuple(shuffled(50, *key)) for key in [(4, 0, 0), (5, 0, 0), (4, 1, 0), (4, 0, 1)]]
    assert orders[0] == tuple(shuffled(50, 4, 0, 0))
    assert len(set(orders)) == 4


@pytest.mark.parametrize("key", ["decay_steps", "burn_in"])
def test_phases_longer_than_the_training_are_refused_by_their_key(key):
    with pytest.raises(ConfigError, match="must not exceed BatchSchedule.max_iter"):
        schedule(max_iter=10, **{key: 11})


def test_one_process_may_load_for_several_ranks_in_turn():
    plan = schedule(world_size=4)
    alone = [list(StreamBatchSampler(plan, LABELED, [rank])) for rank in (2, 3)]
    together = StreamBatchSampler(plan, LABELED, [2, 3])
    assert list(together) == [batch for step in zip(*alone) for batch in step]
    assert len(together) == 2 * len(alone[0])


def test_more_batches_than_fit_the_memory_are_refused():
    with pytest.raises(ConfigError, match="BatchSchedule.max_iter .* too many to plan"):
        check_schedule(batch_size=64, share=0.5, max_iter=10**9, world_size=2)


@pytest.mark.parametrize(
    "batch_size, share, said",
    [
        (1, 1.0, []),
        (5, 0.2, []),
        (10, 0.9, []),
        (4, 0.2, ["leaves 0.8 labeled images"]),
        (4, 0.9, ["leaves 0.4 unlabeled images"]),
        (1, 0.25, ["leaves 0.25 labeled images", "leaves 0.75 unlabeled images"]),
    ],
)
def test_streams_that_many_steps_are_without(batch_size, share, said):
    found = absent_streams(batch_size=batch_size, share=share, max_iter=1000)
    assert len(found) == len(said) and all(s in f for s, f in zip(said, found))


def test_the_share_of_steps_without_a_stream_is_what_the_schedule_draws():
    (line,) = absent_streams(batch_size=4, share=0.1, max_iter=10_000)
    assert line.endswith("60% of the steps have none")
    drawn = BatchSchedule(
        batch_size=4, share=0.1, decay_steps=0, max_iter=10_000, burn_in=0, draw="global",
        world_size=1, seed=0,
    )  # fmt: skip
    without = sum(drawn.total(LABELED, step) == 0 for step in range(10_000))
    assert without / 10_000 == pytest.approx(0.6, abs=0.02)
