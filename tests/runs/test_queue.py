"""Many runs: in turn, resumed, failing, waiting for each other."""

import json
import signal

import pytest
from fake_package import fake_package
from training import CONFIGS

from soft_teacher.runs.queue import Queue, clock
from soft_teacher.runs.run import Run
from soft_teacher.utils.errors import TrainingError


@pytest.fixture
def make(tmp_path):
    def make_run(name, *opts, **options):
        opts = ["SOLVER.MAX_ITER", 20, "SOFT_TEACHER.BURN_IN", 10, "SEED", 0, *opts]
        return Run(name, CONFIGS / "soft_teacher.yaml", tmp_path / name, opts, **options)

    return make_run


@pytest.fixture
def train(tmp_path):
    """Runs a queue; returns what failed, what it said, and the calls that the processes noted."""
    home = fake_package(tmp_path / "home")

    def train(runs, look=None, **options):
        said = []
        queue = Queue(runs, home=home, say=said.append, **{"jobs": 1, **options})
        queue._look = look or queue._look
        failed = queue.train(0.02)
        calls = tmp_path / "calls.txt"
        return failed, said, calls.read_text().split("\n")[:-1] if calls.exists() else []

    return train


def test_nothing_to_do_is_no_work(train):
    assert train([]) == ({}, [], [])


def test_one_job_runs_one_after_the_other_and_finished_runs_are_reused(make, train):
    runs = [make("a"), make("b")]
    failed, _, calls = train(runs)
    assert not failed and all(run.finished for run in runs)
    assert calls == ["start a", "end a", "start b", "end b"]
    _, said, calls = train([make("a"), make("c")])
    assert said[0].startswith("a is reused") and calls[4:] == ["start c", "end c"]


def test_two_jobs_run_at_once(make, train):
    _, _, calls = train([make(name, "VIS_PERIOD", 2) for name in "ab"], jobs=2)
    assert sorted(calls[:2]) == ["start a", "start b"]


def test_a_run_waits_for_the_one_it_starts_from(make, train):
    first = make("a", "SOFT_TEACHER.ALPHA", 0.5)
    _, _, calls = train([make("b", after=[first]), first], jobs=2)
    assert calls == ["start a", "end a", "start b", "end b"]


def test_a_failure_fails_what_waits_for_it_and_no_others(make, train):
    bad, good = make("bad", "SEED", 13), make("good")
    failed, said, _ = train([bad, make("next", after=[bad]), good])
    assert list(failed) == ["bad", "next"] and "no luck" in failed["bad"]
    assert failed["next"] == "next needs bad, which failed"
    assert any(line.startswith("error: bad failed") for line in said)
    assert good.finished and not bad.finished


def test_a_failure_can_end_all(make, train, tmp_path):
    slow = make("slow", "SOFT_TEACHER.ALPHA", 60.0)
    with pytest.raises(TrainingError, match="no luck"):
        train([slow, make("bad", "SEED", 13)], jobs=2, keep_going=False)
    assert "end slow" not in (tmp_path / "calls.txt").read_text()
    assert not slow.record.finished


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, also where a shell runs the tests in its background and ignores it."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.mark.parametrize(
    "number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_stops_all_processes(make, train, interruptible, number, error):
    slow = make("slow", "SOFT_TEACHER.ALPHA", 60.0)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(error):
        train([slow], look=lambda: signal.raise_signal(number))
    assert not slow.running
    assert signal.getsignal(signal.SIGTERM) is handler


# Of the 40 + 160 units of work of a run, 40 took 65 seconds; another run waits, or none; all were
# done in the last 5 seconds: 160 more need 260 by the mean, not 2080; at first nothing is known.
@pytest.mark.parametrize(
    "line, names, begun, expected",
    [
        ({"teacher/bbox/AP": 4.0}, "a", 0.0, "[1:05]  a 10/20 (teacher AP 4.0)  about 4:20 left"),
        ({}, "ab", 0.0, "[1:05]  a 10/20  0 of 2 done  about 9:45 left"),
        ({}, "a", 60.0, "[1:05]  a 10/20  about 4:20 left"),
        (None, "a", 0.0, "[1:05]  a 0/20  starting"),
    ],
)
def test_progress_has_step_ap_and_time_left(make, line, names, begun, expected):
    runs = [make(name) for name in names]
    if line is not None:
        runs[0].folder.mkdir()
        (runs[0].folder / "metrics.json").write_text(json.dumps({"iteration": 9, **line}) + "\n")
    queue = Queue(runs, jobs=1, say=lambda text: None)
    queue.running = [queue.waiting.pop(0)]
    queue._begun = {runs[0]: (begun, 0.0)}
    assert queue.progress_line(65) == expected


def test_clock():
    seconds = (0, 59.9, 61, 3599, 3600, 90061)
    assert [clock(s) for s in seconds] == ["0:00", "0:59", "1:01", "59:59", "1:00:00", "25:01:01"]
