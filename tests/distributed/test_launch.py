"""How ranks are started, and what is reported when they fail."""

import contextlib
import json
import multiprocessing
import os
import queue
import signal
import sys
import time
import weakref
from argparse import Namespace
from functools import partial

import pytest
import torch.distributed as dist
from detectron2.utils import comm
from processes import Job
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from soft_teacher import ConfigError
from soft_teacher.distributed import launch as launch_module
from soft_teacher.distributed.heartbeat import SILENCE, Beat, Heartbeat
from soft_teacher.distributed.launch import LOST_RANK, connect, leave_group, run
from soft_teacher.engine.checkpoint import BrokenCheckpoint
from soft_teacher.utils.errors import TrainingError


def arguments(processes=2, machines=1, machine_rank=0):
    return Namespace(
        num_gpus=processes, num_machines=machines, machine_rank=machine_rank, dist_url="auto"
    )


def raised(kind, message, index=0):
    """What torch.multiprocessing makes of an exception in a child."""
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    trace = f"Traceback (most recent call last):\n  File ...\n{name}: {message}\n"
    return ProcessRaisedException(f"\n\n-- Process {index} terminated:\n{trace}", index, 77)


def exited(code, name=None, index=0):
    return ProcessExitedException("it ended", index, 77, code, name)


@pytest.fixture(autouse=True)
def no_store(monkeypatch):
    """No rank that keeps one is started here."""
    monkeypatch.setattr(launch_module, "connect", lambda *args: dist.HashStore())


@pytest.fixture
def launched(monkeypatch):
    """launched(act, **arguments): the status of a run whose children are ``act()``, or raise it."""

    def pretend(act, **options):
        def launch(*args, **kwargs):
            if isinstance(act, Exception):
                raise act
            act()

        monkeypatch.setattr(launch_module, "launch", launch)
        return run(print, arguments(**options))

    return pretend


class TestOneProcess:
    def test_it_runs_here(self):
        seen, args = [], arguments(processes=1)
        assert run(seen.append, args) == 0
        assert seen == [args]

    @pytest.mark.parametrize(
        "error, status",
        [
            (ConfigError("SEED is odd"), 2),
            (BrokenCheckpoint("SEED is odd"), 2),
            (TrainingError("SEED is odd"), 1),
            (KeyboardInterrupt(), 130),
            (ValueError("a bug"), None),  # keeps its traceback
        ],
    )
    def test_a_mistake_is_one_line(self, error, status, capsys):
        def main(args):
            raise error

        if status is None:
            with pytest.raises(ValueError, match="a bug"):
                run(main, arguments(processes=1))
            return
        assert run(main, arguments(processes=1)) == status
        assert capsys.readouterr().err == (f"error: {error}\n" if str(error) else "")


STOPPED = "ended; the others were stopped"


class TestFailures:
    """The status, and the lines, for the child that failed first."""

    @pytest.mark.parametrize(
        "error, status, line",
        [
            (lambda: None, 0, ""),
            (raised(ConfigError, "KEY: fix it"), 2, "error: KEY: fix it\n"),
            (raised(BrokenCheckpoint, "KEY: fix it"), 2, "error: KEY: fix it\n"),
            (raised(TrainingError, "no room"), 1, "error: no room\n"),
            (exited(-9, "SIGKILL", 1), 137, f"error: rank 1 (pid 77, signal SIGKILL) {STOPPED}\n"),
            (exited(-11, "SIGSEGV"), 139, f"error: rank 0 (pid 77, signal SIGSEGV) {STOPPED}\n"),
            (exited(3), 3, f"error: rank 0 (pid 77, status 3) {STOPPED}\n"),
            # The child has reported it, or was ended by a signal.
            *((exited(status), status, "") for status in (LOST_RANK, 130, 143)),
        ],
    )
    def test_one_line(self, error, status, line, launched, capsys):
        assert launched(error) == status
        assert capsys.readouterr().err == line

    def test_a_bug_keeps_its_traceback_and_names_the_rank(self, launched, capsys):
        assert launched(raised(ValueError, "a bug", index=1)) == 1
        *trace, last = capsys.readouterr().err.splitlines()
        assert "Traceback (most recent call last):" in trace
        assert last == f"error: rank 1 (pid 77, ValueError: a bug) {STOPPED}"

    def test_ranks_are_counted_through_all_machines(self, launched, capsys):
        launched(exited(-9, "SIGKILL", index=1), processes=4, machines=3, machine_rank=2)
        assert "rank 9 (pid 77" in capsys.readouterr().err


