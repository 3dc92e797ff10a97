"""The config.yaml of a LazyConfig's run builds the same model, and runs no code."""

import pytest
from detectron2.config import LazyConfig
from training import CONFIGS

from soft_teacher import ConfigError
from soft_teacher.experiment.dumped_config import is_dumped
from soft_teacher.experiment.entry import load_experiment
from soft_teacher.experiment.lazy_experiment import LazyExperiment
from soft_teacher.experiment.yaml_experiment import YamlExperiment

LAZY = CONFIGS / "soft_teacher.py"


@pytest.fixture
def dumped(tmp_path):
    path = tmp_path / "config.yaml"
    LazyConfig.save(LazyConfig.load(str(LAZY)), str(path))
    return path


def test_it_is_told_from_a_yaml_config(dumped, tmp_path):
    assert is_dumped(str(dumped)) and not is_dumped(str(CONFIGS / "soft_teacher.yaml"))
    for text in ("", "- 1", "a: [", "model"):
        (tmp_path / "other.yaml").write_text(text)
        assert not is_dumped(str(tmp_path / "other.yaml"))
    assert not is_dumped(str(tmp_path / "none.yaml"))


def test_it_builds_what_the_program_builds(dumped):
    found, wanted = load_experiment(str(dumped)), load_experiment(str(LAZY))
    assert isinstance(found, LazyExperiment)
    shapes = [
        {name: tensor.shape for name, tensor in e.build_model().state_dict().items()}
        for e in (found, wanted)
    ]
    assert shapes[0] == shapes[1]
    assert found["SOFT_TEACHER.SCORE_THRESH"] == wanted["SOFT_TEACHER.SCORE_THRESH"]
    assert found.train_names() == wanted.train_names()


def test_a_folder_is_the_config_in_it(dumped, tmp_path):
    assert isinstance(load_experiment(str(tmp_path)), LazyExperiment)
    dumped.write_text((CONFIGS / "base.yaml").read_text().replace("_BASE_: ../common", "#"))
    assert isinstance(load_experiment(str(tmp_path)), YamlExperiment)
    dumped.unlink()
    with pytest.raises(ConfigError, match="config.yaml' does not exist"):
        load_experiment(str(tmp_path))


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.hub.load",
        "soft_teacher.utils.folders.os.system",
        "detectron2.utils.env.os.system",
        "detectron2.nowhere.thing",
    ],
)
def test_what_is_no_part_of_a_detector_is_refused(dumped, target):
    name = "detectron2.modeling.GeneralizedRCNN"
    dumped.write_text(dumped.read_text().replace(name, target))
    with pytest.raises(ConfigError) as error:
        load_experiment(str(dumped))
    assert target in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch MARK']",
        "!!python/object/new:os.system ['touch MARK']",
        "!!python/name:os.system",
        "!!python/module:os",
        "[",
    ],
)
def test_tags_run_nothing(dumped, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dumped.write_text(f"{dumped.read_text()}\nextra: {value}\n")
    with pytest.raises(ConfigError) as error:
        load_experiment(str(dumped))
    assert "\n" not in str(error.value) and not (tmp_path / "MARK").exists()
