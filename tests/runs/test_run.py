"""One run as a process: its identity, its progress, and when it is a different one."""

import json
import time
from pathlib import Path

import pytest
from fake_package import fake_package

from soft_teacher import ConfigError
from soft_teacher.model_zoo import get_config_file
from soft_teacher.runs import run as run_module
from soft_teacher.runs.record import Record, code_digest
from soft_teacher.runs.run import HOME, TRAIN, Run
from soft_teacher.utils.errors import TrainingError

CONFIG = get_config_file("demo/soft_teacher.yaml")
STEPS = ("SOLVER.MAX_ITER", 20, "SOFT_TEACHER.BURN_IN", 10, "SEED", 0)


def make_run(folder, *opts, **options):
    return Run("one", CONFIG, folder / "one", [*STEPS, *opts], **options)


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


@pytest.fixture
def home(tmp_path):
    return fake_package(tmp_path / "home")


@pytest.fixture
def train(home):
    """Starts a run and waits for its end."""

    def train(run):
        run.start(home)
        while run.poll():
            time.sleep(0.02)
        return run

    return train


@pytest.fixture
def trained(run, train):
    return train(run)


def write_metrics(run, *lines):
    run.folder.mkdir(exist_ok=True)
    (run.folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


class TestProgress:
    def test_without_metrics_nothing_is_done(self, run):
        assert run.history() == {"student": [], "teacher": []}
        assert (run.steps, run.finished, run.changes()) == (0, False, [])
        assert Record.read(run.folder) is None

    def test_history_and_steps_come_from_the_metrics_file(self, run):
        """Also where an evaluation is written after the line of a later step."""
        first = {"iteration": 9, "student/bbox/AP": 3.0, "teacher/bbox/AP": 4.0}
        write_metrics(run, {"iteration": 11}, first)
        assert (run.steps, run.history()["teacher"]) == (12, [(10, {"AP": 4.0})])
        write_metrics(run, first, {"iteration": 19, "teacher/bbox/AP": 6.0})
        assert run.history()["teacher"] == [(10, {"AP": 4.0}), (20, {"AP": 6.0})]
        assert run.steps == 20

    def test_masks_have_a_history_of_their_own(self, run):
        write_metrics(run, {"iteration": 9, "teacher/segm/AP": 4.0, "teacher/bbox/AP": 5.0})
        assert run.history("segm") == {"student": [], "teacher": [(10, {"AP": 4.0})]}
        assert run.history()["teacher"] == [(10, {"AP": 5.0})]

    def test_steps_cost_by_their_images(self, run):
        """4 labeled images a step, and from step 10 on 6 unlabeled ones that cost double."""
        assert run.work(10) == 40
        assert run.work(20) == 80 + 120
        write_metrics(run, {"iteration": 9})
        assert run.work_left == 160

    def test_a_line_being_written_is_not_read(self, run):
        run.folder.mkdir()
        (run.folder / "metrics.json").write_text('{"iteration": 3}\n{"itera')
        assert run.metrics() == [{"iteration": 3}]


class TestProcess:
    def test_a_finished_run_is_remembered_and_its_seconds_add_up(self, trained, train):
        record = trained.record
        assert trained.finished and record.finished and record.seconds > 0
        assert record.code == [code_digest()]
        assert trained.history()["teacher"][-1][1]["AP"] == 31.0
        record.seconds += 1000
        record.write(trained.folder)
        assert train(trained).record.seconds > 1000

    def test_a_failure_says_why_and_where_to_look(self, tmp_path, train):
        run = make_run(tmp_path, "SEED", 13)
        with pytest.raises(TrainingError, match="one failed with status 1: no luck .*stdout.txt"):
            train(run)
        assert not run.finished and not run.record.finished

    def test_a_stopped_run_is_not_finished(self, tmp_path, home):
        run = make_run(tmp_path, "SOFT_TEACHER.ALPHA", 60.0)
        run.start(home)
        run.stop()
        assert not run.finished and run.record.seconds > 0

    @pytest.mark.parametrize("there, calls", [(False, ["prepare", "start one"]), (True, ["start"])])
    def test_what_is_missing_is_prepared_first(self, tmp_path, home, train, there, calls):
        (home / "prepare.py").write_text(
            "import sys; open(sys.argv[1], 'a').write('prepare\\n'); open(sys.argv[2], 'w')"
        )
        made, noted = tmp_path / "made", tmp_path / "calls.txt"
        if there:
            made.write_text("")
        run = make_run(tmp_path, preparation={made: [Path("prepare.py"), noted, made]})
        assert train(run).finished
        found = noted.read_text().split("\n")
        assert len(found) == len(calls) + 2 and all(map(str.startswith, found, calls))

    def test_a_failed_preparation_is_the_end(self, tmp_path, home, train):
        (home / "prepare.py").write_text("raise SystemExit('nothing to prepare')")
        run = make_run(tmp_path, preparation={tmp_path / "made": [Path("prepare.py")]})
        with pytest.raises(TrainingError, match="nothing to prepare"):
            train(run)
        assert not (tmp_path / "calls.txt").exists()

    @pytest.mark.parametrize("copy", [False, True])
    def test_the_command_has_config_processes_and_overrides(self, tmp_path, copy):
        run = make_run(tmp_path, num_gpus=8)
        home = tmp_path if copy else HOME
        (command,) = run.commands(tmp_path) if copy else run.commands()
        assert command[:2] == [*TRAIN]
        config = str(home / "soft_teacher/model_zoo/configs/demo/soft_teacher.yaml")
        assert command[2:6] == ["--config-file", config, "--num-gpus", "8"]
        assert command[6:] == ["--resume", *run.opts]
        assert run.opts[-2:] == ["OUTPUT_DIR", str(tmp_path / "one")]


class TestChanges:
    def test_another_config_is_a_different_run_that_replaces_the_first(
        self, trained, tmp_path, train
    ):
        checkpoint = trained.folder / "model_0000009.pth"
        checkpoint.write_text("")
        assert train(trained).finished and checkpoint.exists()
        other = make_run(tmp_path, "SOLVER.MAX_ITER", 21)
        assert other.changes() == ["SOLVER.MAX_ITER was 20 and is 21"]
        assert (other.finished, other.steps) == (False, 0)
        assert train(other).finished and not checkpoint.exists()

    def test_place_and_pictures_are_not_compared(self, trained, tmp_path):
        opts = [*STEPS, "VIS_PERIOD", 5]
        assert Run("two", CONFIG, tmp_path / "one", opts, num_gpus=2).finished

    def test_other_data_are_a_different_run_but_missing_ones_are_not(self, tmp_path, train):
        data = tmp_path / "split.json"
        data.write_text("1")
        run = train(make_run(tmp_path, data_files=[data]))
        assert run.finished
        data.write_text("2")
        (change,) = run.changes()
        assert change.startswith("data split.json was")
        data.unlink()
        assert run.finished

    def test_another_first_stage_is_a_different_run(self, tmp_path, train):
        def staged(seed):
            return make_run(tmp_path, after=[Run("stage", CONFIG, tmp_path, ["SEED", seed])])

        assert train(staged(1)).finished
        (change,) = staged(2).changes()
        assert change.startswith("data stage was")

    def test_other_code_is_a_different_run_unless_it_is_accepted(
        self, trained, tmp_path, monkeypatch, train
    ):
        monkeypatch.setattr(run_module, "code_digest", lambda: "new")
        assert trained.changes() == [f"the code was {code_digest()} and is new"]
        accepting = make_run(tmp_path, any_code=True)
        assert accepting.finished
        assert train(accepting).record.code == [code_digest(), "new"]


def test_a_mistake_in_the_config_is_reported_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match="SOFT_TEACHER.ALHPA"):
        make_run(tmp_path, "SOFT_TEACHER.ALHPA", 1.0)


