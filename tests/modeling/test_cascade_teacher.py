"""What a teacher with cascaded ROI heads is asked: scores of backgrounds, refined boxes."""

import numpy as np
import pytest
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import cascade_rcnn
from detectron2.structures import Instances
from steps import (
    BOXES,
    CASCADE,
    LENIENT,
    NAN,
    NOTHING,
    SIZE,
    batch_of,
    boxes_of,
    count_calls,
    unlabeled,
)

from soft_teacher import ConfigError
from soft_teacher.modeling.box_jitter import box_variance, jitter_boxes
from soft_teacher.modeling.families.rcnn.soft_nms import soft_nms_inference

STAGES = range(3)
K = 3
SCORES, JITTER = "SOFT_TEACHER.CASCADE.SCORES", "SOFT_TEACHER.CASCADE.JITTER"
# The last is at a corner, where stages push it out of the image.
IMAGES = [[], BOXES, [[80.0, 50, 96, 64], [0.0, 0, 96, 64]]]


@pytest.fixture
def build(build):
    return lambda *opts: build(*CASCADE[:4], *opts)


@pytest.fixture
def evaluated(monkeypatch, tiny_cfg):
    """What Detectron2's own heads make of proposals in an evaluation, before NMS."""
    tiny_cfg.merge_from_list(list(CASCADE[:4]))

    def evaluated(teacher, features, proposals):
        """Per image, (n, 4) boxes and (n, K + 1) mean scores."""
        seen = []
        monkeypatch.setattr(
            cascade_rcnn, "fast_rcnn_inference", lambda *args: seen.append(args) or ([], [])
        )
        stock = GeneralizedRCNN(tiny_cfg).eval()
        stock.load_state_dict(teacher.state_dict())
        with torch.no_grad():
            stock.roi_heads._forward_box(features, proposals)
        monkeypatch.undo()
        ((boxes, scores, *_),) = seen
        return boxes, scores

    return evaluated


def proposals_of(images):
    return [Instances(SIZE, proposal_boxes=boxes_of(boxes)) for boxes in images]


def seen_by(model, images=len(IMAGES)):
    """The teacher's pass, and the features that it has of its views."""
    views = [unlabeled(n)["weak_image"] for n in range(images)]
    encoded = model.family.encode(model.teacher, [{"image": view} for view in views])
    return model.family.teach(model.teacher, views), encoded.features


def equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_a_stage_s_backgrounds_are_scored_by_the_same_stage_or_by_the_mean(build, evaluated):
    model = build()
    teacher, heads = model.teacher, model.teacher.roi_heads
    found, features = seen_by(model)
    boxes, proposals = [boxes_of(b) for b in IMAGES], proposals_of(IMAGES)
    for stage in STAGES:
        maps = [features[name] for name in heads.box_in_features]
        pooled = heads.box_head[stage](heads.box_pooler(maps, boxes))
        probabilities = heads.box_predictor[stage](pooled)[0].softmax(dim=1)[:, K]
        scores = found.background_scores(boxes, stage=stage)
        equal(scores, probabilities.detach().split([len(b) for b in boxes]))
        assert all(s.dtype == torch.float32 and not s.requires_grad for s in scores)
    heads.scores = "mean"
    _, mean = evaluated(teacher, features, proposals)
    for stage in STAGES:
        equal(found.background_scores(boxes, stage=stage), [m[:, K] for m in mean])


def test_jittered_boxes_are_refined_by_all_stages_or_by_the_last(build, evaluated):
    model = build()
    heads = model.teacher.roi_heads
    _, features = seen_by(model)
    boxes, _ = evaluated(model.teacher, features, proposals_of(IMAGES))
    equal(heads.refine(features, proposals_of(IMAGES)), boxes)
    assert boxes[2].max() > 96  # not clipped
    heads.jitter = "last"
    maps = [features[name] for name in heads.box_in_features]
    pooled = heads.box_head[-1](heads.box_pooler(maps, [boxes_of(b) for b in IMAGES]))
    _, deltas = heads.box_predictor[-1](pooled)
    rows = torch.cat([boxes_of(b).tensor for b in IMAGES])
    expected = heads.box_predictor[-1].box2box_transform.apply_deltas(deltas, rows).detach()
    equal(heads.refine(features, proposals_of(IMAGES)), expected.split([len(b) for b in IMAGES]))


def test_variances_are_those_of_copies_that_pass_through_all_stages(build, evaluated):
    model = build()
    found, features = seen_by(model, images=2)
    rows = [torch.tensor([1, 0]), torch.arange(0)]
    variances, nothing = found.variances(rows, [7, 8])
    candidates = found.detections[0].pred_boxes.tensor[rows[0]]
    copies = jitter_boxes(
        candidates,
        num=10,
        scale=0.06,
        distribution="uniform",
        generator=torch.Generator().manual_seed(7),
    )
    refined, _ = evaluated(
        model.teacher, features, proposals_of([copies.flatten(0, 1).tolist(), []])
    )
    expected = box_variance(refined[0].view(2, 10, 4), candidates, "candidate")
    np.testing.assert_allclose(variances, expected, rtol=1e-4)
    assert nothing.shape == (0,)


