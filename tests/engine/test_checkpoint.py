import copy
import os
import pickle
from collections import OrderedDict
from functools import lru_cache

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from soft_teacher import ConfigError, add_soft_teacher_config
from soft_teacher.engine.checkpoint import SoftTeacherCheckpointer, check_pickle

SIDES = ("student", "teacher")


@lru_cache
def built(*, arch, classes=3, stem=4, norm="FrozenBN"):
    """An R50-FPN of very few channels."""
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = arch
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.NORM = norm
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = stem
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 2
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 4
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = classes
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 8
    return build_model(cfg)


def soft_teacher(seed=0, **kind):
    """A Soft Teacher whose two networks differ in every tensor."""
    return filled(copy.deepcopy(built(arch="SoftTeacher", **kind)), seed)


def stock_detector(seed=100, **kind):
    return filled(copy.deepcopy(built(arch="GeneralizedRCNN", **kind)), seed)


def filled(model, seed):
    """Every tensor of the state dict gets values of its own, so that none is equal by chance."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        else:
            tensor.fill_(int(torch.randint(1 << 20, (), generator=generator)))
    return model


def load(model, path, *, complete=False):
    return SoftTeacherCheckpointer(model, complete=complete).load(str(path))


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def assert_same(ours, theirs):
    assert list(ours) == list(theirs)
    assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []


def refusal(path, model=None, **settings):
    """The one line of the ConfigError; the model may hold a part of the file afterwards."""
    with pytest.raises(ConfigError) as error:
        load(model or built(arch="SoftTeacher"), path, **settings)
    assert "\n" not in str(error.value) and "MODEL.WEIGHTS" in str(error.value)
    return str(error.value)


def write_pickle(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def write_torch(path, content):
    torch.save(content, path)
    return path


def arrays(module):
    return {k: v.numpy() for k, v in module.state_dict().items()}


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


@pytest.mark.parametrize("resume", [False, True])
def test_resuming_without_a_checkpoint_starts_anew_and_says_so(resume, tmp_path, caplog):
    (tmp_path / "metrics.json").touch()
    checkpointer = SoftTeacherCheckpointer(soft_teacher(), str(tmp_path))
    assert checkpointer.resume_or_load("", resume=resume) == {}
    said = [r.getMessage() for r in caplog.records if "--resume" in r.getMessage()]
    assert said == [f"--resume finds no checkpoint in {tmp_path}: starts anew"] * resume


@pytest.mark.parametrize("left_out", ["teacher.", "student.roi_heads.", "teacher.backbone."])
@pytest.mark.parametrize("complete", [True, False])
def test_our_own_checkpoint_must_be_whole(complete, left_out, tmp_path):
    content = {k: v for k, v in state(soft_teacher()).items() if not k.startswith(left_out)}
    found = refusal(write_torch(tmp_path / "part.pth", {"model": content}), complete=complete)
    assert "another model" in found and "are missing" in found and f"'{left_out}" in found


@pytest.mark.parametrize("kind", [dict(classes=5), dict(stem=6)])
def test_our_own_checkpoint_of_another_network_is_refused(kind, tmp_path):
    path = write_torch(tmp_path / "model.pth", {"model": state(soft_teacher(**kind))})
    found = refusal(path)
    assert "another model" in found and "differ in shape" in found


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


# --- .pkl files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_the_model_zoo_format_fills_both_networks(protocol, tmp_path):
    detector = stock_detector()
    content = {"model": arrays(detector), "__author__": "Detectron2 Model Zoo"}
    model = soft_teacher()
    load(model, write_pickle(tmp_path / "zoo.pkl", content, protocol), complete=True)
    for side in SIDES:
        assert_same(state(getattr(model, side)), state(detector))


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_arrays_of_numpy_1_and_2_load_alike(module, tmp_path):
    content = {"model": arrays(stock_detector()), "__author__": "Detectron2 Model Zoo"}
    path = write_pickle(tmp_path / "zoo.pkl", content, protocol=2)
    current = np.zeros(1).__reduce__()[0].__module__
    data = path.read_bytes()
    assert current.encode() in data
    path.write_bytes(data.replace(f"c{current}\n".encode(), f"c{module}\n".encode()))
    assert f"c{module}\n".encode() in path.read_bytes()
    model = soft_teacher()
    load(model, path)
    assert_same(state(model.teacher), state(stock_detector()))


def caffe2_name(name):
    """The blob that caffe2's ImageNet ResNet has for a tensor of the bottom-up network."""
    parts = {"conv1": "2a", "conv2": "2b", "conv3": "2c", "shortcut": "1"}
    module, kind = name.rsplit(".", 1)
    is_norm = module.endswith(".norm")
    module = module.removesuffix(".norm")
    if module == "stem.conv1":
        blob = "res_conv1" if is_norm else "conv1"
    else:
        stage, block, conv = module.split(".")
        blob = f"{stage}_{block}_branch{parts[conv]}"
    return blob + ({"weight": "_bn_s", "bias": "_bn_b"}[kind] if is_norm else "_w")


