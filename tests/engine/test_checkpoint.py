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

both = pytest.mark.parametrize("complete", [True, False])
norms = pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
OF_CLASSES = [
    f"roi_heads.box_predictor.{part}.{kind}"
    for part in ("cls_score", "bbox_pred")
    for kind in ("weight", "bias")
]


@pytest.fixture
def written(tmp_path):
    """written(state dict, or module): a file of it."""

    def write(content):
        content = state(content) if isinstance(content, torch.nn.Module) else content
        return write_torch(tmp_path / "written.pth", {"model": content})

    return write


# --- our own checkpoints ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", None])
def test_without_weights_both_networks_stay_as_they_are(path):
    model = soft_teacher()
    before = state(model)
    assert SoftTeacherCheckpointer(model).load(path) == {}
    assert_same(state(model), before)


@both
@norms
def test_a_round_trip_restores_both_networks(norm, complete, tmp_path):
    saved = soft_teacher(seed=1, norm=norm)
    SoftTeacherCheckpointer(saved, str(tmp_path)).save("model", iteration=7)
    model = soft_teacher(seed=2, norm=norm)
    assert load(model, tmp_path / "model.pth", complete=complete)["iteration"] == 7
    assert_same(state(model), state(saved))


def test_resuming_takes_the_last_checkpoint_with_its_optimizer_and_starting_does_not(tmp_path):
    def parts(seed):
        model = soft_teacher(seed=seed)
        optimizer = torch.optim.SGD(model.student.parameters(), lr=0.5 / (seed + 1))
        return model, optimizer, SoftTeacherCheckpointer(model, str(tmp_path), optimizer=optimizer)

    saved, _, checkpointer = parts(0)
    checkpointer.save("model_0000004")
    other = write_torch(tmp_path / "other.pth", {"model": state(soft_teacher(seed=5))})
    for resume, path, lr in ((True, other, 0.5), (False, tmp_path / "model_0000004.pth", 0.25)):
        model, optimizer, checkpointer = parts(1)
        checkpointer.resume_or_load(str(path), resume=resume)
        assert_same(state(model), state(saved))
        assert optimizer.param_groups[0]["lr"] == lr


@both
@pytest.mark.parametrize("left_out", ["teacher.", "student.roi_heads.", "teacher.backbone."])
def test_our_own_checkpoint_must_be_complete(left_out, complete, written):
    content = {k: v for k, v in state(soft_teacher()).items() if not k.startswith(left_out)}
    found = refusal(written(content), complete=complete)
    assert "another model" in found and "are missing" in found and f"'{left_out}" in found


@both
@pytest.mark.parametrize("build", [soft_teacher, stock_detector])
def test_another_backbone_is_refused(build, complete, written):
    found = refusal(written(build(stem=6)), complete=complete)
    assert "another model" in found and "differ in shape" in found and "backbone." in found


def test_our_own_checkpoint_is_fine_tuned_on_other_classes(written, caplog):
    saved, model = soft_teacher(seed=1, classes=5), soft_teacher(seed=2)
    before = state(model.student)
    load(model, written(saved))
    assert "of other classes: the box predictors are initialized anew" in caplog.text
    for side in SIDES:
        network, theirs = state(getattr(model, side)), state(getattr(saved, side))
        assert OF_CLASSES == [n for n in network if network[n].shape != theirs[n].shape]
        for name in network:
            # Anew means as the student was built: a teacher of its own would teach noise.
            assert torch.equal(network[name], (before if name in OF_CLASSES else theirs)[name])


def test_other_classes_are_refused_for_evaluation_and_for_a_resume(tmp_path):
    SoftTeacherCheckpointer(soft_teacher(classes=5), str(tmp_path)).save("model_0000004")
    said = "another model: 8 tensors differ in shape"
    assert said in refusal(tmp_path / "model_0000004.pth", complete=True)
    with pytest.raises(ConfigError, match=said):
        SoftTeacherCheckpointer(soft_teacher(), str(tmp_path)).resume_or_load("", resume=True)


def test_other_classes_excuse_nothing_else(written):
    """Neither other classes of one network, nor another backbone, nor a missing tensor."""
    usual, other = state(soft_teacher()), state(soft_teacher(classes=5))
    for side in ("student.", "teacher."):
        mixed = usual | {k: v for k, v in other.items() if k.startswith(side)}
        found = refusal(written(mixed))
        assert "another model: 4 tensors differ in shape" in found and f"'{side}" in found
    assert "another model" in refusal(written(soft_teacher(classes=5, stem=6)))
    del other["teacher.roi_heads.box_head.fc1.bias"]
    assert "0 tensors differ in shape and 1 are missing" in refusal(written(other))


# --- weights of one detector --------------------------------------------------------------------


@both
@norms
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_stock_detector_fills_both_networks(prefix, norm, complete, written):
    detector = stock_detector(norm=norm)
    model = soft_teacher(norm=norm)
    path = written({prefix + k: v for k, v in state(detector).items()})
    load(model, path, complete=complete)
    for side in SIDES:
        assert_same(state(getattr(model, side)), state(detector))
    for parameter in model.student.parameters():  # the networks share no tensor
        parameter.data.zero_()
    assert_same(state(model.teacher), state(detector))


def test_a_bare_state_dict_is_accepted(tmp_path):
    model = soft_teacher()
    load(model, write_torch(tmp_path / "bare.pth", state(stock_detector())))
    assert_same(state(model.teacher), state(stock_detector()))


@pytest.mark.parametrize(
    "part, said",
    [
        ("backbone.", "are missing"),
        ("", "4 tensors differ in shape and 0 are missing, first 'roi_heads.box_predictor.cls_s"),
    ],
)
def test_a_backbone_or_other_classes_are_enough_for_training_alone(part, said, written):
    """A part of a detector, or a whole one of other classes."""
    content = state(stock_detector(classes=3 if part else 5))
    content = {k: v for k, v in content.items() if k.startswith(part)}
    path = written(content)
    model, before = soft_teacher(), state(soft_teacher().student)
    load(model, path)
    student = state(model.student)
    for name in student:
        kept = name not in content or (not part and name in OF_CLASSES)
        assert torch.equal(student[name], (before if kept else content)[name])
    assert_same(state(model.teacher), student)
    found = refusal(path, complete=True)
    assert "another model" in found and said in found


@both
@norms
def test_weights_of_something_else_are_refused(norm, complete, written):
    path = written({"encoder.weight": torch.zeros(2)})
    found = refusal(path, soft_teacher(norm=norm), complete=complete)
    assert "another model" in found and "are missing" in found
