"""One training step of the meta-architecture (Fig. 2, Eq. 1-3)."""

import numpy as np
import pytest
import torch
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes

from soft_teacher import ConfigError
from soft_teacher.modeling import BoxJitter, PseudoLabeler, SoftTeacher

BOXES = [[10, 10, 40, 40], [50, 20, 90, 60], [4, 40, 24, 60], [70, 2, 94, 22]]
CLASSES = [0, 2, 1, 2]

RPN_LOSSES = {"loss_rpn_cls", "loss_rpn_loc"}
HEAD_LOSSES = {"loss_cls", "loss_box_reg"}
ALL_LOSSES = {f"{s}/{k}" for s in ("sup", "unsup") for k in RPN_LOSSES | HEAD_LOSSES}

# Bias of the teacher's classifier, whose weights are set to 0: what it says of every box.
NOTHING = (0.0, 0.0, 0.0, 30.0)
EVERYTHING = (0.0, 30.0, 0.0, 0.0)
UNSURE = (0.0, 1.6, 0.0, 0.0)  # 62 %: a candidate for regression, none for classification
WITHOUT_SAMPLING = (
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 4096),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 256),
)


def teach(model, bias):
    predictor = model.teacher.roi_heads.box_predictor
    predictor.cls_score.weight.zero_()
    predictor.cls_score.bias.copy_(torch.tensor(bias))


def losses_of(model, batch, seed=0):
    torch.manual_seed(seed)
    return model(batch)


def values(losses):
    return {key: loss.item() for key, loss in losses.items()}


def count_calls(module):
    calls = []
    module.register_forward_hook(lambda module, args, output: calls.append((args, output)))
    return calls


def tensors(module):
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(before, after):
    return list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)


# --- two networks


def test_the_teacher_starts_as_the_student_and_shares_no_memory_with_it(build):
    model = build()
    student, teacher = tensors(model.student), tensors(model.teacher)
    assert student.keys() == teacher.keys()
    assert all(torch.equal(student[k], teacher[k]) for k in student)
    memory = [{t.untyped_storage().data_ptr() for t in n.values()} for n in (student, teacher)]
    assert not memory[0] & memory[1]


def test_the_state_dict_holds_two_stock_detectors(build, tiny_cfg):
    stock = GeneralizedRCNN(tiny_cfg).state_dict()
    assert tiny_cfg.MODEL.ROI_HEADS.NAME == "StandardROIHeads"
    model = build()
    assert list(model.student.state_dict()) == list(stock)
    assert list(model.teacher.state_dict()) == list(stock)
    prefixed = [f"{network}.{key}" for network in ("student", "teacher") for key in stock]
    assert list(model.state_dict()) == prefixed


def test_the_optimizer_is_out_of_the_teachers_reach(build, tiny_cfg):
    model = build()
    assert not any(p.requires_grad for p in model.teacher.parameters())
    optimizer = build_optimizer(tiny_cfg, model)
    reached = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert reached == {id(p) for p in model.student.parameters()}


def modes(module):
    return {m.training for m in module.modules()}


def test_the_teacher_stays_in_eval_mode(build, labeled, unlabeled):
    model = build()
    assert modes(model.student) == {True} and modes(model.teacher) == {False}
    for mode in (False, True, True):
        model.train(mode)
        assert modes(model.student) == {mode} and modes(model.teacher) == {False}
    model([labeled(), unlabeled()])
    assert modes(model.student) == {True} and modes(model.teacher) == {False}
    model.eval()
    assert modes(model) == {False}


@pytest.mark.parametrize("bias", [NOTHING, EVERYTHING], ids=["nothing", "everything"])
def test_a_step_moves_the_student_alone(build, tiny_cfg, labeled, unlabeled, bias):
    model = build("SOFT_TEACHER.JITTER.VARIANCE_THRESH", 0.9)
    teach(model, bias)
    student, teacher = snapshot(model.student), snapshot(model.teacher)
    optimizer = build_optimizer(tiny_cfg, model)
    for step in range(2):
        optimizer.zero_grad()
        sum(model([labeled(step), unlabeled(step)]).values()).backward()
        optimizer.step()
        assert all(p.grad is None for p in model.teacher.parameters())
        assert same(teacher, model.teacher.state_dict())
        assert modes(model.teacher) == {False}
    moved = model.student.state_dict()
    assert all(not torch.equal(student[k], moved[k]) for k, _ in model.student.named_parameters())


