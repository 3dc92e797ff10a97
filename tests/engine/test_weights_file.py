import io
import logging
import os
import pickle
import shutil
import zipfile
from argparse import Namespace
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import (
    SIDES,
    arrays,
    assert_same,
    load,
    refusal,
    soft_teacher,
    state,
    stock_detector,
    write_pickle,
    write_torch,
)

from soft_teacher import ConfigError
from soft_teacher.engine.checkpoint import SoftTeacherCheckpointer
from soft_teacher.engine.weights_file import check_pickle

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
    with pytest.raises(ConfigError, match=f"would run {name} if loaded"):
        check_pickle(str(path))


@pytest.mark.parametrize("suffix", ["pth", "pyth"])
def test_a_pth_that_would_run_code_is_refused_and_runs_none(suffix, tmp_path):
    marker = tmp_path / "it_ran"
    key = {"pth": "model", "pyth": "model_state"}[suffix]
    path = write_torch(tmp_path / f"code.{suffix}", {key: {"backbone.weight": Runs(marker)}})
    assert "mkdir; only tensors" in refusal(path)
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


# --- damage -------------------------------------------------------------------------------------


def zeros(data, place):
    """A block of a disk that was never written."""
    data[place : place + 4096] = bytes(len(data[place : place + 4096]))


def flip(data, place):
    """One bit of memory that was hit."""
    data[place] ^= 16


def cut(data, place):
    """A copy that broke off."""
    del data[place:]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The state of a model, and its checkpoint as bytes."""
    folder = tmp_path_factory.mktemp("whole")
    model = soft_teacher()
    SoftTeacherCheckpointer(model, str(folder)).save("model", iteration=4)
    return state(model), (folder / "model.pth").read_bytes()


@pytest.mark.parametrize("damage", [zeros, flip, cut])
def test_no_damage_changes_the_weights_unnoticed(damage, whole, tmp_path):
    saved, content = whole
    directory = content.index(b"PK\x01\x02")  # of the zip file, behind all tensors
    generator = np.random.default_rng(0)
    places = [
        *generator.integers(len(content), size=40),
        *generator.integers(directory, len(content), size=20),
    ]
    path, model, refused = tmp_path / "model.pth", soft_teacher(seed=1), 0
    for place in places:
        data = bytearray(content)
        damage(data, place)
        path.write_bytes(data)
        try:
            load(model, path)
        except ConfigError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        else:  # a date or the padding was hit
            assert_same(state(model), saved)
    assert refused >= 40


@pytest.mark.parametrize("damage", [zeros, flip])
def test_a_tensor_that_differs_from_its_checksum_is_named(damage, whole, tmp_path):
    saved, content = whole
    largest = max(saved.values(), key=torch.Tensor.numel).numpy().tobytes()
    data = bytearray(content)
    damage(data, content.index(largest))
    (tmp_path / "model.pth").write_bytes(data)
    found = refusal(tmp_path / "model.pth")
    assert f"'{tmp_path / 'model.pth'}' is damaged at 'archive/data/" in found


def test_a_tensor_that_is_marked_as_a_folder_is_noticed(whole, tmp_path):
    # torch.load would leave the tensor's memory as it found it.
    content = bytearray(whole[1])
    entry = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    content[entry + 38] |= 0x10
    (tmp_path / "model.pth").write_bytes(content)
    assert "is damaged at 'archive/" in refusal(tmp_path / "model.pth")


def test_a_zip_file_that_was_packed_again_with_its_folders_loads(whole, tmp_path):
    with zipfile.ZipFile(io.BytesIO(whole[1])) as archive:
        archive.extractall(tmp_path / "content")
    shutil.make_archive(tmp_path / "again", "zip", tmp_path / "content")
    model = soft_teacher(seed=1)
    load(model, (tmp_path / "again.zip").rename(tmp_path / "again.pth"))
    assert_same(state(model), whole[0])


def ours(caplog):
    """What this package logged."""
    return [r.getMessage() for r in caplog.records if r.name.startswith("soft_teacher")]


def test_the_checksums_of_a_whole_file_hold_without_a_word(whole, tmp_path, caplog):
    (tmp_path / "model.pth").write_bytes(whole[1])
    with caplog.at_level(logging.INFO):
        load(soft_teacher(), tmp_path / "model.pth")
    assert ours(caplog) == []


def write_legacy(path, content):
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def write_without_checksums(path, content):
    torch.serialization.set_crc32_options(False)
    try:
        return write_torch(path, content)
    finally:
        torch.serialization.set_crc32_options(True)


def write_zoo(path, content):
    model = {name: tensor.numpy() for name, tensor in content["model"].items()}
    return write_pickle(path.with_suffix(".pkl"), {"model": model, "__author__": "x"})


WITHOUT_CHECKSUMS = [write_legacy, write_without_checksums, write_zoo]


@pytest.mark.parametrize("write", WITHOUT_CHECKSUMS)
def test_that_a_file_keeps_no_checksums_is_said_once(write, tmp_path, caplog):
    path = write(tmp_path / "model.pth", {"model": state(stock_detector())})
    model = soft_teacher()
    with caplog.at_level(logging.INFO):
        load(model, path)
    assert_same(state(model.teacher), state(stock_detector()))
    assert ours(caplog) == [f"'{path}' keeps no checksums: checked for finite numbers only"]


@pytest.mark.parametrize("write", [write_torch, *WITHOUT_CHECKSUMS])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_in_every_format(value, write, tmp_path):
    content = state(stock_detector())
    name = list(content)[-1]
    content[name].view(-1)[-1] = value
    found = refusal(write(tmp_path / "model.pth", {"model": content}))
    assert found.endswith(f"holds weights that are not finite, first in '{name}'")


# --- what a .pth file may hold beside tensors ---------------------------------------------------


def renamed(path, old, new):
    """Rewrites the pickle in a .pth file, as another version of NumPy would have written it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data.replace(old, new) if name.endswith("data.pkl") else data)


