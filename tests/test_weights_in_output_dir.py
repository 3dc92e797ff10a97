"""Weights that somebody put where a run keeps its checkpoints, from end to end."""

import pytest
import torch
from training import metrics, save_untrained, train_lazy, train_yaml, weights

pytestmark = pytest.mark.usefixtures("tiny_digits")

SHORT = {
    train_yaml: ["SOLVER.MAX_ITER", 2, "SOLVER.STEPS", "()", "MODEL.DEVICE", "cpu"],
    train_lazy: ["train.max_iter=2", "lr_multiplier.scheduler.milestones=[1,2]"],
}


@pytest.mark.parametrize("train", SHORT)
@pytest.mark.long
def test_they_are_not_resumed_but_evaluated(train, tmp_path, caplog):
    save_untrained(tmp_path / "model_0000099.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000099.pth")
    results = train(tmp_path, *SHORT[train], eval_only=True, resume=True)
    assert set(results) == {"student", "teacher"}

    train(tmp_path, *SHORT[train], resume=True)
    key = "MODEL.WEIGHTS" if train is train_yaml else "train.init_checkpoint"
    assert f"name it as {key}" in caplog.text
    assert metrics(tmp_path)["iteration"] == 1
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 1
    assert any(
        not torch.equal(tensor, weights(tmp_path, "model_0000099.pth")[name])
        for name, tensor in weights(tmp_path).items()
    )