class TestConnection:
    @pytest.fixture
    def server(self):
        return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    @pytest.fixture
    def url(self, server):
        return f"tcp://127.0.0.1:{server.port}"

    def test_connections_share_their_keys_and_leave_those_of_others_alone(self, server, url):
        one, other = connect(url), connect(url)
        one.set("0", "alive")
        assert other.get("0") == b"alive"
        assert not server.check(["0"])

    def test_ranks_that_torchrun_restarts_have_keys_of_their_own(self, url, monkeypatch):
        connect(url).set("0", "alive")
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        assert not connect(url).check(["0"])

    def test_two_ranks_and_a_parent_over_the_network(self, url):
        connect(url).set("2", json.dumps(Beat("b", 7)))
        lines = queue.SimpleQueue()
        times = {"interval": 0.2, "silence": 2.0}
        with contextlib.ExitStack() as hearts:
            for rank in (0, 1, -1):
                heart = Heartbeat(
                    connect=partial(connect, url), rank=rank, world_size=3, end=lines.put, **times
                )
                hearts.enter_context(heart)
            found = [lines.get(timeout=20) for _ in range(3)]
        assert all(line.startswith("error: rank 2 (host b, pid 7) has been") for line in found)


class TestEnd:
    """How a process ends when a rank is dead."""

    @pytest.fixture
    def statuses(self, monkeypatch):
        found = []
        monkeypatch.setattr(os, "_exit", found.append)
        return found

    def test_with_a_line_and_a_status_of_its_own(self, statuses, capsys):
        launch_module._end("error: rank 1 is dead")
        assert statuses == [LOST_RANK] == [75]
        assert capsys.readouterr().err == "error: rank 1 is dead\n"

    def test_its_children_end_even_if_they_hang(self, statuses):
        children = [started(_without_handlers)[0] for _ in range(2)]
        os.kill(children[1].pid, signal.SIGSTOP)
        launch_module._end("error: rank 1 is dead")
        assert [child.exitcode for child in children] == [-signal.SIGKILL] * 2

    @pytest.mark.parametrize("ended", [0, 1])
    def test_a_parent_repeats_no_line_of_a_rank_that_has_ended(self, ended, statuses, capsys):
        children = [started(_without_handlers)[0] for _ in range(2)]
        for child in children[:ended]:
            child.kill()
            child.join()
        launch_module._parent_heartbeat(arguments()).end("error: rank 1 is dead")
        assert statuses == [75]
        assert capsys.readouterr().err == ("" if ended else "error: rank 1 is dead\n")


class TestSignals:
    @pytest.fixture
    def handlers(self):
        """Puts back what the tests change."""
        before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield before
        for number, handler in before.items():
            signal.signal(number, handler)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_they_reach_the_children_once(self, number, handlers, launched):
        def act():
            child, pipe = started(_noting)
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            assert pipe.poll(20) and pipe.recv() == number
            assert not pipe.poll(0.3), "it came twice"
            pipe.send("end")
            child.join()
            raise exited(128 + number)

        assert launched(act) == 128 + number
        assert signal.getsignal(signal.SIGTERM) is handlers[signal.SIGTERM]

    def test_a_child_that_the_signal_kills_is_no_failure(self, handlers, launched, capsys):
        def act():
            child, _ = started(_without_handlers)
            os.kill(os.getpid(), signal.SIGTERM)
            child.join()
            assert child.exitcode == -signal.SIGTERM
            raise exited(child.exitcode, "SIGTERM")

        assert launched(act) == 143
        assert capsys.readouterr().err == ""

    def test_children_that_succeed_nevertheless_do_not_hide_it(self, handlers, launched):
        """torch.multiprocessing turns KeyboardInterrupt into success."""

        def act():
            child, pipe = started(_noting)
            os.kill(os.getpid(), signal.SIGINT)
            pipe.send("end")
            child.join()
            assert child.exitcode == 0

        assert launched(act) == 130

    def test_before_there_are_children_it_ends_at_once(self, handlers, launched):
        def act():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(20)

        with pytest.raises(SystemExit) as end:
            launched(act)
        assert end.value.code == 143

    def test_an_ignored_signal_stays_ignored(self, handlers, launched):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert launched(lambda: os.kill(os.getpid(), signal.SIGINT)) == 0


def started(work):
    """A child process that is ready for signals, and a pipe to it."""
    context = multiprocessing.get_context("fork")
    pipe, end = context.Pipe()
    child = context.Process(target=work, args=(end,), daemon=True)
    child.start()
    assert pipe.recv() == "ready"
    return child, pipe


