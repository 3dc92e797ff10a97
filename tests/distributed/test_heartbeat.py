"""Dead ranks are found, slow ones are not mistaken for dead."""

import itertools
import json
import os
import signal
import threading
import time
from argparse import Namespace
from contextlib import ExitStack, suppress

import pytest
import torch.distributed as dist

from soft_teacher.distributed import heartbeat as heartbeat_module
from soft_teacher.distributed.heartbeat import Beat, Heartbeat, is_lost_peer

INTERVAL = 0.04
SILENCE = 0.4  # below it no rank is dead
PATIENCE = 20.0  # of the tests
BROKEN = RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer")
LOST = dist.DistNetworkError("Broken pipe")


class Store:
    """A store in this process that can stop answering."""

    def __init__(self, store):
        self.store = store
        self.broken = False
        self.asked = 0

    def __getattr__(self, name):
        def call(*args):
            self.asked += 1
            if self.broken == "hangs":
                time.sleep(PATIENCE)
            if self.broken:
                raise LOST
            return getattr(self.store, name)(*args)

        return call


@pytest.fixture(autouse=True)
def sigterm():
    """Waiting for the culprit changes what SIGTERM does."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Ranks:
    """Heartbeats of one process, which note their lines instead of ending it."""

    def __init__(self, world_size=2):
        self.shared = dist.HashStore()
        self.world_size = world_size
        self.lines = {}

    def heart(self, rank, store=None, silence=SILENCE, patience=PATIENCE):
        return Heartbeat(
            connect=lambda: store or self.shared,
            rank=rank,
            world_size=self.world_size,
            end=lambda line: self.lines.setdefault(rank, line),
            patience=patience,
            interval=INTERVAL,
            silence=silence,
        )

    def wait(self, *ranks):
        deadline = time.monotonic() + PATIENCE
        while not set(ranks) <= set(self.lines):
            assert time.monotonic() < deadline, self.lines
            time.sleep(INTERVAL / 2)

    def died(self, rank, **beat):
        """As if a rank had lived, and had written this last."""
        beat = Beat(**{"host": "b", "pid": 7, **beat})
        self.shared.set(str(rank), json.dumps(beat))


@pytest.fixture
def ranks():
    return Ranks()


def computing():
    """As in an evaluation."""
    end = time.monotonic() + 2 * SILENCE
    while time.monotonic() < end:
        sum(range(100))


@pytest.mark.parametrize("size, work", [(1, time.sleep), (2, time.sleep), (2, computing)])
def test_live_ranks_do_not_end_each_other(size, work):
    ranks = Ranks(size)
    with ExitStack() as hearts:
        for rank in range(size):
            hearts.enter_context(ranks.heart(rank))
        work(*[2 * SILENCE] * (work is time.sleep))
    assert ranks.lines == {}


def test_a_rank_that_falls_silent_is_named_with_its_place(ranks):
    ranks.died(1)
    with ranks.heart(0):
        ranks.wait(0)
    assert ranks.lines[0].startswith("error: rank 1 (host b, pid 7) has been silent for ")
    assert ranks.lines[0].endswith(" s; the others end")


def test_ranks_that_die_together_are_all_named():
    ranks = Ranks(4)
    ranks.died(1)
    ranks.died(3, pid=9)
    with ranks.heart(0), ranks.heart(2):
        ranks.wait(0, 2)
    for rank in (0, 2):
        assert "rank 1 (host b, pid 7)" in ranks.lines[rank]
        assert "rank 3 (host b, pid 9)" in ranks.lines[rank]
        assert "rank 2 (" not in ranks.lines[rank]


def test_a_rank_is_not_dead_before_its_time(ranks):
    ranks.died(1)
    with ranks.heart(0, silence=PATIENCE):
        time.sleep(2 * SILENCE)
    assert ranks.lines == {}


def test_a_pause_of_this_process_is_not_the_silence_of_the_others(ranks, monkeypatch):
    """A job that was suspended, or a call that kept the interpreter's lock."""
    looks = itertools.count()

    def clock():
        return time.monotonic() + (3600 if next(looks) > 3 else 0)

    monkeypatch.setattr(heartbeat_module, "time", Namespace(monotonic=clock))
    ranks.died(1)
    with ranks.heart(0, silence=3 * SILENCE):
        time.sleep(SILENCE)
        assert next(looks) > 5 and ranks.lines == {}
        ranks.wait(0)


def test_a_rank_that_starts_late_is_waited_for(ranks):
    with ranks.heart(0):
        time.sleep(2 * SILENCE)
        assert ranks.lines == {}
        with ranks.heart(1):
            time.sleep(SILENCE)
    assert ranks.lines == {}


@pytest.mark.parametrize("end", [None, SystemExit(143), KeyboardInterrupt(), ValueError("a\nbug")])
def test_only_a_rank_that_failed_may_not_be_silent_after_its_end(ranks, end):
    with ranks.heart(0):
        with suppress(SystemExit, KeyboardInterrupt, ValueError), ranks.heart(1):
            time.sleep(3 * INTERVAL)
            if end is not None:
                raise end
        if isinstance(end, ValueError):
            ranks.wait(0)
        time.sleep(2 * SILENCE)
    place = f"rank 1 (host {os.uname().nodename}, pid {os.getpid()})"
    failed = {0: f"error: {place} ended with ValueError: a bug; the others end"}
    assert ranks.lines == (failed if isinstance(end, ValueError) else {})


# --- the store ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["breaks", "hangs"])
def test_a_store_that_does_not_answer_means_that_rank_0_is_dead(ranks, how):
    store = Store(ranks.shared)
    with ranks.heart(0), ranks.heart(1, store):
        time.sleep(4 * INTERVAL)
        store.broken = how
        ranks.wait(1)
        found = Beat(*json.loads(ranks.shared.get("0")))
    place = f"rank 0 (host {found.host}, pid {found.pid})"
    assert ranks.lines[1].startswith(f"error: {place} has been silent for ")


