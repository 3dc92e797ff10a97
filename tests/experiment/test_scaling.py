import pytest

from soft_teacher import ConfigError
from soft_teacher.experiment.scaling import SCALES, scaled_values
from soft_teacher.experiment.settings import SETTINGS

PARTIAL = {
    "SOLVER.IMS_PER_BATCH": 40,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.MAX_ITER": 180_000,
    "SOLVER.STEPS": (110_000, 160_000),
    "SOLVER.WARMUP_ITERS": 500,
    "SOLVER.CHECKPOINT_PERIOD": 5000,
    "TEST.EVAL_PERIOD": 0,
    "SOFT_TEACHER.BURN_IN": 0,
    "SOFT_TEACHER.LABELED_SHARE_DECAY": 10_000,
    "SOFT_TEACHER.EMA.MOMENTUM": 0.999,
}


def test_the_same_number_of_images_is_the_same_training():
    assert scaled_values(PARTIAL, 40) == PARTIAL


def test_half_the_images_are_half_the_rate_and_twice_the_steps():
    assert scaled_values(PARTIAL, 20) == {
        "SOLVER.IMS_PER_BATCH": 20,
        "SOLVER.BASE_LR": 0.005,
        "SOLVER.MAX_ITER": 360_000,
        "SOLVER.STEPS": (220_000, 320_000),
        "SOLVER.WARMUP_ITERS": 1000,
        "SOLVER.CHECKPOINT_PERIOD": 10_000,
        "TEST.EVAL_PERIOD": 0,
        "SOFT_TEACHER.BURN_IN": 0,
        "SOFT_TEACHER.LABELED_SHARE_DECAY": 20_000,
        # sqrt(0.999)
        "SOFT_TEACHER.EMA.MOMENTUM": 0.9995,
    }


def test_a_number_of_steps_never_vanishes():
    found = scaled_values({**PARTIAL, "SOLVER.WARMUP_ITERS": 1}, 400)
    assert found["SOLVER.WARMUP_ITERS"] == 1
    assert found["SOFT_TEACHER.EMA.MOMENTUM"] == pytest.approx(0.99004488, abs=1e-6)


def test_both_languages_scale_the_same_things():
    assert list(SCALES) == list(PARTIAL)
    assert [key for key in SCALES if not SETTINGS[key].lazy] == ["SOLVER.WARMUP_ITERS"]


@pytest.mark.parametrize("images", [0, -5])
def test_less_than_one_image_is_refused(images):
    with pytest.raises(ConfigError, match="SOLVER.IMS_PER_BATCH must be at least 1"):
        scaled_values(PARTIAL, images)
