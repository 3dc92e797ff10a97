"""soft_teacher.model_zoo: configs by their names, from any folder."""

import pytest
from detectron2.config import CfgNode
from omegaconf import OmegaConf
from training import ROOT

from soft_teacher import ConfigError, model_zoo
from soft_teacher.experiment.entry import load_experiment, path_of_config

NAME = "demo/soft_teacher.yaml"


def test_every_config_of_the_checkout_has_a_name():
    kinds = (".py", ".yaml")
    files = [path for path in (ROOT / "configs").rglob("*.*") if path.suffix != ".pyc"]
    assert {path.suffix for path in files} == set(kinds)  # what the wheel takes
    assert model_zoo.config_names() == sorted(
        path.relative_to(ROOT / "configs").as_posix() for path in files
    )


@pytest.mark.parametrize("name", ["", ".", "demo", "nowhere.yaml", "../setup.cfg", "configs/"])
def test_other_names_are_refused(name):
    with pytest.raises(ConfigError, match="there is no config"):
        model_zoo.get_config_file(name)


def test_a_misspelled_name_gets_a_hint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"'demo/soft_techer.yaml': did you mean {NAME}"):
        model_zoo.get_config_file("demo/soft_techer.yaml")
    with pytest.raises(ConfigError, match=f"does not exist: did you mean {NAME}"):
        load_experiment("configs/demo/soft_techer.yaml")


def test_yaml_and_lazy_configs_are_read_with_what_they_are_based_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = model_zoo.get_config(NAME)
    assert isinstance(cfg, CfgNode) and cfg.SOFT_TEACHER.BURN_IN == 500
    assert cfg.MODEL.BACKBONE.NAME == "build_small_resnet_fpn_backbone"
    lazy = model_zoo.get_config("configs/demo/soft_teacher.py")
    assert OmegaConf.is_config(lazy) and lazy.train.burn_in == 500
    assert lazy.model.student.backbone.norm == "BN"


@pytest.mark.parametrize("name", [NAME, "configs/demo/soft_teacher.py"])
def test_a_run_names_its_config_so(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_experiment(name)["SOFT_TEACHER.BURN_IN"] == 500


def test_a_file_of_that_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert path_of_config(NAME) == model_zoo.get_config_file(NAME)
    (tmp_path / "demo").mkdir()
    (tmp_path / NAME).write_text(f"_BASE_: {model_zoo.get_config_file(NAME)}\nSEED: 7\n")
    assert load_experiment(NAME)["SEED"] == 7


def test_the_folder_of_a_run_is_its_config(tmp_path):
    assert path_of_config(str(tmp_path)) == str(tmp_path / "config.yaml")