@pytest.mark.parametrize("rank, how", [(1, "breaks"), (-1, "hangs")])
def test_a_store_that_fails_before_all_have_started_means_so_too(ranks, rank, how):
    store = Store(ranks.shared)
    store.broken = how if rank < 0 else False
    with ranks.heart(rank, store):
        time.sleep(4 * INTERVAL)
        store.broken = how
        ranks.wait(rank)
    assert ranks.lines[rank].startswith("error: rank 0 has been silent for ")


def test_a_store_that_ends_with_its_rank_means_nothing(ranks):
    store = Store(ranks.shared)
    with ranks.heart(1, store):
        with ranks.heart(0):
            time.sleep(4 * INTERVAL)
        time.sleep(4 * INTERVAL)
        store.broken = "breaks"
        time.sleep(2 * SILENCE)
    assert ranks.lines == {}


def test_a_rank_that_was_silent_before_the_store_is_the_dead_one():
    ranks = Ranks(3)
    store = Store(ranks.shared)
    ranks.died(2)
    with ranks.heart(0), ranks.heart(1, store, silence=2 * SILENCE):
        time.sleep(SILENCE)
        store.broken = "breaks"
        ranks.wait(1)
    assert "rank 2 (host b, pid 7)" in ranks.lines[1]
    assert "rank 0" not in ranks.lines[1]


def test_a_store_that_fails_now_and_then_means_nothing(ranks):
    one, other = ranks.heart(0), ranks.heart(1)
    calls = itertools.count()

    def connect():
        if next(calls) % 2:
            raise LOST
        return ranks.shared

    one.connect = connect
    with one, other:
        time.sleep(3 * SILENCE)
    assert ranks.lines == {}


def test_the_store_of_a_later_run_at_the_same_address_is_not_a_heartbeat(ranks):
    later, old = Ranks(), ranks.heart(1)
    ranks.died(0)
    with old, later.heart(0), later.heart(1):
        time.sleep(4 * INTERVAL)
        old.connect = lambda: later.shared
        ranks.wait(1)
    assert "rank 0 (host b, pid 7) has been silent" in ranks.lines[1]


def test_it_costs_the_store_a_few_requests_per_interval(ranks):
    store = Store(ranks.shared)
    with ranks.heart(0), ranks.heart(1, store):
        time.sleep(20 * INTERVAL)
    assert 5 <= store.asked <= 3 * 20 + 3


# --- broken connections -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dies, patience, named",
    [
        # The silence is shortened, and the rank waits for the culprit to be named,
        (True, PATIENCE, True),
        # only briefly if a parent sees all ranks;
        (True, INTERVAL, False),
        # between live ranks it is an error like any other.
        (False, 2 * SILENCE, False),
    ],
)
def test_a_broken_connection_waits_for_the_dead_rank_to_be_named(ranks, dies, patience, named):
    start = time.monotonic()
    with ExitStack() as hearts:
        ranks.died(1) if dies else hearts.enter_context(ranks.heart(1, silence=1000))
        with pytest.raises(RuntimeError, match="gloo"):
            with ranks.heart(0, silence=1000, patience=patience):
                raise BROKEN
        # The parent's SIGTERM must not stop the store before all know.
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert list(ranks.lines) == [0] * named and all("rank 1 (" in x for x in ranks.lines.values())
    assert time.monotonic() - start < PATIENCE


def test_the_main_thread_may_block_for_ever(ranks):
    """As in a collective of NCCL, which a dead rank leaves hanging."""
    ranks.died(1)
    ended = threading.Event()
    heart = ranks.heart(0)
    heart.end = lambda line: ended.set()
    with heart:
        assert ended.wait(PATIENCE)


@pytest.mark.parametrize(
    "error, lost",
    [
        (BROKEN, True),
        (LOST, True),
        (dist.DistBackendError("NCCL error: remote process exited"), True),
        (RuntimeError("CUDA out of memory"), False),
        (ValueError("gloo"), False),
    ],
)
def test_which_errors_mean_that_a_rank_is_lost(error, lost):
    assert is_lost_peer(error) is lost


class TestMonitor:
    """A parent, which sees the ranks and has no heartbeat itself."""

    def test_it_may_start_before_and_end_before_or_after_the_ranks(self, ranks):
        with ranks.heart(-1):
            time.sleep(SILENCE)
            with ranks.heart(0), ranks.heart(1):
                with ranks.heart(-1):
                    time.sleep(SILENCE)
                time.sleep(2 * SILENCE)
            time.sleep(2 * SILENCE)
        assert ranks.lines == {}

    @pytest.mark.parametrize("dead", [[1], [0, 1]])
    def test_it_names_the_ranks_that_fall_silent(self, ranks, dead):
        with ExitStack() as hearts:
            for rank in (0, 1):
                if rank in dead:
                    ranks.died(rank)
                else:
                    hearts.enter_context(ranks.heart(rank, silence=1000))
            hearts.enter_context(ranks.heart(-1))
            ranks.wait(-1)
        named = [rank for rank in (0, 1) if f"rank {rank} (host b, pid 7)" in ranks.lines[-1]]
        assert named == dead and ranks.lines[-1].count("rank ") == len(dead)

    def test_it_ends_at_once_though_no_rank_ever_starts(self, ranks):
        heart = ranks.heart(-1)

        def connect():
            raise ConnectionRefusedError

        heart.connect = connect
        start = time.monotonic()
        with heart:
            time.sleep(2 * SILENCE)
        assert time.monotonic() - start < PATIENCE
        assert ranks.lines == {}
