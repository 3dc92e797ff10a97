"""A training step and a prediction of HTC's heads, against float64 numbers."""

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from htc import IOUS, STDS, htc_heads, random_features
from plain_htc import PlainHTC
from steps import boxes_of

from soft_teacher import ConfigError

CHANNELS, K, STUFF, SIZE = 32, 6, 11, (64, 96)
EXHAUSTIVE = {"samples": 10**6, "positives": 1.0, "fc_dim": 16}
HEADS = {
    "2 fc": {},
    "2 fc, GIoU": {"predictor": {"box_reg_loss_type": "giou"}},
    "GIoU x 10": {
        "predictor": {
            "box_reg_loss_type": "giou",
            "loss_weight": {"loss_cls": 1.0, "loss_box_reg": 10.0},
        }
    },
    "4 conv 1 fc, BN": {"conv_dims": [CHANNELS] * 4, "conv_norm": "BN"},
    "4 conv 1 fc, GN": {"conv_dims": [CHANNELS] * 4, "conv_norm": "GN"},
    "no semantic branch": {"semantic_classes": 0},
}
GT = [
    ([[6.3, 8.1, 44.7, 50.2], [36.4, 20.8, 88.1, 60.6], [4.9, 30.2, 30.7, 60.3]], [0, 5, 2]),
    ([[14.2, 10.7, 70.9, 54.4]], [3]),
    ([], []),
]


@pytest.fixture(params=HEADS.values(), ids=HEADS.keys())
def settings(request):
    return request.param


def heads_of(**kwargs):
    """In training mode. Weights are large enough for every branch to matter."""
    torch.manual_seed(0)
    heads = htc_heads(**{**EXHAUSTIVE, **kwargs}).train()
    for predictor, std in zip(heads.box_predictor, (1.0, 0.5, 0.3)):
        torch.nn.init.normal_(predictor.cls_score.weight, std=0.5)
        torch.nn.init.normal_(predictor.bbox_pred.weight, std=std)
    for head in heads.mask_head:
        torch.nn.init.normal_(head.predictor.weight, std=0.2)
    return heads


def features_of(images):
    return random_features(CHANNELS, images, SIZE)


