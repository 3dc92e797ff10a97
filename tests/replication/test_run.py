"""One training as a process: what it is, how far it is, and when it is another one."""

import json
import time
from pathlib import Path

import pytest
from fake_repository import fake_repository
from replication import run as run_module
from replication.record import Record, code_digest
from replication.run import REPOSITORY, Run
from training import CONFIGS

from soft_teacher import ConfigError
from soft_teacher.utils.errors import TrainingError

CONFIG = CONFIGS / "soft_teacher.yaml"
STEPS = ("SOLVER.MAX_ITER", 20, "SOFT_TEACHER.BURN_IN", 10)


def make_run(folder, *opts, **options):
    return Run("one", CONFIG, folder / "one", [*STEPS, "SEED", 0, *opts], **options)


def wait(run):
    while run.poll():
        time.sleep(0.02)
    return run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


@pytest.fixture
def repository(tmp_path):
    return fake_repository(tmp_path / "repository")


@pytest.fixture
def trained(run, repository):
    run.start(repository)
    return wait(run)


def write_metrics(run, *lines):
    run.folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run.folder / "metrics.json").write_text(text)


class TestProgress:
    def test_without_metrics_nothing_is_done(self, run):
        assert run.history() == {"student": [], "teacher": []}
        assert run.steps == 0
        assert not run.finished
        assert run.changes() == []

    def test_history_and_steps_come_from_the_metrics_file(self, run):
        lines = [
            {"iteration": 9, "student/bbox/AP": 3.0, "teacher/bbox/AP": 4.0},
            {"iteration": 19, "student/bbox/AP": 5.0, "teacher/bbox/AP": 6.0},
        ]
        write_metrics(run, {"iteration": 9, "total_loss": 1.0}, lines[0])
        assert run.steps == 10
        write_metrics(run, *lines)
        assert run.history()["teacher"] == [(10, {"AP": 4.0}), (20, {"AP": 6.0})]
        assert run.steps == 20

    def test_an_evaluation_that_is_written_late_does_not_take_steps_back(self, run):
        write_metrics(run, {"iteration": 11}, {"iteration": 9, "teacher/bbox/AP": 4.0})
        assert run.steps == 12
        assert run.history()["teacher"] == [(10, {"AP": 4.0})]

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
    def test_a_finished_training_is_remembered(self, run, trained):
        record = run.record
        assert run.finished and record.finished
        assert record.code == [code_digest()]
        assert record.seconds > 0
        assert run.history()["teacher"][-1][1]["AP"] == 31.0

    def test_a_failure_says_why_and_where_to_look(self, tmp_path, repository):
        run = make_run(tmp_path, "SEED", 13)
        run.start(repository)
        with pytest.raises(TrainingError, match="one failed with status 1: no luck .*stdout.txt"):
            wait(run)
        assert not run.finished
        assert not run.record.finished

    def test_a_stopped_training_is_not_finished(self, tmp_path, repository):
        run = make_run(tmp_path, "SOFT_TEACHER.ALPHA", 60.0)
        run.start(repository)
        run.stop()
        assert not run.finished
        assert run.record.seconds > 0

    def test_seconds_add_up_over_starts(self, run, trained, repository):
        record = run.record
        record.seconds += 1000
        record.write(run.folder)
        run.start(repository)
        assert wait(run).record.seconds > 1000

    @pytest.fixture
    def prepared(self, tmp_path, repository):
        """A run that needs a file, which a script makes that notes its calls."""
        (repository / "prepare.py").write_text(
            "import sys; open(sys.argv[1], 'a').write('prepare\\n'); open(sys.argv[2], 'w')"
        )
        made = tmp_path / "made"
        command = [Path("prepare.py"), tmp_path / "calls.txt", made]
        return make_run(tmp_path, preparation={made: command})

    def calls(self, tmp_path):
        return (tmp_path / "calls.txt").read_text().split("\n")[:-1]

    def test_the_preparation_comes_before_the_training(self, prepared, tmp_path, repository):
        prepared.start(repository)
        assert wait(prepared).finished
        assert self.calls(tmp_path) == ["prepare", "start one", "end one"]

    def test_what_is_prepared_is_not_prepared_again(self, prepared, tmp_path, repository):
        (tmp_path / "made").write_text("")
        prepared.start(repository)
        assert wait(prepared).finished
        assert self.calls(tmp_path) == ["start one", "end one"]

    def test_a_failed_preparation_is_the_end(self, prepared, tmp_path, repository):
        (repository / "prepare.py").write_text("raise SystemExit('nothing to prepare')")
        prepared.start(repository)
        with pytest.raises(TrainingError, match="nothing to prepare"):
            wait(prepared)
        assert not (tmp_path / "calls.txt").exists()

    def test_the_command_names_config_processes_and_overrides(self, tmp_path):
        run = make_run(tmp_path, num_gpus=8)
        (command,) = run.commands()
        assert command[0] == str(REPOSITORY / "train_net.py")
        assert command[1:5] == ["--config-file", str(CONFIG), "--num-gpus", "8"]
        assert command[5:] == ["--resume", *run.opts]
        assert run.opts[-2:] == ["OUTPUT_DIR", str(tmp_path / "one")]

    def test_a_copy_of_the_code_trains_with_its_own_configs(self, run, tmp_path):
        command = run.commands(tmp_path)[0]
        assert command[0] == str(tmp_path / "train_net.py")
        assert command[2] == str(tmp_path / "configs" / "demo" / "soft_teacher.yaml")


