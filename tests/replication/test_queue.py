"""Many trainings: in turn, resumed, failing, waiting for each other."""

import json
import signal

import pytest
from fake_repository import fake_repository
from replication.queue import Queue, clock
from replication.run import Run
from training import CONFIGS

from soft_teacher.utils.errors import TrainingError

CONFIG = CONFIGS / "soft_teacher.yaml"


@pytest.fixture
def repository(tmp_path):
    return fake_repository(tmp_path / "repository")


@pytest.fixture
def make(tmp_path):
    def make_run(name, *opts, **options):
        opts = ["SOLVER.MAX_ITER", 20, "SOFT_TEACHER.BURN_IN", 10, "SEED", 0, *opts]
        return Run(name, CONFIG, tmp_path / name, opts, **options)

    return make_run


def train(runs, repository, **options):
    said = []
    queue = Queue(runs, root=repository, say=said.append, **{"jobs": 1, **options})
    return queue.train(0.02), said


def calls(tmp_path):
    return (tmp_path / "calls.txt").read_text().split("\n")[:-1]


class TestTraining:
    def test_nothing_to_do_is_no_work(self, repository):
        assert train([], repository) == ({}, [])

    def test_with_one_job_one_comes_after_the_other(self, make, repository, tmp_path):
        runs = [make("a"), make("b")]
        assert train(runs, repository)[0] == {}
        assert calls(tmp_path) == ["start a", "end a", "start b", "end b"]
        assert all(run.finished for run in runs)

    def test_with_two_jobs_both_run_at_once(self, make, repository, tmp_path):
        assert train([make(n, "VIS_PERIOD", 2) for n in "ab"], repository, jobs=2)[0] == {}
        assert sorted(calls(tmp_path)[:2]) == ["start a", "start b"]

    def test_what_is_finished_is_reused(self, make, repository, tmp_path):
        train([make("a")], repository)
        _, said = train([make("a"), make("b")], repository)
        assert said[0].startswith("a is reused")
        assert calls(tmp_path).count("start a") == 1

    def test_a_run_waits_for_what_it_starts_from(self, make, repository, tmp_path):
        first = make("a", "SOFT_TEACHER.ALPHA", 0.5)
        train([make("b", after=[first]), first], repository, jobs=2)
        assert calls(tmp_path) == ["start a", "end a", "start b", "end b"]


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, also where a shell runs the tests in its background and ignores it."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


class TestFailure:
    def test_the_others_go_on(self, make, repository, tmp_path):
        bad, good = make("bad", "SEED", 13), make("good")
        failed, said = train([bad, good], repository)
        assert list(failed) == ["bad"] and "no luck" in failed["bad"]
        assert any(line.startswith("error: bad failed") for line in said)
        assert good.finished and not bad.finished

    def test_what_waits_for_it_fails_too(self, make, repository):
        bad = make("bad", "SEED", 13)
        failed, _ = train([bad, make("next", after=[bad])], repository)
        assert failed["next"] == "next needs bad, which failed"

    def test_it_can_end_all(self, make, repository, tmp_path):
        slow = make("slow", "SOFT_TEACHER.ALPHA", 60.0)
        bad = make("bad", "SEED", 13)
        with pytest.raises(TrainingError, match="no luck"):
            train([slow, bad], repository, jobs=2, keep_going=False)
        assert "end slow" not in calls(tmp_path)
        assert not slow.record.finished

    @pytest.mark.parametrize(
        "number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
    )
    def test_a_signal_stops_what_runs(
        self, make, repository, monkeypatch, interruptible, number, error
    ):
        slow = make("slow", "SOFT_TEACHER.ALPHA", 60.0)
        queue = Queue([slow], jobs=1, root=repository, say=lambda text: None)
        monkeypatch.setattr(queue, "_look", lambda: signal.raise_signal(number))
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.raises(error):
            queue.train(0.02)
        assert not slow.running
        assert signal.getsignal(signal.SIGTERM) is handler


class TestProgressLine:
    def write(self, run, step, ap=None):
        line = {"iteration": step - 1}
        if ap is not None:
            line["teacher/bbox/AP"] = ap
        run.folder.mkdir(exist_ok=True)
        (run.folder / "metrics.json").write_text(json.dumps(line) + "\n")

    def queue(self, *runs, begun=(0.0, 0.0)):
        queue = Queue(runs, jobs=1, say=lambda text: None)
        queue.running = [queue.waiting.pop(0)]
        queue._begun = {queue.running[0]: begun}
        return queue

    def test_it_tells_step_ap_and_time_left(self, make):
        """Of 40 + 160 units of work 40 took 65 seconds."""
        run = make("a")
        self.write(run, 10, ap=4.0)
        line = self.queue(run).progress_line(65)
        assert line == "[1:05]  a 10/20 (teacher AP 4.0)  about 4:20 left"

    def test_it_counts_what_waits(self, make):
        """And another 200 units wait."""
        run = make("a")
        self.write(run, 10)
        line = self.queue(run, make("b")).progress_line(65)
        assert line == "[1:05]  a 10/20  0 of 2 done  about 9:45 left"

    def test_what_started_late_is_judged_by_its_own_time(self, make):
        """40 units in the last 5 of 65 seconds: 160 more need 260 by the mean, not 2080."""
        run = make("a")
        self.write(run, 10)
        assert self.queue(run, begun=(60.0, 0.0)).progress_line(65).endswith("about 4:20 left")

    def test_at_first_it_does_not_know(self, make):
        assert self.queue(make("a")).progress_line(0).endswith("starting")


def test_clock():
    seconds = (0, 59.9, 61, 3599, 3600, 90061)
    assert [clock(s) for s in seconds] == ["0:00", "0:59", "1:01", "59:59", "1:00:00", "25:01:01"]