def test_copying_the_student_takes_parameters_and_buffers_but_no_memory(build, labeled):
    model = build()
    model([labeled()])  # moves the running statistics
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 1
    assert not same(model.student.state_dict(), model.teacher.state_dict())
    model.copy_student_to_teacher()
    assert same(model.student.state_dict(), model.teacher.state_dict())
    copied = snapshot(model.teacher)
    model([labeled()])
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 1
    assert same(copied, model.teacher.state_dict())
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_in_evaluation_it_is_the_teacher_and_so_is_a_stock_detector(build, tiny_cfg, labeled):
    model = build()
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 0.1
    stock = GeneralizedRCNN(tiny_cfg).eval()
    stock.load_state_dict(model.teacher.state_dict())
    model.eval()
    batch = [{"image": labeled(key)["image"], "height": 128, "width": 192} for key in range(2)]
    with torch.no_grad():
        results = [network(batch) for network in (model, model.teacher, stock)]
    assert any(len(r["instances"]) for r in results[0])
    for image in range(2):
        of_model, of_teacher, of_stock = (r[image]["instances"].get_fields() for r in results)
        assert of_model.keys() == of_teacher.keys() == of_stock.keys()
        for key, value in of_stock.items():
            for other in (of_model[key], of_teacher[key]):
                value, other = (getattr(x, "tensor", x) for x in (value, other))
                assert torch.equal(value, other)


# --- losses of every composition

COMPOSITIONS = {
    "one labeled": (1, 0),
    "labeled only": (2, 0),
    "one unlabeled": (0, 1),
    "unlabeled only": (0, 2),
    "one of each": (1, 1),
    "both": (2, 3),
}
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


@pytest.fixture
def batch_of(labeled, unlabeled):
    return lambda n_labeled, n_unlabeled: [
        *map(labeled, range(n_labeled)),
        *map(unlabeled, range(n_unlabeled)),
    ]


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


# --- number of passes


def test_the_student_passes_once_through_backbone_and_once_per_stream_through_its_heads(
    build, batch_of
):
    for n_labeled, n_unlabeled in COMPOSITIONS.values():
        model = build()
        teach(model, EVERYTHING)
        student = model.student
        backbone, rpn, head = map(
            count_calls, (student.backbone, student.proposal_generator, student.roi_heads.box_head)
        )
        model(batch_of(n_labeled, n_unlabeled))
        (((images,), _),) = backbone
        assert len(images) == n_labeled + n_unlabeled
        streams = bool(n_labeled) + bool(n_unlabeled)
        assert len(rpn) == len(head) == streams


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
    build, batch_of, overrides, passes, bias
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
    """A teacher that keeps 40 per level before NMS (3 levels, the last has 24), 70 after it."""

    def build_with_proposals(setting):
        return build(
            *("SOFT_TEACHER.TEACHER_PROPOSALS", setting),
            *("MODEL.RPN.NMS_THRESH", 1.0),
            *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 40, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 70),
            *("MODEL.RPN.PRE_NMS_TOPK_TEST", 6, "MODEL.RPN.POST_NMS_TOPK_TEST", 15),
        )

    return build_with_proposals


def topk(model):
    rpn = model.teacher.proposal_generator
    return rpn.pre_nms_topk, rpn.post_nms_topk


def numbers_of_proposals(model, batch):
    calls = count_calls(model.teacher.proposal_generator)
    model(batch)
    return [[len(p) for p in proposals] for _, (proposals, _) in calls]


@pytest.mark.parametrize("setting, expected", [("test", 15), ("train", 70)])
def test_the_teacher_keeps_as_many_proposals_as_the_setting_says(
    build_with_proposals, unlabeled, setting, expected
):
    model = build_with_proposals(setting)
    assert numbers_of_proposals(model, [unlabeled(0), unlabeled(1)]) == [[expected, expected]]


def test_before_nms_the_setting_counts_too(build, unlabeled):
    for setting, expected in (("test", 5 + 5 + 5), ("train", 30 + 30 + 24)):
        model = build(
            *("SOFT_TEACHER.TEACHER_PROPOSALS", setting),
            *("MODEL.RPN.NMS_THRESH", 1.0),
            *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 30, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 1000),
            *("MODEL.RPN.PRE_NMS_TOPK_TEST", 5, "MODEL.RPN.POST_NMS_TOPK_TEST", 1000),
        )
        assert numbers_of_proposals(model, [unlabeled()]) == [[expected]]