def test_a_bare_dict_of_arrays_is_matched_by_the_names_of_caffe2(tmp_path):
    # As R-50.pkl: the bottom-up network without statistics, which are folded in, and fc1000.
    prefix = "backbone.bottom_up."
    model, before = soft_teacher(), state(soft_teacher().student)
    in_file = {
        name: value.numpy()
        for name, value in state(stock_detector()).items()
        if name.startswith(prefix) and not name.endswith(("running_mean", "running_var"))
    }
    blobs = {caffe2_name(name.removeprefix(prefix)): value for name, value in in_file.items()}
    assert len(blobs) == len(in_file) == 53 * 3
    blobs["fc1000_w"] = np.zeros((10, 64), dtype=np.float32)
    blobs["conv1_w_momentum"] = np.zeros_like(blobs["conv1_w"])
    load(model, write_pickle(tmp_path / "R-50.pkl", blobs))
    student = state(model.student)
    for name, value in student.items():
        expected = in_file.get(name, before[name])
        if name.startswith(prefix) and name.endswith(("running_mean", "running_var")):
            expected = torch.full_like(value, name.endswith("var"))
        np.testing.assert_array_equal(value, expected, err_msg=name)
    assert_same(state(model.teacher), student)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "content",
    [
        {},
        OrderedDict(a=[1, 2.5, "text", b"\x00\xff", None, (True,)]),
        {"lr": np.float32(0.1), "step": np.int64(3)},
        {"w": np.arange(6.0).reshape(2, 3), "fortran": np.asfortranarray(np.ones((2, 3)))},
    ],
)
def test_containers_arrays_and_numpy_s_numbers_are_harmless(content, protocol, tmp_path):
    check_pickle(str(write_pickle(tmp_path / "plain.pkl", content, protocol)))


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def hidden(code):
    return [
        code,
        {"model": {"backbone.weight": code}, "__author__": "x"},
        {"blobs": [np.zeros(2), code]},
        {"model": np.array([code], dtype=object)},
    ]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pkl_that_would_run_code_is_refused_and_runs_none(protocol, place, tmp_path):
    marker = tmp_path / "it_ran"
    path = write_pickle(tmp_path / "code.pkl", hidden(Runs(marker))[place], protocol)
    found = refusal(path)
    assert "mkdir" in found and "only arrays are accepted" in found and str(path) in found
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the file is harmless and proves nothing"


@pytest.mark.parametrize("name", ["builtins.eval", "os.system", "numpy.load", "numpy.core.eval"])
def test_only_the_functions_that_make_arrays_may_be_named(name, tmp_path):
    module, function = name.rsplit(".", 1)
    path = tmp_path / "named.pkl"
    path.write_bytes(f"c{module}\n{function}\n.".encode())
    with pytest.raises(ConfigError, match=f"would run {name} when loaded"):
        check_pickle(str(path))


