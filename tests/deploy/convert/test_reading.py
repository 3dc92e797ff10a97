"""Files of other frameworks: read without importing or running anything of theirs."""

import os
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from foreign import save

from soft_teacher import ConfigError
from soft_teacher.deploy.convert.reading import read_foreign

STATE = {"a": torch.arange(3.0), "b.num_batches_tracked": torch.tensor(5)}


@pytest.fixture
def history():
    """An object as mmengine logs with; its module is gone when the file is read."""
    name = "mmengine.logging.history_buffer"
    modules = {part: types.ModuleType(part) for part in ("mmengine", "mmengine.logging", name)}
    modules[name].HistoryBuffer = type("HistoryBuffer", (), {"__module__": name, "mean": None})
    sys.modules.update(modules)
    made = modules[name].HistoryBuffer()
    made.values, made.largest = np.arange(4.0), np.float64(3.0)
    yield made
    for part in modules:
        sys.modules.pop(part, None)


def read_without(modules, path):
    for name in [n for n in sys.modules if n.startswith(modules)]:
        del sys.modules[name]
    return read_foreign(path)


def refusal(path):
    with pytest.raises(ConfigError) as error:
        read_foreign(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_config_and_classes_of_both_versions(legacy, tmp_path):
    two = {"config": "model = 2", "CLASSES": ("cat", "dog")}
    found = read_foreign(save(tmp_path / "two.pth", STATE, meta=two, legacy=legacy))
    assert found.weights.keys() == STATE.keys() and torch.equal(found.weights["a"], STATE["a"])
    assert (found.config, found.classes, found.entries) == ("model = 2", ["cat", "dog"], ["meta"])
    three = {"cfg": "model = 3", "dataset_meta": {"classes": ("cow",)}}
    found = read_foreign(save(tmp_path / "three.pth", STATE, meta=three, optimizer={}))
    assert (found.config, found.classes) == ("model = 3", ["cow"])
    assert found.entries == ["meta", "optimizer"]


def test_a_bare_state_dict(tmp_path):
    torch.save(STATE, tmp_path / "bare.pth")
    found = read_foreign(str(tmp_path / "bare.pth"))
    assert found.weights.keys() == STATE.keys() and found.config == "" and found.entries == []


@pytest.mark.parametrize("legacy", [False, True])
def test_foreign_objects_become_inert(legacy, history, tmp_path):
    hub = {"log_scalars": {"loss": history}, "seed": np.int64(1)}
    path = save(tmp_path / "run.pth", STATE, message_hub=hub, legacy=legacy)
    found = read_without("mmengine", path)
    assert torch.equal(found.weights["a"], STATE["a"])
    assert not any(name.startswith("mmengine") for name in sys.modules)


class Payload:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "function, line",
    [
        (os.system, "it holds posix.system; only tensors"),
        (subprocess.getoutput, "would run commands.getoutput if it were unpickled"),
        (eval, "would run builtins.eval if it were unpickled"),
    ],
)
def test_a_payload_is_refused_and_not_run(function, line, legacy, history, tmp_path):
    marker = tmp_path / "marker"
    code = f"open({str(marker)!r}, 'w')" if function is eval else f"touch {marker}"
    meta = {"seed": Payload(function, code)}
    path = save(tmp_path / "bad.pth", STATE, meta=meta, hub=history, legacy=legacy)
    assert line in refusal(path)
    assert not marker.exists()


def test_what_is_no_checkpoint(tmp_path):
    (tmp_path / "text.pth").write_text("weights")
    assert "cannot be read" in refusal(tmp_path / "text.pth")
    assert "does not exist" in refusal(tmp_path / "missing.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds no weights" in refusal(tmp_path / "list.pth")
    torch.save({"meta": {}, "state_dict": {}}, tmp_path / "empty.pth")
    assert "holds no weights" in refusal(tmp_path / "empty.pth")
    torch.save({"model": STATE}, tmp_path / "ours.pth")
    assert "is Detectron2's already" in refusal(tmp_path / "ours.pth")
    nan = {"a": torch.tensor([float("nan")])}
    assert "not finite, first in 'a'" in refusal(save(tmp_path / "nan.pth", nan))


def test_a_damaged_file(tmp_path):
    path = tmp_path / "damaged.pth"
    save(path, STATE)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "damaged" in refusal(path)