@pytest.mark.parametrize("setting", ["test", "train"])
def test_evaluation_and_the_student_keep_their_own_number_of_proposals(
    build_with_proposals, unlabeled, labeled, setting
):
    model = build_with_proposals(setting)
    before = topk(model)
    assert before == ({True: 40, False: 6}, {True: 70, False: 15})
    student = count_calls(model.student.proposal_generator)
    model([unlabeled()])
    assert topk(model) == before
    ((_, (proposals, _)),) = student
    assert [len(p) for p in proposals] == [70]
    assert numbers_of_proposals(model.eval(), [labeled()]) == [[15]]


def test_the_number_of_proposals_is_restored_after_an_error(
    build_with_proposals, unlabeled, monkeypatch
):
    model = build_with_proposals("train")
    before = topk(model)
    seen = []

    def fail(*args):
        seen.append(topk(model))
        raise ValueError

    monkeypatch.setattr(model.teacher.proposal_generator, "forward", fail)
    with pytest.raises(ValueError):
        model([unlabeled()])
    assert seen == [({True: 40, False: 40}, {True: 70, False: 70})]
    assert topk(model) == before


# --- pseudo boxes on their way from the weak to the strong view and back


class Listener:
    """Writes down what the student learns from and what the teacher is asked to score."""

    def __init__(self, model, monkeypatch):
        heads, teacher = model.student.roi_heads, model.teacher.roi_heads
        pseudo_losses, predict = heads.pseudo_losses, teacher.predict

        def overheard_losses(features, proposals, pseudo, score_with_teacher):
            self.pseudo = pseudo

            def overheard_score(boxes):
                self.s_cls = [b.tensor.clone() for b in boxes]
                self.background = score_with_teacher(boxes)
                return self.background

            return pseudo_losses(features, proposals, pseudo, overheard_score)

        def overheard_predict(features, boxes):
            self.asked_of_teacher = [b.tensor.clone() for b in boxes]
            return predict(features, boxes)

        def overheard_rpn(module, args):
            self.rpn_targets = args[2]

        monkeypatch.setattr(heads, "pseudo_losses", overheard_losses)
        monkeypatch.setattr(teacher, "predict", overheard_predict)
        model.student.proposal_generator.register_forward_pre_hook(overheard_rpn)


def known_variances(model, monkeypatch, variances):
    results = [torch.tensor(v, dtype=torch.float32) for v in variances]
    asked = []

    def variance(roi_heads, features, candidates, seeds):
        asked.append((roi_heads, seeds, [c.pred_boxes.tensor.tolist() for c in candidates]))
        return results

    monkeypatch.setattr(model.pseudo_labeler.jitter, "variance", variance)
    return asked


def inside(boxes):
    return [(b[2:] > b[:2]).all() for b in np.asarray(boxes)]


SHIFT = np.array([[1.0, 0, -60], [0, 1, 5], [0, 0, 1]])  # boxes 0 and 2 leave to the left


def test_pseudo_boxes_are_chosen_in_the_weak_view_and_learned_in_the_strong_view(
    build, unlabeled, inject, detections, monkeypatch, view_change, carry_in_numpy
):
    matrix, size = view_change
    model = build()
    listener = Listener(model, monkeypatch)
    scores = [[0.95, 0.6, 0.9, 0.91], [0.99, 0.99, 0.4, 0.92], []]
    inject(model, [detections(BOXES, CLASSES, s) for s in scores[:2]] + [detections(size=(64, 96))])
    asked = known_variances(model, monkeypatch, [[0.05, 0.01, 0.019, 0.02], [0.5, 0.01, 0.0], []])
    images = [
        unlabeled(3, matrix, size=size, weak_size=(64, 96)),
        unlabeled(4, SHIFT),
        unlabeled(5, matrix, size=size, weak_size=(64, 96)),
    ]
    model(images)

    candidates = [[list(map(float, BOXES[i])) for i in rows] for rows in ([0, 1, 2, 3], [0, 1, 3])]
    assert asked == [(model.teacher.roi_heads, [3, 4, 5], [*candidates, []])]

    maps = [(matrix, size), (SHIFT, (64, 96)), (matrix, size)]
    g_cls, g_reg = [[0, 3], [0, 1, 3], []], [[1, 2], [1, 3], []]
    for labels, chosen in (
        (listener.pseudo.classification, g_cls),
        (listener.rpn_targets, g_cls),
        (listener.pseudo.regression, g_reg),
    ):
        assert len(labels) == 3
        for found, rows, (m, s) in zip(labels, chosen, maps):
            carried = carry_in_numpy([BOXES[i] for i in rows], m, s)
            kept = inside(carried)
            expected = carried[np.array(kept, dtype=bool)]
            assert found.image_size == s
            np.testing.assert_allclose(found.gt_boxes.tensor, expected, rtol=0, atol=1e-3)
            assert found.gt_classes.tolist() == [CLASSES[i] for i, k in zip(rows, kept) if k]
    assert listener.pseudo.classification[1].gt_classes.tolist() == [CLASSES[1], CLASSES[3]]


