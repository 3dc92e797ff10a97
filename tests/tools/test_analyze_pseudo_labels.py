"""tools/analyze_pseudo_labels.py: from weights and a dataset to tables, figures and a page."""

import csv
import json
import re

import pytest
import torch
from analyze_pseudo_labels import main
from PIL import Image
from training import CONFIGS, save_untrained, weights

from soft_teacher.analysis import pseudo_label_report

YAML = str(CONFIGS / "soft_teacher.yaml")
LAZY = str(CONFIGS / "soft_teacher.py")
# So low that an untrained detector has many.
CANDIDATES = 0.15
YAML_OPTS = ["SOFT_TEACHER.JITTER.SCORE_THRESH", str(CANDIDATES), "DATALOADER.NUM_WORKERS", "0"]
LAZY_OPTS = [f"model.pseudo_labeler.candidate_thresh={CANDIDATES}"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two checkpoints, and the student of one of them as any detector's weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, name in enumerate(("ours", "other")):
        save_untrained(folder / f"{name}.pth", seed=seed)
    state = weights(folder, "ours.pth")
    student = {k[len("student.") :]: v for k, v in state.items() if k.startswith("student.")}
    torch.save({"model": student}, folder / "detector.pth")
    return folder


@pytest.fixture
def drawn(tiny_digits, tmp_path, capsys):
    """Runs the tool; returns its status, what it printed, and its last error line."""

    def run(*arguments, output="out"):
        status = main(["--output", str(tmp_path / output), *map(str, arguments)])
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


def of(path, *opts):
    """Arguments for the YAML config and these weights."""
    return ["--config-file", YAML, *YAML_OPTS, "MODEL.WEIGHTS", path, *opts]


# --- what cannot be done ------------------------------------------------------------------------

NO_TRUTH = "digits_unlabeled"


@pytest.mark.parametrize(
    "options, opts, message",
    [
        ([], ["MODEL.WEIGHTS", ""], "MODEL.WEIGHTS is empty"),
        ([], ["MODEL.WEIGHTS", "gone.pth"], "MODEL.WEIGHTS 'gone.pth' does not exist"),
        (["--compare", "gone.pth"], [], "--compare: MODEL.WEIGHTS 'gone.pth' does not exist"),
        (["--compare-config", YAML], [], "--compare-config needs the weights"),
        (["--dataset", NO_TRUTH], [], f"--dataset '{NO_TRUTH}' has no ground truth"),
        (["--dataset", "nowhere"], [], "--dataset names 'nowhere', which is neither"),
        ([], ["DATASETS.TEST", "()"], "DATASETS.TEST is empty: name a dataset with --dataset"),
        ([], ["MODEL.META_ARCHITECTURE", "PanopticFPN"], "'PanopticFPN' cannot be wrapped"),
        ([], ["MODEL.ROI_HEADS.NUM_CLASSES", "4"], "holds another model"),
        (["--images", "0"], [], "--images must be at least 1"),
        (["--rows", "0"], [], "--rows must be at least 1"),
        (["--seed", "-1"], [], "--seed must not be negative"),
        (["--draw-above", "1.5"], [], "--draw-above must lie strictly between 0 and 1"),
    ],
)
def test_a_mistake_is_told_in_one_line(options, opts, message, run, checkpoints):
    status, _, error = run(*options, *of(checkpoints / "ours.pth", *opts))
    assert status == 2 and error.startswith("error: ") and message in error


def test_a_model_that_finds_nothing_is_told_of(run, checkpoints, tmp_path):
    state = weights(checkpoints, "detector.pth")
    state["roi_heads.box_predictor.cls_score.bias"][-1] = 1e4  # all is background
    torch.save({"model": state}, tmp_path / "blind.pth")
    status, _, error = run(*of(tmp_path / "blind.pth"))
    assert status == 2 and "the teacher detects nothing above a score of 0.05 in 4 images" in error


@pytest.fixture(scope="module")
def four_classes(tmp_path_factory):
    """Config and weights of a model of other classes."""
    folder = tmp_path_factory.mktemp("four")
    config = folder / "four.yaml"
    config.write_text(f"_BASE_: {YAML}\nMODEL:\n  ROI_HEADS:\n    NUM_CLASSES: 4\n")
    save_untrained(folder / "four.pth", "MODEL.ROI_HEADS.NUM_CLASSES", "4")
    return config, folder / "four.pth"


def test_the_dataset_must_have_the_model_s_classes(run, four_classes):
    config, path = four_classes
    status, _, error = run("--config-file", config, "MODEL.WEIGHTS", path)
    assert status == 2 and "'digits_val' has 5 classes but MODEL.ROI_HEADS.NUM_CLASSES" in error


def test_models_of_different_classes_are_not_compared(run, checkpoints, four_classes):
    config, path = four_classes
    options = ["--compare", path, "--compare-config", config]
    status, _, error = run(*options, *of(checkpoints / "ours.pth"))
    assert status == 2 and "--compare: the model has 4 classes, the other 5" in error


def test_an_output_that_is_a_file_is_told_of(run, checkpoints, tmp_path):
    (tmp_path / "file").touch()
    status, _, error = run(*of(checkpoints / "ours.pth"), output="file")
    assert status == 2 and str(tmp_path / "file") in error


# --- what comes out -----------------------------------------------------------------------------


def test_tables_pictures_and_page(drawn, checkpoints, tmp_path):
    status, printed, _ = drawn(
        *("--compare", checkpoints / "other.pth", "--draw-above", "0.15", "--rows", "2"),
        *of(checkpoints / "ours.pth"),
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
        assert re.search(
            rf"^{row['with']} .* {row['Pearson']:.3f} +{row['Spearman']:.3f}$",
            printed,
            re.MULTILINE,
        )
    classes = [row["class"] for row in summary["classes"]]
    assert classes == ["all", "zero", "one", "two", "three", "four"]

    rows = list(csv.DictReader((folder / "curves.csv").open()))
    assert len(rows) == 6 * 95  # from 0.05 to 0.99
    by_class = {
        c: [r for r in rows if r["class"] == c and r["threshold"] == "0.1"] for c in classes
    }
    boxes = {c: int(found["boxes"]) for c, (found,) in by_class.items()}
    assert boxes.pop("all") == sum(boxes.values()) > 100

    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64") == 2 and page.count("<table>") == 4
    assert not re.search(r"(src|href)=(?!'data:)", page)
    assert Image.open(folder / "figure3.png").size == (1260, pytest.approx(410, abs=1))


def test_a_sample_is_reproducible(run, checkpoints, tmp_path):
    outputs = ["once", "again", "other"]
    for output, seed in zip(outputs, (1, 1, 2)):
        options = ["--images", "2", "--seed", str(seed)]
        assert run(*options, *of(checkpoints / "ours.pth"), output=output)[0] == 0
    once, again, other = ((tmp_path / o / "summary.json").read_text() for o in outputs)
    assert once == again != other and json.loads(once)["setting"]["images"] == 2


def numbers(folder):
    """Everything but where it came from."""
    summary = json.loads((folder / "summary.json").read_text())
    setting = summary.pop("setting")
    return summary, {k: v for k, v in setting.items() if k not in ("weights", "network")}


def test_both_config_languages_say_the_same(run, checkpoints, tmp_path):
    path = checkpoints / "ours.pth"
    assert run(*of(path), output="yaml")[0] == 0
    opts = [*LAZY_OPTS, f"train.init_checkpoint={path}"]
    assert run("--config-file", LAZY, *opts, output="lazy")[0] == 0
    assert numbers(tmp_path / "yaml") == numbers(tmp_path / "lazy")


def test_without_box_jittering_the_settings_measure_all_the_same(run, checkpoints, tmp_path):
    path = checkpoints / "ours.pth"
    assert run(*of(path), output="with")[0] == 0
    assert run(*of(path, "SOFT_TEACHER.JITTER.ENABLED", "False"), output="without")[0] == 0
    assert numbers(tmp_path / "with") == numbers(tmp_path / "without")
    opts = ["model.pseudo_labeler.measure_stability=False", f"train.init_checkpoint={path}"]
    assert run("--config-file", LAZY, *LAZY_OPTS, *opts, output="lazy")[0] == 0
    assert numbers(tmp_path / "with") == numbers(tmp_path / "lazy")


def test_networks_are_told_apart_and_a_detector_is_both(run, checkpoints, tmp_path):
    options = ["--network", "student"]
    assert run(*of(checkpoints / "ours.pth"), output="teacher")[0] == 0
    assert run(*options, *of(checkpoints / "ours.pth"), output="student")[0] == 0
    assert run(*of(checkpoints / "detector.pth"), output="detector")[0] == 0
    found = {name: numbers(tmp_path / name) for name in ("teacher", "student", "detector")}
    assert found["detector"] == found["student"] != found["teacher"]


def test_hidden_labels_of_a_split_are_ground_truth(run, checkpoints, tmp_path):
    options = ["--dataset", "digits_fold1_unlabeled"]
    assert run(*options, *of(checkpoints / "ours.pth"))[0] == 0
    assert numbers(tmp_path / "out")[1]["images"] == 8


def test_equal_models_have_no_figure_4(run, checkpoints, tmp_path):
    options = ["--compare", checkpoints / "ours.pth"]
    status, printed, _ = run(*options, *of(checkpoints / "ours.pth"))
    assert status == 0 and "no Fig. 4: both models find the same boxes" in printed
    assert not (tmp_path / "out" / "figure4.png").exists()
