"""The paper's tables, and the exact COCO config behind each of their rows."""

import itertools

import pytest
from replication.benchmark import Coco, Digits
from replication.plan import Plan
from replication.recipes import RECIPES
from replication.run import REPOSITORY, WITHOUT_EFFECT
from replication.tables import TABLES, find_table

from soft_teacher import ConfigError
from soft_teacher.data.datasets.dataset_dicts import train_names
from soft_teacher.engine.identity import flat
from soft_teacher.experiment.yaml_config import load_config

# Of section 4.2 and of the tables, written out once more: what each row's training must be.
METHOD = {
    "SOFT_TEACHER.SCORE_THRESH": 0.9,
    "SOFT_TEACHER.INDICATOR": "bg_teacher",
    "SOFT_TEACHER.JITTER.ENABLED": True,
    "SOFT_TEACHER.JITTER.NUM": 10,
    "SOFT_TEACHER.JITTER.SCALE": 0.06,
    "SOFT_TEACHER.JITTER.VARIANCE_THRESH": 0.02,
    "SOFT_TEACHER.EMA.MOMENTUM": 0.999,
}
PARTIAL = {
    **METHOD,
    "DATASETS.TRAIN_LABELED": ("coco_2017_{FAMILY}_{PERCENT}p_fold{FOLD}_labeled",),
    "DATASETS.SPLIT.FAMILY": "stac",
    "DATASETS.SPLIT.PERCENT": 10.0,
    "DATASETS.TEST": ("coco_2017_val",),
    "MODEL.RESNETS.DEPTH": 50,
    "SOLVER.MAX_ITER": 180000,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.STEPS": (110000, 160000),
    "SOLVER.IMS_PER_BATCH": 40,
    "SOFT_TEACHER.LABELED_SHARE": 0.2,
    "SOFT_TEACHER.LABELED_SHARE_DECAY": 10000,
}
FULL = {
    **METHOD,
    "DATASETS.TRAIN_LABELED": ("coco_2017_full_labeled",),
    "DATASETS.TRAIN_UNLABELED": ("coco_2017_full_unlabeled",),
    "MODEL.RESNETS.DEPTH": 50,
    "SOLVER.MAX_ITER": 720000,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.STEPS": (480000, 680000),
    "SOLVER.IMS_PER_BATCH": 64,
    "SOFT_TEACHER.LABELED_SHARE": 0.5,
    "SOFT_TEACHER.LABELED_SHARE_DECAY": 20000,
}
BASELINE = {"SOFT_TEACHER.LABELED_SHARE": 1.0, "SOFT_TEACHER.LABELED_SHARE_DECAY": 0}
SMALL = {**PARTIAL, **BASELINE, "SOLVER.IMS_PER_BATCH": 8}
LARGE = {**FULL, **BASELINE, "SOLVER.IMS_PER_BATCH": 16, "SOLVER.BASE_LR": 0.02}
R_101 = {"MODEL.RESNETS.DEPTH": 101}
NO_JITTER = {**PARTIAL, "SOFT_TEACHER.JITTER.ENABLED": False}
NO_WEIGHT = {**NO_JITTER, "SOFT_TEACHER.INDICATOR": "none"}


def share(percent, values):
    return {**values, "DATASETS.SPLIT.PERCENT": percent}


def method(**values):
    return {f"SOFT_TEACHER.{name}": value for name, value in values.items()}


