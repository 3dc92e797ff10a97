"""How often a step passes through the networks, and with how many proposals."""

import pytest
from steps import (
    COMPOSITIONS,
    EVERYTHING,
    NOTHING,
    batch_of,
    count_calls,
    labeled,
    teach,
    unlabeled,
)


@pytest.mark.parametrize("composition", COMPOSITIONS.values(), ids=COMPOSITIONS)
def test_the_student_passes_once_through_backbone_and_once_per_stream_through_its_heads(
    build, composition
):
    model = build()
    teach(model, EVERYTHING)
    student = model.student
    backbone, rpn, head = map(
        count_calls, (student.backbone, student.proposal_generator, student.roi_heads.box_head)
    )
    model(batch_of(*composition))
    (((images,), _),) = backbone
    assert len(images) == sum(composition)
    assert len(rpn) == len(head) == sum(map(bool, composition))


# settings, passes through the teacher's box head: detection, jitter, background scoring
PASSES = {
    "detection, jitter, background": ((), 3),
    "prediction difference": (("SOFT_TEACHER.INDICATOR", "pred_diff"), 3),
    "no jitter": (("SOFT_TEACHER.JITTER.ENABLED", False), 2),
    "student's background": (("SOFT_TEACHER.INDICATOR", "bg_student"), 2),
    "IoU": (("SOFT_TEACHER.INDICATOR", "iou"), 2),
    "reverse IoU": (("SOFT_TEACHER.INDICATOR", "reverse_iou"), 2),
    "no weights, no jitter": (
        ("SOFT_TEACHER.INDICATOR", "none", "SOFT_TEACHER.JITTER.ENABLED", False),
        1,
    ),
}


@pytest.mark.parametrize("bias", [NOTHING, EVERYTHING], ids=["nothing", "everything"])
@pytest.mark.parametrize("overrides, passes", PASSES.values(), ids=PASSES.keys())
def test_the_teacher_passes_once_for_detection_once_for_jitter_once_for_backgrounds(
    build, overrides, passes, bias
):
    model = build(*overrides)
    teach(model, bias)
    backbone, head = map(count_calls, (model.teacher.backbone, model.teacher.roi_heads.box_head))
    model(batch_of(2, 0))
    assert len(backbone) == len(head) == 0
    model(batch_of(2, 3))
    assert len(backbone) == 1 and len(backbone[0][0][0]) == 3
    assert len(head) == passes


# --- the teacher's proposals


@pytest.fixture
def build_with_proposals(build):
    """A teacher that keeps some per level before NMS (3 levels, the last has 24), 70 after it."""

    def build_with_proposals(setting):
        return build(
            *("SOFT_TEACHER.TEACHER_PROPOSALS", setting),
            *("MODEL.RPN.NMS_THRESH", 1.0),
            *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 40, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 70),
            *("MODEL.RPN.PRE_NMS_TOPK_TEST", 4, "MODEL.RPN.POST_NMS_TOPK_TEST", 15),
        )

    return build_with_proposals


def topk(model):
    rpn = model.teacher.proposal_generator
    return rpn.pre_nms_topk, rpn.post_nms_topk


def numbers_of_proposals(model, batch):
    calls = count_calls(model.teacher.proposal_generator)
    model(batch)
    return [[len(p) for p in proposals] for _, (proposals, _) in calls]


@pytest.mark.parametrize(
    "setting, after, expected",
    [
        ("test", 15, 4 + 4 + 4),
        ("test", 10, 10),
        ("train", 999, 40 + 40 + 24),
        ("train", 70, 70),
    ],
)
def test_the_teacher_keeps_as_many_proposals_as_the_setting_says(
    build_with_proposals, setting, after, expected
):
    model = build_with_proposals(setting)
    model.teacher.proposal_generator.post_nms_topk[setting == "train"] = after
    assert numbers_of_proposals(model, [unlabeled(0), unlabeled(1)]) == [[expected, expected]]


@pytest.mark.parametrize("setting", ["test", "train"])
def test_evaluation_and_the_student_keep_their_own_number_of_proposals(
    build_with_proposals, setting
):
    model = build_with_proposals(setting)
    before = topk(model)
    assert before == ({True: 40, False: 4}, {True: 70, False: 15})
    student = count_calls(model.student.proposal_generator)
    model([unlabeled()])
    assert topk(model) == before
    ((_, (proposals, _)),) = student
    assert [len(p) for p in proposals] == [70]
    assert numbers_of_proposals(model.eval(), [labeled()]) == [[12]]


def test_the_number_of_proposals_is_restored_after_an_error(build_with_proposals):
    model = build_with_proposals("train")
    before, seen = topk(model), []

    def fail(*args):
        seen.append(topk(model))
        raise ValueError

    model.teacher.proposal_generator.forward = fail
    with pytest.raises(ValueError):
        model([unlabeled()])
    assert seen == [({True: 40, False: 40}, {True: 70, False: 70})]
    assert topk(model) == before
