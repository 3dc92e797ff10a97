"""Runs with every part beyond the paper: alike in both languages, and resumed to the bit."""

import pytest
import torch
from training import (
    interrupted_after_2_of_4_steps,
    metrics,
    save_untrained,
    train_lazy,
    train_yaml,
    weights,
)

from soft_teacher import ConfigError

pytestmark = pytest.mark.usefixtures("tiny_digits")

# Thresholds low enough for an untrained teacher; no warm-up, in both languages.
YAML = [
    *("SOFT_TEACHER.BURN_IN", "1", "SOLVER.WARMUP_ITERS", "0"),
    *("SOFT_TEACHER.DENSITY.ENABLED", "True", "SOFT_TEACHER.DENSITY.WINDOW", "5"),
    *("SOFT_TEACHER.DENSITY.FOREGROUND", "3.0", "SOFT_TEACHER.DENSITY.IGNORE", "30.0"),
    *("SOFT_TEACHER.JITTER.STABLE_SHARE", "0.5"),
    *("SOFT_TEACHER.EMA.THROUGH_BURN_IN", "True", "SOFT_TEACHER.STATISTICS", "labeled"),
]
LAZY = [
    *("train.burn_in=1", "lr_multiplier.warmup_length=0.0"),
    "lr_multiplier.scheduler.milestones=[3,4]",
    *("model.pseudo_labeler.by_density=True", "model.pseudo_labeler.density.window=5"),
    *("model.pseudo_labeler.density.foreground=3", "model.pseudo_labeler.density.ignore=30"),
    "model.pseudo_labeler.stable_share=0.5",
    *("ema.through_burn_in=True", "model.statistics=labeled"),
]


@pytest.fixture(scope="module")
def start(tiny_digits, tmp_path_factory):
    """Weights for both languages, which initialize a Faster R-CNN in different orders."""
    path = tmp_path_factory.mktemp("start") / "start.pth"
    save_untrained(path)
    return path


@pytest.fixture(scope="module")
def yaml(start):
    return [*YAML, "MODEL.WEIGHTS", start]


@pytest.fixture(scope="module")
def trained(yaml, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    train_yaml(folder, *yaml)
    return folder


def totals_of(folder):
    """What the thresholds follow from, at the end of a run."""
    trainer = torch.load(folder / "model_final.pth", weights_only=True)["trainer"]
    return trainer["hooks"]["DensityThresholdsHook"]


def assert_same(folder, other):
    for states in ((weights(folder), weights(other)), (totals_of(folder), totals_of(other))):
        found, expected = states
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
    assert metrics(folder)["total_loss"] == metrics(other)["total_loss"]


def test_every_part_is_at_work(trained):
    last, totals = metrics(trained), totals_of(trained)
    assert last["pseudo/num_cls_boxes"] > 0 and last["unsup/loss_cls"] > 0
    assert 0 < last["pseudo/num_reg_boxes"] < last["pseudo/num_cls_boxes"]
    assert totals["labeled"] > 0 and totals["images"] > 0 and totals["scores"].sum() > 0
    state = weights(trained)
    batches = {v.item() for k, v in state.items() if k.endswith("num_batches_tracked")}
    assert batches <= {4}  # one per step, the labeled images'


def test_both_languages_end_alike(trained, start, tmp_path):
    train_lazy(tmp_path, *LAZY, f"train.init_checkpoint={start}")
    assert_same(tmp_path, trained)


def test_a_resumed_run_ends_as_the_whole_one(trained, yaml, tmp_path):
    interrupted_after_2_of_4_steps(train_yaml, tmp_path, *yaml)
    train_yaml(tmp_path, *yaml, resume=True)
    assert_same(tmp_path, trained)


def test_a_run_without_them_is_not_resumed_with_them(tmp_path):
    interrupted_after_2_of_4_steps(train_yaml, tmp_path)
    with pytest.raises(ConfigError) as error:
        train_yaml(tmp_path, "SOFT_TEACHER.DENSITY.ENABLED", "True", resume=True)
    assert "SOFT_TEACHER.DENSITY.ENABLED was False and is True" in str(error.value)
    assert "\n" not in str(error.value)


# Values that are refused, in each language.
REFUSED = {
    "DENSITY.ENABLED": ("model.pseudo_labeler.by_density", ["1", "maybe"]),
    "DENSITY.FOREGROUND": ("model.pseudo_labeler.density.foreground", ["0", "much"]),
    "DENSITY.IGNORE": ("model.pseudo_labeler.density.ignore", ["0.5", "-1", "null"]),
    "DENSITY.REGRESSION": ("model.pseudo_labeler.density.regression", ["-1", "0.9"]),
    "DENSITY.WINDOW": ("model.pseudo_labeler.density.window", ["0", "1.5"]),
    "DENSITY.FLOOR": ("model.pseudo_labeler.density.floor", ["0", "1"]),
    "JITTER.STABLE_SHARE": ("model.pseudo_labeler.stable_share", ["-0.5", "2"]),
    "EMA.THROUGH_BURN_IN": ("ema.through_burn_in", ["2"]),
    "STATISTICS": ("model.statistics", ["teacher", "3"]),
}


@pytest.mark.parametrize("key", REFUSED)
@pytest.mark.parametrize("language", ["yaml", "lazy"])
def test_a_value_that_cannot_be_names_its_key_in_one_line(key, language, tmp_path):
    path, values = REFUSED[key]
    name = f"SOFT_TEACHER.{key}" if language == "yaml" else path
    for value in values:
        with pytest.raises(ConfigError) as error:
            if language == "yaml":
                train_yaml(tmp_path, name, value)
            else:
                train_lazy(tmp_path, f"{name}={value}")
        assert name in str(error.value) and "\n" not in str(error.value), value