@pytest.mark.parametrize("suffix", ["pth", "pyth"])
def test_a_pth_that_would_run_code_is_refused_and_runs_none(suffix, tmp_path):
    marker = tmp_path / "it_ran"
    key = {"pth": "model", "pyth": "model_state"}[suffix]
    path = write_torch(tmp_path / f"code.{suffix}", {key: {"backbone.weight": Runs(marker)}})
    assert "cannot be read" in refusal(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file is harmless and proves nothing"


def test_our_pth_files_are_read_as_tensors_only_whatever_torch_s_default(tmp_path, monkeypatch):
    asked = []
    read = torch.load

    def record(*args, **kwargs):
        asked.append(kwargs.get("weights_only"))
        return read(*args, **kwargs)

    monkeypatch.setattr(torch, "load", record)
    load(soft_teacher(), write_torch(tmp_path / "d.pth", {"model": state(stock_detector())}))
    assert asked == [True]


# --- files that are none ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing.pth", "missing.pkl", "folder"])
def test_a_missing_file(name, tmp_path):
    (tmp_path / "folder").mkdir()
    assert f"'{tmp_path / name}' does not exist" in refusal(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello, this is a text\nof two lines\n", b"\x80\x04."])
@pytest.mark.parametrize("suffix", ["pth", "pkl", "pyth"])
def test_a_file_that_is_no_checkpoint(suffix, content, tmp_path):
    path = tmp_path / f"text.{suffix}"
    path.write_bytes(content)
    found = refusal(path)
    assert f"'{path}' cannot be read: " in found and not found.endswith(": ")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_a_truncated_file(suffix, part, tmp_path):
    path = tmp_path / f"model.{suffix}"
    if suffix == "pth":
        write_torch(path, {"model": state(stock_detector())})
    else:
        write_pickle(path, {"model": arrays(stock_detector()), "__author__": "x"})
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    assert f"'{path}' cannot be read: " in refusal(path)


def test_a_refused_file_changes_nothing(tmp_path):
    model = soft_teacher()
    before = state(model)
    path = tmp_path / "text.pth"
    path.write_text("no checkpoint")
    refusal(path, model)
    assert_same(state(model), before)


# --- files that are no weights of this model


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
def test_weights_without_a_single_tensor_of_the_backbone_are_refused(norm, tmp_path):
    path = write_torch(tmp_path / "x.pth", {"model": {"encoder.weight": torch.zeros(2)}})
    assert "another model" in refusal(path, soft_teacher(norm=norm))


NO_WEIGHTS = [{}, {"a": 3}, {"model": {}}, {"model": {"a": 3}}, {1: torch.zeros(1)}]


@pytest.mark.parametrize("content", NO_WEIGHTS, ids=str)
def test_a_pth_that_holds_no_weights_is_refused(content, tmp_path):
    refusal(write_torch(tmp_path / "x.pth", content))


@pytest.mark.parametrize("content", [{}, {"a": "b"}, {"model": [1], "__author__": "x"}], ids=str)
def test_a_pkl_that_holds_no_weights_is_refused(content, tmp_path):
    refusal(write_pickle(tmp_path / "x.pkl", content))


def test_arrays_of_the_newest_pickle_protocol_load(tmp_path):
    content = {"model": arrays(stock_detector()), "__author__": "x"}
    load(soft_teacher(), write_pickle(tmp_path / "zoo.pkl", content, protocol=5))


def test_a_checkpointer_goes_on_after_a_refusal(tmp_path):
    (tmp_path / "text.pth").write_text("no checkpoint")
    good = write_torch(tmp_path / "good.pth", {"model": state(stock_detector())})
    checkpointer = SoftTeacherCheckpointer(soft_teacher())
    with pytest.raises(ConfigError):
        checkpointer.load(str(tmp_path / "text.pth"))
    checkpointer.load(str(good))


def test_evaluation_without_weights_is_refused():
    assert "name the checkpoint" in refusal("", complete=True)


def test_an_address_that_cannot_be_reached_is_refused():
    refusal("nowhere://model.pth")