# --- passes

# settings, passes through each stage of the teacher: detection, jitter, background scoring
PASSES = {
    "stage": ((), [3, 3, 3]),
    "mean": ((SCORES, "mean"), [5, 5, 5]),
    "last": ((JITTER, "last"), [2, 2, 3]),
    "no weights": (("SOFT_TEACHER.INDICATOR", "none"), [2, 2, 2]),
}


@pytest.mark.parametrize("overrides, passes", PASSES.values(), ids=PASSES.keys())
def test_every_stage_passes_once_for_each_question(build, overrides, passes):
    model = build(*overrides)
    student, teacher = model.student.roi_heads.box_head, model.teacher.roi_heads.box_head
    of_student, of_teacher = ([*map(count_calls, heads)] for heads in (student, teacher))
    model(batch_of(2, 3))
    assert [len(calls) for calls in of_student] == [2, 2, 2]
    assert [len(calls) for calls in of_teacher] == passes


def test_the_teacher_scores_the_student_s_samples_of_every_stage(build):
    model, asked = build(*LENIENT), []
    teach_with = model.family.teach

    def teach(*args):
        found = teach_with(*args)
        score = found.background_scores
        found.background_scores = lambda boxes, **stage: asked.append(stage) or score(
            boxes, **stage
        )
        return found

    model.family.teach = teach
    model(batch_of(0, 2))
    assert asked == [{"stage": stage} for stage in STAGES]


# --- what is not finite


@pytest.mark.parametrize("composition", [(1, 0), (0, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("stage", [0, 1])
def test_boxes_of_a_stage_that_are_nan_make_every_loss_nan(build, stage, composition):
    """Detectron2 raises on this rank alone, others wait for its gradients."""
    model = build()
    model.student.roi_heads.box_predictor[stage].bbox_pred.bias.data.fill_(NAN)
    losses = model(batch_of(*composition))
    assert len(losses) == 16 and all(loss.isnan() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.student.parameters() if p.requires_grad)


# --- configuration


def test_a_teacher_that_finds_nothing_leaves_losses_of_backgrounds(build):
    model = build()
    for predictor in model.teacher.roi_heads.box_predictor:
        predictor.cls_score.weight.data.zero_()
        predictor.cls_score.bias.data.copy_(torch.tensor(NOTHING))
    losses = model(batch_of(0, 2))
    for stage in STAGES:
        assert losses[f"unsup/loss_cls_stage{stage}"] > 0
        assert losses[f"unsup/loss_box_reg_stage{stage}"] == 0


def test_every_config_key_is_read(build):
    heads = build(SCORES, "mean", JITTER, "last").student.roi_heads
    assert (heads.scores, heads.jitter) == ("mean", "last")
    heads = build().teacher.roi_heads
    assert (heads.scores, heads.jitter, heads.indicator) == ("stage", "all", "bg_teacher")


@pytest.mark.parametrize(
    "key, value, said",
    [
        (SCORES, "first", "must be one of stage, mean"),
        (JITTER, "none", "must be one of all, last"),
        ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False, "must be True"),
        ("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", True, "set it to False"),
        ("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", True, "set it to False"),
        ("MODEL.KEYPOINT_ON", True, "switch it off"),
    ],
)
def test_a_cascade_that_cannot_be_wrapped_is_refused_in_one_line(build, key, value, said):
    with pytest.raises(ConfigError) as error:
        build(key, value)
    assert str(error.value).startswith(f"{key} ") and said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_the_last_predictor_suppresses_softly_by_the_mean_scores(build, evaluated, method):
    model = build("SOFT_TEACHER.SOFT_NMS", method)
    heads, (_, features) = model.teacher.roi_heads, seen_by(model)
    with torch.no_grad():
        found = heads._forward_box(features, proposals_of(IMAGES))
    boxes, scores = evaluated(model.teacher, features, proposals_of(IMAGES))
    last = heads.box_predictor[-1]
    settings = last.test_score_thresh, last.test_nms_thresh, last.test_topk_per_image
    form = {"method": method, "sigma": last.soft_nms_sigma}
    goals, _ = soft_nms_inference(boxes, scores, [SIZE] * len(IMAGES), *settings, **form)
    assert len(found[1]) > 1
    for one, goal in zip(found, goals, strict=True):
        assert one.pred_classes.tolist() == goal.pred_classes.tolist()
        equal([one.scores, one.pred_boxes.tensor], [goal.scores, goal.pred_boxes.tensor])