@pytest.mark.parametrize("core", ["core", "_core"])
@pytest.mark.parametrize("write", [write_torch, write_legacy])
def test_numpy_s_numbers_and_arrays_are_fine_beside_the_weights(write, core, tmp_path):
    beside = {
        "best_ap": np.float64(12.5),
        "numbers": [np.int64(3), np.float32(0.5), np.bool_(True), np.str_("a"), np.uint8(7)],
        "array": np.arange(6.0).reshape(2, 3),
        "names": np.array(["a", "b"]),
        "day": np.datetime64("2021-06-16"),
    }
    path = write(tmp_path / "x.pth", {"model": state(stock_detector()), **beside})
    if write is write_torch:
        current = np.zeros(1).__reduce__()[0].__module__
        renamed(path, current.encode(), f"numpy.{core}.multiarray".encode())
    rest = load(soft_teacher(), path)
    assert rest["best_ap"] == 12.5 and rest["numbers"] == beside["numbers"]
    assert rest["day"] == beside["day"] and list(rest["names"]) == ["a", "b"]
    np.testing.assert_array_equal(rest["array"], beside["array"])


def test_arrays_may_be_the_weights_of_a_pth_too(tmp_path):
    model = soft_teacher()
    load(model, write_torch(tmp_path / "x.pth", {"model": arrays(stock_detector())}))
    assert_same(state(model.teacher), state(stock_detector()))


@pytest.mark.parametrize(
    "thing, name",
    [
        (Namespace(lr=1), "argparse.Namespace"),
        (Path("a"), type(Path("a")).__name__),
        (Fraction(1, 2), "fractions.Fraction"),
        (np.array([{}], dtype=object), type(np.dtype(object)).__name__),
        (os.getcwd, "getcwd"),
        (eval, "eval"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("write", [write_torch, write_legacy])
def test_what_else_a_pth_holds_is_refused_by_its_name_and_without_advice(
    write, thing, name, tmp_path
):
    found = refusal(write(tmp_path / "x.pth", {"model": state(stock_detector()), "x": thing}))
    assert found.endswith(f"{name}; only tensors, NumPy arrays and plain values are accepted")
    assert "weights_only" not in found and "\x1b" not in found and len(found) < 300


def test_a_torchscript_archive_is_refused_without_advice(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)), tmp_path / "x.pth")
    found = refusal(tmp_path / "x.pth")
    assert "TorchScript" in found and "False" not in found


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
    reason = {"pth": "is damaged", "pkl": "cannot be read"}[suffix]
    assert f"'{path}' {reason}: " in refusal(path)


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
