"""The programs of docs/export.md, run as their readers do, who have neither of our packages."""

import json
import re
from pathlib import Path

import pytest
import torch
from deployed import CLASSES, R50, SMALL, deployed, needs, run_without, write_run
from PIL import Image

from soft_teacher.deploy.export.exporting import export

PAGE = Path(__file__).resolve().parents[3] / "docs" / "export.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
OURS = ["soft_teacher"]


def program(word):
    (found,) = (text for text in PROGRAMS if word in text)
    return found


@pytest.mark.parametrize(
    "file, word, missing",
    [
        ("model.onnx", "onnxruntime.Inf", [*OURS, "detectron2", "torch", "torchvision"]),
        pytest.param("model.ts", "torch.jit", [*OURS, "detectron2"], marks=pytest.mark.long),
        pytest.param("exported", "DefaultPredictor", OURS, marks=pytest.mark.long),
    ],
)
def test_a_program_of_the_page_prints_what_the_detector_detects(file, word, missing, tmp_path):
    needs(*(["onnx", "onnxruntime"] if file.endswith(".onnx") else []))
    backbone = R50 if file == "exported" else SMALL
    source, views = deployed(write_run(tmp_path, backbone=backbone))
    export(source, views, str(tmp_path / file))
    # Turned by its EXIF data; pixels as Pillow and OpenCV both decode them.
    photo = Image.open(tmp_path / "photos" / "0.png")
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "photo.jpg", quality=95, exif=exif)

    (tmp_path / "prepare.py").write_text(program("def prepare"))
    printed = run_without(missing, program(word), tmp_path).splitlines()
    sample = source.mapper({"file_name": str(tmp_path / "photo.jpg")})
    with torch.no_grad():
        found = source.network([sample])[0]["instances"]
    assert len(printed) == len(found) > 10
    rows = zip(found.pred_classes.tolist(), found.scores.tolist(), found.pred_boxes.tensor.tolist())
    expected = sorted((CLASSES[number], score, box) for number, score, box in rows)
    for ours, line in zip(expected, sorted(map(parsed, printed))):
        assert line[0] == ours[0]
        assert line[1] == pytest.approx(ours[1], abs=2e-3)
        assert line[2] == pytest.approx(ours[2], abs=0.1)  # it prints one digit


def parsed(line):
    name, score, box = line.split(" ", 2)
    return name, float(score), json.loads(box)


def test_every_program_of_the_page_is_run():
    assert len(PROGRAMS) == 4
