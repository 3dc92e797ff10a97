import math
from types import SimpleNamespace

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from soft_teacher import ConfigError, TrainingError
from soft_teacher.engine.nonfinite import NonFiniteGuard, plain


def report(*nonfinite, here=None):
    names = list(nonfinite)
    return SimpleNamespace(nonfinite=names, here=names if here is None else here)


def labeled_sample():
    boxes = Boxes(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    instances = Instances((8, 9), gt_boxes=boxes, gt_classes=torch.tensor([2]))
    image = torch.full((3, 8, 9), math.nan)
    return {"file_name": "a.jpg", "image": image, "instances": instances, "image_weight": 0.5}


@pytest.fixture
def guard(tmp_path):
    return NonFiniteGuard(nn.Linear(1, 1), str(tmp_path), max_skips=2)


def test_finite_losses_are_no_matter(guard, tmp_path):
    assert guard.skips(3, report(), [[labeled_sample()]]) is False
    assert guard.skipped == 0 and list(tmp_path.iterdir()) == []


def test_a_step_is_skipped_its_loss_named_and_its_batch_dumped(guard, tmp_path, caplog):
    assert guard.skips(3, report("sup/loss_cls"), [[labeled_sample()], []]) is True
    assert guard.skipped == 1
    assert "step 3: sup/loss_cls is not finite" in caplog.text and "1 of at most 2" in caplog.text
    dump = torch.load(tmp_path / "nonfinite" / "step_0000003_rank0.pth", weights_only=True)
    assert dump["step"] == 3 and dump["nonfinite"] == ["sup/loss_cls"]
    (sample,), empty = dump["batches"]
    assert empty == [] and sample["file_name"] == "a.jpg" and sample["image"].isnan().all()
    assert sample["instances"]["gt_boxes"].tolist() == [[1, 2, 3, 4]]
    assert sample["instances"]["gt_classes"].tolist() == [2]


def test_a_rank_whose_own_losses_are_finite_skips_too_and_dumps_nothing(guard, tmp_path):
    assert guard.skips(3, report("a", here=[]), [[labeled_sample()]]) is True
    assert list(tmp_path.iterdir()) == []


def test_one_more_than_allowed_stops(guard):
    for step in range(2):
        assert guard.skips(step, report("a"), [[]])
    with pytest.raises(TrainingError) as error:
        guard.skips(2, report("a", "b"), [[]])
    text = str(error.value)
    assert "\n" not in text and "step 2: a, b is not finite" in text
    assert "optimizer.lr" in text and "NonFiniteGuard.max_skips" in text
    assert "after 2 skipped steps" in text and guard.skipped == 2


def test_a_full_disk_does_not_hide_the_news(guard, tmp_path, caplog):
    (tmp_path / "nonfinite").write_text("a file where the folder should be")
    assert guard.skips(3, report("a"), [[]]) is True
    assert "cannot be saved" in caplog.text and "a is not finite" in caplog.text


def test_a_negative_number_of_skips_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="NonFiniteGuard.max_skips"):
        NonFiniteGuard(nn.Linear(1, 1), str(tmp_path), -1)


def test_running_statistics_are_put_back(tmp_path):
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False))
    guard = NonFiniteGuard(model, str(tmp_path), 5)
    model(torch.randn(4, 2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with guard.kept_if_broken():
        model(torch.full((4, 2), math.nan))
    assert model[0].running_mean.isnan().all()
    guard.skips(0, report("a"), [[]])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_running_statistics_are_put_back_when_a_step_breaks_off(error, tmp_path):
    model = nn.BatchNorm1d(2)
    guard = NonFiniteGuard(model, str(tmp_path), 5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(error), guard.kept_if_broken():
        model(torch.randn(4, 2))
        raise error
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_plain_keeps_the_nesting():
    assert plain([]) == [] and plain({"a": [1, {"b": "c"}]}) == {"a": [1, {"b": "c"}]}
