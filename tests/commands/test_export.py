"""soft-teacher-export: what it prints, and what it refuses in one line."""

import sys

import pytest
from deployed import write_run

from soft_teacher.commands import export
from soft_teacher.deploy.export import exporting


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def failure(run, tmp_path, capsys):
    """The one line of a refused call; nothing has been written."""

    def failure(output, *options, status=2, config=run):
        assert call(tmp_path, output, *options, config=config) == status
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: ")
        assert list(tmp_path.rglob("*")) == []
        return line

    return failure


def call(folder, output, *options, config):
    images = () if "--images" in options else ("--images", config.parent / "photos")
    options = ["--config-file", config, "--output", folder / output, *images, *options]
    return export.main([str(option) for option in options])


def test_a_file_is_written_and_described(run, tmp_path, capsys):
    assert call(tmp_path, "out/model.ts", config=run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("on 4 images ") and "detections agree: scores differ by" in lines[0]
    assert lines[1] == f"written: {tmp_path / 'out/model.ts'}, the teacher with 3 classes"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.ts"]


def test_outputs_that_are_no_format(failure):
    assert "must end in .ts, .onnx or .safetensors" in failure("model.onxx")


def test_old_operators(failure):
    line = failure("model.onnx", "--opset", "11")
    assert "--opset 11 cannot align RoIAlign, so that detections would be silently wrong" in line
    assert "--opset must be a whole number" in failure("model.onnx", "--opset", "99")


def test_images_and_classes_that_are_not_there(failure, tmp_path):
    assert "nowhere" in failure("model.ts", "--images", "nowhere")
    assert "nowhere.json cannot be read" in failure("model.ts", "--classes", "nowhere.json")


@pytest.mark.parametrize("options", [["--weights", "gone.pth"], ["MODEL.WEIGHTS", "gone.pth"]])
@pytest.mark.parametrize("folder", [False, True])
def test_weights_that_are_not_there(failure, run, options, folder):
    """Named ones go before those of a run's folder."""
    images = ["--images", run.parent / "photos"]
    line = failure("model.ts", *images, *options, config=run.parent if folder else run)
    assert "MODEL.WEIGHTS 'gone.pth' does not exist" in line


def test_the_folder_of_a_run_is_enough(run, tmp_path):
    assert call(tmp_path, "model.ts", "--images", run.parent / "photos", config=run.parent) == 0


@pytest.mark.parametrize("output, package", [("a.onnx", "onnx"), ("a.safetensors", "safetensors")])
def test_a_package_that_is_missing(output, package, failure, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    line = failure(output, status=1)
    assert line.endswith("install it with pip install -e .[export]") and package in line


def test_a_difference(failure, monkeypatch):
    def write(source, view, path):
        open(path, "w").close()
        return lambda view: exporting.DetectionTensors(
            *(t[1:] for t in exporting.detect(source.network, view))
        )

    monkeypatch.setitem(exporting.FORMATS, ".ts", write)
    assert "1 have no counterpart, and 0 are new; nothing was written" in failure(
        "model.ts", status=1
    )


def test_a_folder_that_is_there(run, tmp_path, capsys):
    (tmp_path / "stock").mkdir()
    (tmp_path / "stock" / "mine.txt").write_text("mine")
    assert call(tmp_path, "stock", config=run) == 2
    assert "is a folder already: name another" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "stock").iterdir()] == ["mine.txt"]
