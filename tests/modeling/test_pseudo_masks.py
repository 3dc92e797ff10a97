"""Masks learned from unlabeled images: whose, from what, and how they are averaged."""

import numpy as np
import pytest
import torch
from contract import FASTER_RCNN, gradients_after
from detectron2.modeling import GeneralizedRCNN, build_backbone, build_roi_heads
from detectron2.structures import Instances
from mask_shapes import MASK_RCNN, blobs, with_polygons, with_pred_masks
from steps import (
    BOXES,
    CLASSES,
    SIZE,
    boxes_of,
    detections,
    inject,
    labeled,
    step_views,
    targets,
    unlabeled,
)

from soft_teacher import ConfigError
from soft_teacher.modeling import PseudoLabels, PseudoMasks
from soft_teacher.modeling.mask_transport import TransportedMasks

SCORES = [0.95, 0.6, 0.91, 0.93]  # all but the second are above the threshold of 0.9


def pseudo(*rows, seed=0) -> Instances:
    """Pseudo boxes of the numbers ``rows`` in BOXES, with masks; both views are the same."""
    found = targets([BOXES[n] for n in rows], [CLASSES[n] for n in rows])
    found.gt_masks = TransportedMasks(
        blobs(len(rows), seed), found.gt_boxes.tensor.clone(), torch.eye(3)
    )
    return found


@pytest.fixture
def build_heads(tiny_cfg):
    def build_heads(*overrides, **settings):
        cfg = tiny_cfg.clone()
        cfg.merge_from_list([*MASK_RCNN, "MODEL.ROI_HEADS.NAME", "SoftTeacherROIHeads", *overrides])
        cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 256
        for key, value in settings.items():
            (cfg.SOFT_TEACHER if key == "AVERAGE" else cfg.SOFT_TEACHER.MASK)[key] = value
        torch.manual_seed(0)
        backbone = build_backbone(cfg)
        heads = build_roi_heads(cfg, backbone.output_shape()).train()
        # Predictions that tell pixels and classes apart.
        torch.nn.init.normal_(heads.mask_head.predictor.weight)
        return heads

    return build_heads


def features_of(heads, images):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(images, 8, SIZE[0] // s, SIZE[1] // s, generator=generator)
        for name, s in zip(heads.mask_in_features, (4, 8))
    }


def loss_of(heads, g_reg, g_cls=None):
    """loss_mask; the pseudo boxes themselves are the proposals and the foregrounds."""
    labels = PseudoLabels(g_cls or [g[:0] for g in g_reg], g_reg)
    proposals = [
        Instances(SIZE, proposal_boxes=boxes_of([]), objectness_logits=torch.zeros(0))
        for _ in g_reg
    ]
    losses, _ = heads.pseudo_losses(
        features_of(heads, len(g_reg)),
        proposals,
        labels,
        lambda boxes: [torch.ones(len(b)) for b in boxes],
    )
    return losses["loss_mask"]


def logits_of(heads, images):
    """Per image, (n, 14, 14) of each pseudo box for its own class, in float64."""
    features = features_of(heads, len(images))
    pooled = heads.mask_pooler(
        [features[f] for f in heads.mask_in_features], [g.gt_boxes for g in images]
    )
    logits = heads.mask_head.layers(pooled).detach().double()
    classes = torch.cat([g.gt_classes for g in images])
    own = logits[torch.arange(len(classes)), classes] if logits.shape[1] > 1 else logits[:, 0]
    return [x.numpy() for x in own.split(list(map(len, images)))]


def cross_entropy(logits, goals):
    p = 1 / (1 + np.exp(-logits))
    return -goals * np.log(p) - (1 - goals) * np.log(1 - p)


# Rows of BOXES in each image.
SCENES = {
    "no box": [[]],
    "no box in two images": [[], []],
    "one box": [[2]],
    "three images": [[0, 1, 3], [], [2]],
}
every_scene = pytest.mark.parametrize("rows", SCENES.values(), ids=SCENES.keys())
EXTRAS = {
    "plain": {},
    "soft": {"SOFT": True},
    "ignore": {"IGNORE": 0.3},
    "quality": {"QUALITY": True},
    "all": {"SOFT": True, "IGNORE": 0.2, "QUALITY": True},
}


