"""Heartbeats between the ranks: one that has died or hangs is named, and the others end."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch.distributed as dist

from ..utils.errors import one_line

__all__ = ["SILENCE", "Beat", "Heartbeat", "is_lost_peer"]

INTERVAL = 3.0  # seconds between heartbeats
SILENCE = 40.0  # seconds of silence after which a rank is dead
SUSPICION = 4  # intervals of silence after which it is if a connection broke besides
FINISHED = "finished"
STORE = "store"


class Beat(NamedTuple):
    """What a rank publishes."""

    host: str
    pid: int
    count: int = 0
    ended: str = ""  # how its work ended


@dataclass(kw_only=True)
class Heartbeat:
    """A context in which this process publishes its heartbeat and monitors those of all ranks.

    A rank that is silent for too long is dead; so is rank 0, which keeps the store, if the store
    does not answer. A rank that left the context without an exception may be silent.

    Args:
        connect: returns a new connection to a store that all ranks share, or raises OSError or
            RuntimeError if there is none. It is called before every heartbeat.
        rank: of this process; -1 for one that only monitors.
        world_size: number of ranks.
        end: called, in a thread of its own, with a line that names the dead.
        patience: seconds that a rank whose connection broke waits for the dead one to be named.
        interval, silence: seconds between heartbeats, and without one of a dead rank.
    """

    connect: Callable[[], dist.Store]
    rank: int
    world_size: int
    end: Callable[[str], None]
    patience: float = 0.0
    interval: float = INTERVAL
    silence: float = SILENCE

    def __post_init__(self):
        self._ended = ""
        self._beats: dict[int, Beat] = {}
        self._rounds = 0
        self._stopped = threading.Event()
        # A call to a store on a dead machine may never return: another thread judges.
        self._talker = threading.Thread(target=self._talk, daemon=True)
        self._judge = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._talker.start()
        self._judge.start()

    def __exit__(self, kind, error, traceback) -> None:
        failed = isinstance(error, Exception)
        if failed and is_lost_peer(error):
            # The store must outlive the verdict, on all machines.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self.silence = min(self.silence, SUSPICION * self.interval)
            self._judge.join(self.patience)
        self._ended = one_line(error) if failed else FINISHED
        self._stopped.set()
        self._judge.join()
        self._talker.join(self.interval)

    def _talk(self) -> None:
        keys = [str(rank) for rank in range(self.world_size)]
        place = (socket.gethostname(), os.getpid())
        answered, ended = self.rank >= 0, ""  # a monitor may start before the store does
        while not ended:
            ended = self._ended
            try:
                store = self.connect()
                store.set(str(self.rank), json.dumps(Beat(*place, self._rounds, ended)))
                # No rank is judged before all have started.
                if self._beats or store.check(keys):
                    found = [Beat(*json.loads(text)) for text in store.multi_get(keys)]
                    if self._beats and found[0][:2] != self._beats[0][:2]:
                        return  # another run has taken the address: this store is not ours
                    self._beats = dict(enumerate(found))
                answered = True
                self._rounds += 1
            except (OSError, RuntimeError):
                self._rounds += not answered
            self._stopped.wait(self.interval if self._beats else self.interval / 10)

    def _watch(self) -> None:
        counts, silent, last = {}, {}, time.monotonic()
        while not self._stopped.wait(self.interval):
            # A pause of this process, as of a suspended job, is not the others' silence.
            now, beats = time.monotonic(), self._beats
            elapsed, last = min(now - last, 2 * self.interval), now
            heard = {STORE: self._rounds, **{rank: beat.count for rank, beat in beats.items()}}
            silent = {n: silent[n] + elapsed if counts.get(n) == heard[n] else 0.0 for n in heard}
            counts = heard
            if dead := self._dead(beats, silent):
                return self.end(f"error: {dead}; the others end")

    def _dead(self, beats: dict[int, Beat], silent: dict) -> str:
        """What is known of the ranks that are dead."""
        # While the store is silent, all ranks are. Ranks that died together are named together.
        least = max(self.silence - self.interval, silent[STORE] + 2 * self.interval)
        dead = [r for r in beats if beats[r].ended != FINISHED and silent[r] > least]
        if not any(silent[r] > self.silence for r in dead):
            kept = 0 not in beats or beats[0].ended != FINISHED
            dead = [0] if kept and silent[STORE] > self.silence else []
        return "; ".join(_described(r, beats.get(r), silent.get(r, silent[STORE])) for r in dead)


def _described(rank: int, beat: Beat | None, seconds: float) -> str:
    place = f" (host {beat.host}, pid {beat.pid})" if beat else ""
    silence = f"has been silent for {seconds:.0f} s"
    return f"rank {rank}{place} " + (f"ended with {beat.ended}" if beat and beat.ended else silence)


def is_lost_peer(error: Exception) -> bool:
    """Whether an exception means that another rank cannot be reached any more."""
    gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
    return gloo or isinstance(error, dist.DistError)