def _noting(pipe) -> None:
    """Reports which signals come, until it gets a message."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: pipe.send(number))
    pipe.send("ready")
    while not pipe.poll(0.01):
        pass


def _without_handlers(pipe) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    pipe.send("ready")
    time.sleep(60)


def job(main, folder):
    """Runs a function of the module ``processes`` on two ranks of a process of its own."""
    code = (
        f"import sys, processes; sys.exit(processes.run_on_two(processes.{main}, {str(folder)!r}))"
    )
    return Job([sys.executable, "-W", "ignore", "-c", code], folder / "output.txt")


@pytest.mark.long
class TestRealChildren:
    def test_a_mistake_on_any_rank_is_reported_once(self, tmp_path):
        with job("mistaken", tmp_path) as found:
            assert found.wait() == 2
            assert found.errors() == ["error: rank 1 has no data"]

    def test_the_rank_that_fails_is_named_not_those_that_lose_it(self, tmp_path):
        with job("lost_while_waiting", tmp_path) as found:
            assert found.wait() == 137
            (line,) = found.errors()
            assert line.startswith("error: rank 1 (pid ")
            assert line.endswith(", signal SIGKILL) ended; the others were stopped")

    def test_it_ends_within_a_minute_though_the_others_ignore_sigterm(self, tmp_path):
        with job("deaf", tmp_path) as found:
            found.wait_for_files(tmp_path, "rank0", "rank1")
            start = time.monotonic()
            os.kill(found.ranks()[1], signal.SIGKILL)
            assert found.wait() == 137
            assert time.monotonic() - start < 60
            assert "signal SIGKILL) ended" in found.errors()[0]

    def test_ranks_that_hang_are_named_and_killed(self, tmp_path):
        """The first keeps the store. If both hang, only their parent notices."""
        stopped = {"first": [0], "second": [1], "both": [0, 1]}
        with contextlib.ExitStack() as jobs:
            found = {}
            for name in stopped:
                (tmp_path / name).mkdir()
                found[name] = jobs.enter_context(job("waiting", tmp_path / name))
            for name, ranks in stopped.items():
                found[name].wait_for_files(tmp_path / name, "rank0", "rank1")
                pids = found[name].ranks()
                for rank in ranks:
                    os.kill(pids[rank], signal.SIGSTOP)
            for name, ranks in stopped.items():
                assert found[name].wait(70) == LOST_RANK
                assert found[name].left_behind() == []
                (line,) = found[name].errors()
                assert line.startswith(f"error: rank {ranks[0]} ")
                assert line.endswith(" s; the others end")

    def test_a_call_that_keeps_the_lock_for_ever_is_a_rank_that_hangs(self, tmp_path):
        with job("keeping_the_lock", tmp_path) as found:
            found.wait_for_files(tmp_path, "rank0", "rank1")
            found.ranks()
            assert found.wait(70) == LOST_RANK
            assert found.left_behind() == []
            (line,) = found.errors()
            assert line.startswith("error: rank 1 (host ")

    def test_a_job_that_is_suspended_as_a_whole_continues(self, tmp_path):
        """As by Ctrl-Z and fg."""
        with job("waiting", tmp_path) as found:
            found.wait_for_files(tmp_path, "rank0", "rank1")
            group = os.getpgid(found.process.pid)
            os.killpg(group, signal.SIGSTOP)
            time.sleep(SILENCE + 15)
            os.killpg(group, signal.SIGCONT)
            time.sleep(20)
            assert found.errors() == []
            assert len(found.ranks()) == 2 and found.process.poll() is None

    def test_a_long_evaluation_on_rank_0_is_not_its_death(self, tmp_path):
        with job("evaluating", tmp_path) as found:
            assert found.wait() == 0, found.text()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_to_the_parent_alone_lets_the_children_save(self, number, tmp_path):
        with job("saving", tmp_path) as found:
            found.wait_for_files(tmp_path, "rank0", "rank1")
            found.process.send_signal(number)
            assert found.wait() == 128 + number
            assert (tmp_path / "saved0").is_file() and (tmp_path / "saved1").is_file()
            assert "Traceback" not in found.text()

    def test_children_end_when_the_parent_is_killed(self, tmp_path):
        with job("saving", tmp_path) as found:
            found.wait_for_files(tmp_path, "rank0", "rank1")
            found.process.kill()
            found.wait_for_files(tmp_path, "saved0", "saved1")


# --- leaving


def test_a_rank_that_leaves_its_group_keeps_no_part_of_it(tmp_path):
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    group = weakref.ref(comm._get_global_gloo_group())
    leave_group()
    assert not dist.is_initialized() and group() is None
    leave_group()
