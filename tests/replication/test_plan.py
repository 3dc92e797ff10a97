"""Plans: which rows, which runs, what may be reused."""

from pathlib import Path

import pytest
from replication.benchmark import Coco, Demo, Digits
from replication.plan import Plan
from replication.tables import OUR_TABLES, TABLES

from soft_teacher import ConfigError
from soft_teacher.runs import run as run_module
from soft_teacher.runs.record import Record, code_digest


@pytest.fixture
def make(tmp_path):
    def make_plan(*keys, benchmark=None, **options):
        tables = [{**TABLES, **OUR_TABLES}[key] for key in keys]
        return Plan(benchmark or Digits(), tables, tmp_path, **options)

    return make_plan


def finish(run):
    Record(run.identity.values, [code_digest()], 60.0, True).write(run.folder)


def test_three_seeds_of_the_digits_learn_from_three_folds(make, tmp_path):
    plan = make("7", rows=["E2E+EMA"])
    names = ("burn_in_10p", "end_to_end_ema")
    assert {run.name for run in plan.runs} == {f"{n}/seed{s}" for n in names for s in range(3)}
    for run in plan.runs:
        assert run.cfg.DATASETS.SPLIT.FAMILY == "without_replacement"
        assert run.cfg.DATASETS.SPLIT.FOLD == run.cfg.SEED + 1
        assert run.folder == tmp_path / "digits" / run.name


def test_18_runs_a_seed_start_from_the_same_weights_for_each_share(make):
    plan = make("3", "6", "7", "8", seeds=[4])
    runs = {run.name: run for run in plan.runs}
    assert len(runs) == len(plan.runs) == 18
    for name, run in runs.items():
        if not name.startswith("burn_in"):
            start = runs[f"burn_in_{run.cfg.DATASETS.SPLIT.PERCENT:g}p/seed4"]
            assert run.after[0] is start
            assert run.cfg.MODEL.WEIGHTS == str(start.folder / "model_final.pth")
    _C = runs["soft_teacher_10p/seed4"].cfg.SOFT_TEACHER
    assert (_C.SCORE_THRESH, _C.JITTER.VARIANCE_THRESH, _C.JITTER.NUM) == (0.9, 0.02, 10)


def test_other_detectors_are_run_by_the_demo_s_protocol(make, tmp_path):
    plan = make("masks", benchmark=Demo())
    assert len(plan.runs) == 9 * 3 and not any(run.after for run in plan.runs)
    for run in plan.runs:
        check_protocol(run, tmp_path)
        learns = run.name.startswith(("mask_soft_teacher", "htc_soft_teacher"))
        baseline = "supervised" in run.name
        assert baseline or run.experiment["SOFT_TEACHER.MASK.ENABLED"] == learns
        if not run.name.startswith("htc"):
            assert run.cfg.MODEL.MASK_ON == ("mask" in run.name)


def test_single_stage_detectors_are_run_from_either_language(make, tmp_path):
    plan = make("dense", benchmark=Demo())
    assert len(plan.runs) == 6 * 3
    for run in plan.runs:
        check_protocol(run, tmp_path)
        assert run.experiment["SOFT_TEACHER.JITTER.ENABLED"] == ("by_spread" in run.name)


def check_protocol(run, folder):
    """What the demo's runs have in common, in YAML and in LazyConfigs."""
    seed, setting = run.experiment["SEED"], run.experiment
    assert run.folder == folder / "demo" / run.name
    lazy = run.name.startswith(("htc", "fcos"))
    assert Path(run.config_file).suffix == (".py" if lazy else ".yaml")
    assert list(setting["DATASETS.TRAIN_LABELED"]) == [f"digits_fold{seed + 1}_labeled"]
    assert bool(setting["DATASETS.TRAIN_UNLABELED"]) != ("supervised" in run.name)


def test_figure_1_leaves_out_what_cannot_be_run(make):
    plan = make("fig1", seeds=[0])
    assert {(run.name, run.cfg.DATASETS.SPLIT.PERCENT) for run in plan.runs} == {
        (f"{kind}_{percent}p/seed0", float(percent))
        for kind in ("burn_in", "supervised", "soft_teacher")
        for percent in (1, 5, 10)
    }


@pytest.mark.parametrize(
    "key, name, count", [("8", "BG-S", 1), ("8", "indicator_bg_student", 1), ("3", "5 %", 4)]
)
def test_a_row_a_run_or_a_group_can_be_named(make, key, name, count):
    assert len(make(key, rows=[name]).rows[TABLES[key]]) == count


@pytest.mark.parametrize(
    "key, options, message",
    [
        ("4", {}, "Table 4 cannot be run on digits"),
        ("5", {}, "Table 5 cannot be run on digits"),
        ("masks", {}, "Masks and cascades cannot be run on digits"),
        ("7", {"benchmark": Demo()}, "Table 7 cannot be run on demo"),
        ("8", {"rows": ["BG-X"]}, "none of the rows BG-X: did you mean BG-"),
        ("1", {}, "Table 1 cannot be run on digits"),
        ("1", {"benchmark": Coco("reference")}, "Table 1 cannot be run .* there is no such config"),
        (
            "5",
            {"benchmark": Coco("paper"), "rows": ["HTC++ multi-scale"]},
            "Table 5 .* the single-scale row's weights, evaluated as docs/coco.md says",
        ),
        ("3", {"rows": ["STAC"]}, "quoted from other work"),
        ("3", {"benchmark": Coco("paper"), "seeds": [5]}, "--seeds 5: .* folds 1 to 5"),
    ],
)
def test_what_cannot_be_run_is_refused(make, key, options, message):
    with pytest.raises(ConfigError, match=message):
        make(key, **options)


def test_missing_data_of_coco_is_one_clear_error(make, monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    plan = make("7", benchmark=Coco("paper"))
    with pytest.raises(ConfigError, match="COCO is missing.*DETECTRON2_DATASETS.*coco.md"):
        plan.benchmark.prepare(plan.runs)
    annotations = tmp_path / "coco" / "annotations"
    annotations.mkdir(parents=True)
    (annotations / "instances_train2017.json").write_text('{"images": []}')
    with pytest.raises(ConfigError, match="soft-teacher-splits --family stac --percent 10 --folds"):
        plan.benchmark.prepare(plan.runs)


class TestReuse:
    def test_nothing_there_and_the_same_there_are_fine(self, make):
        plan = make("7", seeds=[0])
        plan.check_reuse()
        finish(plan.runs[0])
        plan.check_reuse()

    def test_another_config_is_not_replaced(self, make):
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
        with pytest.raises(ConfigError, match="the code was .*of 4 other runs.*--accept-older"):
            make("7", seeds=[0]).check_reuse()
        accepting = make("7", seeds=[0], any_code=True)
        accepting.check_reuse()
        assert all(run.finished for run in accepting.runs)
