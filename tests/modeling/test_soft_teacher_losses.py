"""What a training step returns and logs, whatever is in its batch."""

import pytest
import torch
from steps import (
    ALL_LOSSES,
    BOXES,
    CLASSES,
    COMPOSITIONS,
    EVERYTHING,
    NOTHING,
    RPN_LOSSES,
    UNSURE,
    losses_of,
    teach,
    values,
)

LENIENT = ("SOFT_TEACHER.JITTER.VARIANCE_THRESH", 0.9)
STRICT = ("SOFT_TEACHER.JITTER.VARIANCE_THRESH", 1e-6)
# what the teacher says, settings, is there a G_cls, is there a G_reg
TEACHERS = {
    "no pseudo boxes": (NOTHING, (), False, False),
    "regression candidates that vary too much": (UNSURE, STRICT, False, False),
    "no boxes for classification": (UNSURE, LENIENT, False, True),
    "no boxes for regression": (EVERYTHING, STRICT, True, False),
    "everything a pseudo box": (EVERYTHING, LENIENT, True, True),
    "no jitter": (EVERYTHING, ("SOFT_TEACHER.JITTER.ENABLED", False), True, True),
}


def test_a_rank_without_images_has_zero_losses_too(build):
    assert values(build()([])) == dict.fromkeys(ALL_LOSSES, 0)


@pytest.mark.parametrize("n_labeled, n_unlabeled", COMPOSITIONS.values(), ids=COMPOSITIONS.keys())
@pytest.mark.parametrize("bias, overrides, g_cls, g_reg", TEACHERS.values(), ids=TEACHERS.keys())
def test_every_batch_has_the_same_losses_and_reaches_every_parameter(
    build, batch_of, storage, bias, overrides, g_cls, g_reg, n_labeled, n_unlabeled
):
    model = build(*overrides)
    teach(model, bias)
    losses = model(batch_of(n_labeled, n_unlabeled))
    if n_unlabeled:
        assert (storage.latest()["pseudo/num_cls_boxes"][0] > 0) == g_cls
        assert (storage.latest()["pseudo/num_reg_boxes"][0] > 0) == g_reg
        assert (losses["unsup/loss_box_reg"] > 0) == g_reg
    assert losses.keys() == ALL_LOSSES
    for key, loss in losses.items():
        assert loss.shape == () and loss.dtype == torch.float32
        assert loss.isfinite() and loss >= 0, key
        absent = n_labeled == 0 if key.startswith("sup/") else n_unlabeled == 0
        assert not absent or loss == 0, key
    sum(losses.values()).backward()
    for name, parameter in model.student.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("n_labeled, n_unlabeled", COMPOSITIONS.values(), ids=COMPOSITIONS.keys())
@pytest.mark.parametrize("stream", ["sup", "unsup"])
def test_the_losses_of_one_stream_alone_are_connected_to_every_parameter(
    build, batch_of, stream, n_labeled, n_unlabeled
):
    model = build()
    teach(model, EVERYTHING)
    losses = model(batch_of(n_labeled, n_unlabeled))
    sum(v for k, v in losses.items() if k.startswith(f"{stream}/")).backward()
    absent = (n_labeled if stream == "sup" else n_unlabeled) == 0
    for name, parameter in model.student.named_parameters():
        assert parameter.grad is not None, name
        assert not absent or (parameter.grad == 0).all(), name


def test_a_teacher_that_sees_no_background_anywhere_leaves_the_background_term_at_zero(
    build, unlabeled, inject, detections
):
    model = build()
    teach(model, (0.0, 0.0, 0.0, -1e4))
    inject(model, [detections()])
    losses = values(model([unlabeled()]))
    assert losses["unsup/loss_cls"] == 0 and losses["unsup/loss_box_reg"] == 0
    assert losses["unsup/loss_rpn_cls"] > 0


def test_without_the_rpn_on_unlabeled_images_its_keys_are_gone_and_nothing_else_changes(
    build, batch_of
):
    plain, without = build(), build("SOFT_TEACHER.RPN_ON_UNLABELED", False)
    gone = {f"unsup/{k}" for k in RPN_LOSSES}
    for composition in COMPOSITIONS.values():
        results = []
        for model in (plain, without):
            teach(model, EVERYTHING)
            results.append(values(losses_of(model, batch_of(*composition))))
        assert results[1] == {k: v for k, v in results[0].items() if k not in gone}
        assert results[1].keys() == ALL_LOSSES - gone
        sum(without(batch_of(*composition)).values()).backward()
        assert all(p.grad is not None for p in without.student.parameters())


def test_streams_are_told_apart_by_the_weak_image_wherever_they_stand(build, labeled, unlabeled):
    l0, l1, u0, u1, u2 = *map(labeled, range(2)), *map(unlabeled, range(3))
    model = build("SOFT_TEACHER.JITTER.VARIANCE_THRESH", 0.9)
    teach(model, EVERYTHING)
    expected = values(losses_of(model, [l0, l1, u0, u1, u2]))
    for batch in ([u0, u1, u2, l0, l1], [u0, l0, u1, l1, u2]):
        assert values(losses_of(model, batch)) == expected
    assert values(losses_of(model, [l1, l0, u0, u1, u2])) != expected


def test_annotations_of_unlabeled_images_are_not_read(build, unlabeled, targets):
    model = build()
    teach(model, EVERYTHING)
    expected = values(losses_of(model, [unlabeled()]))
    annotated = unlabeled(instances=targets(BOXES, CLASSES))
    assert values(losses_of(model, [annotated])) == expected


def test_under_autocast_losses_are_float32_and_finite(build, batch_of):
    model = build(*LENIENT)
    teach(model, EVERYTHING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch_of(1, 2))
    assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.student.parameters())


def test_images_of_different_sizes_share_a_batch(build, labeled, unlabeled):
    model = build("SOFT_TEACHER.JITTER.VARIANCE_THRESH", 0.9)
    teach(model, EVERYTHING)
    batch = [labeled(), unlabeled(0, size=(40, 50), weak_size=(96, 32)), unlabeled(1)]
    losses = model(batch)
    assert losses.keys() == ALL_LOSSES and all(v.isfinite() for v in losses.values())


# --- scalars


def test_scalars_of_the_two_streams_and_of_the_teacher_do_not_collide(
    build, labeled, unlabeled, storage
):
    model = build()
    teach(model, NOTHING)
    seen = []
    model.observers.append(seen.append)
    model([labeled(), unlabeled()])
    logged = {key: value for key, (value, _) in storage.latest().items()}
    assert logged["roi_head/num_fg_samples"] > 0
    assert logged["unsup/roi_head/num_fg_samples"] == 0
    assert logged["rpn/num_pos_anchors"] > 0 and logged["unsup/rpn/num_pos_anchors"] == 0
    assert logged["pseudo/num_cls_boxes"] == logged["pseudo/num_reg_boxes"] == 0
    assert seen[0].background_reliability.item() == pytest.approx(1)
