"""Dense detectors in the recipe: their settings, and what reaches the losses."""

import math

import numpy as np
import pytest
import tiny_fcos  # noqa: F401  registers a family
import torch
from by_hand import iou
from contract import let_find
from steps import BOXES, CLASSES, batch_of, detections, step_views, unlabeled

from soft_teacher import ConfigError
from soft_teacher.engine.checkpoint import SoftTeacherCheckpointer
from soft_teacher.modeling.background_weights import INDICATORS
from soft_teacher.modeling.families.dense import family as family_module
from soft_teacher.modeling.families.dense.predictions import predict

DETECTORS = ("RetinaNet", "TinyFCOS")
INDICATOR, FORMULA = "SOFT_TEACHER.INDICATOR", "SOFT_TEACHER.CLS_FORMULA"
NONE = (INDICATOR, "none")


@pytest.fixture(params=DETECTORS)
def detector(request):
    return request.param


@pytest.fixture
def build(build, detector):
    common = ("SOFT_TEACHER.DETECTOR", detector, "MODEL.RESNETS.NORM", "FrozenBN")
    return lambda *opts: build(*common, *opts)


def refusal(build, *opts):
    with pytest.raises(ConfigError) as error:
        build(*opts)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "opts, said",
    [
        ([INDICATOR, "BG-T"], "SOFT_TEACHER.INDICATOR must be one of bg_teacher, bg_student"),
        ([FORMULA, "plain"], "SOFT_TEACHER.CLS_FORMULA must be one of paper, reference, got"),
        (["SOFT_TEACHER.REG_NORMALIZER", "samples"], "must be one of foreground, got 'samples'"),
        (["SOFT_TEACHER.SOFT_NMS", "linear"], "SOFT_TEACHER.SOFT_NMS must be one of none, got"),
        (["SOFT_TEACHER.AVERAGE", "gpu"], "SOFT_TEACHER.AVERAGE must be one of image, got 'gpu'"),
        (
            [
                *("SOFT_TEACHER.LABEL_SOURCE", "dataset", "SOFT_TEACHER.JITTER.ENABLED", False),
                *(INDICATOR, "pred_diff"),
            ],
            "set SOFT_TEACHER.INDICATOR, now 'pred_diff', to 'none'",
        ),
    ],
)
def test_settings_of_other_families_are_refused_in_one_line(build, opts, said):
    assert said in refusal(build, *opts)


# --- weights of backgrounds


@pytest.fixture
def seen(monkeypatch):
    """r of every place, as it goes into the weights."""
    found, weigh = [], family_module.background_weights
    monkeypatch.setattr(
        family_module,
        "background_weights",
        lambda labels, classes, r, formula: found.append(r) or weigh(labels, classes, r, formula),
    )
    return found


def background_of(network, image):
    """1 - the highest probability of a class in the cell of each place."""
    found = predict(network, network_family(network).encode(network, [{"image": image}]))
    (per_cell,) = set(network.anchor_generator.num_anchors)
    highest = [x[0].double().sigmoid().amax(dim=1).reshape(-1, per_cell) for x in found.logits]
    return 1 - torch.cat([x.amax(dim=1).repeat_interleave(per_cell) for x in highest]), found


def network_family(network):
    return family_module.RetinaNetFamily()  # encodes as any family


def lively(network):
    with torch.no_grad():
        torch.nn.init.normal_(network.head.cls_score.weight, std=0.1)


@pytest.mark.parametrize("indicator", [name for name in INDICATORS if name != "none"])
def test_r_of_every_place_by_hand(build, detector, indicator, seen):
    """Both views show the same."""
    if detector == "TinyFCOS" and "iou" in indicator:
        said = refusal(build, INDICATOR, indicator)
        assert said.endswith(f"bg_teacher, bg_student, pred_diff, none, got '{indicator}'")
        return
    model, image = build(INDICATOR, indicator), unlabeled()
    image["weak_image"] = image["image"]
    lively(model.student)
    lively(model.teacher)
    let_find(model, [detections(BOXES, CLASSES, [0.95, 0.6, 0.91, 0.93])])
    model([image])
    with torch.no_grad():
        teacher, found = background_of(model.teacher, image["image"])
        student, _ = background_of(model.student, image["image"])
    anchors = torch.cat([a.tensor for a in found.anchors]).double().numpy()
    confident = [np.array(BOXES[n], dtype=float) for n in (0, 2, 3)]
    overlaps = torch.tensor([max(iou(anchor, box) for box in confident) for anchor in anchors])
    expected = {
        "bg_teacher": teacher,
        "bg_student": student,
        "pred_diff": 1 - (student - teacher).abs(),
        "iou": overlaps,
        "reverse_iou": 1 - overlaps,
    }[indicator]
    assert expected.std() > 0.01
    torch.testing.assert_close(seen[0][0].double(), expected, atol=1e-5, rtol=0)