def target(boxes=(), classes=()) -> Instances:
    """Objects are ellipses in their boxes."""
    gt = Instances(SIZE, gt_boxes=boxes_of(boxes), gt_classes=torch.tensor(classes).long())
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    masks = np.zeros((len(boxes), *SIZE), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        mask |= ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 < 1
    gt.gt_masks = BitMasks(torch.as_tensor(masks))
    return gt


def semantic_map(seed, size=SIZE):
    """Blocks of classes, a quarter of the pixels ignored."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(STUFF, size, generator=g)
    return labels.masked_fill(torch.rand(size, generator=g) < 0.25, 255)


def candidates(gt, seed=0, n=14) -> torch.Tensor:
    """Boxes around the objects, or anywhere; one beyond the image, which clipping empties."""
    rng = np.random.default_rng(seed)
    centers = gt.gt_boxes.tensor.numpy() if len(gt) else np.array([[20, 20, 70, 50.0]])
    boxes = centers[rng.integers(len(centers), size=n)] + rng.normal(0, 4, (n, 4))
    boxes[0] = [110.5, 20, 130, 40.5]
    return torch.as_tensor(boxes, dtype=torch.float32)


def scene(numbers):
    """Proposals, targets and maps of some images of GT."""
    targets = [target(*GT[i]) for i in numbers]
    boxes = [candidates(t, seed=i) for i, t in zip(numbers, targets)]
    proposals = [Instances(SIZE, proposal_boxes=Boxes(b)) for b in boxes]
    return proposals, targets, [semantic_map(i) for i in numbers]


def step(heads, features, proposals, targets, maps):
    with heads.semantic_maps(maps):
        return heads(None, features, proposals, targets)[1]


def plain(heads, settings, features, proposals, targets, maps):
    """Losses, and the heads that they are of."""
    predictor = settings.get("predictor", {})
    reference = PlainHTC(
        heads.state_dict(),
        stds=STDS,
        ious=IOUS,
        num_classes=K,
        norm=settings.get("conv_norm"),
        giou=predictor.get("box_reg_loss_type") == "giou",
        box_weight=predictor.get("loss_weight", {}).get("loss_box_reg", 1.0),
    )
    losses = reference.losses(
        features,
        [p.proposal_boxes.tensor.double() for p in proposals],
        [(t.gt_boxes.tensor.double(), t.gt_classes, t.gt_masks.tensor, SIZE) for t in targets],
        maps if heads.semantic_head is not None else None,
    )
    return losses, reference


@pytest.mark.parametrize("numbers", [[2], [0], [2, 1]], ids=str)
def test_losses_and_gradients_are_those_of_float64(settings, numbers):
    heads = heads_of(**settings).double()
    features = {name: x.double() for name, x in features_of(len(numbers)).items()}
    exact = {name: x.clone().requires_grad_() for name, x in features.items()}
    features = {name: x.requires_grad_() for name, x in features.items()}
    images = scene(numbers)
    losses = step(heads, features, *images)
    expected, reference = plain(heads, settings, exact, *images)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        np.testing.assert_allclose(loss.item(), expected[name].item(), rtol=1e-5, atol=1e-7)
    sum(losses.values()).backward()
    sum(expected.values()).backward()
    pairs = [(p, reference.w[name]) for name, p in heads.named_parameters()]
    if heads.semantic_head is None:
        del features["p6"]
    for a, b in pairs + [(x, exact[name]) for name, x in features.items()]:
        same_gradient(a, b)


def same_gradient(a, b):
    # Detectron2's boxes are float32. Refined ones are off by their rounding, and then some ReLU
    # changes its mind.
    if b.grad is None:
        assert not a.grad.any()
    else:
        assert (a.grad - b.grad).norm() <= 3e-3 * b.grad.norm() + 1e-9


def test_stages_differ_in_the_scene():
    proposals, targets, maps = scene([0, 1])
    losses = step(heads_of(), features_of(2), proposals, targets, maps)
    masks = [losses[f"loss_mask_stage{k}"].item() for k in range(3)]
    assert min(masks) > 0 and len(set(masks)) == 3


@pytest.mark.parametrize("numbers", [[2], [0, 2]], ids=str)
def test_without_objects_losses_are_finite_and_every_parameter_has_a_gradient(settings, numbers):
    heads = heads_of(**settings)
    losses = step(heads, features_of(len(numbers)), *scene(numbers))
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    for parameter in heads.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()


@pytest.mark.parametrize(
    "maps", [[None, None], [torch.full(SIZE, 255)] * 2, [None, torch.full(SIZE, 255)]]
)
def test_maps_that_are_missing_or_ignored_give_a_loss_of_0_with_gradients(maps):
    heads = heads_of()
    loss = step(heads, features_of(2), *scene([0, 1])[:2], maps)["loss_sem_seg"]
    assert loss.item() == 0
    loss.backward()
    predictor = heads.semantic_head.predictor
    assert not predictor.weight.grad.any() and not heads.semantic_head.convs[0].weight.grad.any()


def test_a_missing_map_counts_like_an_ignored_one():
    heads, (proposals, targets, maps) = heads_of(), scene([0, 1])
    losses = [
        step(heads, features_of(2), proposals, targets, [maps[0], other])["loss_sem_seg"].item()
        for other in (None, torch.full(SIZE, 255))
    ]
    assert losses[0] == losses[1] > 0


def test_heads_with_a_semantic_branch_need_maps_to_learn():
    proposals, targets, _ = scene([0])
    with pytest.raises(ConfigError, match="HybridTaskCascade, or set semantic_head to None"):
        heads_of()(None, features_of(1), proposals, targets)


def test_stage_weights_multiply_the_losses_of_boxes_and_masks():
    images = scene([0])
    plain = step(heads_of(stage_weights=(1, 1, 1)), features_of(1), *images)
    weighted = step(heads_of(stage_weights=(2, 3, 5)), features_of(1), *images)
    for name, loss in plain.items():
        factor = 1 if name == "loss_sem_seg" else (2, 3, 5)[int(name[-1])]
        assert weighted[name].item() == pytest.approx(factor * loss.item())


def test_ground_truth_is_a_sample_of_every_stage_only_if_it_is_appended(storage):
    proposals, targets, maps = scene([0])
    empty = [p[:0] for p in proposals]
    for appended, count in ((True, 3), (False, 0)):
        heads = heads_of(proposal_append_gt=appended, semantic_classes=0)
        step(heads, features_of(1), empty, targets, maps)
        latest = storage.latest()
        for stage in range(3):
            for branch in ("", "mask/"):
                assert latest[f"stage{stage}/{branch}roi_head/num_fg_samples"][0] == count


def test_masks_are_indexed_for_foregrounds_alone():
    proposals, (gt,), maps = scene([0])
    asked = []

    class Counted(BitMasks):
        def __getitem__(self, rows):
            asked.append(len(rows))
            return super().__getitem__(rows)

    gt.gt_masks = Counted(gt.gt_masks.tensor)
    step(heads_of(samples=16, positives=0.25), features_of(1), proposals, [gt], maps)
    assert len(asked) == 3 and max(asked) <= 4


def test_polygons_are_masks_like_bitmaps():
    proposals, (gt,), maps = scene([0])
    rows = gt.gt_boxes.tensor.round()
    bits = torch.zeros(len(gt), *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(bits, rows.int().tolist()):
        mask[y0:y1, x0:x1] = True
    polygons = [[r[[0, 1, 2, 1, 2, 3, 0, 3]].double().numpy()] for r in rows]
    losses = []
    for gt.gt_masks in (BitMasks(bits), PolygonMasks(polygons)):
        losses.append(step(heads_of(), features_of(1), proposals, [gt], maps))
    for stage in range(3):
        one, other = (x[f"loss_mask_stage{stage}"].item() for x in losses)
        assert one == pytest.approx(other, rel=0.03)


def test_a_stage_samples_as_configured(storage):
    images = scene([0])
    step(heads_of(samples=16, positives=0.25), features_of(1), *images)
    for stage in range(3):
        fg, bg = (
            storage.latest()[f"stage{stage}/roi_head/num_{kind}_samples"][0]
            for kind in ("fg", "bg")
        )
        assert fg <= 4 and fg + bg <= 16


@pytest.mark.parametrize("settings", [{}, {"semantic_classes": 0}], ids=["semantic", "plain"])
@pytest.mark.parametrize("merge", ["last", "mean"])
def test_masks_are_of_the_last_stage_or_the_mean_of_all(settings, merge):
    settings = {**settings, "mask_merge": merge, "predictor": {"test_topk_per_image": 8}}
    heads, features = heads_of(**settings).eval(), features_of(2)
    proposals, _, _ = scene([0, 1])
    with torch.no_grad():
        found, _ = heads(None, features, proposals)
    exact = {name: x.double() for name, x in features.items()}
    reference = PlainHTC(heads.state_dict(), stds=STDS, ious=IOUS, num_classes=K)
    embedding = reference.semantic(exact)[0] if heads.semantic_head is not None else None
    boxes = [f.pred_boxes.tensor.double() for f in found]
    classes = torch.cat([f.pred_classes for f in found])
    rows = torch.arange(len(classes))
    probs = [x[rows, classes].sigmoid() for x in reference.mask_logits(exact, embedding, boxes)]
    expected = probs[2] if merge == "last" else sum(probs) / 3
    masks = torch.cat([f.pred_masks for f in found])[:, 0]
    assert len(masks) == 16
    np.testing.assert_allclose(masks, expected.detach(), atol=2e-5)


def test_given_boxes_get_the_same_masks():
    heads = heads_of(predictor={"test_topk_per_image": 8}).eval()
    features = features_of(2)
    with torch.no_grad():
        found, _ = heads(None, features, scene([0, 1])[0])
        masks = [f.pred_masks for f in found]
        for f in found:
            f.remove("pred_masks")
        again = heads.forward_with_given_boxes(features, found)
    for a, b in zip(masks, again, strict=True):
        torch.testing.assert_close(a, b.pred_masks, rtol=0, atol=1e-6)


@pytest.mark.parametrize("counts", [[0], [0, 5]], ids=str)
def test_images_without_proposals_have_no_detections(counts):
    heads = heads_of().eval()
    proposals = [p[:n] for n, p in zip(counts, scene([0, 1])[0])]
    with torch.no_grad():
        found, _ = heads(None, features_of(len(counts)), proposals)
    assert len(found[0]) == 0 and found[0].pred_masks.shape == (0, 1, 28, 28)


def test_the_state_dict_has_the_heads_alone():
    names = {name.split(".")[0] for name in heads_of().state_dict()}
    assert names == {"box_head", "box_predictor", "mask_head", "semantic_head"}


def test_sync_bn_is_a_norm_of_box_heads():
    heads = heads_of(conv_dims=[CHANNELS] * 4, conv_norm="SyncBN").eval()
    with torch.no_grad():
        found, _ = heads(None, features_of(1), scene([0])[0])
    assert len(found) == 1
    assert isinstance(heads.box_head[0].conv1.norm, torch.nn.SyncBatchNorm)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"mask_merge": "first"}, "HTCROIHeads.mask_merge must be one of last, mean"),
        ({"stage_weights": (1, 1)}, "HTCROIHeads.stage_weights must have 3 items"),
        ({"predictor": {"cls_agnostic_bbox_reg": False}}, "cls_agnostic_bbox_reg=True"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        htc_heads(**settings)


def test_a_semantic_head_without_a_pooler_is_refused():
    head = heads_of().semantic_head
    with pytest.raises(ConfigError, match="semantic_head needs semantic_pooler"):
        htc_heads(semantic_classes=0, semantic_head=head)
