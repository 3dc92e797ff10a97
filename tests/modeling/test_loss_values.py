"""The values of the losses: Eq. 1-3, and what is stock stays stock."""

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN
from steps import ALL_LOSSES, BOXES, CLASSES, EVERYTHING, WITHOUT_SAMPLING, losses_of, teach, values

# --- Eq. 1: L = L_s + alpha L_u


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0, 4.0])
def test_alpha_multiplies_every_loss_of_unlabeled_images_and_no_other(build, batch_of, alpha):
    results = []
    for value in (1.0, alpha):
        overrides = ("SOFT_TEACHER.ALPHA", value, "SOFT_TEACHER.JITTER.VARIANCE_THRESH", 0.9)
        model = build(*overrides)
        teach(model, EVERYTHING)
        results.append(values(losses_of(model, batch_of(2, 2))))
    plain, weighted = results
    for key in ALL_LOSSES:
        assert plain[key] > 0, key
        factor = alpha if key.startswith("unsup/") else 1
        assert weighted[key] == pytest.approx(factor * plain[key], rel=1e-6)


def test_alpha_is_4_by_default(build, batch_of):
    model = build()
    default = values(losses_of(model, batch_of(1, 1)))
    assert default == values(losses_of(build("SOFT_TEACHER.ALPHA", 4.0), batch_of(1, 1)))
    assert model.alpha == 4.0


# --- what is stock stays stock


def test_labeled_images_have_the_losses_of_a_stock_detector(build, tiny_cfg, labeled):
    model = build()
    stock = GeneralizedRCNN(tiny_cfg).train()
    stock.load_state_dict(model.student.state_dict())
    batch = [labeled(0), labeled(1)]
    theirs, mine = losses_of(stock, batch), losses_of(model, batch)
    assert {k: v for k, v in values(mine).items() if k.startswith("sup/")} == {
        f"sup/{k}": v for k, v in values(theirs).items()
    }


UNIFORM = (
    *("SOFT_TEACHER.ALPHA", 1.0),
    *("SOFT_TEACHER.INDICATOR", "none"),
    *("SOFT_TEACHER.AVERAGE", "gpu"),
    *("SOFT_TEACHER.REG_NORMALIZER", "samples"),
    *("SOFT_TEACHER.JITTER.ENABLED", False),
)


def test_with_uniform_weights_pseudo_boxes_train_as_ground_truth_does(
    build, tiny_cfg, unlabeled, inject, detections, targets
):
    model = build(*UNIFORM, *WITHOUT_SAMPLING)
    tiny_cfg.merge_from_list(list(WITHOUT_SAMPLING))
    stock = GeneralizedRCNN(tiny_cfg).train()
    stock.load_state_dict(model.student.state_dict())
    truth = [(BOXES[:3], CLASSES[:3]), (BOXES[3:], CLASSES[3:]), ([], [])]
    inject(model, [detections(b, c, [0.95] * len(b)) for b, c in truth])
    images = [unlabeled(key) for key in range(3)]
    mine = values(losses_of(model, images))
    theirs = values(
        losses_of(
            stock, [{"image": x["image"], "instances": targets(*t)} for x, t in zip(images, truth)]
        )
    )
    for key, value in theirs.items():
        assert mine[f"unsup/{key}"] == pytest.approx(value, rel=1e-5), key


# --- Eq. 2, 3: means over the global batch


def image_weights(samples, stream_total, ranks=2):
    return [{**sample, "image_weight": ranks / stream_total} for sample in samples]


@pytest.mark.parametrize("rpn", [True, False])
def test_ranks_with_1_and_3_labeled_2_and_0_unlabeled_images_average_to_the_global_mean(
    build, labeled, unlabeled, inject, detections, rpn
):
    # Images of a batch must not touch each other here: fixed statistics, no random sampling.
    model = build(
        *("MODEL.RESNETS.NORM", "FrozenBN"),
        *("SOFT_TEACHER.JITTER.VARIANCE_THRESH", 0.9),
        *("SOFT_TEACHER.RPN_ON_UNLABELED", rpn),
        *WITHOUT_SAMPLING,
    )
    teach(model, (0.5, 0.0, 0.0, 1.0))
    pseudo = [
        detections(BOXES[:3], CLASSES[:3], [0.95, 0.93, 0.6]),
        detections(BOXES[3:], CLASSES[3:], [0.7]),
    ]
    supervised = [labeled(key) for key in range(4)]
    unsupervised = [unlabeled(key) for key in range(2)]

    def losses_and_gradients(batch, detected):
        inject(model, detected)
        model.zero_grad()
        losses = losses_of(model, batch)
        sum(losses.values()).backward()
        gradients = {k: p.grad.clone() for k, p in model.student.named_parameters()}
        return values(losses), gradients

    images = [([x], []) for x in supervised] + [([x], [d]) for x, d in zip(unsupervised, pseudo)]
    one_by_one = [losses_and_gradients(*image) for image in images]
    ranks = [
        losses_and_gradients(
            image_weights(supervised[:1], 4) + image_weights(unsupervised, 2), pseudo
        ),
        losses_and_gradients(image_weights(supervised[1:], 4), []),
    ]

    for key in ranks[0][0]:
        total = 4 if key.startswith("sup/") else 2
        expected = sum(losses[key] for losses, _ in one_by_one) / total
        assert expected > 0, key
        found = sum(losses[key] for losses, _ in ranks) / 2
        assert found == pytest.approx(expected, rel=1e-5), key
    for key in ranks[0][1]:
        expected = sum(g[key] for _, g in one_by_one[:4]) / 4
        expected += sum(g[key] for _, g in one_by_one[4:]) / 2
        found = sum(g[key] for _, g in ranks) / 2
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_averaging_over_the_gpu_ignores_image_weights(build, batch_of):
    batch = batch_of(1, 2)
    weighted = [{**sample, "image_weight": 7.0} for sample in batch]
    model = build("SOFT_TEACHER.AVERAGE", "gpu")
    assert values(losses_of(model, batch)) == values(losses_of(model, weighted))
    model = build("SOFT_TEACHER.AVERAGE", "image")
    assert values(losses_of(model, batch)) != values(losses_of(model, weighted))