ROWS = {
    ("3", "1 %", "Supervised"): share(1.0, SMALL),
    ("3", "1 %", "Soft Teacher"): share(1.0, PARTIAL),
    ("3", "5 %", "Supervised"): share(5.0, SMALL),
    ("3", "5 %", "Soft Teacher"): share(5.0, PARTIAL),
    ("3", "10 %", "Supervised"): SMALL,
    ("3", "10 %", "Soft Teacher"): PARTIAL,
    ("4", "Ours", "Supervised"): LARGE,
    ("4", "Ours", "Soft Teacher"): FULL,
    ("5", "R-50", "Supervised"): LARGE,
    ("5", "R-50", "Soft Teacher"): FULL,
    ("5", "R-101", "Supervised"): {**LARGE, **R_101},
    ("5", "R-101", "Soft Teacher"): {**FULL, **R_101},
    ("6", "", "Supervised"): SMALL,
    ("6", "", "Multi-Stage"): {
        **NO_WEIGHT,
        "SOFT_TEACHER.EMA.MOMENTUM": 0.0,
        "SOFT_TEACHER.LABEL_SOURCE": "dataset",
    },
    ("6", "", "E2E"): {**NO_WEIGHT, "SOFT_TEACHER.EMA.MOMENTUM": 0.0},
    ("6", "", "E2E+EMA"): NO_WEIGHT,
    ("7", "", "E2E+EMA"): NO_WEIGHT,
    ("7", "", "+ soft teacher"): NO_JITTER,
    ("7", "", "+ box jittering"): PARTIAL,
    ("8", "", "w/o weight"): NO_WEIGHT,
    ("8", "", "IoU"): {**NO_JITTER, **method(INDICATOR="iou")},
    ("8", "", "Reverse-IoU"): {**NO_JITTER, **method(INDICATOR="reverse_iou")},
    ("8", "", "Pred-Diff"): {**NO_JITTER, **method(INDICATOR="pred_diff")},
    ("8", "", "BG-S"): {**NO_JITTER, **method(INDICATOR="bg_student")},
    ("8", "", "BG-T"): NO_JITTER,
    ("9", "", "0.70"): {**NO_JITTER, **method(SCORE_THRESH=0.7)},
    ("9", "", "0.80"): {**NO_JITTER, **method(SCORE_THRESH=0.8)},
    ("9", "", "0.90"): NO_JITTER,
    ("9", "", "0.95"): {**NO_JITTER, **method(SCORE_THRESH=0.95)},
    ("10", "", "0.04"): {**PARTIAL, "SOFT_TEACHER.JITTER.VARIANCE_THRESH": 0.04},
    ("10", "", "0.03"): {**PARTIAL, "SOFT_TEACHER.JITTER.VARIANCE_THRESH": 0.03},
    ("10", "", "0.02"): PARTIAL,
    ("10", "", "0.01"): {**PARTIAL, "SOFT_TEACHER.JITTER.VARIANCE_THRESH": 0.01},
    ("11", "", "5"): {**PARTIAL, "SOFT_TEACHER.JITTER.NUM": 5},
    ("11", "", "10"): PARTIAL,
    ("11", "", "15"): {**PARTIAL, "SOFT_TEACHER.JITTER.NUM": 15},
}


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """All of the paper on COCO."""
    return Plan(Coco("paper"), list(TABLES.values()), tmp_path_factory.mktemp("replication"))


def row_of(table, group, name):
    (row,) = [r for r in TABLES[table].rows if (r.group, r.name) == (group, name)]
    return row


class TestProtocol:
    @pytest.mark.parametrize("key", ROWS, ids=" ".join)
    def test_each_row_has_the_papers_values(self, paper, key):
        table, row = TABLES[key[0]], row_of(*key)
        values = flat(paper.runs_of(table, row)[0].cfg, without=())
        assert {name: values[name] for name in ROWS[key]} == ROWS[key]

    def test_each_row_of_ours_is_in_the_list_above(self, paper):
        ours = {
            (t.key, r.group, r.name)
            for t in TABLES.values()
            for r in t.rows
            if paper.can_run(r) and t.key != "fig1"
        }
        assert ours == set(ROWS)

    def test_table_3_is_over_the_five_folds(self, paper):
        runs = paper.runs_of(TABLES["3"], row_of("3", "5 %", "Soft Teacher"))
        assert [r.cfg.DATASETS.SPLIT.FOLD for r in runs.values()] == [1, 2, 3, 4, 5]
        assert [r.cfg.SEED for r in runs.values()] == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("table", ["4", "5", "6", "7", "8", "9", "10", "11"])
    def test_the_other_tables_are_of_one_fold(self, paper, table):
        for row in filter(paper.can_run, TABLES[table].rows):
            assert list(paper.runs_of(TABLES[table], row)) == [0]

    @pytest.mark.parametrize(
        "table, name, config",
        [
            ("6", "Multi-Stage", "multi_stage"),
            ("6", "E2E", "e2e"),
            ("6", "E2E+EMA", "e2e_ema"),
            ("7", "+ soft teacher", "soft_teacher_without_jitter"),
        ],
    )
    def test_rows_with_a_config_of_their_own_are_that_config(self, paper, table, name, config):
        (run,) = paper.runs_of(TABLES[table], row_of(table, "", name)).values()
        own = load_config(str(REPOSITORY / "configs" / "coco" / "ablation" / f"{config}.yaml"))
        paths = ("OUTPUT_DIR", "DATASETS.TRAIN_UNLABELED")
        assert flat(run.cfg, without=paths) == flat(own, without=paths)

    def test_the_supervised_detector_labels_for_the_second_stage(self, paper):
        (run,) = paper.runs_of(TABLES["6"], row_of("6", "", "Multi-Stage")).values()
        (supervised,) = run.after
        assert supervised.name == "supervised_10p/seed0"
        labeling, training = run.commands()
        labels = str(run.folder / "labels.json")
        assert labeling[0].endswith("tools/label_images.py")
        assert labeling[labeling.index("--network") + 1] == "student"
        assert labeling[labeling.index("--output") + 1] == labels
        opts = labeling[labeling.index(labels) + 1 :]
        values = dict(zip(opts[0::2], opts[1::2]))
        assert values["MODEL.WEIGHTS"] == str(supervised.folder / "model_final.pth")
        cfg = load_config(labeling[labeling.index("--config-file") + 1], opts)
        assert train_names(cfg)[1] == ["coco_2017_stac_10p_fold1_unlabeled"]
        assert run.cfg.DATASETS.TRAIN_UNLABELED == (labels,)

    def test_figure_1_trains_all_labels_once(self, paper):
        row = row_of("fig1", "100 %", "Soft Teacher")
        assert list(paper.runs_of(TABLES["fig1"], row)) == [0]

    def test_the_released_variant_has_its_own_values(self, tmp_path):
        plan = Plan(Coco("reference"), [TABLES["7"]], tmp_path)
        (run,) = plan.runs_of(TABLES["7"], row_of("7", "", "+ box jittering")).values()
        assert run.cfg.SOLVER.STEPS == (120000, 160000)
        assert run.cfg.SOFT_TEACHER.JITTER.DISTRIBUTION == "normal"
        assert run.folder == tmp_path / "coco" / "reference" / "soft_teacher_10p" / "seed0"


