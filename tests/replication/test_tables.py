"""The paper's tables, and the exact COCO config behind each of their rows."""

import itertools

import pytest
from coco import COCO, FULL_METHOD
from omegaconf import OmegaConf
from replication.benchmark import Coco
from replication.plan import Plan
from replication.recipes import RECIPES
from replication.tables import OUR_TABLES, TABLES, find_table

from soft_teacher import ConfigError
from soft_teacher.data.datasets.dataset_dicts import train_names
from soft_teacher.engine.identity import flat
from soft_teacher.experiment.entry import load_experiment
from soft_teacher.experiment.yaml_config import load_config

PARTIAL = {"Supervised": "faster_rcnn_R_50_FPN_partial_180k", "Soft Teacher": FULL_METHOD[1]}
ALL_LABELS = {name: config.replace("partial_180k", "full_720k") for name, config in PARTIAL.items()}
NO_JITTER = {"JITTER.ENABLED": False}
NO_WEIGHT = {**NO_JITTER, "INDICATOR": "none"}
NO_EMA = {**NO_WEIGHT, "EMA.MOMENTUM": 0.0, "EVAL_NETWORKS": ("student",)}


def ablations(**rows):
    return {name: (FULL_METHOD[1], 10.0, changes) for name, changes in rows.items()}


def table(key, numbers, changes={}):
    """Rows named by the value of one key, written as in the paper."""
    return ablations(**{number: {**changes, key: float(number)} for number in numbers})


# table, group -> row -> shipped config (tests/test_paper_page.py has its values), percent, and
# what the row changes below SOFT_TEACHER
GROUPS = {
    **{
        ("3", f"{percent} %"): {name: (config, percent, {}) for name, config in PARTIAL.items()}
        for percent in (1, 5, 10)
    },
    ("4", "Ours"): {name: (config, None, {}) for name, config in ALL_LABELS.items()},
    ("5", "R-50"): {name: (config, None, {}) for name, config in ALL_LABELS.items()},
    ("5", "R-101"): {
        name: (config.replace("R_50", "R_101"), None, {}) for name, config in ALL_LABELS.items()
    },
    ("6", ""): {
        "Supervised": (PARTIAL["Supervised"], 10.0, {}),
        **ablations(**{"E2E": NO_EMA, "E2E+EMA": NO_WEIGHT}),
        **ablations(**{"Multi-Stage": {**NO_EMA, "LABEL_SOURCE": "dataset"}}),
    },
    ("7", ""): ablations(
        **{"E2E+EMA": NO_WEIGHT, "+ soft teacher": NO_JITTER, "+ box jittering": {}}
    ),
    ("8", ""): ablations(
        **{
            "w/o weight": NO_WEIGHT,
            "IoU": {**NO_JITTER, "INDICATOR": "iou"},
            "Reverse-IoU": {**NO_JITTER, "INDICATOR": "reverse_iou"},
            "Pred-Diff": {**NO_JITTER, "INDICATOR": "pred_diff"},
            "BG-S": {**NO_JITTER, "INDICATOR": "bg_student"},
            "BG-T": NO_JITTER,
        }
    ),
    ("9", ""): table("SCORE_THRESH", ("0.70", "0.80", "0.90", "0.95"), NO_JITTER),
    ("10", ""): table("JITTER.VARIANCE_THRESH", ("0.04", "0.03", "0.02", "0.01")),
    ("11", ""): table("JITTER.NUM", ("5", "10", "15")),
}
ROWS = {(*key, name): values for key, group in GROUPS.items() for name, values in group.items()}
# table, group -> row -> LazyConfig and the weights that it starts from
SWIN = "output/pretrained/swin_large_patch4_window7_224_22k/model.pth"
SINGLE_SCALE = {
    "Supervised": ("htcpp_swin_L_supervised_full_720k", SWIN),
    "Soft Teacher": ("htcpp_swin_L_soft_teacher_full_720k", SWIN),
}
OBJECTS365 = (SINGLE_SCALE["Soft Teacher"][0], "output/pretrained/objects365/model.pth")
LAZY_ROWS = {
    **{("1", "single-scale", name): values for name, values in SINGLE_SCALE.items()},
    ("1", "single-scale", "Soft Teacher*"): OBJECTS365,
    **{("5", "HTC++", name): values for name, values in SINGLE_SCALE.items()},
}
# The one row that is not of the paper.
OURS = "beyond the paper"
ELSEWHERE = ("OUTPUT_DIR", "DATASETS.TRAIN_UNLABELED")


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
        runs = paper.runs_of(TABLES[key[0]], row_of(*key))
        config, percent, changes = ROWS[key]
        expected = flat(load_config(str(COCO / "paper" / f"{config}.yaml")), without=ELSEWHERE)
        expected.update({f"SOFT_TEACHER.{name}": value for name, value in changes.items()})
        if percent is not None:
            expected["DATASETS.SPLIT.PERCENT"] = percent
        folds = 5 if key[0] == "3" else 1
        for seed, run in zip(range(folds), runs.values(), strict=True):
            expected |= {"SEED": seed}
            if percent is not None:
                expected["DATASETS.SPLIT.FOLD"] = seed + 1
            assert flat(run.cfg, without=ELSEWHERE) == expected

    @pytest.mark.parametrize("key", LAZY_ROWS, ids=" ".join)
    def test_a_row_of_htcpp_is_its_lazyconfig(self, paper, key):
        ((seed, run),) = paper.runs_of(TABLES[key[0]], row_of(*key)).items()
        config, weights = LAZY_ROWS[key]
        own = load_experiment(str(COCO / "paper" / f"{config}.py"))
        for name, value in (("SEED", seed), ("MODEL.WEIGHTS", weights), ("OUTPUT_DIR", run.folder)):
            own.set(name, value if name == "SEED" else str(value))
        assert OmegaConf.to_yaml(run.cfg) == OmegaConf.to_yaml(own.cfg)
        (command,) = run.commands()
        assert command[3].endswith(f"{config}.py") and "train.seed=0" in command
        assert f"train.output_dir='{run.folder}'" in command

    def test_each_row_of_ours_is_in_the_list_above(self, paper):
        rows = [(t.key, r) for t in TABLES.values() if t.key != "fig1" for r in t.rows]
        runs = {(t, r.group, r.name) for t, r in rows if paper.can_run(r)}
        assert runs == {*ROWS, *LAZY_ROWS, ("7", "", OURS)}

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
        own = load_config(str(COCO / "ablation" / f"{config}.yaml"))
        assert flat(run.cfg, without=ELSEWHERE) == flat(own, without=ELSEWHERE)

    def test_the_supervised_detector_labels_for_the_second_stage(self, paper):
        (run,) = paper.runs_of(TABLES["6"], row_of("6", "", "Multi-Stage")).values()
        (supervised,) = run.after
        assert supervised.name == "supervised_10p/seed0"
        (flag, module, *options), _ = run.commands()
        labels = str(run.folder / "labels.json")
        assert (flag, module) == ("-m", "soft_teacher.commands.label")
        named = dict(zip(options[0:6:2], options[1:6:2]))
        assert (named["--network"], named["--output"]) == ("student", labels)
        values = dict(zip(options[6::2], options[7::2]))
        assert values["MODEL.WEIGHTS"] == str(supervised.folder / "model_final.pth")
        cfg = load_config(named["--config-file"], options[6:])
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
    def test_no_two_runs_are_the_same(self, paper):
        values = {run: run.values for run in paper.runs}
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
        assert (first.run, first.paper) == (second.run, second.paper)

    def test_every_recipe_is_in_a_table_or_starts_one_that_is(self):
        tables = [*TABLES.values(), *OUR_TABLES.values()]
        used = {row.run for table in tables for row in table.rows if row.run}
        assert set(RECIPES) - used == {f"burn_in_{percent}p" for percent in (1, 5, 10)}