@every_scene
@pytest.mark.parametrize("average", ["image", "gpu"])
@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS.keys())
def test_the_loss_by_hand(build_heads, rows, average, extras):
    heads = build_heads(AVERAGE=average, **extras)
    images = [pseudo(*r, seed=n) for n, r in enumerate(rows)]
    sums, counts = [], []
    for g, logits in zip(images, logits_of(heads, images)):
        found = g.gt_masks.sample(g.gt_boxes.tensor, 14).double().numpy()
        losses = cross_entropy(logits, found if "SOFT" in extras else np.float64(found >= 0.5))
        certain = np.abs(found - 0.5) > extras.get("IGNORE", -1)
        whole = g.gt_masks.probabilities.double().numpy()
        quality = [m[m >= 0.5].mean() if "QUALITY" in extras else 1 for m in whole]
        sums.append(sum(q * m[c].sum() for q, m, c in zip(quality, losses, certain)))
        counts.append(certain.sum())
    expected = sum(s / max(n, 1) for s, n in zip(sums, counts)) / len(images)
    if average == "gpu":
        expected = sum(sums) / max(sum(counts), 1)
    assert loss_of(heads, images).item() == pytest.approx(expected, rel=1e-5)


@every_scene
def test_over_the_gpu_it_is_detectron2_s_own(build_heads, rows, storage):
    heads = build_heads(AVERAGE="gpu")
    images = [pseudo(*r) for r in rows]
    found = loss_of(heads, images)
    assert ("mask_rcnn/accuracy" in storage.latest()) == any(rows)
    one_pixel = build_heads(AVERAGE="gpu", IGNORE=1e-9)  # ignores nothing, but by our own code
    assert found.item() == pytest.approx(loss_of(one_pixel, images).item(), rel=1e-6)


def test_one_image_has_the_same_loss_by_either_average(build_heads):
    one, other = (build_heads(AVERAGE=average) for average in ("image", "gpu"))
    images = [pseudo(0, 1, 2)]
    assert loss_of(one, images).item() == pytest.approx(loss_of(other, images).item(), rel=1e-6)


@pytest.mark.parametrize("average", ["image", "gpu"])
def test_heads_for_all_classes_alike_and_the_weight_of_their_loss(build_heads, average):
    heads = build_heads("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", True, AVERAGE=average)
    images = [pseudo(0, 1)]
    loss = loss_of(heads, images).item()
    goals = images[0].gt_masks.crop_and_resize(images[0].gt_boxes.tensor, 14).double().numpy()
    (logits,) = logits_of(heads, images)
    assert loss == pytest.approx(cross_entropy(logits, goals).mean(), rel=1e-5)
    heads.mask_head.loss_weight = 0.25
    assert loss_of(heads, images).item() == pytest.approx(loss / 4, rel=1e-6)


def test_foregrounds_of_either_set_learn_from_masks_of_that_set(build_heads):
    g_reg, g_cls = [pseudo(0), pseudo(2)], [pseudo(1, 3, seed=5), pseudo()]
    heads = build_heads()
    by_regression = loss_of(heads, g_reg).item()
    assert loss_of(heads, g_reg, g_cls).item() == pytest.approx(by_regression, rel=1e-6)
    heads.pseudo_masks.targets = "classification"
    assert loss_of(heads, g_reg, g_cls).item() != pytest.approx(by_regression, rel=1e-3)
    by_classification = loss_of(heads, g_cls, g_cls).item()
    heads.pseudo_masks.targets = "regression"
    assert loss_of(heads, g_cls).item() == pytest.approx(by_classification, rel=1e-6)


@pytest.mark.parametrize("average", ["image", "gpu"])
@pytest.mark.parametrize("rows", [[[]], [[], []], [[0, 1], []]], ids=str)
def test_every_parameter_of_the_mask_head_has_a_gradient(build_heads, rows, average):
    heads = build_heads(AVERAGE=average)
    loss_of(heads, [pseudo(*r) for r in rows]).backward()
    for name, parameter in heads.mask_head.named_parameters():
        assert (parameter.grad != 0).any() == any(rows), name


@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS.keys())
@pytest.mark.parametrize("average", ["image", "gpu"])
def test_under_autocast_it_is_much_the_same(build_heads, average, extras):
    heads = build_heads(AVERAGE=average, **extras)
    images = [pseudo(0, 1, 3), pseudo(), pseudo(2)]
    plain = loss_of(heads, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(heads, images)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(plain.item(), rel=0.05)


def test_pseudo_boxes_without_masks_are_refused_in_one_line(build_heads):
    with pytest.raises(ConfigError, match="set PseudoMasks.enabled to False") as error:
        loss_of(build_heads(), [targets(), targets(BOXES[:1], [0])])
    assert "\n" not in str(error.value)
    assert loss_of(build_heads(), [targets()]) == 0


@pytest.mark.parametrize("settings", [{"targets": "both"}, {"ignore": -0.1}, {"ignore": 0.5}])
def test_a_value_out_of_range_is_refused(settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=rf"^PseudoMasks\.{name} "):
        PseudoMasks(**settings)


# --- in a step


def images_of(n_labeled, n_unlabeled):
    shown = [labeled(key) for key in range(n_labeled)]
    return [
        *({**x, "instances": with_polygons(x["instances"])} for x in shown),
        *map(unlabeled, range(n_unlabeled)),
    ]


def seen(n):
    return [with_pred_masks(detections(BOXES, CLASSES, SCORES), seed) for seed in range(n)]


@pytest.mark.parametrize("composition", [(1, 0), (0, 1), (2, 3)], ids=str)
def test_boxes_alone_are_learned_from_unlabeled_images_if_masks_are_not_wanted(build, composition):
    model = build(*MASK_RCNN, "SOFT_TEACHER.MASK.ENABLED", False)
    ran = []
    model.teacher.roi_heads.mask_head.register_forward_hook(lambda *args: ran.append(args))
    losses = model(images_of(*composition))
    assert "sup/loss_mask" in losses and "unsup/loss_mask" not in losses
    assert not ran and model.teacher.roi_heads.mask_on
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.student.parameters())
    # In an evaluation it has masks all the same, and where its boxes are measured as in one.
    image = labeled()["image"]
    assert model.eval()([{"image": image}])[0]["instances"].has("pred_masks")
    for asked in (False, True):
        (seen,) = model.family.teach(model.teacher, [image], as_evaluated=asked).detections
        assert seen.has("pred_masks") == asked


