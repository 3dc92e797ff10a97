"""soft-teacher-analyze: from weights and a dataset to tables, figures and a page."""

import csv
import json
import re

import pytest
import torch
from PIL import Image
from training import CONFIGS, save_untrained, weights

from soft_teacher.analysis import pseudo_label_report
from soft_teacher.commands import analyze
from soft_teacher.commands.analyze import main

YAML = str(CONFIGS / "soft_teacher.yaml")
LAZY = str(CONFIGS / "soft_teacher.py")
# So low that an untrained detector has many.
CANDIDATES = 0.15
YAML_OPTS = ["SOFT_TEACHER.JITTER.SCORE_THRESH", str(CANDIDATES), "DATALOADER.NUM_WORKERS", "0"]
LAZY_OPTS = [f"model.pseudo_labeler.candidate_thresh={CANDIDATES}"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Checkpoints of two models, of a bare detector, of one that sees nothing, of four classes."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, name in enumerate(("ours", "other")):
        save_untrained(folder / f"{name}.pth", seed=seed)
    state = weights(folder, "ours.pth")
    student = {k[len("student.") :]: v for k, v in state.items() if k.startswith("student.")}
    torch.save({"model": student}, folder / "detector.pth")
    student["roi_heads.box_predictor.cls_score.bias"][-1] = 1e4  # all is background
    torch.save({"model": student}, folder / "blind.pth")
    save_untrained(folder / "four.pth", "MODEL.ROI_HEADS.NUM_CLASSES", "4")
    (folder / "four.yaml").write_text(f"_BASE_: {YAML}\nMODEL:\n  ROI_HEADS:\n    NUM_CLASSES: 4\n")
    return folder


@pytest.fixture
def drawn(tiny_digits, checkpoints, tmp_path, capsys):
    """Runs the tool, "{}" standing for the folder of checkpoints.

    Returns its status, what it printed, and its last error line.
    """

    def run(*arguments, output="out"):
        arguments = [str(argument).replace("{}", str(checkpoints)) for argument in arguments]
        status = main(["--output", str(tmp_path / output), *arguments])
        captured = capsys.readouterr()
        return status, captured.out, (captured.err.splitlines() or [""])[-1]

    return run


@pytest.fixture
def run(drawn, monkeypatch):
    """The same without the time that Fig. 3 takes."""

    def nothing(findings, path):
        Image.new("RGB", (1, 1)).save(path)

    monkeypatch.setattr(pseudo_label_report, "pseudo_label_figure", nothing)
    return drawn


def of(name, *opts):
    """Arguments for the YAML config and these weights."""
    return ["--config-file", YAML, *YAML_OPTS, "MODEL.WEIGHTS", f"{{}}/{name}.pth", *opts]


# --- what cannot be done ------------------------------------------------------------------------

FOUR_CLASSES = ["--config-file", "{}/four.yaml", "MODEL.WEIGHTS", "{}/four.pth"]
NOTHING = "the teacher detects nothing above a score of 0.05 in 4 images"


@pytest.mark.parametrize(
    "options, arguments, message",
    [
        ([], of("ours", "MODEL.WEIGHTS", ""), "MODEL.WEIGHTS is empty"),
        ([], of("gone"), "/gone.pth' does not exist"),
        ([], of("blind"), NOTHING),
        ([], FOUR_CLASSES, "'digits_val' has 5 classes but MODEL.ROI_HEADS.NUM_CLASSES"),
        (["--compare", "gone.pth"], of("ours"), "--compare: MODEL.WEIGHTS 'gone.pth' does not"),
        (
            ["--compare", "{}/four.pth", "--compare-config", "{}/four.yaml"],
            of("ours"),
            "--compare: the model has 4 classes, the other 5",
        ),
        (["--compare-config", YAML], of("ours"), "--compare-config needs the weights"),
        (["--dataset", "digits_unlabeled"], of("ours"), "'digits_unlabeled' has no ground truth"),
        (["--dataset", "nowhere"], of("ours"), "--dataset names 'nowhere', which is neither"),
        ([], of("ours", "DATASETS.TEST", "()"), "DATASETS.TEST is empty: name a dataset with --da"),
        ([], of("ours", "MODEL.META_ARCHITECTURE", "PanopticFPN"), "cannot be wrapped"),
        ([], of("ours", "MODEL.ROI_HEADS.NUM_CLASSES", "4"), "holds another model"),
        (["--images", "0"], of("ours"), "--images must be a whole number of at least 1"),
        (["--rows", "0"], of("ours"), "--rows must be a whole number of at least 1"),
        (["--seed", "-1"], of("ours"), "--seed must not be negative"),
        (["--draw-above", "1.5"], of("ours"), "--draw-above must lie strictly between 0 and 1"),
        (["--output", YAML], of("ours"), f"--output '{YAML}'"),
    ],
)
def test_a_mistake_is_reported_in_one_line(options, arguments, message, run):
    status, _, error = run(*options, *arguments)
    assert status == 2 and error.startswith("error: ") and message in error


def test_a_full_disk_is_reported_in_one_line(run, monkeypatch):
    def full(findings, path):
        raise OSError("No space left on device")

    monkeypatch.setattr(pseudo_label_report, "pseudo_label_figure", full)
    status, _, error = run(*of("ours"))
    assert (status, error) == (2, "error: OSError: No space left on device")


# --- what comes out -----------------------------------------------------------------------------


def test_tables_pictures_and_page(drawn, tmp_path):
    status, printed, _ = drawn(
        *("--compare", "{}/other.pth", "--draw-above", "0.15", "--rows", "2"), *of("ours")
    )
    folder = tmp_path / "out"
    names = ["curves.csv", "figure3.png", "figure4.png", "report.html", "summary.json"]
    assert status == 0 and sorted(path.name for path in folder.iterdir()) == names
    assert all(str(folder / name) in printed for name in names)

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["setting"]["network"] == "teacher" and summary["setting"]["images"] == 4
    score, variance, *_ = summary["correlations"]
    assert score["boxes"] == variance["boxes"] > 100
    for row in (score, variance):
        shown = rf"^{row['with']} .* {row['Pearson']:.3f} +{row['Spearman']:.3f}$"
        assert re.search(shown, printed, re.MULTILINE)
    classes = [row["class"] for row in summary["classes"]]
    assert classes == ["all", "zero", "one", "two", "three", "four"]

    rows = list(csv.DictReader((folder / "curves.csv").open()))
    assert len(rows) == 6 * 95  # from 0.05 to 0.99
    boxes = {row["class"]: int(row["boxes"]) for row in rows if row["threshold"] == "0.1"}
    assert list(boxes) == classes and boxes.pop("all") == sum(boxes.values()) > 100

    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64") == 2 and page.count("<table>") == 4
    assert not re.search(r"(src|href)=(?!'data:)", page)
    assert Image.open(folder / "figure3.png").size == (1260, pytest.approx(410, abs=1))


def test_equal_models_have_no_figure_4(run, tmp_path):
    status, printed, _ = run("--compare", "{}/ours.pth", *of("ours"))
    assert status == 0 and "no Fig. 4: both models find the same boxes" in printed
    assert not (tmp_path / "out" / "figure4.png").exists()


def test_options_of_figure_4_reach_it(run, monkeypatch):
    given = {}
    sheet = lambda networks, *args, **options: given.update(options)
    monkeypatch.setattr(analyze, "comparison_sheet", sheet)
    run("--compare", "{}/other.pth", "--draw-above", 0.7, "--rows", 3, *of("ours"))
    assert given == {"count": 3, "score_thresh": 0.7}


@pytest.fixture
def numbers(run, tmp_path):
    """Runs the tool; returns what it measured, without where that came from."""

    def numbers(*arguments):
        assert run(*arguments)[0] == 0
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        setting = summary["setting"]
        setting.pop("weights"), setting.pop("network")
        return summary

    return numbers


def test_a_sample_is_reproducible(numbers):
    once, again, other = (numbers("--images", 2, "--seed", s, *of("ours")) for s in (1, 1, 2))
    assert once == again != other and once["setting"]["images"] == 2


def test_config_languages_and_settings_without_box_jittering_measure_the_same(numbers):
    lazy = ["--config-file", LAZY, *LAZY_OPTS, "train.init_checkpoint={}/ours.pth"]
    expected = numbers(*of("ours"))
    assert numbers(*lazy) == expected
    assert numbers(*of("ours", "SOFT_TEACHER.JITTER.ENABLED", "False")) == expected
    assert numbers(*lazy, "model.pseudo_labeler.measure_stability=False") == expected


def test_networks_differ_and_a_detector_is_both(numbers):
    student = numbers("--network", "student", *of("ours"))
    assert numbers(*of("detector")) == student != numbers(*of("ours"))


def test_held_out_labels_of_a_split_are_ground_truth(numbers):
    found = numbers("--dataset", "digits_fold1_unlabeled", *of("ours"))
    assert found["setting"]["images"] == 8
