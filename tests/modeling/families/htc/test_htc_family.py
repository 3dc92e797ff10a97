"""What the recipe asks of HTC: refusals, the teacher's pass, semantic maps of labeled images."""

import pytest
import tiny_htc
import torch
from detectron2.structures import Instances
from htc import htc_heads
from mask_shapes import LEARN_MASKS, with_polygons
from steps import BOXES, SIZE, boxes_of, count_calls, labeled, targets, unlabeled

from soft_teacher import ConfigError
from soft_teacher.modeling import BoxJitter, HTCFamily, PseudoLabeler, SoftTeacher

K = 3
IMAGES = [[], BOXES, [[0.0, 0, 96, 64]]]


@pytest.fixture
def build(build):
    return lambda *opts: build("SOFT_TEACHER.DETECTOR", "TinyHTC", *LEARN_MASKS, *opts)


@pytest.fixture
def tiny_detector(tiny_cfg):
    return tiny_htc.TinyHTC(tiny_cfg)


def seen_by(model):
    views = [unlabeled(n)["weak_image"] for n in range(len(IMAGES))]
    encoded = model.family.encode(model.teacher, [{"image": view} for view in views])
    features, _ = model.teacher.roi_heads.with_embedding(encoded.features)
    return model.family.teach(model.teacher, views), features


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


# --- the teacher's pass


def test_it_detects_and_masks_as_in_an_evaluation(build):
    model = build()
    for merge in ("last", "mean"):
        model.teacher.roi_heads.mask_merge = merge
        found, _ = seen_by(model)
        inputs = [{"image": unlabeled(n)["weak_image"]} for n in range(len(IMAGES))]
        expected = model.teacher.inference(inputs, do_postprocess=False)
        for one, other in zip(found.detections, expected, strict=True):
            assert len(one) and set(one.get_fields()) == set(other.get_fields())
            close([one.pred_masks, one.scores], [other.pred_masks, other.scores])


def test_without_masks_to_learn_it_predicts_none(build):
    model = build("SOFT_TEACHER.MASK.ENABLED", False)
    found, _ = seen_by(model)
    assert not any(image.has("pred_masks") for image in found.detections)
    assert model.teacher.roi_heads.mask_on


def test_the_semantic_head_runs_once_for_all_questions(build):
    model = build()
    calls = count_calls(model.teacher.roi_heads.semantic_head)
    views = [unlabeled(n)["weak_image"] for n in range(len(IMAGES))]
    found = model.family.teach(model.teacher, views)
    for stage in range(3):
        found.background_scores([boxes_of(b) for b in IMAGES], stage=stage)
    found.variances([torch.arange(1)] * 3, [1, 2, 3])
    assert len(calls) == 1


def logits_through_stages(heads, features, boxes):
    """(scores, boxes after it per image) of every stage, by the parts of the heads."""
    maps, found = [features[name] for name in heads.box_in_features], []
    for head, predictor in zip(heads.box_head, heads.box_predictor):
        scores, deltas = predictor(head(heads.box_pooler(maps, boxes)))
        rows = [Instances(SIZE, proposal_boxes=b) for b in boxes]
        boxes = [boxes_of(b.detach()) for b in predictor.predict_boxes((scores, deltas), rows)]
        refined = [b.tensor.clone() for b in boxes]
        for b in boxes:
            b.clip(SIZE)
        found.append((scores, refined))
    return found


def test_backgrounds_are_scored_by_the_same_stage_or_by_the_mean_logits(build):
    model = build()
    heads, boxes = model.teacher.roi_heads, [boxes_of(b) for b in IMAGES]
    found, features = seen_by(model)
    sizes = [len(b) for b in IMAGES]
    maps = [features[name] for name in heads.box_in_features]
    for stage in range(3):
        scores, _ = heads.box_predictor[stage](heads.box_head[stage](heads.box_pooler(maps, boxes)))
        close(
            found.background_scores(boxes, stage=stage),
            scores.softmax(dim=1)[:, K].detach().split(sizes),
        )
    heads.scores = "mean"
    mean = sum(scores for scores, _ in logits_through_stages(heads, features, boxes)) / 3
    expected = mean.softmax(dim=1)[:, K].detach().split(sizes)
    close(found.background_scores(boxes, stage=1), expected)