def test_the_teacher_s_masks_reach_the_student_s_mask_head(build, view_change):
    matrix, size = view_change
    model = build(*MASK_RCNN, "SOFT_TEACHER.JITTER.ENABLED", False)
    inject(model, seen(2))
    batch = [unlabeled(key, matrix, size=size, weak_size=SIZE) for key in range(2)]
    (view,) = step_views(model, batch)
    for shown, g_cls, g_reg in zip(
        view.teacher_boxes, view.labels.classification, view.labels.regression
    ):
        assert shown.detections.pred_masks.shape == (4, 1, 28, 28)
        for labels in (g_cls, g_reg):
            assert len(labels.gt_masks) == len(labels) == 3
            expected = shown.detections.pred_masks[[0, 2, 3], 0]
            assert torch.equal(labels.gt_masks.probabilities, expected)
            crops = labels.gt_masks.crop_and_resize(labels.gt_boxes.tensor, 14)
            assert crops.flatten(1).any(dim=1).all()
    loss = model(batch)["unsup/loss_mask"]
    loss.backward()
    for name, parameter in model.student.roi_heads.mask_head.named_parameters():
        assert (parameter.grad != 0).any(), name


def test_precomputed_masks_are_learned_as_a_teacher_s(build):
    end_to_end = (
        *MASK_RCNN,
        "SOFT_TEACHER.JITTER.ENABLED",
        False,
        "SOFT_TEACHER.INDICATOR",
        "none",
    )
    taught, given = build(*end_to_end), build(*end_to_end, "SOFT_TEACHER.LABEL_SOURCE", "dataset")
    inject(taught, seen(2))
    batch = images_of(1, 2)
    torch.manual_seed(0)
    expected = taught(batch)
    for image, found in zip(batch[1:], seen(2)):
        image["given_instances"] = found
    torch.manual_seed(0)
    losses = given(batch)
    assert losses["unsup/loss_mask"] > 0
    assert all(torch.equal(losses[name], loss) for name, loss in expected.items())


def test_labeled_images_have_the_losses_of_a_stock_mask_rcnn_to_the_bit(build, tiny_cfg):
    model = build(*MASK_RCNN)
    tiny_cfg.merge_from_list(list(MASK_RCNN))
    stock = GeneralizedRCNN(tiny_cfg).train()
    stock.load_state_dict(model.student.state_dict())
    batch = images_of(3, 0)
    torch.manual_seed(0)
    found = model(batch)
    torch.manual_seed(0)
    expected = stock(batch)
    assert len(expected) == 5
    assert all(torch.equal(found[f"sup/{name}"], loss) for name, loss in expected.items())


@pytest.mark.parametrize("average", ["image", "gpu"])
def test_a_step_differs_from_one_that_learns_no_masks_in_their_loss_alone(build, average):
    """And in the gradients of the backbone, which they share, not in those of the box head."""
    options = (*FASTER_RCNN, *MASK_RCNN, "SOFT_TEACHER.AVERAGE", average)
    batch = [
        {**image, "found": found} for image, found in zip(images_of(0, 2), seen(2), strict=True)
    ]
    losses, gradients = gradients_after(build(*options), batch)
    without, others = gradients_after(build(*options, "SOFT_TEACHER.MASK.ENABLED", False), batch)
    assert losses.keys() - without.keys() == {"unsup/loss_mask"}
    assert all(torch.equal(losses[name], loss) for name, loss in without.items())
    box_head = [name for name in others if "roi_heads.box" in name]
    assert box_head and all(torch.equal(gradients[name], others[name]) for name in box_head)
    changed = {name for name in others if not torch.equal(gradients[name], others[name])}
    assert any("mask_head" in name for name in changed)
    assert any("backbone" in name for name in changed)
