"""The real package of Weights & Biases takes what the writer sends; without a network."""

import pytest
import torch
from detectron2.utils.events import EventStorage

from soft_teacher.monitoring.wandb_writer import ID_FILE, WandbWriter

pytestmark = pytest.mark.long


@pytest.fixture
def offline(monkeypatch):
    pytest.importorskip("wandb", reason="wandb is missing: pip install -e '.[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def write(folder, steps, **options):
    """Scalars and a picture of some steps, by a writer of their own; the id of its run."""
    writer = WandbWriter(str(folder), project="digits", **options)
    for step in steps:
        with EventStorage(step) as storage:
            storage.put_scalar("sup/loss", 0.5)
            storage.put_image("views", torch.zeros(3, 8, 8, dtype=torch.uint8))
            writer.write()
    writer.close()
    return (folder / ID_FILE).read_text()


def test_a_run_is_kept_on_disk_and_resumed_under_its_id(offline, tmp_path):
    first = write(tmp_path, range(3), name="first")
    assert first == write(tmp_path, range(2, 4), resume=True)
    assert first != write(tmp_path, range(1))
    kept = list(tmp_path.rglob(f"run-{first.strip()}.wandb"))
    assert len(kept) == 2 and all(file.stat().st_size for file in kept)
    assert list(tmp_path.rglob("views*.png"))