def test_jittered_boxes_pass_through_all_stages_or_the_last(build):
    model = build()
    heads, boxes = model.teacher.roi_heads, [boxes_of(b) for b in IMAGES]
    _, features = seen_by(model)
    proposals = [Instances(SIZE, proposal_boxes=b) for b in boxes]
    *_, (_, expected) = logits_through_stages(heads, features, boxes)
    close(heads.refine(features, proposals), expected)
    heads.jitter = "last"
    last = heads.box_predictor[-1]
    maps = [features[name] for name in heads.box_in_features]
    with torch.no_grad():
        predictions = last(heads.box_head[-1](heads.box_pooler(maps, boxes)))
        close(heads.refine(features, proposals), last.predict_boxes(predictions, proposals))


# --- semantic maps


def with_map(key, value=None):
    x = labeled(key, instances=with_polygons(targets([[8, 8, 40, 40]], [1])))
    return x if value is None else {**x, "sem_seg": torch.full(SIZE, value, dtype=torch.uint8)}


def test_maps_of_labeled_images_are_learned_and_other_images_skip_them(build):
    model = build()
    assert model.family.semantic_classes(model.student) == tiny_htc.STUFF
    known, unknown, none = (
        model([with_map(0, value)])["sup/loss_sem_seg"] for value in (2, 255, None)
    )
    assert known > 0 and unknown == none == 0 and none.requires_grad
    both = model([with_map(0, 2), with_map(0)])["sup/loss_sem_seg"]
    torch.testing.assert_close(both, known / 2)


def test_without_the_branch_there_is_no_loss_and_no_map_is_asked_for(tiny_cfg):
    student = tiny_htc.TinyHTC(tiny_cfg)
    student.roi_heads = htc_heads(
        cls=tiny_htc.SoftTeacherHTCROIHeads, channels=8, num_classes=K, fc_dim=16,
        semantic_classes=0, levels=["p2", "p3"], samples=16,
    )  # fmt: skip
    family = HTCFamily(jitter=BoxJitter(num=2))
    model = SoftTeacher(student=student, family=family, pseudo_labeler=PseudoLabeler()).train()
    losses = model([with_map(0)])
    assert family.semantic_classes(student) == 0
    assert not any("sem_seg" in name for name in losses) and len(losses) == 19


# --- refusals


def refusal(student):
    family = HTCFamily(jitter=BoxJitter(num=2))
    with pytest.raises(ConfigError) as error:
        SoftTeacher(student=student, family=family, pseudo_labeler=PseudoLabeler())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_heads_without_pseudo_losses_are_refused(tiny_detector):
    tiny_detector.roi_heads = htc_heads(channels=8)
    said = refusal(tiny_detector)
    assert said == (
        "SoftTeacher wraps a HybridTaskCascade with SoftTeacherHTCROIHeads, got TinyHTC with "
        "HTCROIHeads"
    )


def test_each_family_refuses_the_other_s_heads(build, tiny_cfg, tiny_detector):
    faster = SoftTeacher(tiny_cfg)
    assert "got GeneralizedRCNN with SoftTeacherROIHeads" in refusal(faster.student)
    with pytest.raises(ConfigError, match="got TinyHTC with SoftTeacherHTCROIHeads"):
        faster.family.check(tiny_detector)


def test_a_mask_head_with_another_loss_is_refused(tiny_detector):
    class Other(torch.nn.Module):
        pass

    tiny_detector.roi_heads.mask_head[1] = Other()
    assert "mask_head Other is not supported" in refusal(tiny_detector)


def test_a_sigmoid_classifier_is_refused(tiny_detector):
    tiny_detector.roi_heads.box_predictor[2].use_sigmoid_ce = True
    assert "use_sigmoid_ce leaves no background score" in refusal(tiny_detector)