class TestChanges:
    def test_another_config_is_another_training(self, trained, tmp_path):
        other = make_run(tmp_path, "SOLVER.MAX_ITER", 21)
        assert other.changes() == ["SOLVER.MAX_ITER was 20 and is 21"]
        assert not other.finished
        assert other.steps == 0

    def test_where_it_runs_and_what_it_shows_is_not_compared(self, trained, tmp_path):
        other = Run(
            "two", CONFIG, tmp_path / "one", [*STEPS, "SEED", 0, "VIS_PERIOD", 5], num_gpus=2
        )
        assert other.finished

    def test_another_dataset_is_another_training(self, tmp_path, repository):
        data = tmp_path / "split.json"
        data.write_text("1")
        run = make_run(tmp_path, data_files=[data])
        run.start(repository)
        wait(run)
        assert run.finished
        data.write_text("2")
        (change,) = run.changes()
        assert change.startswith("data split.json was")

    def test_data_that_are_not_there_are_not_compared(self, tmp_path, repository):
        data = tmp_path / "split.json"
        data.write_text("1")
        run = make_run(tmp_path, data_files=[data])
        run.start(repository)
        wait(run)
        data.unlink()
        assert run.finished

    def test_another_first_stage_is_another_training(self, tmp_path, repository):
        def staged(seed):
            return make_run(tmp_path, after=[Run("stage", CONFIG, tmp_path, ["SEED", seed])])

        run = staged(1)
        run.start(repository)
        assert wait(run).finished
        (change,) = staged(2).changes()
        assert change.startswith("data stage was")

    def test_other_code_is_another_training_unless_it_is_accepted(
        self, trained, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(run_module, "code_digest", lambda: "new")
        assert trained.changes() == [f"the code was {code_digest()} and is new"]
        assert make_run(tmp_path, any_code=True).finished

    def test_what_another_training_left_is_removed_at_the_start(
        self, trained, tmp_path, repository
    ):
        (trained.folder / "model_0000009.pth").write_text("")
        other = make_run(tmp_path, "SOLVER.MAX_ITER", 21)
        other.start(repository)
        assert not (trained.folder / "model_0000009.pth").exists()
        assert wait(other).finished

    def test_what_the_same_training_left_stays(self, trained, repository, monkeypatch):
        (trained.folder / "model_0000009.pth").write_text("")
        trained.start(repository)
        wait(trained)
        assert (trained.folder / "model_0000009.pth").exists()

    def test_all_code_that_trained_a_part_is_remembered(
        self, trained, tmp_path, repository, monkeypatch
    ):
        monkeypatch.setattr(run_module, "code_digest", lambda: "new")
        run = make_run(tmp_path, any_code=True)
        run.start(repository)
        assert wait(run).record.code == [code_digest(), "new"]


def test_a_mistake_in_the_config_is_told_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match="SOFT_TEACHER.ALHPA"):
        make_run(tmp_path, "SOFT_TEACHER.ALHPA", 1.0)


class TestCodeDigest:
    @pytest.fixture
    def package(self, tmp_path):
        for name in (
            "modeling/heads.py",
            "analysis/plots.py",
            "config.py",
        ):
            path = tmp_path / "package" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        return tmp_path / "package"

    @pytest.mark.parametrize("name", ["modeling/heads.py", "config.py"])
    def test_it_covers_what_trains(self, package, name):
        before = code_digest.__wrapped__(package)
        (package / name).write_text("pass")
        assert code_digest.__wrapped__(package) != before

    @pytest.mark.parametrize("name", ["analysis/plots.py", "modeling/notes.md"])
    def test_it_leaves_out_what_does_not(self, package, name):
        before = code_digest.__wrapped__(package)
        (package / name).write_text("pass")
        assert code_digest.__wrapped__(package) == before


def test_a_folder_without_a_record_has_none(tmp_path):
    assert Record.read(tmp_path) is None
