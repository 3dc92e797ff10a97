import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soft_teacher import ConfigError
from soft_teacher.monitoring import run_report
from soft_teacher.monitoring.run_report import series, write_report

TOOL = Path(__file__).resolve().parents[2] / "tools" / "report.py"


def write_lines(folder, *lines):
    (folder / "metrics.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.fixture
def training(tmp_path):
    """A folder as a run leaves it."""
    lines = [{"iteration": n, "sup/loss_cls": 1 / (n + 1), "lr": 0.1} for n in (4, 9)]
    lines[1].update({"teacher/bbox/AP": 31.25, "teacher/bbox/AP-one": 3.5})
    lines[1].update({"student/bbox/AP": 30.0, "student/bbox/APl": float("nan")})
    write_lines(tmp_path, *lines)
    (tmp_path / "config.yaml").write_text("SEED: 5  # <b>\n")
    (tmp_path / "pictures").mkdir()
    for n in range(20):
        pixels = np.full((4, 5, 3), n, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"step_{n:07d}.png")
    return tmp_path


@pytest.fixture
def no_versions(monkeypatch):
    """Collecting them takes seconds."""
    monkeypatch.setattr("soft_teacher.monitoring.run_report.collect_env_info", str)


# --- reading ------------------------------------------------------------------------------------


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        write_report(tmp_path)


def test_a_series_is_in_order_and_counts_steps_done():
    assert series([], "a") == []
    lines = {"iteration": 9, "a": 2.0}, {"iteration": 4, "a": 1.0}, {"iteration": 5}
    assert series(lines, "a") == [(5, 1.0), (10, 2.0)]


# --- the page -----------------------------------------------------------------------------------


def test_a_run_that_wrote_nothing_has_a_page_nevertheless(tmp_path):
    write_lines(tmp_path)
    text = write_report(tmp_path).read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert "No evaluation." in text and headings == ["Results", "Versions"]


def test_the_page_needs_no_other_file(training):
    text = write_report(training, title="A & B", command="python train_net.py '<x>'").read_text()
    assert not re.search(r"(src|href)=(?!'data:)", text)
    assert "<h1>A &amp; B</h1>" in text
    assert "python train_net.py &#x27;&lt;x&gt;&#x27;" in text
    assert "SEED: 5  # &lt;b&gt;" in text
    assert "PyTorch" in text and "detectron2" in text.lower()


def test_there_is_a_curve_for_what_was_logged_and_for_nothing_else(training):
    text = write_report(training).read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    curves = [caption for caption in captions if not caption.startswith("step_")]
    assert curves == ["AP on the test images", "supervised losses", "learning rate"]


def test_scalars_of_single_classes_have_no_curve(tmp_path, monkeypatch):
    aps = ("teacher/bbox/AP", "teacher/segm/AP")
    pseudo = ("boxes_per_image", "labeled_boxes_per_image", "mask_iou")
    pseudo = tuple(f"pseudo/{name}" for name in pseudo)
    of_classes = (*(f"{ap}-cat" for ap in aps), *(f"{name}/cat" for name in pseudo))
    names = (*aps, *pseudo)
    write_lines(tmp_path, {"iteration": 4, **dict.fromkeys((*names, *of_classes), 1.0)})
    drawn = []
    monkeypatch.setattr(run_report, "_figure", lambda _, curves: drawn.append(set(curves)) or "")
    write_report(tmp_path)
    assert drawn == [set(aps), set(pseudo[:2]), set(pseudo[2:])]


def test_some_of_many_pictures_are_shown_the_last_among_them(training):
    text = write_report(training).read_text()
    shown = re.findall(r"<figcaption>(step_\d+)</figcaption>", text)
    assert len(shown) == 8 and shown == sorted(shown) and shown[-1] == "step_0000019"


@pytest.mark.usefixtures("no_versions")
def test_of_the_pictures_of_test_images_the_first_and_the_last_are_shown(training):
    def shown():
        return re.findall(
            r"<figcaption>(validation_\d+)</figcaption>", write_report(training).read_text()
        )

    assert shown() == []
    for number in (600, 1200, 1800):
        path = training / "pictures" / f"validation_{number:07d}.png"
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(path)
        last = [f"validation_{number:07d}"] * (number > 600)
        assert shown() == ["validation_0000600", *last]


# --- classes and datasets


def evaluated(count, *, where="teacher"):
    """Lines of two evaluations of so many classes with odd names, and one without an object."""
    aps = {f"{where}/bbox/AP-$\\class {n}$": 1.0 + n for n in range(count)}
    aps[f"{where}/bbox/AP-absent"] = float("nan")
    return [{"iteration": step, f"{where}/bbox/AP": 5.0, **aps} for step in (4, 9)]


def captions(folder):
    return re.findall(r"<figcaption>(.*?)</figcaption>", write_report(folder).read_text())


@pytest.mark.usefixtures("no_versions")
@pytest.mark.parametrize("count, drawn", [(1, True), (12, True), (13, False), (80, False)])
def test_classes_have_a_table_and_a_few_of_them_curves(count, drawn, tmp_path):
    write_lines(tmp_path, *evaluated(count))
    assert ("AP per class of the teacher" in captions(tmp_path)) == drawn
    text = (tmp_path / "report.html").read_text()
    assert "<h2>AP per class</h2>" in text
    assert text.count("<td>$\\class ") == count and "<td>absent</td>" in text


@pytest.mark.usefixtures("no_versions")
def test_classes_have_the_ap_of_masks_in_the_same_table(tmp_path):
    lines = evaluated(2)
    lines[-1] |= {k.replace("bbox", "segm"): v for k, v in lines[-1].items() if "/" in k}
    write_lines(tmp_path, *lines)
    text = write_report(tmp_path).read_text()
    assert "<th>teacher, masks, last (10 steps)</th>" in text and "<th>mask AP75</th>" in text


@pytest.mark.usefixtures("no_versions")
def test_without_the_teacher_the_curves_are_of_the_student(tmp_path):
    write_lines(tmp_path, *evaluated(2, where="student"))
    assert "AP per class of the student" in captions(tmp_path)


@pytest.mark.usefixtures("no_versions")
def test_every_dataset_has_its_curves_and_its_table(tmp_path):
    names = ["my-val.json@images", "night"]
    write_lines(tmp_path, *(x for n in names for x in evaluated(2, where=f"teacher/{n}")))
    assert captions(tmp_path) == [
        *(f"AP per class of the teacher on {name}" for name in names),
        "AP on the test images",
    ]
    headings = re.findall(r"<h3>(.*?)</h3>", (tmp_path / "report.html").read_text())
    assert headings == names


@pytest.mark.usefixtures("no_versions")
def test_boxes_per_class_have_a_table(tmp_path):
    write_lines(tmp_path, {"iteration": 4, "pseudo/boxes_per_image": 2.0})
    text = write_report(tmp_path).read_text()
    assert "<h2>Labeled and pseudo boxes per class</h2>" in text and "<td>2.00</td>" in text


@pytest.mark.long
def test_the_tool_writes_it_again(training):
    def report(folder):
        command = [sys.executable, "-W", "ignore", str(TOOL), str(folder)]
        return subprocess.run(command, capture_output=True, text=True)

    found = report(training)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == str(training / "report.html")
    found = report(training / "pictures")
    assert found.returncode == 2 and "holds no run" in found.stderr
