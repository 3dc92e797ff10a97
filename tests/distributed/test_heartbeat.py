"""Dead ranks are found, slow ones are left in peace."""

import itertools
import json
import os
import signal
import threading
import time
from argparse import Namespace
from contextlib import contextmanager

import pytest
import torch.distributed as dist

from soft_teacher.distributed import heartbeat as heartbeat_module
from soft_teacher.distributed.heartbeat import Beat, Heartbeat, is_lost_peer

INTERVAL = 0.04
SILENCE = 0.4  # below it nobody is dead
PATIENCE = 20.0  # of the tests
BROKEN = RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer")


class Store:
    """A store in this process that can stop to answer."""

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
                raise dist.DistNetworkError("Broken pipe")
            return getattr(self.store, name)(*args)

        return call


@pytest.fixture
def shared():
    return dist.HashStore()


@pytest.fixture(autouse=True)
def sigterm():
    """Waiting for the culprit changes what SIGTERM does."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Ranks:
    """Heartbeats of one process, which note their lines instead of ending it."""

    def __init__(self, shared, world_size):
        self.shared = shared
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
def ranks(shared):
    return Ranks(shared, 2)


def test_a_rank_alone_lives_for_ever(shared):
    ranks = Ranks(shared, 1)
    with ranks.heart(0):
        time.sleep(2 * SILENCE)
    assert ranks.lines == {}


def test_ranks_that_live_leave_each_other_in_peace(ranks):
    with ranks.heart(0), ranks.heart(1):
        time.sleep(2 * SILENCE)
    assert ranks.lines == {}


def test_a_rank_that_falls_silent_is_named_with_its_place(ranks):
    ranks.died(1)
    with ranks.heart(0):
        ranks.wait(0)
    assert ranks.lines[0].startswith("error: rank 1 (host b, pid 7) has been silent for ")
    assert ranks.lines[0].endswith(" s; the others end")


def test_ranks_that_die_together_are_all_named(shared):
    ranks = Ranks(shared, 4)
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


def test_a_rank_that_begins_late_is_waited_for(ranks):
    with ranks.heart(0):
        time.sleep(2 * SILENCE)
        assert ranks.lines == {}
        with ranks.heart(1):
            time.sleep(SILENCE)
    assert ranks.lines == {}


@pytest.mark.parametrize("end", [None, SystemExit(143), KeyboardInterrupt()])
def test_a_rank_that_has_ended_as_it_should_may_be_silent(ranks, end):
    with ranks.heart(0):
        with left_by(end), ranks.heart(1):
            time.sleep(3 * INTERVAL)
            if end is not None:
                raise end
        time.sleep(2 * SILENCE)
    assert ranks.lines == {}


def test_a_rank_that_failed_is_named_with_its_error(ranks):
    with ranks.heart(0):
        with left_by(ValueError()), ranks.heart(1):
            time.sleep(3 * INTERVAL)
            raise ValueError("a bug\nin two lines")
        ranks.wait(0)
    assert f"rank 1 (host {os.uname().nodename}, pid {os.getpid()}) ended with" in ranks.lines[0]
    assert "ValueError: a bug in two lines; the others end" in ranks.lines[0]


@contextmanager
def left_by(error):
    try:
        yield
    except BaseException as found:
        assert type(found) is type(error)


@pytest.mark.parametrize("how", ["breaks", "hangs"])
def test_a_store_that_does_not_answer_is_the_death_of_rank_0(ranks, shared, how):
    store = Store(shared)
    with ranks.heart(0), ranks.heart(1, store):
        time.sleep(4 * INTERVAL)
        store.broken = how
        ranks.wait(1)
        found = Beat(*json.loads(shared.get("0")))
    assert ranks.lines[1].startswith(
        f"error: rank 0 (host {found.host}, pid {found.pid}) has been silent for "
    )


def test_a_store_that_breaks_before_all_have_begun_is_the_death_of_rank_0(ranks, shared):
    store = Store(shared)
    with ranks.heart(1, store):
        time.sleep(4 * INTERVAL)
        store.broken = "breaks"
        ranks.wait(1)
    assert ranks.lines[1].startswith("error: rank 0 has been silent for ")


def test_a_store_that_ends_with_its_rank_is_no_death(ranks, shared):
    store = Store(shared)
    with ranks.heart(1, store):
        with ranks.heart(0):
            time.sleep(4 * INTERVAL)
        time.sleep(4 * INTERVAL)
        store.broken = "breaks"
        time.sleep(2 * SILENCE)
    assert ranks.lines == {}


def test_a_rank_that_was_silent_before_the_store_is_the_one_that_died(shared):
    ranks, store = Ranks(shared, 3), Store(shared)
    ranks.died(2)
    with ranks.heart(0), ranks.heart(1, store, silence=2 * SILENCE):
        time.sleep(SILENCE)
        store.broken = "breaks"
        ranks.wait(1)
    assert "rank 2 (host b, pid 7)" in ranks.lines[1]
    assert "rank 0" not in ranks.lines[1]


def test_a_broken_connection_shortens_the_patience_and_waits_for_the_culprit(ranks):
    ranks.died(1)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="gloo"):
        with ranks.heart(0, silence=1000):
            raise BROKEN
    assert "rank 1 (host b, pid 7)" in ranks.lines[0]
    assert time.monotonic() - start < PATIENCE
    # The parent's SIGTERM must not stop the store before all know.
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_a_broken_connection_to_living_ranks_is_an_error_like_any_other(ranks):
    with ranks.heart(1, silence=1000):
        with pytest.raises(RuntimeError, match="gloo"):
            with ranks.heart(0, silence=1000, patience=2 * SILENCE):
                raise BROKEN
    assert ranks.lines == {}


def test_who_has_a_parent_that_sees_all_ranks_waits_for_it_only_briefly(ranks):
    ranks.died(1)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="gloo"):
        with ranks.heart(0, silence=1000, patience=INTERVAL):
            raise BROKEN
    assert ranks.lines == {}
    assert time.monotonic() - start < PATIENCE


def test_the_main_thread_may_wait_without_end(ranks):
    """As in a collective of NCCL, which a dead rank leaves hanging."""
    ranks.died(1)
    told = threading.Event()
    heart = ranks.heart(0)
    heart.end = lambda line: told.set()
    with heart:
        assert told.wait(PATIENCE)


def test_the_main_thread_may_compute_without_end(ranks):
    """As in an evaluation."""
    with ranks.heart(0), ranks.heart(1):
        end = time.monotonic() + 2 * SILENCE
        while time.monotonic() < end:
            sum(range(100))
    assert ranks.lines == {}


def test_it_costs_the_store_a_few_questions_per_interval(ranks, shared):
    store = Store(shared)
    with ranks.heart(0), ranks.heart(1, store):
        time.sleep(20 * INTERVAL)
    assert 5 <= store.asked <= 3 * 20 + 3


@pytest.mark.parametrize(
    "error, lost",
    [
        (BROKEN, True),
        (dist.DistNetworkError("Broken pipe"), True),
        (dist.DistBackendError("NCCL error: remote process exited"), True),
        (RuntimeError("CUDA out of memory"), False),
        (ValueError("gloo"), False),
    ],
)
def test_what_says_that_a_rank_is_lost(error, lost):
    assert is_lost_peer(error) is lost


def test_a_store_that_fails_now_and_then_is_no_death(ranks):
    one, other = ranks.heart(0), ranks.heart(1)
    calls = itertools.count()

    def connect():
        if next(calls) % 2:
            raise dist.DistNetworkError("Broken pipe")
        return ranks.shared

    one.connect = connect
    with one, other:
        time.sleep(3 * SILENCE)
    assert ranks.lines == {}


def test_the_store_of_a_later_run_at_the_same_address_is_no_sign_of_life(ranks):
    later, old = Ranks(dist.HashStore(), 2), ranks.heart(1)
    ranks.died(0)
    with old, later.heart(0), later.heart(1):
        time.sleep(4 * INTERVAL)
        old.connect = lambda: later.shared
        ranks.wait(1)
    assert "rank 0 (host b, pid 7) has been silent" in ranks.lines[1]


class TestOnlooker:
    """A parent, which sees the ranks and is seen by none."""

    def test_it_may_come_before_and_go_after_the_ranks(self, ranks):
        with ranks.heart(-1):
            time.sleep(SILENCE)
            with ranks.heart(0), ranks.heart(1):
                time.sleep(SILENCE)
            time.sleep(2 * SILENCE)
        assert ranks.lines == {}

    def test_it_names_a_rank_that_falls_silent(self, ranks):
        ranks.died(1)
        with ranks.heart(0, silence=1000), ranks.heart(-1):
            ranks.wait(-1)
        assert "rank 1 (host b, pid 7)" in ranks.lines[-1] and "rank 0" not in ranks.lines[-1]

    def test_it_names_all_where_all_stand_still(self, ranks):
        ranks.died(0)
        ranks.died(1)
        with ranks.heart(-1):
            ranks.wait(-1)
        assert "rank 0 (host b, pid 7)" in ranks.lines[-1]
        assert "rank 1 (host b, pid 7)" in ranks.lines[-1]

    def test_its_end_is_the_death_of_none(self, ranks):
        with ranks.heart(0), ranks.heart(1):
            with ranks.heart(-1):
                time.sleep(4 * INTERVAL)
            time.sleep(2 * SILENCE)
        assert ranks.lines == {}

    def test_a_store_that_never_answers_is_the_death_of_rank_0(self, ranks, shared):
        store = Store(shared)
        store.broken = "hangs"
        with ranks.heart(-1, store):
            ranks.wait(-1)
        assert ranks.lines[-1].startswith("error: rank 0 has been silent for ")

    def test_it_ends_at_once_though_no_rank_ever_comes(self, ranks):
        heart = ranks.heart(-1)

        def connect():
            raise ConnectionRefusedError

        heart.connect = connect
        start = time.monotonic()
        with heart:
            time.sleep(2 * SILENCE)
        assert time.monotonic() - start < PATIENCE
        assert ranks.lines == {}
