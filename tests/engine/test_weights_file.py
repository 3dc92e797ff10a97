"""Files that are damaged, not finite, or none."""

import io
import logging
import shutil
import zipfile

import numpy as np
import pytest
import torch
from checkpoints import (
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
from soft_teacher.engine.checkpoint import SoftTeacherCheckpointer

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
