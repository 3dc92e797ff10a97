"""RetinaNet in the recipe: its settings, and what reaches the losses."""

import pytest
import torch
from bench_reads import DeviceReads
from steps import BOXES, CLASSES

from soft_teacher import ConfigError
from soft_teacher.engine.checkpoint import SoftTeacherCheckpointer
from soft_teacher.modeling import RetinaNetFamily

RETINANET = ("SOFT_TEACHER.DETECTOR", "RetinaNet", "MODEL.RESNETS.NORM", "FrozenBN")


@pytest.fixture
def build(build):
    return lambda *opts: build(*RETINANET, *opts)


@pytest.mark.parametrize(
    "opts, said",
    [
        (
            ["SOFT_TEACHER.INDICATOR", "iou"],
            "SOFT_TEACHER.INDICATOR must be one of bg_teacher, none",
        ),
        (
            ["SOFT_TEACHER.CLS_FORMULA", "reference"],
            "SOFT_TEACHER.CLS_FORMULA must be one of paper,",
        ),
        (["SOFT_TEACHER.REG_NORMALIZER", "samples"], "must be one of foreground, got 'samples'"),
        (["SOFT_TEACHER.AVERAGE", "gpu"], "SOFT_TEACHER.AVERAGE must be one of image, got 'gpu'"),
        (
            ["MODEL.RETINANET.SCORE_THRESH_TEST", "0.6"],
            "MODEL.RETINANET.SCORE_THRESH_TEST (0.6) is above the lowest threshold",
        ),
        (
            ["SOFT_TEACHER.LABEL_SOURCE", "dataset", "SOFT_TEACHER.JITTER.ENABLED", False],
            "set SOFT_TEACHER.INDICATOR, now 'bg_teacher', to 'none'",
        ),
    ],
)
def test_settings_that_it_has_not_are_refused_in_one_line(build, opts, said):
    with pytest.raises(ConfigError) as error:
        build(*opts)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_teacher_that_sees_background_everywhere_weighs_as_none_does(
    build, batch_of, monkeypatch
):
    kinds = {kind: build("SOFT_TEACHER.INDICATOR", kind) for kind in ("bg_teacher", "none")}
    kinds["bg_teacher"].teacher.head.cls_score.bias.data.fill_(-30)
    losses = {kind: model(batch_of(0, 2)) for kind, model in kinds.items()}
    assert losses["none"]["unsup/loss_cls"] > 0
    for name, loss in losses["none"].items():
        assert losses["bg_teacher"][name].item() == pytest.approx(loss.item(), rel=1e-5)


def test_backgrounds_where_the_teacher_suspects_an_object_count_less(build, batch_of):
    model = build()
    model.teacher.head.cls_score.weight.data.zero_()
    losses = []
    for logit in (-30.0, -3.0, -1.4):  # up to 20 %: no candidate for a pseudo box
        model.teacher.head.cls_score.bias.data.fill_(logit)
        losses.append(model(batch_of(0, 2))["unsup/loss_cls"].item())
    assert losses[0] > losses[1] > losses[2] > 0


def test_the_mean_reliability_of_backgrounds_is_shown(build, batch_of):
    shown = []
    for indicator in ("bg_teacher", "none"):
        model = build("SOFT_TEACHER.INDICATOR", indicator)
        model.teacher.head.cls_score.weight.data.zero_()
        model.teacher.head.cls_score.bias.data.fill_(-1.4)
        model.observers.append(lambda view: shown.append(view.background_reliability))
        model(batch_of(0, 2))
    assert shown[0].item() == pytest.approx(1 - 1 / (1 + torch.tensor(1.4).exp().item()), rel=1e-5)
    assert shown[1] is None


def test_each_set_of_pseudo_boxes_has_its_loss(build, unlabeled, detections, monkeypatch):
    """A box that is no pseudo box for regression leaves its loss at zero."""
    given = detections(BOXES, CLASSES, [0.95] * 4)
    variances = {"stable": 0.0, "unstable": float("inf")}
    losses = {}
    for name, variance in variances.items():
        model = build("SOFT_TEACHER.INDICATOR", "none")
        seen = model.family.teach(model.teacher, [unlabeled()["weak_image"]])
        seen.detections = [given]
        seen.variances = lambda rows, seeds: [torch.full((len(r),), variance) for r in rows]
        monkeypatch.setattr(model.family, "teach", lambda *args: seen)
        losses[name] = model([unlabeled()])
    assert losses["stable"]["unsup/loss_box_reg"] > 0
    assert losses["unstable"]["unsup/loss_box_reg"] == 0
    assert torch.equal(*(losses[name]["unsup/loss_cls"] for name in variances))


@pytest.mark.parametrize("images", [1, 2, 5])
def test_own_code_waits_for_the_device_as_often_for_many_images_as_for_one(build, batch_of, images):
    model = build()
    with DeviceReads() as reads:
        sum(model(batch_of(1, images)).values()).backward()
    # For the boxes inside the view, those to be measured, and those chosen.
    assert reads.of("soft_teacher") == 3


def test_a_step_leaves_nothing_behind_that_a_checkpoint_does_not_hold(build, batch_of):
    model = build()
    before = set(vars(model.student))
    model(batch_of(1, 1))
    assert set(vars(model.student)) == before


def test_fine_tuning_on_other_classes_starts_the_classifier_anew(build, tmp_path, caplog):
    saved, model = build("MODEL.RETINANET.NUM_CLASSES", 5), build()
    torch.save({"model": saved.state_dict()}, tmp_path / "five.pth")
    SoftTeacherCheckpointer(model, str(tmp_path)).load(str(tmp_path / "five.pth"))
    assert "SoftTeacherCheckpointer.path is of other classes" in caplog.text
    for side in ("student", "teacher"):
        network, theirs = getattr(model, side).state_dict(), getattr(saved, side).state_dict()
        differing = {name for name in network if network[name].shape != theirs[name].shape}
        assert differing == {"head.cls_score.weight", "head.cls_score.bias"}


def test_a_lazy_config_gives_its_settings_as_arguments():
    assert RetinaNetFamily(indicator="none").indicator == "none"
