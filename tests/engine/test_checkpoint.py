import pytest
import torch
from checkpoints import (
    SIDES,
    assert_same,
    load,
    refusal,
    soft_teacher,
    state,
    stock_detector,
    write_torch,
)

from soft_teacher import ConfigError
from soft_teacher.engine.checkpoint import SoftTeacherCheckpointer

# --- our own checkpoints ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", None])
def test_without_weights_both_networks_stay_as_they_are(path):
    model = soft_teacher()
    before = state(model)
    assert SoftTeacherCheckpointer(model).load(path) == {}
    assert_same(state(model), before)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
def test_a_round_trip_restores_both_networks(norm, complete, tmp_path):
    saved = soft_teacher(seed=1, norm=norm)
    SoftTeacherCheckpointer(saved, str(tmp_path)).save("model", iteration=7)
    model = soft_teacher(seed=2, norm=norm)
    rest = load(model, tmp_path / "model.pth", complete=complete)
    assert rest["iteration"] == 7
    assert_same(state(model), state(saved))
    student, teacher = state(model.student), state(model.teacher)
    assert not any(torch.equal(student[k], teacher[k]) for k in student)


def test_resuming_takes_the_last_checkpoint_with_its_optimizer_and_starting_does_not(tmp_path):
    def parts(seed):
        model = soft_teacher(seed=seed)
        optimizer = torch.optim.SGD(model.student.parameters(), lr=0.5 / (seed + 1))
        return model, optimizer, SoftTeacherCheckpointer(model, str(tmp_path), optimizer=optimizer)

    saved, _, checkpointer = parts(0)
    checkpointer.save("model_0000004")
    other = write_torch(tmp_path / "other.pth", {"model": state(soft_teacher(seed=5))})

    model, optimizer, checkpointer = parts(1)
    checkpointer.resume_or_load(str(other), resume=True)
    assert_same(state(model), state(saved))
    assert optimizer.param_groups[0]["lr"] == 0.5

    model, optimizer, checkpointer = parts(1)
    checkpointer.resume_or_load(str(tmp_path / "model_0000004.pth"), resume=False)
    assert_same(state(model), state(saved))
    assert optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("left_out", ["teacher.", "student.roi_heads.", "teacher.backbone."])
@pytest.mark.parametrize("complete", [True, False])
def test_our_own_checkpoint_must_be_whole(complete, left_out, tmp_path):
    content = {k: v for k, v in state(soft_teacher()).items() if not k.startswith(left_out)}
    found = refusal(write_torch(tmp_path / "part.pth", {"model": content}), complete=complete)
    assert "another model" in found and "are missing" in found and f"'{left_out}" in found


@pytest.mark.parametrize("complete", [True, False])
def test_our_own_checkpoint_of_another_network_is_refused(complete, tmp_path):
    path = write_torch(tmp_path / "model.pth", {"model": state(soft_teacher(stem=6))})
    found = refusal(path, complete=complete)
    assert "another model" in found and "differ in shape" in found


def test_our_own_checkpoint_is_fine_tuned_on_other_classes(tmp_path, caplog):
    saved, model = soft_teacher(seed=1, classes=5), soft_teacher(seed=2)
    before = state(model.student)
    load(model, write_torch(tmp_path / "five.pth", {"model": state(saved)}))
    assert "of other classes: the box predictors are initialized anew" in caplog.text
    for side in SIDES:
        network, theirs = state(getattr(model, side)), state(getattr(saved, side))
        of_classes = {name for name in network if "box_predictor" in name}
        assert of_classes == {name for name in network if network[name].shape != theirs[name].shape}
        for name in network:
            # Anew means as the student was built: a teacher of its own would teach noise.
            expected = before if name in of_classes else theirs
            assert torch.equal(network[name], expected[name])


def test_other_classes_are_refused_for_evaluation_and_for_a_resume(tmp_path):
    saved = soft_teacher(classes=5)
    SoftTeacherCheckpointer(saved, str(tmp_path)).save("model_0000004", iteration=4)
    found = refusal(tmp_path / "model_0000004.pth", complete=True)
    assert "another model: 8 tensors differ in shape" in found
    with pytest.raises(ConfigError, match="another model: 8 tensors differ in shape"):
        SoftTeacherCheckpointer(soft_teacher(), str(tmp_path)).resume_or_load("", resume=True)


