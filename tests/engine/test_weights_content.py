"""What a file of weights may hold: tensors, arrays and plain values; never code."""

import os
import pickle
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
    write_legacy,
    write_pickle,
    write_torch,
)

from soft_teacher import ConfigError
from soft_teacher.engine.weights_file import check_pickle

CURRENT = np.zeros(1).__reduce__()[0].__module__  # what NumPy calls the module of its arrays
ZOO = "Detectron2 Model Zoo"

# --- .pkl files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "protocol, module",
    [
        *((2, f"numpy.{core}.multiarray") for core in ("core", "_core")),  # of NumPy 1 and 2
        *((protocol, CURRENT) for protocol in (3, 4, 5)),
    ],
)
def test_the_model_zoo_format_fills_both_networks(protocol, module, tmp_path):
    detector, model = stock_detector(), soft_teacher()
    content = {"model": arrays(detector), "__author__": ZOO}
    path = write_pickle(tmp_path / "zoo.pkl", content, protocol)
    if protocol == 2:
        data = path.read_bytes().replace(f"c{CURRENT}\n".encode(), f"c{module}\n".encode())
        assert f"c{module}\n".encode() in data
        path.write_bytes(data)
    load(model, path, complete=True)
    for side in SIDES:
        assert_same(state(getattr(model, side)), state(detector))


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
def test_containers_arrays_and_numpy_s_numbers_are_harmless(protocol, tmp_path):
    for content in (
        {},
        OrderedDict(a=[1, 2.5, "text", b"\x00\xff", None, (True,)]),
        {"lr": np.float32(0.1), "step": np.int64(3)},
        {"w": np.arange(6.0).reshape(2, 3), "fortran": np.asfortranarray(np.ones((2, 3)))},
    ):
        check_pickle(str(write_pickle(tmp_path / "plain.pkl", content, protocol)))


# --- code ---------------------------------------------------------------------------------------


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


PLACES = [
    lambda code: code,
    lambda code: {"model": {"backbone.weight": code}, "__author__": ZOO},
    lambda code: {"blobs": [np.zeros(2), code]},
    lambda code: {"model": np.array([code], dtype=object)},
]


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("hidden", PLACES)
def test_a_pkl_that_would_run_code_is_refused_and_runs_none(hidden, protocol, tmp_path):
    marker = tmp_path / "it_ran"
    path = write_pickle(tmp_path / "code.pkl", hidden(Runs(marker)), protocol)
    found = refusal(path)
    assert "mkdir" in found and "only arrays are accepted" in found and str(path) in found
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the file is harmless and proves nothing"


@pytest.mark.parametrize("suffix, key", [("pth", "model"), ("pyth", "model_state")])
def test_a_pth_that_would_run_code_is_refused_and_runs_none(suffix, key, tmp_path):
    marker = tmp_path / "it_ran"
    path = write_torch(tmp_path / f"code.{suffix}", {key: {"backbone.weight": Runs(marker)}})
    assert "mkdir; only tensors" in refusal(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file is harmless and proves nothing"


@pytest.mark.parametrize("name", ["builtins.eval", "os.system", "numpy.load", "numpy.core.eval"])
def test_only_the_functions_that_make_arrays_may_be_named(name, tmp_path):
    module, function = name.rsplit(".", 1)
    path = tmp_path / "named.pkl"
    path.write_bytes(f"c{module}\n{function}\n.".encode())
    with pytest.raises(ConfigError, match=f"would run {name} if loaded"):
        check_pickle(str(path))


def test_our_pth_files_are_read_as_tensors_only_whatever_torch_s_default(tmp_path, monkeypatch):
    asked, read = [], torch.load
    record = lambda *args, **kwargs: asked.append(kwargs.get("weights_only")) or read(
        *args, **kwargs
    )
    monkeypatch.setattr(torch, "load", record)
    load(soft_teacher(), write_torch(tmp_path / "d.pth", {"model": state(stock_detector())}))
    assert asked == [True]


# --- what a .pth file may hold beside tensors ---------------------------------------------------


def renamed(path, old, new):
    """Rewrites the pickle in a .pth file, as another version of NumPy would have written it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data.replace(old, new) if name.endswith("data.pkl") else data)


both_formats = pytest.mark.parametrize("write", [write_torch, write_legacy])


@pytest.mark.parametrize("core", ["core", "_core"])
@both_formats
def test_numpy_s_numbers_and_arrays_are_accepted_as_weights_and_beside_them(write, core, tmp_path):
    beside = {
        "best_ap": np.float64(12.5),
        "numbers": [np.int64(3), np.float32(0.5), np.bool_(True), np.str_("a"), np.uint8(7)],
        "array": np.arange(6.0).reshape(2, 3),
        "names": np.array(["a", "b"]),
        "day": np.datetime64("2021-06-16"),
    }
    path = write(tmp_path / "x.pth", {"model": arrays(stock_detector()), **beside})
    if write is write_torch:
        renamed(path, CURRENT.encode(), f"numpy.{core}.multiarray".encode())
    model = soft_teacher()
    rest = load(model, path)
    assert_same(state(model.teacher), state(stock_detector()))
    assert rest["best_ap"] == 12.5 and rest["numbers"] == beside["numbers"]
    assert rest["day"] == beside["day"] and list(rest["names"]) == ["a", "b"]
    np.testing.assert_array_equal(rest["array"], beside["array"])


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
@both_formats
def test_what_else_a_pth_holds_is_refused_by_its_name_and_without_advice(
    write, thing, name, tmp_path
):
    found = refusal(write(tmp_path / "x.pth", {"model": state(stock_detector()), "x": thing}))
    assert found.endswith(f"{name}; only tensors, NumPy arrays and plain values are accepted")
    assert "weights_only" not in found and "\x1b" not in found and len(found) < 300


@pytest.mark.filterwarnings("ignore:.*torch.*(jit|TorchScript)")
def test_a_torchscript_archive_is_refused_without_advice(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)), tmp_path / "x.pth")
    found = refusal(tmp_path / "x.pth")
    assert "TorchScript" in found and "False" not in found
