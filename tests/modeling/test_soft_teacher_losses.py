"""What a training step of a Faster R-CNN returns and logs, whatever is in its batch."""

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN
from steps import (
    ALL_LOSSES,
    BOXES,
    CLASSES,
    COMPOSITIONS,
    EVERYTHING,
    LENIENT,
    NAN,
    NOTHING,
    RPN_LOSSES,
    UNSURE,
    WITHOUT_SAMPLING,
    batch_of,
    detections,
    inject,
    labeled,
    losses_of,
    step_views,
    targets,
    teach,
    unlabeled,
)

STRICT = ("SOFT_TEACHER.JITTER.VARIANCE_THRESH", 1e-6)
# what the teacher predicts, settings, is there a G_cls, is there a G_reg
TEACHERS = {
    "no pseudo boxes": (NOTHING, (), False, False),
    "regression candidates that vary too much": (UNSURE, STRICT, False, False),
    "no boxes for classification": (UNSURE, LENIENT, False, True),
    "no boxes for regression": (EVERYTHING, STRICT, True, False),
    "everything a pseudo box": (EVERYTHING, LENIENT, True, True),
    "no jitter": (EVERYTHING, ("SOFT_TEACHER.JITTER.ENABLED", False), True, True),
}
every_composition = pytest.mark.parametrize("composition", COMPOSITIONS.values(), ids=COMPOSITIONS)


@every_composition
@pytest.mark.parametrize("bias, overrides, g_cls, g_reg", TEACHERS.values(), ids=TEACHERS.keys())
def test_every_batch_has_the_same_losses_and_reaches_every_parameter(
    build, storage, bias, overrides, g_cls, g_reg, composition
):
    model = build(*overrides)
    teach(model, bias)
    losses = model(batch_of(*composition))
    if composition[1]:
        assert (storage.latest()["pseudo/num_cls_boxes"][0] > 0) == g_cls
        assert (storage.latest()["pseudo/num_reg_boxes"][0] > 0) == g_reg
        assert (losses["unsup/loss_box_reg"] > 0) == g_reg
    assert losses.keys() == ALL_LOSSES
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.student.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@every_composition
@pytest.mark.parametrize("stream", ["sup", "unsup"])
def test_the_losses_of_one_stream_alone_are_connected_to_every_parameter(
    build, stream, composition
):
    model = build()
    teach(model, EVERYTHING)
    losses = model(batch_of(*composition))
    sum(v for k, v in losses.items() if k.startswith(f"{stream}/")).backward()
    absent = composition[stream == "unsup"] == 0
    for name, parameter in model.student.named_parameters():
        assert parameter.grad is not None, name
        assert not absent or (parameter.grad == 0).all(), name


@pytest.mark.parametrize("composition", [(0, 1), (1, 0), (2, 1)], ids=str)
def test_proposals_that_are_nan_make_every_loss_nan(build, composition):
    """Detectron2's RPN raises on this rank alone, others wait for its gradients."""
    model = build()
    for parameter in model.student.proposal_generator.parameters():
        parameter.data.fill_(NAN)
    losses = model(batch_of(*composition))
    assert losses.keys() == ALL_LOSSES and all(loss.isnan() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.student.parameters() if p.requires_grad)


def test_without_the_rpn_on_unlabeled_images_its_keys_are_gone_and_nothing_else_changes(build):
    plain, without = build(), build("SOFT_TEACHER.RPN_ON_UNLABELED", False)
    teach(plain, EVERYTHING), teach(without, EVERYTHING)
    gone = {f"unsup/{k}" for k in RPN_LOSSES}
    for composition in COMPOSITIONS.values():
        batch = batch_of(*composition)
        expected = {k: v for k, v in losses_of(plain, batch).items() if k not in gone}
        assert losses_of(without, batch) == expected and len(expected) == len(ALL_LOSSES - gone)
        sum(without(batch).values()).backward()
        assert all(p.grad is not None for p in without.student.parameters())


def test_the_weak_image_alone_tells_the_streams_apart(build):
    """Neither the order of the batch nor annotations of unlabeled images matter."""
    l0, l1, u0, u1, u2 = batch_of(2, 3)
    model = build(*LENIENT)
    teach(model, EVERYTHING)
    expected = losses_of(model, [l0, l1, u0, u1, u2])
    annotated = {**u0, "instances": targets(BOXES, CLASSES)}
    for batch in ([u0, u1, u2, l0, l1], [u0, l0, u1, l1, u2], [l0, l1, annotated, u1, u2]):
        assert losses_of(model, batch) == expected
    assert losses_of(model, [l1, l0, u0, u1, u2]) != expected


# --- their values


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


def test_under_autocast_losses_are_float32_and_finite(build):
    model = build(*LENIENT)
    teach(model, EVERYTHING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch_of(1, 2))
    assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.student.parameters())


def test_scalars_of_the_two_streams_and_of_the_teacher_do_not_collide(build, storage):
    model = build()
    teach(model, NOTHING)
    (view,) = step_views(model, [labeled(), unlabeled()])
    logged = {key: value for key, (value, _) in storage.latest().items()}
    assert logged["roi_head/num_fg_samples"] > 0
    assert logged["unsup/roi_head/num_fg_samples"] == 0
    assert logged["rpn/num_pos_anchors"] > 0 and logged["unsup/rpn/num_pos_anchors"] == 0
    assert logged["pseudo/num_cls_boxes"] == logged["pseudo/num_reg_boxes"] == 0
    assert view.background_reliability.item() == pytest.approx(1)