class TestLazyConfigs:
    """Overrides of YAML's keys, in the language of a LazyConfig."""

    LAZY = get_config_file("demo/soft_teacher.py")

    def test_they_are_translated(self, tmp_path):
        opts = [*STEPS, "DATASETS.TRAIN_LABELED", "('one', 'two')", "INPUT.FORMAT", "RGB"]
        run = Run("one", self.LAZY, tmp_path / "a b", opts)
        assert run.opts == [
            *("train.max_iter=20", "train.burn_in=10", "train.seed=0"),
            "dataloader.train.labeled_names=['one','two']",
            "dataloader.train.image_format='RGB'",
            "dataloader.test.mapper.image_format='RGB'",
            f"train.output_dir='{tmp_path / 'a b'}'",
        ]
        cfg = run.cfg
        assert (run.max_iter, cfg.train.output_dir) == (20, str(tmp_path / "a b"))
        assert list(cfg.dataloader.train.labeled_names) == ["one", "two"]
        assert run.work(20) == make_run(tmp_path).work(20)

    def test_place_and_pictures_are_not_compared_but_the_weights_are(self, tmp_path):
        def values(folder, *opts):
            return Run("one", self.LAZY, tmp_path / folder, opts).values

        assert values("a") == values("b", "VIS_PERIOD", 5, "DATALOADER.NUM_WORKERS", 2)
        assert values("a") != values("a", "MODEL.WEIGHTS", "other.pth")
        assert values("a") != values("a", "SEED", 1)

    def test_what_it_does_not_have_is_refused(self, tmp_path):
        for key in ("MODEL.RESNETS.DEPTH", "NO.SUCH"):
            with pytest.raises(ConfigError, match=f"soft_teacher.py has no counterpart of {key}"):
                Run("one", self.LAZY, tmp_path, [key, 1])


@pytest.mark.parametrize(
    "name, trains",
    [
        ("modeling/heads.py", True),
        ("config.py", True),
        ("analysis/plots.py", False),
        ("modeling/notes.md", False),
    ],
)
def test_the_digest_covers_the_code_that_trains(tmp_path, name, trains):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    before = code_digest.__wrapped__(tmp_path)
    (tmp_path / name).write_text("pass")
    assert (code_digest.__wrapped__(tmp_path) != before) == trains
