"""The benchmark of one step, on a small config."""

import json

import bench_full_size
import pytest
from training import CONFIGS


@pytest.mark.parametrize("options", [[], ["--unlabeled"]], ids=["labeled", "both"])
def test_it_reports_both_passes_and_reaches_every_parameter(options, capsys):
    config = ["--config-file", str(CONFIGS / "htc_soft_teacher.py"), "train.device=cpu"]
    assert bench_full_size.main(["--size", "96", "128", *options, *config]) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed[printed.index("\n{") :])
    for part in ("model", "forward", "backward"):
        assert found[part]["peak GiB"] > 0 and found[part]["seconds"] >= 0
    reached, trainable = found["gradients"].split(" of ")
    assert reached == trainable and found["parameters"] > 1e5
    streams = {name.split("/")[0] for name in found["losses"]}
    assert streams == ({"sup", "unsup"} if options else {"sup"})
    assert found["losses"]["sup/loss_sem_seg"] > 0


def test_sides_are_checked(capsys):
    config = ["--config-file", str(CONFIGS / "htc_supervised.py")]
    assert bench_full_size.main(["--size", "8", "128", *config]) == 2
    assert "--size must be a whole number of at least 64" in capsys.readouterr().err