def test_the_lower_the_teacher_s_background_scores_the_less_backgrounds_count(build):
    """Where they are 1, as much as without weights; their mean is shown to observers."""
    none, model = build(*NONE), build(FORMULA, "reference")
    name = f"unsup/{model.family.loss_names(model.student)[0]}"
    model.teacher.head.cls_score.weight.data.zero_()
    losses = []
    for logit in (-30.0, -3.0, -1.4):  # up to 20 %: no candidate for a pseudo box
        model.teacher.head.cls_score.bias.data.fill_(logit)
        losses.append(model(batch_of(0, 2))[name].item())
        (view,) = step_views(model, batch_of(0, 2))
        expected = 1 - 1 / (1 + math.exp(-logit))
        assert view.background_reliability.item() == pytest.approx(expected, rel=1e-5)
        assert losses[-1] == pytest.approx(losses[0] * expected, rel=1e-5)
    assert losses[0] == none(batch_of(0, 2))[name].item()
    (view,) = step_views(none, batch_of(0, 2))
    assert view.background_reliability is None


def test_in_the_paper_s_form_backgrounds_share_what_they_count_without_weights(build):
    none, model = build(*NONE), build(FORMULA, "paper")
    name = f"unsup/{model.family.loss_names(model.student)[0]}"
    model.teacher.head.cls_score.weight.data.zero_()
    for logit in (-30.0, -3.0, -1.4):
        model.teacher.head.cls_score.bias.data.fill_(logit)
        found, expected = (m(batch_of(0, 2))[name].item() for m in (model, none))
        assert found == pytest.approx(expected, rel=1e-5)


def test_each_set_of_pseudo_boxes_has_its_loss(build):
    def losses(score, candidate_thresh):
        """Of boxes that are in G_cls above 0.9, in G_reg above the threshold."""
        model = build(*NONE, "SOFT_TEACHER.JITTER.SCORE_THRESH", candidate_thresh)
        let_find(model, [detections(BOXES, CLASSES, [score] * 4)])
        return [loss for name, loss in model([unlabeled()]).items() if "unsup" in name]

    both, cls_alone, reg_alone = losses(0.95, 0.5), losses(0.95, 0.99), losses(0.6, 0.5)
    assert both[0] == cls_alone[0] != reg_alone[0]
    assert both[1:] == reg_alone[1:]
    assert all(x > 0 for x in both) and all(x == 0 for x in cls_alone[1:])


def test_under_autocast_losses_are_float32_and_finite(build):
    model = build(FORMULA, "reference")
    plain = model(batch_of(1, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch_of(1, 1))
    sum(losses.values()).backward()
    for name, loss in losses.items():
        assert loss.dtype == torch.float32 and loss.isfinite(), name
        assert loss.item() == pytest.approx(plain[name].item(), rel=0.05), name
    assert all(p.grad.isfinite().all() for p in model.student.parameters())


def test_fine_tuning_on_other_classes_resets_the_classifier(build, tmp_path, caplog):
    saved, model = build("MODEL.RETINANET.NUM_CLASSES", 5), build()
    torch.save({"model": saved.state_dict()}, tmp_path / "five.pth")
    SoftTeacherCheckpointer(model, str(tmp_path)).load(str(tmp_path / "five.pth"))
    assert "SoftTeacherCheckpointer.path is of other classes" in caplog.text
    for side in ("student", "teacher"):
        network, theirs = getattr(model, side).state_dict(), getattr(saved, side).state_dict()
        differing = {name for name in network if network[name].shape != theirs[name].shape}
        assert differing == {"head.cls_score.weight", "head.cls_score.bias"}