def test_other_classes_in_one_of_the_networks_are_refused(tmp_path):
    content = state(soft_teacher())
    other = state(soft_teacher(classes=5))
    content |= {k: v for k, v in other.items() if k.startswith("teacher.")}
    found = refusal(write_torch(tmp_path / "mixed.pth", {"model": content}))
    assert "another model: 4 tensors differ in shape" in found and "'teacher." in found


def test_other_classes_do_not_excuse_another_backbone_nor_a_missing_tensor(tmp_path):
    path = write_torch(tmp_path / "x.pth", {"model": state(soft_teacher(classes=5, stem=6))})
    assert "another model" in refusal(path)
    content = state(soft_teacher(classes=5))
    del content["teacher.roi_heads.box_head.fc1.bias"]
    path = write_torch(tmp_path / "x.pth", {"model": content})
    assert "0 tensors differ in shape and 1 are missing" in refusal(path)


# --- weights of one detector --------------------------------------------------------------------


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_stock_detector_fills_both_networks(prefix, norm, complete, tmp_path):
    detector = stock_detector(norm=norm)
    content = {prefix + k: v for k, v in state(detector).items()}
    path = write_torch(tmp_path / "detector.pth", {"model": content})
    model = soft_teacher(norm=norm)
    load(model, path, complete=complete)
    for side in SIDES:
        assert_same(state(getattr(model, side)), state(detector))


def test_the_networks_still_share_no_tensor_after_loading(tmp_path):
    path = write_torch(tmp_path / "detector.pth", {"model": state(stock_detector())})
    model = soft_teacher()
    load(model, path)
    for parameter in model.student.parameters():
        parameter.data.zero_()
    assert_same(state(model.teacher), state(stock_detector()))


def test_a_bare_state_dict_is_fine_too(tmp_path):
    model = soft_teacher()
    load(model, write_torch(tmp_path / "bare.pth", state(stock_detector())))
    assert_same(state(model.teacher), state(stock_detector()))


def test_another_number_of_classes_is_fine_for_training_alone(tmp_path):
    detector = stock_detector(classes=5)
    path = write_torch(tmp_path / "detector.pth", {"model": state(detector)})
    model, before = soft_teacher(), state(soft_teacher().student)
    load(model, path)
    student, theirs = state(model.student), state(detector)
    of_classes = [k for k in student if student[k].shape != theirs[k].shape]
    assert of_classes == [
        f"roi_heads.box_predictor.{part}.{kind}"
        for part in ("cls_score", "bbox_pred")
        for kind in ("weight", "bias")
    ]
    for name in student:
        expected = before if name in of_classes else theirs
        assert torch.equal(student[name], expected[name])
    assert_same(state(model.teacher), student)

    found = refusal(path, complete=True)
    assert "another model" in found and "4 tensors differ in shape" in found
    assert "roi_heads.box_predictor.cls_score" in found


def test_a_backbone_is_enough_for_training_alone(tmp_path):
    content = {k: v for k, v in state(stock_detector()).items() if k.startswith("backbone.")}
    path = write_torch(tmp_path / "backbone.pth", {"model": content})
    model = soft_teacher()
    load(model, path)
    for side in SIDES:
        loaded = state(getattr(model, side))
        assert all(torch.equal(loaded[name], content[name]) for name in content)
    assert_same(state(model.teacher), state(model.student))
    assert "are missing" in refusal(path, complete=True)


@pytest.mark.parametrize("complete", [True, False])
def test_another_backbone_is_refused(complete, tmp_path):
    path = write_torch(tmp_path / "wide.pth", {"model": state(stock_detector(stem=6))})
    found = refusal(path, complete=complete)
    assert "another model" in found and "differ in shape" in found and "'backbone." in found


def test_evaluation_refuses_weights_of_something_else(tmp_path):
    content = {"model": {"encoder.weight": torch.zeros(2)}}
    found = refusal(write_torch(tmp_path / "x.pth", content), complete=True)
    assert "another model" in found and "are missing" in found
