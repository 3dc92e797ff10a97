"""soft-teacher-predict: from a run and a folder to files, also across a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from predictions import photo
from processes import Job
from training import CONFIGS, ROOT, save_untrained

from soft_teacher.commands import predict
from soft_teacher.data.datasets.dataset_dicts import dataset_reading
from soft_teacher.deploy.record import RECORD, Record

pytestmark = pytest.mark.usefixtures("own_catalog")

LOW = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A config, weights, and the names of five classes."""
    folder = tmp_path_factory.mktemp("run")
    save_untrained(str(folder / "model_final.pth"), *LOW)
    (folder / "config.yaml").symlink_to(CONFIGS / "soft_teacher.yaml")
    (folder / "classes.json").write_text(json.dumps(["zero", "one", "two", "three", "four"]))
    return folder


@pytest.fixture(scope="module")
def arguments(run_folder):
    """The command line for a source and a folder, with more options before the overrides."""

    def arguments(source, output, *options):
        config = ["--config-file", CONFIGS / "soft_teacher.yaml"]
        config += ["--weights", run_folder / "model_final.pth"]
        place = ["--source", source, "--output", output]
        return [str(word) for word in [*config, *place, *options, *LOW]]

    return arguments


@pytest.fixture
def photos(tmp_path):
    for n in range(6):
        photo(tmp_path / "in" / f"{n}.png", seed=n)
    return tmp_path / "in"


def test_a_folder_becomes_pictures_coco_and_csv(arguments, photos, tmp_path, capsys):
    (photos / "bad.jpg").write_bytes(b"")
    assert predict.main(arguments(photos, tmp_path / "out", "--confidence", "0.9")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("boxes in 6 images, 1 left out")
    dataset = lines[2].removeprefix("written: ")
    reading = dataset_reading("DATASETS.TEST", dataset)
    scores = [a["score"] for d in reading.dicts for a in d["annotations"]]
    assert len(reading.dicts) == 6 and scores and min(scores) > 0.9
    assert f"{reading.balance.read} boxes" in lines[0]
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 6


def test_another_call_needs_resume_and_the_same_settings(arguments, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict.main(arguments(photos, out, "--format", "csv")) == 0
    assert predict.main(arguments(photos, out, "--format", "csv")) == 2
    assert "already holds predictions: add --resume" in capsys.readouterr().err
    assert predict.main(arguments(photos, out, "--resume", "--confidence", "four=0.7")) == 2
    assert "was predicted with another confidence" in capsys.readouterr().err
    assert predict.main(arguments(photos, out, "--resume", "--format", "voc")) == 0
    assert not (out / "coco").exists() and (out / "voc").exists()


MISTAKES = [
    (["--source", "nowhere"], "--source 'nowhere' does not exist"),
    (["--weights", "nowhere.pth"], "nowhere.pth"),
    (["--config-file", "nowhere"], "--config-file 'nowhere' does not exist"),
    (["--confidence", "high"], "--confidence 'high' is neither a score nor CLASS=SCORE"),
    (["--confidence", "dog=0.5"], "confidence of 'dog', which is no class"),
    (["--confidence", "1.5"], "confidence must be a number from 0 to below 1, got 1.5"),
    (["--codec", "h264x"], "--codec must have four characters, got 'h264x'"),
    (["--format", "video"], "--format video is not for images"),
    (["--format", "yolo-seg"], "--format yolo-seg needs masks"),
    (["--tile", "1"], "tile must be a whole number of at least 16"),
    (["--device", "gpu?"], "device 'gpu?' is not a device"),
]


@pytest.mark.parametrize("options, message", MISTAKES, ids=[" ".join(o) for o, _ in MISTAKES])
def test_a_mistake_is_one_line_and_status_2(arguments, photos, tmp_path, capsys, options, message):
    words = arguments(photos, tmp_path / "out", *options)
    if options[0] == "--source":
        del words[words.index("--source") : words.index("--source") + 2]
    assert predict.main(words) == 2
    errors = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    left = {path.name for path in tmp_path.glob("out/*")}
    assert left <= {RECORD, ".lock"}


def test_an_output_that_is_a_file_is_one_line(arguments, photos, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert predict.main(arguments(photos, tmp_path / "file")) == 2
    assert "error: --output" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(arguments, photos, tmp_path, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "predict", interrupted)
    assert predict.main(arguments(photos, tmp_path / "out")) == 130
    assert "interrupted: the same command with --resume goes on" in capsys.readouterr().err


@pytest.mark.parametrize("done", [0, 1, 4])
@pytest.mark.long
def test_an_interrupted_prediction_with_tta_goes_on(
    arguments, photos, tmp_path, capsys, monkeypatch, done
):
    whole, out = tmp_path / "whole", tmp_path / "out"
    options = ("--tta", "--confidence", "0.2", "--format", "coco", "--batch-size", "1")
    assert predict.main(arguments(photos, whole, *options)) == 0
    append = Record.append

    def interrupted(self, found):
        if len(self.names) == done:
            raise KeyboardInterrupt
        append(self, found)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "append", interrupted)
        assert predict.main(arguments(photos, out, *options)) == 130
    assert lines_of(out / RECORD) == 1 + done
    assert predict.main(arguments(photos, out, "--resume", *options[1:])) == 2
    assert "was predicted with another tta" in capsys.readouterr().err
    assert predict.main(arguments(photos, out, "--resume", *options)) == 0
    for file in ("coco/dataset.json", "coco/results.json", RECORD):
        assert (whole / file).read_bytes() == (out / file).read_bytes()


def command(words) -> list[str]:
    return [sys.executable, "-W", "ignore", str(ROOT / "tools" / "predict.py"), *words]


def lines_of(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.long
@pytest.mark.parametrize("after", [1, 7, 30])
def test_a_killed_prediction_goes_on_and_ends_as_if_it_had_not_been(arguments, tmp_path, after):
    for n in range(60):
        photo(tmp_path / "in" / f"{n:02d}.png", seed=n)
    # One image at a time: batches of other sizes round differently.
    options = ("--batch-size", "1", "--confidence", "0.2")
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert predict.main(arguments(tmp_path / "in", whole, *options)) == 0
    with Job(command(arguments(tmp_path / "in", out, *options)), tmp_path / "log") as job:
        while lines_of(out / RECORD) <= after:
            assert job.process.poll() is None, job.text()
            time.sleep(0.002)
        os.kill(job.process.pid, signal.SIGKILL)
        job.wait()
    assert lines_of(out / RECORD) < 61 and not (out / "coco").exists()
    assert predict.main(arguments(tmp_path / "in", out, *options, "--resume")) == 0
    for file in ("coco/dataset.json", "coco/results.json", "predictions.csv", RECORD):
        assert (whole / file).read_bytes() == (out / file).read_bytes()
    assert {p.name for p in out.rglob("*")} == {p.name for p in whole.rglob("*")}


PEAK = """
import resource, sys
from soft_teacher.commands import predict
assert predict.main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_memory_does_not_grow_with_the_number_of_images(arguments, photos, tmp_path):
    """Within 16 MB for 1,800 images more, of which each has some kB of detections."""
    peaks = []
    for count in (200, 2000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for n in range(count):
            (folder / f"{n:04d}.png").symlink_to(photos / f"{n % 6}.png")
        words = arguments(folder, tmp_path / f"out{count}", "--confidence", "0.2")
        paths = [str(ROOT / "projects")]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PEAK, *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] - peaks[0] < 16_000, peaks
