"""Signs of life between the ranks: a dead rank is named, and the others end."""

import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Callable, Dict, Hashable, List, Optional
from urllib.parse import urlsplit

import torch.distributed as dist

from ..errors import one_line

__all__ = [
    "LOST_RANK",
    "SILENCE",
    "Beat",
    "Heartbeat",
    "SilenceWatch",
    "connect",
    "culprit_first",
    "end_process",
    "is_lost_peer",
]

# Exit status of a process that ended because another rank was dead.
LOST_RANK = 75
# Seconds between signs of life, and of silence after which a rank is dead.
INTERVAL = 3.0
SILENCE = 40.0
# Intervals of silence after which a rank is dead where a connection broke besides.
SUSPICION = 4
STORE = "store"
FINISHED = "finished"


@dataclass
class Beat:
    """What a rank lets the others know."""

    host: str
    pid: int
    count: int = 0
    ended: str = ""  # how its work ended


class SilenceWatch:
    """For how long nothing new was heard, in seconds that this process was awake."""

    def __init__(self, interval: float):
        """
        Args:
            interval: usual time between two looks. A look after a pause (a suspended job, a long
                call that kept the interpreter's lock) counts as two, so that this process does not
                take its own silence for the others'.
        """
        self._longest = 2 * interval
        self._signs: Dict[Hashable, Hashable] = {}
        self.seconds: Dict[Hashable, float] = {}

    def look(self, signs: Dict[Hashable, Hashable], elapsed: float) -> None:
        """
        Args:
            signs: name -> anything that changes as long as there is life.
            elapsed: seconds since the last look.
        """
        for name, sign in signs.items():
            known = name in self._signs and self._signs[name] == sign
            before = self.seconds.get(name, 0.0)
            self.seconds[name] = before + min(elapsed, self._longest) if known else 0.0
        self._signs.update(signs)


class Heartbeat:
    """A context in which this rank tells the others that it lives, and watches them.

    A rank that is silent for too long is dead; so is rank 0, which keeps the store, if the store
    does not answer. This process then says so in one line and ends with status ``LOST_RANK``, also
    where the main thread waits for the dead rank for ever. A rank that left the context without an
    exception may be silent.
    """

    def __init__(
        self,
        store: dist.Store,
        *,
        rank: int,
        world_size: int,
        interval: float = INTERVAL,
        silence: float = SILENCE,
        end: Optional[Callable[[str], None]] = None,
    ):
        """
        Args:
            store: a connection of its own to a store that all ranks share, see :func:`connect`.
            rank, world_size: of this process.
            interval: seconds between signs of life.
            silence: seconds after which a silent rank is dead.
            end: called with the line; ends the process unless told otherwise.
        """
        self._store = store
        self._rank = rank
        self._others = [r for r in range(world_size) if r != rank]
        self._interval = interval
        self._limit = silence
        self._end = end or end_process
        self._mine = Beat(socket.gethostname(), os.getpid())
        self._beats: Dict[int, Beat] = {}
        self._rounds = 0
        self._stopped = threading.Event()
        self._concluded = threading.Event()
        # A call to a store on a dead machine may never return: another thread judges.
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._talk, self._judge)
        ]

    def __enter__(self) -> "Heartbeat":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, Exception):
            if is_lost_peer(error):
                self._find_culprit()
            self._mine.ended = one_line(error)
        else:
            self._mine.ended = FINISHED
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=2 * self._interval)

    def _talk(self) -> None:
        keys = [str(rank) for rank in self._others]
        try:
            while True:
                last = self._stopped.is_set()
                self._mine.count += 1
                self._store.set(str(self._rank), json.dumps(asdict(self._mine)))
                if last:
                    return
                # Nobody is judged before all have begun.
                if self._beats or self._store.check(keys):
                    found = [Beat(**json.loads(text)) for text in self._store.multi_get(keys)]
                    self._beats = dict(zip(self._others, found))
                self._rounds += 1
                self._stopped.wait(self._interval)
        except RuntimeError:
            return  # a lost connection: the judge sees that the rounds stand still

    def _judge(self) -> None:
        watch = SilenceWatch(self._interval)
        last = time.monotonic()
        while not self._stopped.wait(self._interval):
            now = time.monotonic()
            beats = self._beats
            signs = {rank: beat.count for rank, beat in beats.items()}
            watch.look({STORE: self._rounds, **signs}, now - last)
            last = now
            dead = self._dead(watch.seconds, beats)
            if dead and not self._stopped.is_set():
                self._end(f"error: {'; '.join(dead)}: rank {self._rank} ends")
                self._concluded.set()
                return

    def _dead(self, silent: Dict[Hashable, float], beats: Dict[int, Beat]) -> List[str]:
        """What is known of the ranks that are dead."""
        # While the store is silent, everybody is.
        heard_after = silent[STORE] + 2 * self._interval
        mute = [r for r in beats if beats[r].ended != FINISHED and silent[r] > heard_after]
        if any(silent[r] > self._limit for r in mute):
            almost = self._limit - self._interval  # those that died together
            return [_told(r, beats[r], silent[r]) for r in mute if silent[r] > almost]
        first = beats.get(0)
        if silent[STORE] > self._limit and not (first and first.ended == FINISHED):
            keeper = f"rank 0{_who(first)}" if first else "rank 0"
            return [f"{keeper}, whose store has not answered for {silent[STORE]:.0f} s, is dead"]
        return []

    def _find_culprit(self) -> None:
        """Waits until it is known which rank broke a connection; returns if none is dead."""
        # The store must outlive the verdict, on all machines.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._limit = min(self._limit, SUSPICION * self._interval)
        self._concluded.wait(self._limit + 4 * self._interval)


def connect(dist_url: str, timeout: timedelta = timedelta(minutes=1)) -> dist.Store:
    """A connection of our own to the store of a process group.

    A blocking wait of the main thread locks the group's own connection.

    Args:
        dist_url: tcp://HOST:PORT of rank 0.
        timeout: of the connection and of each call.
    """
    address = urlsplit(dist_url)
    client = dist.TCPStore(
        address.hostname, address.port, is_master=False, wait_for_workers=False, timeout=timeout
    )
    # torchrun keeps its store when it starts the ranks again.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"soft_teacher/{attempt}", client)


@contextmanager
def culprit_first(seconds: float = 3.0):
    """Lets a parent see the rank that broke a connection end before the ranks that lost it."""
    try:
        yield
    except Exception as error:
        if is_lost_peer(error):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(seconds)
        raise


def is_lost_peer(error: Exception) -> bool:
    """Whether an exception says that another rank cannot be reached any more."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error)


def end_process(line: str) -> None:
    """Prints a line and ends the process whatever its other threads do."""
    print(line, file=sys.stderr, flush=True)
    os._exit(LOST_RANK)


def _told(rank: int, beat: Beat, seconds: float) -> str:
    what = f"ended with {beat.ended}" if beat.ended else f"has been silent for {seconds:.0f} s"
    return f"rank {rank}{_who(beat)} {what}"


def _who(beat: Beat) -> str:
    return f" (host {beat.host}, pid {beat.pid})"
