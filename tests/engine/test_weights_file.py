"""Files that are damaged, not finite, or hold no weights."""

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
    """A bit flip in memory."""
    data[place] ^= 16


def cut(data, place):
    """An incomplete copy."""
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


def write_without_checksums(path, content):
    torch.serialization.set_crc32_options(False)
    try:
        return write_torch(path, content)
    finally:
        torch.serialization.set_crc32_options(True)


def write_zoo(path, content):
    model = {name: tensor.numpy() for name, tensor in content["model"].items()}
    return write_pickle(path.with_suffix(".pkl"), {"model": model, "__author__": "x"})


FORMATS = [write_torch, write_legacy, write_without_checksums, write_zoo]


@pytest.mark.parametrize("write", FORMATS)
def test_a_file_without_checksums_is_reported_once(write, tmp_path, caplog):
    path = write(tmp_path / "model.pth", {"model": state(stock_detector())})
    model = soft_teacher()
    with caplog.at_level(logging.INFO):
        load(model, path)
    assert_same(state(model.teacher), state(stock_detector()))
    logged = [r.getMessage() for r in caplog.records if r.name.startswith("soft_teacher")]
    expected = [f"'{path}' keeps no checksums: checked for finite numbers only"]
    assert logged == ([] if write is write_torch else expected)


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_in_every_format(value, write, tmp_path):
    content = state(stock_detector())
    name = list(content)[-1]
    content[name].view(-1)[-1] = value
    found = refusal(write(tmp_path / "model.pth", {"model": content}))
    assert found.endswith(f"holds weights that are not finite, first in '{name}'")


# --- not a file of weights ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing.pth", "missing.pkl", "folder"])
def test_a_missing_file(name, tmp_path):
    (tmp_path / "folder").mkdir()
    assert f"'{tmp_path / name}' does not exist" in refusal(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello, this is a text\nof two lines\n", b"\x80\x04."])
@pytest.mark.parametrize("suffix", ["pth", "pkl", "pyth"])
def test_another_file_is_refused_and_changes_nothing(suffix, content, tmp_path):
    path, model = tmp_path / f"text.{suffix}", soft_teacher()
    path.write_bytes(content)
    before = state(model)
    found = refusal(path, model)
    assert f"'{path}' cannot be read: " in found and not found.endswith(": ")
    assert_same(state(model), before)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
@pytest.mark.parametrize(
    "write, reason", [(write_torch, "is damaged"), (write_zoo, "cannot be read")]
)
def test_a_truncated_file(write, reason, part, tmp_path):
    path = write(tmp_path / "model.pth", {"model": state(stock_detector())})
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    assert f"'{path}' {reason}: " in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        *({}, {"a": 3}, {"model": {}}, {"model": {"a": 3}}, {1: torch.zeros(1)}),
        *({"a": "b"}, {"model": [1], "__author__": "x"}),
    ],
    ids=str,
)
def test_a_file_without_weights_is_refused(content, tmp_path):
    if not any(isinstance(value, torch.Tensor) for value in content.values()):
        refusal(write_pickle(tmp_path / "x.pkl", content))
    assert "holds no weights" in refusal(write_torch(tmp_path / "x.pth", content))


def test_a_checkpointer_can_be_used_after_a_refusal(tmp_path):
    (tmp_path / "text.pth").write_text("no checkpoint")
    good = write_torch(tmp_path / "good.pth", {"model": arrays(stock_detector())})
    checkpointer = SoftTeacherCheckpointer(soft_teacher())
    with pytest.raises(ConfigError):
        checkpointer.load(str(tmp_path / "text.pth"))
    checkpointer.load(str(good))


def test_evaluation_without_weights_is_refused():
    assert "name the checkpoint" in refusal("", complete=True)


def test_an_address_that_cannot_be_reached_is_refused():
    refusal("nowhere://model.pth")