class TestSharing:
    def test_no_two_runs_are_the_same_training(self, paper):
        values = {run: flat(run.cfg, without=WITHOUT_EFFECT) for run in paper.runs}
        for one, other in itertools.combinations(paper.runs, 2):
            assert values[one] != values[other], (one.name, other.name)

    @pytest.mark.parametrize(
        "one, other",
        [
            (("6", "E2E+EMA"), ("8", "w/o weight")),
            (("6", "E2E+EMA"), ("7", "E2E+EMA")),
            (("7", "+ soft teacher"), ("8", "BG-T")),
            (("7", "+ soft teacher"), ("9", "0.90")),
            (("7", "+ box jittering"), ("10", "0.02")),
            (("7", "+ box jittering"), ("11", "10")),
        ],
    )
    def test_rows_that_the_paper_repeats_share_a_run_and_its_numbers(self, one, other):
        first, second = (row_of(table, "", name) for table, name in (one, other))
        assert first.run == second.run
        assert first.paper == second.paper

    def test_the_full_method_is_table_3s_first_fold(self, paper):
        fold = paper.runs_of(TABLES["3"], row_of("3", "10 %", "Soft Teacher"))[0]
        (run,) = paper.runs_of(TABLES["7"], row_of("7", "", "+ box jittering")).values()
        assert run is fold

    def test_every_recipe_stands_in_a_table_or_starts_what_does(self):
        used = {row.run for table in TABLES.values() for row in table.rows if row.run}
        starts = {Digits().start(RECIPES[name]) for name in ("supervised_1p", "supervised_5p")}
        assert set(RECIPES) == used | starts | {"burn_in_10p"}


class TestRows:
    @pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
    def test_every_row_has_the_papers_ap_and_a_training_or_a_reason(self, table):
        for row in table.rows:
            assert 0 < row.paper[0] < 100
            assert (row.run is None) == bool(row.note)

    @pytest.mark.parametrize("key", ["6", "7", "8", "9", "10", "11"])
    def test_ablations_have_all_three_numbers_in_order(self, key):
        for row in TABLES[key].rows:
            ap, ap50, ap75 = row.paper
            assert ap < ap75 < ap50

    def test_what_the_text_says_of_the_tables(self):
        """Section 4.3 and 4.4 repeat some differences in words."""
        ap = {(t.key, r.group, r.name): r.paper[0] for t in TABLES.values() for r in t.rows}
        assert ap["7", "", "+ box jittering"] - ap["7", "", "E2E+EMA"] == pytest.approx(3.0)
        assert ap["7", "", "+ soft teacher"] - ap["7", "", "E2E+EMA"] == pytest.approx(2.4)
        assert ap["6", "", "E2E"] - ap["6", "", "Multi-Stage"] == pytest.approx(1.3)
        assert ap["4", "Ours", "Soft Teacher"] - ap["4", "Ours", "Supervised"] == pytest.approx(3.6)
        for share_, gain in (("1 %", 6.5), ("5 %", 6.4), ("10 %", 5.4)):
            found = ap["3", share_, "Soft Teacher"] - ap["3", share_, "STAC"]
            assert found == pytest.approx(gain, abs=0.05)

    def test_an_unknown_table_is_told_with_the_known_ones(self):
        with pytest.raises(ConfigError, match="no table '12'.*known are fig1, 3, 4"):
            find_table("12")