def test_without_jitter_both_sets_are_those_above_the_classification_threshold(
    build, unlabeled, inject, detections, monkeypatch
):
    model = build("SOFT_TEACHER.JITTER.ENABLED", False)
    listener = Listener(model, monkeypatch)
    inject(model, [detections(BOXES, CLASSES, [0.95, 0.6, 0.3, 0.99]), detections()])
    model([unlabeled(0), unlabeled(1)])
    for labels in (listener.pseudo.classification, listener.pseudo.regression):
        assert [g.gt_boxes.tensor.tolist() for g in labels] == [[BOXES[0], BOXES[3]], []]
        assert [g.gt_classes.tolist() for g in labels] == [[CLASSES[0], CLASSES[3]], []]


@pytest.mark.parametrize("indicator", ["bg_teacher", "pred_diff"])
def test_samples_return_to_the_weak_view_to_be_scored_on_the_teachers_own_features(
    build, unlabeled, inject, detections, monkeypatch, view_change, carry_in_numpy, indicator
):
    matrix, size = view_change
    model = build("SOFT_TEACHER.JITTER.ENABLED", False, "SOFT_TEACHER.INDICATOR", indicator)
    # The student must not be mistaken for the teacher.
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    listener = Listener(model, monkeypatch)
    inject(model, [detections(BOXES, CLASSES, [0.95] * 4), detections()])
    maps = [(matrix, (64, 96)), (SHIFT, (50, 70))]  # the smaller weak view is padded
    images = [
        unlabeled(0, matrix, size=size, weak_size=(64, 96)),
        unlabeled(1, SHIFT, weak_size=(50, 70)),
    ]
    model(images)

    assert [len(boxes) for boxes in listener.s_cls] == [16, 16]
    weak = []
    for boxes, asked, (m, s) in zip(listener.s_cls, listener.asked_of_teacher, maps):
        weak.append(carry_in_numpy(boxes, np.linalg.inv(m), s))
        np.testing.assert_allclose(asked, weak[-1], rtol=0, atol=1e-3)

    teacher = model.teacher
    features = teacher.backbone(
        teacher.preprocess_image([{"image": x["weak_image"]} for x in images]).tensor
    )
    heads = teacher.roi_heads
    boxes = [Boxes(torch.tensor(w, dtype=torch.float32)) for w in weak]
    pooled = heads.box_pooler([features[f] for f in heads.box_in_features], boxes)
    scores = heads.box_predictor(heads.box_head(pooled))[0].detach().double()
    background = scores.softmax(dim=1)[:, -1].split(16)
    assert torch.cat(background).std() > 0
    for found, expected in zip(listener.background, background):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_the_teacher_looks_at_the_weak_view_and_the_student_at_the_strong_view(
    build, labeled, unlabeled
):
    model = build()
    teacher, student = count_calls(model.teacher.backbone), count_calls(model.student.backbone)
    images = [labeled(0), unlabeled(0), unlabeled(1)]
    model(images)

    def normalised(pictures):
        mean, std = model.student.pixel_mean, model.student.pixel_std
        return torch.stack([(picture - mean) / std for picture in pictures])

    assert torch.equal(teacher[0][0][0], normalised([x["weak_image"] for x in images[1:]]))
    assert torch.equal(student[0][0][0], normalised([x["image"] for x in images]))


# --- scalars


def test_scalars_of_the_two_streams_and_of_the_teacher_do_not_collide(
    build, labeled, unlabeled, storage
):
    model = build()
    teach(model, NOTHING)
    model([labeled(), unlabeled()])
    logged = {key: value for key, (value, _) in storage.latest().items()}
    assert logged["roi_head/num_fg_samples"] > 0
    assert logged["unsup/roi_head/num_fg_samples"] == 0
    assert logged["rpn/num_pos_anchors"] > 0 and logged["unsup/rpn/num_pos_anchors"] == 0
    assert logged["pseudo/num_cls_boxes"] == logged["pseudo/num_reg_boxes"] == 0
    assert model.student.roi_heads.background_reliability.item() == pytest.approx(1)


# --- configuration


def test_detectron2_builds_it_by_its_name(tiny_cfg):
    assert isinstance(build_model(tiny_cfg), SoftTeacher)


