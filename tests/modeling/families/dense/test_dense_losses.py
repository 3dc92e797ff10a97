"""Losses over all places against numpy in float64, place by place, and against Detectron2."""

import numpy as np
import pytest
import tiny_fcos  # noqa: F401  registers a family
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from steps import labeled, targets

from soft_teacher.modeling.families.dense.losses import (
    background_weights,
    classification_loss,
    is_positive,
)
from soft_teacher.modeling.families.dense.predictions import predict

K, IGNORED = 3, -1
BG = K
ALPHA, GAMMA = 0.25, 2.0

# Labels of the places of one image.
SCENES = {
    "no place": [],
    "all ignored": [IGNORED] * 6,
    "backgrounds alone": [BG] * 6,
    "one positive": [BG, 2, BG, IGNORED, BG, BG],
    "several": [0, BG, 2, IGNORED, 2, BG],
    "no background": [0, 1, 2, IGNORED, 2, 1],
}
FORMULAS = ("paper", "reference")


def weights_by_hand(labels, r, formula):
    """Eq. 4 and 5: in the paper's form backgrounds count as many as there are."""
    mine = [x for label, x in zip(labels, r) if label == BG]
    scale = len(mine) / sum(mine) if formula == "paper" and sum(mine) else 1
    return [x * scale if label == BG else 1 for label, x in zip(labels, r)]


def focal(logit, target):
    p = 1 / (1 + np.exp(-np.float64(logit)))
    p_t, alpha_t = (p, ALPHA) if target else (1 - p, 1 - ALPHA)
    return -alpha_t * (1 - p_t) ** GAMMA * np.log(p_t)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("labels", SCENES.values(), ids=SCENES.keys())
@pytest.mark.parametrize("formula", FORMULAS)
def test_weights_of_places(labels, formula, rng):
    """The reliability of other places than backgrounds is not read."""
    r = rng.uniform(0, 1, len(labels))
    read = np.where(np.array(labels) == BG, r, 9)
    found = background_weights(
        torch.tensor([labels]).long(), K, torch.tensor(read)[None].float(), formula
    )
    assert found.dtype == torch.float32 and found.shape == (1, len(labels))
    np.testing.assert_allclose(found[0], weights_by_hand(labels, r, formula), rtol=1e-5)


@pytest.mark.parametrize("formula", FORMULAS)
def test_backgrounds_that_are_all_objects_to_the_teacher_do_not_count(formula):
    weights = background_weights(torch.tensor([[0, BG, BG]]), K, torch.zeros(1, 3), formula)
    assert weights.tolist() == [[1, 0, 0]]


def test_the_paper_s_weights_are_of_one_image(rng):
    labels = torch.tensor([[0, BG, BG], [BG, BG, BG]])
    r = torch.tensor([[0.5, 0.1, 0.3], [0.9, 0.9, 0.9]])
    found = background_weights(labels, K, r, "paper")
    assert found[0].tolist() == pytest.approx([1, 0.5, 1.5])
    assert found[1].tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("formula", [None, *FORMULAS])
def test_the_weighted_focal_loss_is_a_sum_over_places_that_are_not_ignored(formula, rng):
    scenes = [labels for labels in SCENES.values() if labels]
    logits, r = rng.normal(0, 2, (len(scenes), 6, K)), rng.uniform(0, 1, (len(scenes), 6))
    weights = [weights_by_hand(*x, formula) if formula else [1] * 6 for x in zip(scenes, r)]
    expected = sum(
        weight * focal(logits[image, place, c], c == label)
        for image, labels in enumerate(scenes)
        for place, (label, weight) in enumerate(zip(labels, weights[image]))
        for c in range(K)
        if label != IGNORED
    )
    labels = torch.tensor(scenes)
    found = classification_loss(
        torch.tensor(logits).float(),
        labels,
        formula and background_weights(labels, K, torch.tensor(r).float(), formula),
        alpha=ALPHA,
        gamma=GAMMA,
    )
    assert found.item() == pytest.approx(expected, rel=1e-5)


# --- Detectron2's own losses

DETECTORS = {
    "RetinaNet": ("RetinaNet",),
    **{
        f"RetinaNet, {kind}": ("RetinaNet", "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", kind)
        for kind in ("giou", "diou", "ciou")
    },
    "FCOS": ("TinyFCOS",),
}


@pytest.fixture(params=DETECTORS.values(), ids=DETECTORS.keys())
def pair(build, tiny_cfg, request):
    """A SoftTeacher, and the stock detector with the student's weights and its normalizer."""
    opts = ("SOFT_TEACHER.DETECTOR", *request.param)
    tiny_cfg.merge_from_list(list(opts))
    model = build(*opts)
    stock = META_ARCH_REGISTRY.get(tiny_cfg.SOFT_TEACHER.DETECTOR)(tiny_cfg).train()
    stock.load_state_dict(model.student.state_dict())
    model.family.normalizers.values.copy_(torch.tensor([7.3, 91.7]))
    return model, stock


def stock_losses(stock: DenseDetector, samples, normalizer):
    """What Detectron2 says if its running mean is this number."""
    stock._ema_update = lambda *args: normalizer
    return stock(samples)


SAMPLES = {
    "no object": [labeled(instances=targets())],
    "one image": [labeled()],
    "two images": [labeled(), labeled(1, instances=targets([[6, 8, 66, 14]], [1]))],
}


@pytest.mark.parametrize("samples", SAMPLES.values(), ids=SAMPLES.keys())
def test_labeled_images_have_detectron2_s_losses_to_the_bit(pair, samples):
    model, stock = pair
    losses = model(samples)
    for name, loss in stock_losses(stock, samples, 7.3 * len(samples)).items():
        assert torch.equal(losses[f"sup/{name}"], loss), name
        assert loss > 0 or name in ("loss_box_reg", "loss_fcos_loc", "loss_fcos_ctr")


@pytest.mark.parametrize("formula", FORMULAS)
def test_with_r_of_1_unlabeled_images_have_the_stock_focal_loss_to_the_bit(pair, formula):
    """Two images, one without pseudo boxes; some anchors of the other are ignored."""
    model, stock = pair
    samples = [labeled(), labeled(1, instances=targets())]
    found = predict(model.student, model.family.encode(model.student, samples))
    labels, _ = model.student.label_anchors(found.anchors, [x["instances"] for x in samples])
    labels = torch.stack(labels)
    ones = torch.ones(labels.shape)
    assert is_positive(labels, K).any()
    loss = model.family._classification(
        model.student, found, labels, background_weights(labels, K, ones, formula)
    )
    losses = stock_losses(stock, samples, 7.3 * len(samples))
    name = model.family.loss_names(model.student)[0]
    assert torch.equal(loss / (torch.tensor(7.3) * 2), losses[name])
