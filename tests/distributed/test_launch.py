"""Where the ranks run, and what is said when they fail."""

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
import torch
import torch.distributed as dist
from detectron2.engine import default_argument_parser
from detectron2.utils import comm
from processes import Job
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from soft_teacher import ConfigError
from soft_teacher.distributed import launch as launch_module
from soft_teacher.distributed.heartbeat import SILENCE, Beat, Heartbeat
from soft_teacher.distributed.launch import LOST_RANK, connect, leave_group, run
from soft_teacher.distributed.launch_args import (
    free_address,
    is_first_here,
    parse_launch_args,
    under_torchrun,
)
from soft_teacher.engine.checkpoint import BrokenCheckpoint
from soft_teacher.utils.errors import TrainingError

# Process 5 of 8, on the second of two machines.
TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "2345",
}


def parsed(*argv, environ=()):
    args = parse_launch_args(default_argument_parser(), list(argv), dict(environ))
    return args.num_gpus, args.num_machines, args.machine_rank, args.dist_url


def refusal(*argv, environ=()):
    with pytest.raises(ConfigError) as error:
        parsed(*argv, environ=environ)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestArguments:
    @pytest.mark.parametrize(
        "flags, found",
        [
            ("", (1, 1, 0, "auto")),
            ("--num-gpus 4", (4, 1, 0, "auto")),
            ("--num-gpus 4 --dist-url tcp://a:1", (4, 1, 0, "tcp://a:1")),
            (
                "--num-gpus 4 --num-machines 3 --machine-rank 2 --dist-url tcp://a:1",
                (4, 3, 2, "tcp://a:1"),
            ),
        ],
    )
    def test_flags(self, flags, found):
        assert parsed(*flags.split()) == found

    def test_other_arguments_are_kept(self):
        argv = ["--config-file", "a.yaml", "--resume", "SEED", "1"]
        args = parse_launch_args(default_argument_parser(), argv, {})
        assert (args.config_file, args.resume, args.opts) == ("a.yaml", True, ["SEED", "1"])

    @pytest.mark.parametrize(
        "flags, words",
        [
            ("--num-gpus 0", "--num-gpus must be at least 1, got 0"),
            ("--num-machines -1", "--num-machines must be at least 1, got -1"),
            ("--machine-rank 1", "--machine-rank 1 must be at least 0 and below"),
            ("--machine-rank -1", "--machine-rank -1 must be"),
            ("--num-machines 2", "--num-machines needs --dist-url tcp://HOST:PORT"),
            ("--num-machines 2 --dist-url auto", "needs --dist-url"),
            ("--num-machines 2 --dist-url env://", "--dist-url env:// must be tcp://HOST:PORT"),
            ("--num-gpus 2 --dist-url file:///tmp/a", "--dist-url file:///tmp/a must be tcp://"),
            ("--num-gpus 2 --dist-url tcp://node0", "must be tcp://HOST:PORT, or auto"),
            ("--num-gpus 2 --dist-url tcp://node0:port", "must be tcp://HOST:PORT, or auto"),
            ("--num-gpus 2 --dist-url tcp://node0:65536", "must be tcp://HOST:PORT, or auto"),
            ("--num-gpus 2 --dist-url tcp://:2345", "must be tcp://HOST:PORT, or auto"),
            ("--num-gpus 2 --dist-url tcp://[::1", "must be tcp://HOST:PORT, or auto"),
        ],
    )
    def test_flags_that_do_not_fit_together_are_refused(self, flags, words):
        assert words in refusal(*flags.split())

    def test_more_processes_than_gpus_are_refused(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        assert parsed("--num-gpus", "4")[0] == 4
        assert "has 4 GPUs, too few for 5" in refusal("--num-gpus", "5")


def test_free_addresses_are_addresses_and_differ():
    first, second = free_address(), free_address()
    assert parsed("--dist-url", first)[3] == first != second


class TestTorchrun:
    def test_its_environment_takes_the_place_of_the_flags(self):
        assert under_torchrun(TORCHRUN)
        assert parsed(environ=TORCHRUN) == (4, 2, 1, "tcp://node0:2345")

    @pytest.mark.parametrize("missing", TORCHRUN)
    def test_a_part_of_its_environment_means_nothing(self, missing):
        """Clusters set some of these names for purposes of their own."""
        environ = {k: v for k, v in TORCHRUN.items() if k != missing}
        assert not under_torchrun(environ)
        assert parsed(environ=environ) == (1, 1, 0, "auto")

    def test_an_ipv6_address_is_bracketed(self):
        environ = {**TORCHRUN, "MASTER_ADDR": "fe80::1"}
        assert parsed(environ=environ)[3] == "tcp://[fe80::1]:2345"

    def test_flags_that_say_the_same_are_accepted(self):
        flags = "--num-gpus 4 --num-machines 2 --machine-rank 1 --dist-url tcp://node0:2345"
        assert parsed(*flags.split(), environ=TORCHRUN) == parsed(environ=TORCHRUN)

    @pytest.mark.parametrize(
        "flag, value, says",
        [
            ("--num-gpus", "1", "4"),
            ("--num-machines", "1", "2"),
            ("--machine-rank", "0", "1"),
            ("--dist-url", "auto", "tcp://node0:2345"),
        ],
    )
    def test_flags_that_contradict_it_are_refused(self, flag, value, says):
        found = refusal(flag, value, environ=TORCHRUN)
        assert found == f"{flag} {value} contradicts torchrun, which says {says}: leave it out"

    def test_machines_with_different_numbers_of_processes_are_refused(self):
        environ = {**TORCHRUN, "WORLD_SIZE": "7"}
        assert "start as many on each machine" in refusal(environ=environ)

    def test_one_process_of_a_machine_tells_what_is_wrong(self):
        assert is_first_here({})
        assert is_first_here({**TORCHRUN, "LOCAL_RANK": "0"})
        assert not is_first_here(TORCHRUN)


def arguments(processes=2, machines=1, machine_rank=0):
    return Namespace(
        num_gpus=processes, num_machines=machines, machine_rank=machine_rank, dist_url="auto"
    )


def nothing(args):
    pass


def raised(kind, message, index=0):
    """What torch.multiprocessing makes of an exception in a child."""
    name = kind.__qualname__ if kind.__module__ == "builtins" else None
    name = name or f"{kind.__module__}.{kind.__qualname__}"
    trace = f"Traceback (most recent call last):\n  File ...\n{name}: {message}\n"
    return ProcessRaisedException(f"\n\n-- Process {index} terminated:\n{trace}", index, 77)


def exited(code, name=None, index=0):
    return ProcessExitedException("it ended", index, 77, code, name)


@pytest.fixture(autouse=True)
def no_store(monkeypatch):
    """No rank that keeps one is started here."""
    monkeypatch.setattr(launch_module, "connect", lambda *args: dist.HashStore())


@pytest.fixture
def failing(monkeypatch):
    """failing(error): children fail so."""

    def pretend(error):
        def fails(*args, **kwargs):
            raise error

        monkeypatch.setattr(launch_module, "launch", fails)

    return pretend


class TestOneProcess:
    def test_it_runs_here(self):
        seen = []
        args = arguments(processes=1)
        assert run(seen.append, args) == 0
        assert seen == [args]

    @pytest.mark.parametrize(
        "error, status",
        [
            (ConfigError("SEED is odd"), 2),
            (BrokenCheckpoint("SEED is odd"), 2),
            (TrainingError("SEED is odd"), 1),
        ],
    )
    def test_a_mistake_is_one_line(self, error, status, capsys):
        def main(args):
            raise error

        assert run(main, arguments(processes=1)) == status
        assert capsys.readouterr().err == "error: SEED is odd\n"

    def test_ctrl_c_is_no_traceback(self):
        def main(args):
            raise KeyboardInterrupt

        assert run(main, arguments(processes=1)) == 130

    def test_other_exceptions_keep_their_traceback(self):
        def main(args):
            raise ValueError("a bug")

        with pytest.raises(ValueError, match="a bug"):
            run(main, arguments(processes=1))


class TestFailures:
    """The status, and the lines, for the child that failed first."""

    def test_no_failure(self, monkeypatch, capsys):
        monkeypatch.setattr(launch_module, "launch", lambda *args, **kwargs: None)
        assert run(nothing, arguments()) == 0
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize(
        "error, status, line",
        [
            (raised(ConfigError, "KEY: mend it"), 2, "error: KEY: mend it"),
            (raised(BrokenCheckpoint, "KEY: mend it"), 2, "error: KEY: mend it"),
            (raised(TrainingError, "no room"), 1, "error: no room"),
            (
                exited(-9, "SIGKILL", index=1),
                137,
                "error: rank 1 (pid 77, signal SIGKILL) ended; the others were stopped",
            ),
            (
                exited(-11, "SIGSEGV"),
                139,
                "error: rank 0 (pid 77, signal SIGSEGV) ended; the others were stopped",
            ),
            (exited(3), 3, "error: rank 0 (pid 77, status 3) ended; the others were stopped"),
        ],
    )
    def test_one_line(self, error, status, line, failing, capsys):
        failing(error)
        assert run(nothing, arguments()) == status
        assert capsys.readouterr().err == line + "\n"

    def test_a_bug_keeps_its_traceback_and_names_the_rank(self, failing, capsys):
        failing(raised(ValueError, "a bug", index=1))
        assert run(nothing, arguments()) == 1
        *trace, last = capsys.readouterr().err.splitlines()
        assert "Traceback (most recent call last):" in trace
        assert last == ("error: rank 1 (pid 77, ValueError: a bug) ended; the others were stopped")

    @pytest.mark.parametrize("status", [LOST_RANK, 130, 143])
    def test_what_a_child_has_told_or_was_told_is_not_repeated(self, status, failing, capsys):
        failing(exited(status))
        assert run(nothing, arguments()) == status
        assert capsys.readouterr().err == ""

    def test_ranks_are_counted_through_all_machines(self, failing, capsys):
        failing(exited(-9, "SIGKILL", index=1))
        run(nothing, arguments(processes=4, machines=3, machine_rank=2))
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

    def test_ranks_that_torchrun_starts_again_begin_anew(self, url, monkeypatch):
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

    def test_its_children_end_even_where_they_stand_still(self, statuses):
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
    def test_they_reach_the_children_once(self, number, handlers, monkeypatch):
        def fake_launch(*args, **kwargs):
            child, pipe = started(_noting)
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            assert pipe.poll(20) and pipe.recv() == number
            assert not pipe.poll(0.3), "it came twice"
            pipe.send("end")
            child.join()
            raise exited(128 + number)

        monkeypatch.setattr(launch_module, "launch", fake_launch)
        assert run(nothing, arguments()) == 128 + number
        assert signal.getsignal(signal.SIGTERM) is handlers[signal.SIGTERM]

    def test_a_child_that_the_signal_kills_is_no_failure(self, handlers, monkeypatch, capsys):
        def fake_launch(*args, **kwargs):
            child, _ = started(_without_handlers)
            os.kill(os.getpid(), signal.SIGTERM)
            child.join()
            assert child.exitcode == -signal.SIGTERM
            raise exited(child.exitcode, "SIGTERM")

        monkeypatch.setattr(launch_module, "launch", fake_launch)
        assert run(nothing, arguments()) == 143
        assert capsys.readouterr().err == ""

    def test_children_that_end_well_in_spite_of_it_do_not_hide_it(self, handlers, monkeypatch):
        """torch.multiprocessing turns KeyboardInterrupt into success."""

        def fake_launch(*args, **kwargs):
            child, pipe = started(_noting)
            os.kill(os.getpid(), signal.SIGINT)
            pipe.send("end")
            child.join()
            assert child.exitcode == 0

        monkeypatch.setattr(launch_module, "launch", fake_launch)
        assert run(nothing, arguments()) == 130

    def test_before_there_are_children_it_ends_at_once(self, handlers, monkeypatch):
        def fake_launch(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(20)

        monkeypatch.setattr(launch_module, "launch", fake_launch)
        with pytest.raises(SystemExit) as end:
            run(nothing, arguments())
        assert end.value.code == 143

    def test_an_ignored_signal_stays_ignored(self, handlers, monkeypatch):
        signal.signal(signal.SIGINT, signal.SIG_IGN)

        def fake_launch(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(launch_module, "launch", fake_launch)
        assert run(nothing, arguments()) == 0


def started(work):
    """A child process that is ready for signals, and a pipe to it."""
    context = multiprocessing.get_context("fork")
    pipe, end = context.Pipe()
    child = context.Process(target=work, args=(end,), daemon=True)
    child.start()
    assert pipe.recv() == "ready"
    return child, pipe


def _noting(pipe) -> None:
    """Passes on which signals come, until it is told to end."""
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
    def test_a_mistake_on_any_rank_is_told_once(self, tmp_path):
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

    def test_ranks_that_stand_still_are_named_and_killed(self, tmp_path):
        """The first keeps the store. Where both stand still, only their parent can tell."""
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

    def test_a_call_that_keeps_the_lock_for_ever_is_a_rank_that_stands_still(self, tmp_path):
        with job("keeping_the_lock", tmp_path) as found:
            found.wait_for_files(tmp_path, "rank0", "rank1")
            found.ranks()
            assert found.wait(70) == LOST_RANK
            assert found.left_behind() == []
            (line,) = found.errors()
            assert line.startswith("error: rank 1 (host ")

    def test_a_job_that_is_suspended_as_a_whole_goes_on(self, tmp_path):
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

    def test_a_long_evaluation_on_rank_0_is_no_death(self, tmp_path):
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