def test_the_users_config_is_left_alone(tiny_cfg):
    tiny_cfg.freeze()
    SoftTeacher(tiny_cfg)
    assert tiny_cfg.MODEL.ROI_HEADS.NAME == "StandardROIHeads" and tiny_cfg.is_frozen()


REFUSED = {
    "masks": (("MODEL.MASK_ON", True), "MODEL.MASK_ON"),
    "keypoints": (("MODEL.KEYPOINT_ON", True), "MODEL.KEYPOINT_ON"),
    "cascade heads": (("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"), "MODEL.ROI_HEADS.NAME"),
    "other heads": (("MODEL.ROI_HEADS.NAME", "Res5ROIHeads"), "MODEL.ROI_HEADS.NAME"),
    "unknown heads": (("MODEL.ROI_HEADS.NAME", "Heads"), "MODEL.ROI_HEADS.NAME"),
    "sigmoid cross-entropy": (
        ("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", True),
        "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE",
    ),
    "no RPN": (
        ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"),
        "MODEL.PROPOSAL_GENERATOR.NAME",
    ),
}


@pytest.mark.parametrize("overrides, key", REFUSED.values(), ids=REFUSED.keys())
def test_a_detector_that_cannot_be_wrapped_is_refused_in_one_line(build, overrides, key):
    with pytest.raises(ConfigError) as error:
        build(*overrides)
    assert key in str(error.value) and "\n" not in str(error.value)


def detector(cfg, *overrides):
    cfg.merge_from_list(list(overrides))
    return GeneralizedRCNN(cfg)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda cfg: torch.nn.Linear(1, 1), "GeneralizedRCNN"),
        (lambda cfg: detector(cfg), "SoftTeacherROIHeads"),
        (
            lambda cfg: detector(
                cfg, "MODEL.ROI_HEADS.NAME", "SoftTeacherROIHeads", "MODEL.MASK_ON", True
            ),
            "masks",
        ),
    ],
    ids=["no detector", "stock heads", "masks"],
)
def test_a_given_student_that_cannot_be_wrapped_is_refused_in_one_line(tiny_cfg, make, message):
    student = make(tiny_cfg)
    with pytest.raises(ConfigError) as error:
        SoftTeacher(student=student, pseudo_labeler=PseudoLabeler())
    assert message in str(error.value) and "\n" not in str(error.value)


NAN = float("nan")
BAD_VALUES = [
    ("ALPHA", -1.0),
    ("ALPHA", NAN),
    ("TEACHER_PROPOSALS", "both"),
    ("SCORE_THRESH", 0.0),
    ("SCORE_THRESH", 1.0),
    ("SCORE_THRESH", -0.5),
    ("SCORE_THRESH", NAN),
    ("INDICATOR", "bg"),
    ("CLS_FORMULA", "Paper"),
    ("REG_NORMALIZER", "images"),
    ("AVERAGE", "rank"),
    ("JITTER.NUM", 1),
    ("JITTER.SCALE", 0.0),
    ("JITTER.DISTRIBUTION", "cauchy"),
    ("JITTER.SCORE_THRESH", 1.0),
    ("JITTER.VARIANCE_THRESH", 0.0),
    ("JITTER.NORMALIZER", "area"),
]


@pytest.mark.parametrize("key, value", BAD_VALUES)
def test_a_bad_value_is_refused_in_one_line_that_names_its_key(build, key, value):
    with pytest.raises(ConfigError) as error:
        build(f"SOFT_TEACHER.{key}", value)
    message = str(error.value)
    assert message.startswith(f"SOFT_TEACHER.{key} ") and "\n" not in message


def test_every_config_key_is_read(build):
    model = build(
        *("SOFT_TEACHER.ALPHA", 1.5),
        *("SOFT_TEACHER.RPN_ON_UNLABELED", False),
        *("SOFT_TEACHER.TEACHER_PROPOSALS", "train"),
        *("SOFT_TEACHER.SCORE_THRESH", 0.7),
        *("SOFT_TEACHER.JITTER.NUM", 4),
        *("SOFT_TEACHER.INDICATOR", "iou"),
    )
    assert (model.alpha, model.rpn_on_unlabeled, model.teacher_proposals) == (1.5, False, "train")
    assert model.pseudo_labeler.score_thresh == 0.7
    assert isinstance(model.pseudo_labeler.jitter, BoxJitter)
    assert model.pseudo_labeler.jitter.num == 4
    assert model.student.roi_heads.indicator == model.teacher.roi_heads.indicator == "iou"
