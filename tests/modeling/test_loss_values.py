"""The values of a step's losses: alpha, and what stays Detectron2's."""

import pytest
from detectron2.modeling import GeneralizedRCNN
from steps import (
    ALL_LOSSES,
    BOXES,
    CLASSES,
    EVERYTHING,
    LENIENT,
    WITHOUT_SAMPLING,
    batch_of,
    detections,
    inject,
    labeled,
    losses_of,
    targets,
    teach,
    unlabeled,
)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_alpha_multiplies_every_loss_of_unlabeled_images_and_no_other(build, alpha):
    losses = []
    for value in (1.0, alpha):
        model = build("SOFT_TEACHER.ALPHA", value, *LENIENT)
        teach(model, EVERYTHING)
        losses.append(losses_of(model, batch_of(2, 2)))
    for key in ALL_LOSSES:
        assert losses[0][key] > 0, key
        factor = alpha if key.startswith("unsup/") else 1
        assert losses[1][key] == pytest.approx(factor * losses[0][key], rel=1e-6)


def test_alpha_is_4_by_default(build):
    assert build().alpha == 4.0


@pytest.fixture
def stock_like(tiny_cfg):
    """stock_like(model, "KEY", value, ...): Detectron2's detector with the student's weights."""

    def stock_like(model, *overrides):
        tiny_cfg.merge_from_list(list(overrides))
        stock = GeneralizedRCNN(tiny_cfg).train()
        stock.load_state_dict(model.student.state_dict())
        return stock

    return stock_like


def test_labeled_images_have_the_losses_of_a_stock_detector(build, stock_like):
    model = build()
    batch = [labeled(0), labeled(1)]
    theirs, mine = losses_of(stock_like(model), batch), losses_of(model, batch)
    assert {k: v for k, v in mine.items() if k.startswith("sup/")} == {
        f"sup/{k}": v for k, v in theirs.items()
    }


UNIFORM = (
    *("SOFT_TEACHER.ALPHA", 1.0),
    *("SOFT_TEACHER.INDICATOR", "none"),
    *("SOFT_TEACHER.AVERAGE", "gpu"),
    *("SOFT_TEACHER.REG_NORMALIZER", "samples"),
    *("SOFT_TEACHER.JITTER.ENABLED", False),
)


def test_with_uniform_weights_pseudo_boxes_train_as_ground_truth_does(build, stock_like):
    model = build(*UNIFORM, *WITHOUT_SAMPLING)
    objects = [(BOXES[:3], CLASSES[:3]), (BOXES[3:], CLASSES[3:]), ([], [])]
    inject(model, [detections(b, c, [0.95] * len(b)) for b, c in objects])
    images = [unlabeled(key) for key in range(3)]
    mine = losses_of(model, images)
    known = [{"image": x["image"], "instances": targets(*t)} for x, t in zip(images, objects)]
    for key, value in losses_of(stock_like(model, *WITHOUT_SAMPLING), known).items():
        assert mine[f"unsup/{key}"] == pytest.approx(value, rel=1e-5), key


def test_averaging_over_the_gpu_ignores_image_weights(build):
    batch = batch_of(1, 2)
    weighted = [{**sample, "image_weight": 7.0} for sample in batch]
    for average in ("gpu", "image"):
        model = build("SOFT_TEACHER.AVERAGE", average)
        same = losses_of(model, batch) == losses_of(model, weighted)
        assert same == (average == "gpu")
