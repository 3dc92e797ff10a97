"""docs/tutorial.ipynb: without outputs in git, and run from its first cell to its last."""

import json
import os
import sys
from pathlib import Path

import pytest
from training import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
STEPS = ("check", "plan", "train", "predict", "export")


def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text())["cells"]


def test_no_outputs_are_kept():
    kept = [
        c for c in cells() if c["cell_type"] == "code" and (c["outputs"] or c["execution_count"])
    ]
    assert kept == []


def test_its_steps_are_in_order():
    text = "".join("".join(c["source"]) for c in cells() if c["cell_type"] == "code")
    places = [text.index(f"soft-teacher-{step} ") for step in STEPS]
    assert places == sorted(places)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_it_runs_in_an_empty_folder(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    commands = Path(sys.executable).parent
    assert (commands / "soft-teacher-train").is_file(), "run pip install -e . again"
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, kernel_name="python3", timeout=None, resources=place
    ).execute()
    results = [json.loads(line) for line in (tmp_path / "my_run" / "metrics.json").open()]
    assert sum("teacher/bbox/AP" in line for line in results) == 3
    assert len(list((tmp_path / "labels" / "pictures").iterdir())) == 40
    assert (tmp_path / "model.onnx").stat().st_size > 1e6
    classes = str(notebook.cells[-2].outputs[0]["data"]["text/plain"])
    assert "zero" in classes and "short_edge" in classes