class TestOurs:
    def test_rows_that_the_paper_does_not_have_have_no_number_of_it(self):
        names = {"masks": "Masks and cascades", "dense": "Single-stage detectors"}
        assert {key: table.name for key, table in OUR_TABLES.items()} == names
        for key, table in OUR_TABLES.items():
            assert find_table(key) is table and table.stem == key
            assert all(row.run and row.paper == () and not row.note for row in table.rows)

    def test_the_baselines_count_at_their_best_and_teachers_at_their_last(self):
        for row in (row for table in OUR_TABLES.values() for row in table.rows):
            recipe = RECIPES[row.run]
            baseline = recipe.config.endswith("_supervised")
            assert recipe.network == ("better" if baseline else "teacher")
            assert (row.name == "Supervised") == baseline and recipe.percent is None

    def test_boxes_alone_is_the_full_recipe_without_masks_on_unlabeled_images(self):
        full, boxes = RECIPES["mask_soft_teacher"], RECIPES["mask_boxes_alone"]
        assert full.config == boxes.config
        assert (full.opts, boxes.opts) == (
            {"SOFT_TEACHER.MASK.ENABLED": True},
            {"SOFT_TEACHER.MASK.ENABLED": False},
        )
        assert RECIPES["cascade_soft_teacher"].opts == {}


class TestNumbers:
    @pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
    def test_every_row_has_the_papers_ap_and_a_run_or_a_reason(self, table):
        for row in table.rows:
            assert (row.run is None) == bool(row.note)
            if row.name == OURS:
                assert row.paper == () and row.paper_ap is None
                continue
            assert 0 < row.paper[0] < 100
            if table.key in ("6", "7", "8", "9", "10", "11"):
                ap, ap50, ap75 = row.paper
                assert ap < ap75 < ap50

    def test_differences_that_the_text_states(self):
        """Sections 4.3 and 4.4."""
        ap = {(t.key, r.group, r.name): r.paper_ap for t in TABLES.values() for r in t.rows}
        for table, group, better, worse, gain in (
            ("7", "", "+ box jittering", "E2E+EMA", 3.0),
            ("7", "", "+ soft teacher", "E2E+EMA", 2.4),
            ("6", "", "E2E", "Multi-Stage", 1.3),
            ("4", "Ours", "Soft Teacher", "Supervised", 3.6),
            ("3", "1 %", "Soft Teacher", "STAC", 6.5),
            ("3", "5 %", "Soft Teacher", "STAC", 6.4),
            ("3", "10 %", "Soft Teacher", "STAC", 5.4),
        ):
            found = ap[table, group, better] - ap[table, group, worse]
            assert found == pytest.approx(gain, abs=0.05)

    def test_an_unknown_table_is_reported_with_the_known_ones(self):
        with pytest.raises(
            ConfigError, match="no table '12'.*known are fig1, 1, 3, 4.*masks, dense"
        ):
            find_table("12")
