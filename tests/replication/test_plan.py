"""Plans: which rows, which runs, what may be reused."""

import json

import pytest
from replication import run as run_module
from replication.benchmark import Coco, Digits
from replication.plan import Plan
from replication.record import Record, code_digest
from replication.tables import TABLES

from soft_teacher import ConfigError


@pytest.fixture
def make(tmp_path):
    def make_plan(*keys, benchmark=None, **options):
        tables = [TABLES[key] for key in keys]
        return Plan(benchmark or Digits(), tables, tmp_path, **options)

    return make_plan


def finish(run):
    run.folder.mkdir(parents=True, exist_ok=True)
    Record(run.identity.values, [code_digest()], 60.0, True).write(run.folder)


class TestDigits:
    def test_three_seeds_learn_from_three_folds(self, make, tmp_path):
        plan = make("7", rows=["E2E+EMA"])
        names = {run.name for run in plan.runs}
        assert names == {
            f"{n}/seed{s}" for n in ("burn_in_10p", "end_to_end_ema") for s in range(3)
        }
        for run in plan.runs:
            assert run.cfg.DATASETS.SPLIT.FAMILY == "without_replacement"
            assert run.cfg.DATASETS.SPLIT.FOLD == run.cfg.SEED + 1
            assert run.folder == tmp_path / "digits" / run.name

    def test_tables_3_6_7_and_8_are_17_trainings_a_seed(self, make):
        plan = make("3", "6", "7", "8", seeds=[0])
        assert len(plan.runs) == 17

    def test_all_runs_of_a_share_start_from_the_same_weights(self, make):
        runs = {run.name: run for run in make("3", "8", seeds=[4]).runs}
        for name, run in runs.items():
            if not name.startswith("burn_in"):
                start = runs[f"burn_in_{run.cfg.DATASETS.SPLIT.PERCENT:g}p/seed4"]
                assert run.after == [start]
                assert run.cfg.MODEL.WEIGHTS == str(start.folder / "model_final.pth")

    @pytest.mark.parametrize("share, images", [("1 %", 1.0), ("5 %", 5.0), ("10 %", 10.0)])
    def test_the_shares_of_table_3(self, make, share, images):
        plan = make("3", rows=[share], seeds=[0])
        assert {run.cfg.DATASETS.SPLIT.PERCENT for run in plan.runs} == {images}

    def test_ablations_have_the_papers_thresholds(self, make):
        (run,) = [r for r in make("7", seeds=[0]).runs if r.name == "soft_teacher_10p/seed0"]
        _C = run.cfg.SOFT_TEACHER
        assert (_C.SCORE_THRESH, _C.JITTER.VARIANCE_THRESH, _C.JITTER.NUM) == (0.9, 0.02, 10)

    @pytest.mark.parametrize("key", ["4", "5"])
    def test_fully_labeled_data_is_for_coco(self, make, key):
        with pytest.raises(ConfigError, match=f"Table {key} cannot be run on digits"):
            make(key)

    def test_figure_1_leaves_out_what_cannot_be_run(self, make):
        plan = make("fig1", seeds=[0])
        assert {run.name for run in plan.runs} == {
            f"{kind}_{percent}p/seed0"
            for kind in ("burn_in", "supervised", "soft_teacher")
            for percent in (1, 5, 10)
        }


class TestRows:
    def test_a_row_a_group_or_a_run_can_be_named(self, make):
        for name, expected in (("BG-S", 1), ("indicator_bg_student", 1)):
            assert len(make("8", rows=[name]).rows[TABLES["8"]]) == expected
        assert len(make("3", rows=["5 %"]).rows[TABLES["3"]]) == 4

    def test_an_unknown_row_is_told_with_the_closest(self, make):
        with pytest.raises(ConfigError, match="none of the rows BG-X: did you mean BG-"):
            make("8", rows=["BG-X"])

    def test_htc_is_not_there_yet(self, make):
        with pytest.raises(ConfigError, match="Table 5 .* HTC\\+\\+ is not implemented"):
            make("5", benchmark=Coco("paper"), rows=["HTC++"])

    def test_quoted_rows_are_not_run(self, make):
        with pytest.raises(ConfigError, match="quoted from other work"):
            make("3", rows=["STAC"])


class TestCoco:
    def test_there_are_five_folds(self, make):
        with pytest.raises(ConfigError, match="--seeds 5: .* folds 1 to 5"):
            make("3", benchmark=Coco("paper"), seeds=[5])

    def test_without_coco_there_is_one_clear_error(self, make, monkeypatch, tmp_path):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
        plan = make("7", benchmark=Coco("paper"))
        with pytest.raises(ConfigError, match="COCO is not there.*DETECTRON2_DATASETS.*coco.md"):
            plan.benchmark.prepare(plan.runs)

    def test_without_the_split_the_command_that_makes_it_is_told(self, make, monkeypatch, tmp_path):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
        annotations = tmp_path / "coco" / "annotations"
        annotations.mkdir(parents=True)
        (annotations / "instances_train2017.json").write_text(json.dumps({"images": []}))
        plan = make("7", benchmark=Coco("paper"))
        with pytest.raises(ConfigError, match="make_splits.py --family stac --percent 10 --folds"):
            plan.benchmark.prepare(plan.runs)


class TestReuse:
    def test_nothing_there_and_the_same_there_are_fine(self, make):
        plan = make("7", seeds=[0])
        plan.check_reuse()
        finish(plan.runs[0])
        plan.check_reuse()

    def test_another_config_is_not_replaced(self, make, monkeypatch):
        plan = make("7", seeds=[0])
        run = plan.runs[-1]
        finish(run)
        record = run.record
        record.identity["SOLVER.MAX_ITER"] = "7"
        record.write(run.folder)
        with pytest.raises(ConfigError, match="SOLVER.MAX_ITER was 7 and is 500\\): --rerun"):
            plan.check_reuse()

    def test_older_code_is_refused_unless_it_is_accepted(self, make, monkeypatch):
        for run in make("7", seeds=[0]).runs:
            finish(run)
        monkeypatch.setattr(run_module, "code_digest", lambda: "new")
        with pytest.raises(ConfigError, match="the code was .*of 3 other runs.*--accept-older"):
            make("7", seeds=[0]).check_reuse()
        accepting = make("7", seeds=[0], any_code=True)
        accepting.check_reuse()
        assert all(run.finished for run in accepting.runs)
