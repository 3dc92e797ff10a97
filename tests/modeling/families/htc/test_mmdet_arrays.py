"""HTC against what mmdetection 3.3.0 computed with mmcv 2.1.0 on the CPU, in float32.

The model has a tiny Swin (width 16), 32 channels, 6 classes and 11 semantic classes; its weights
are random and exact in float16. ``mmdet.npz`` holds the weights of the mask heads and their logits
for two boxes, the logits, deltas and boxes of every stage for 150 proposals, detections after NMS
and soft-NMS, and the matching of a training step. ``fixed/features`` alone are Detectron2's: RoI
features with the semantic ones added.

A folder with all arrays (``htc_infer.npz``, ``htc_train.npz``, ``swin.npz``) in
SOFT_TEACHER_HTC_ARRAYS runs the other tests, too: every intermediate result from the picture on.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import BitMasks, Boxes, Instances
from htc import IOUS, STDS, htc_heads, htc_rpn
from mmdet_htc import detector, from_mmdet, tiny_swin
from plain_htc import PlainHTC

from soft_teacher.modeling import InsideAnchorRPN
from soft_teacher.modeling.families.htc.mask_head import refined_features
from soft_teacher.modeling.weights.swin import swin_from_mmdet

SMALL = np.load(Path(__file__).with_name("mmdet.npz"))
FOLDER = os.environ.get("SOFT_TEACHER_HTC_ARRAYS")
all_arrays = pytest.mark.skipif(not FOLDER, reason="SOFT_TEACHER_HTC_ARRAYS names no folder")
SUPPRESSION = {"nms": "none", "soft_nms": "linear", "soft_nms_gauss": "gaussian"}
PIXELS = 0.002
SIZE = (187, 250)


def close(found, expected, tolerance):
    np.testing.assert_allclose(torch.as_tensor(found).detach(), expected, rtol=0, atol=tolerance)


def test_scores_are_the_softmax_of_mean_logits():
    logits = torch.stack([torch.as_tensor(SMALL[f"stage{k}/logits"]) for k in range(3)])
    close(logits.mean(0).softmax(1), SMALL["scores_mean_logits"], 2e-5)


def proposals_of(rows, size=SIZE):
    return [Instances(size, proposal_boxes=Boxes(torch.as_tensor(rows)))]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_stage_refines_boxes(stage):
    heads = htc_heads().eval()
    predictions = [torch.as_tensor(SMALL[f"stage{stage}/{n}"]) for n in ("logits", "deltas")]
    refined = heads._refine(predictions, proposals_of(SMALL[f"stage{stage}/rois"]), stage)
    close(refined[0].proposal_boxes.tensor, SMALL[f"stage{stage}/refined"], PIXELS)


@pytest.mark.parametrize("name", SUPPRESSION)
def test_detections_are_of_mean_logits_and_the_last_boxes(name, monkeypatch):
    heads = htc_heads(semantic_classes=0, predictor={"soft_nms": SUPPRESSION[name]}).eval()

    def run_stage(levels, proposals, stage):
        close(proposals[0].proposal_boxes.tensor, SMALL[f"stage{stage}/rois"], PIXELS)
        return [torch.as_tensor(SMALL[f"stage{stage}/{n}"]) for n in ("logits", "deltas")]

    monkeypatch.setattr(heads, "_run_stage", run_stage)
    levels = dict.fromkeys(heads.box_in_features)
    (found,) = heads._forward_box(levels, proposals_of(SMALL["stage0/rois"]))
    same_detections(found, SMALL, name)


def same_detections(found, arrays, name):
    assert found.pred_classes.tolist() == arrays[f"{name}/labels"].tolist()
    close(found.pred_boxes.tensor, arrays[f"{name}/boxes"], PIXELS)
    close(found.scores, arrays[f"{name}/scores"], 2e-5)


def test_mask_heads_pass_features_on():
    heads = htc_heads(semantic_classes=0).mask_head.eval()
    state = from_mmdet({k[2:]: SMALL[k] for k in SMALL if k.startswith("w/")})
    heads.load_state_dict({k.removeprefix("roi_heads.mask_head."): v for k, v in state.items()})
    x = torch.as_tensor(SMALL["fixed/features"])
    for stage, refined in enumerate(refined_features(heads, x)):
        close(heads[stage].predict(refined), SMALL["fixed/mask_logits_all"][stage], 2e-4)


def test_the_first_stage_matches_proposals_and_ground_truth(storage):
    heads = htc_heads(samples=10**6, positives=1.0)
    for i in range(2):
        size = SIZE if i == 0 else (160, 221)
        boxes, classes = (torch.as_tensor(SMALL[f"train/gt{i}_{n}"]) for n in ("boxes", "classes"))
        gt = Instances(size, gt_boxes=Boxes(boxes), gt_classes=classes)
        candidates = [Boxes(torch.as_tensor(SMALL[f"train/proposals{i}"]))]
        (samples,) = heads._sample(candidates, [gt], 0)
        positive = (samples.gt_classes < 6).sum()
        assert positive == SMALL["train/stage0/box_n_pos"][i]
        assert len(samples) - positive == SMALL["train/stage0/box_n_neg"][i]
        assert samples.is_gt.sum() == SMALL["train/stage0/box_n_gt_added"][i]


def arrays_of(name):
    return np.load(Path(FOLDER) / f"{name}.npz")


@pytest.fixture(scope="module")
def arrays():
    return dict(arrays_of("htc_infer"))


@pytest.fixture(scope="module")
def train_arrays():
    return dict(arrays_of("htc_train"))


@pytest.fixture(scope="module")
def weights(arrays):
    return from_mmdet({k[2:]: v for k, v in arrays.items() if k.startswith("w/")})


@pytest.fixture
def build(weights):
    """build(...): a detector with mmdetection's weights."""

    def build(**kwargs):
        model = detector(**kwargs)
        missing, unexpected = model.load_state_dict(weights, strict=False)
        assert not unexpected
        assert {key.split(".")[-1] for key in missing} <= {"relative_position_index"}
        return model.eval()

    return build


def picture(array):
    return torch.as_tensor(array).permute(2, 0, 1).float()


def encoded(model, arrays):
    images = model.preprocess_image([{"image": picture(arrays["image_rgb"])}])
    assert images.image_sizes == [tuple(arrays["image_size"])]
    assert images.tensor.shape[-2:] == tuple(arrays["pad_shape"])
    return images, model.backbone(images.tensor)


@all_arrays
@torch.no_grad()
def test_features(build, arrays):
    model = build()
    images, features = encoded(model, arrays)
    stages = model.backbone.bottom_up(images.tensor)
    for level in range(2, 6):
        close(stages[f"p{level - 2}"][0, :8], arrays[f"backbone/c{level}"], 2e-5)
    for level in range(2, 7):
        x = features[f"p{level}"][0]
        close(x[: len(arrays[f"feat/p{level}"])], arrays[f"feat/p{level}"], 2e-5)
        close(mean_std(x), arrays[f"feat_meanstd/p{level}"], 2e-5)
    embedding, logits = model.roi_heads.semantic_head(features)
    close(embedding[0], arrays["semantic/feat"], 4e-5)
    close(logits[0], arrays["semantic/logits"], 4e-5)


def mean_std(x):
    x = x.flatten(1).double()
    return torch.stack([x.mean(1), x.std(1)])


@all_arrays
@torch.no_grad()
def test_proposals(build, arrays):
    model = build()
    images, features = encoded(model, arrays)
    rpn = model.proposal_generator
    logits, deltas = rpn.rpn_head([features[name] for name in rpn.in_features])
    close(mean_std(logits[0][0]), arrays["rpn/logits_p2_meanstd"], 2e-5)
    for level in range(3, 7):
        close(logits[level - 2][0], arrays[f"rpn/logits_p{level}"], 3e-5)
        close(deltas[level - 2][0], arrays[f"rpn/deltas_p{level}"], 2e-5)
    (found,), _ = rpn(images, features)
    close(found.proposal_boxes.tensor, arrays["proposals"], PIXELS)
    close(found.objectness_logits.sigmoid(), arrays["proposal_scores"], 2e-5)


@all_arrays
@torch.no_grad()
def test_stages(build, arrays):
    model = build()
    heads = model.roi_heads
    features, _ = heads.with_embedding(encoded(model, arrays)[1])
    levels = [features[name] for name in heads.box_in_features]
    proposals, fixed = proposals_of(arrays["proposals"]), proposals_of(arrays["fixed/rois"])
    total = 0
    for stage in range(3):
        close(proposals[0].proposal_boxes.tensor, arrays[f"stage{stage}/rois"], PIXELS)
        logits, deltas = heads._run_stage(levels, proposals, stage)
        close(logits, arrays[f"stage{stage}/logits"], 1e-4)
        close(deltas, arrays[f"stage{stage}/deltas"], 1e-4)
        proposals = heads._refine((logits, deltas), proposals, stage)
        close(proposals[0].proposal_boxes.tensor, arrays[f"stage{stage}/refined"], PIXELS)
        total = total + logits
        logits, deltas = heads._run_stage(levels, fixed, stage)
        close(logits, arrays[f"fixed/logits{stage}"], 1e-4)
        close(deltas, arrays[f"fixed/deltas{stage}"], 1e-4)
    close((total / 3).softmax(1), arrays["scores_mean_logits"], 2e-5)
    x = heads._mask_features(features, [p.proposal_boxes for p in fixed])
    classes = torch.as_tensor(arrays["fixed/classes"])
    for stage, refined in enumerate(refined_features(heads.mask_head, x)):
        logits = heads.mask_head[stage].predict(refined)
        close(logits[torch.arange(8), classes], arrays["fixed/mask_logits"][stage], 2e-4)
        close(logits[:2], arrays["fixed/mask_logits_all"][stage], 2e-4)


@all_arrays
@pytest.mark.parametrize("name", SUPPRESSION)
@torch.no_grad()
def test_detections(build, arrays, name):
    model = build(predictor={"soft_nms": SUPPRESSION[name]})
    images, features = encoded(model, arrays)
    (found,), _ = model.roi_heads(images, features, proposals_of(arrays["proposals"]))
    same_detections(found, arrays, name)


@all_arrays
@pytest.mark.parametrize(
    "merge, theirs, pasted", [("last", "last", "mm3"), ("mean", "mean3", "mean3")]
)
@pytest.mark.parametrize("name", ["nms", "soft_nms"])
@torch.no_grad()
def test_masks(build, arrays, name, merge, theirs, pasted):
    model = build(mask_merge=merge)
    found = Instances(SIZE, pred_boxes=Boxes(torch.as_tensor(arrays[f"{name}/boxes"])))
    found.scores, found.pred_classes = (
        torch.as_tensor(arrays[f"{name}/{key}"]) for key in ("scores", "labels")
    )
    model.roi_heads.forward_with_given_boxes(encoded(model, arrays)[1], [found])
    known = arrays[f"{name}/mask_probs_{theirs}"] / 65535
    close(found.pred_masks[:40, 0], known, 6e-5)
    if name == "nms":
        masks = detector_postprocess(found, *SIZE).pred_masks[:20]
        assert np.array_equal(masks, bits(arrays[f"nms/pasted_{pasted}"], SIZE[1]))


def bits(packed, width):
    return np.unpackbits(packed, axis=-1)[..., :width].astype(bool)


@all_arrays
@torch.no_grad()
def test_the_whole_detector(build, arrays):
    found = build()([{"image": picture(arrays["image_rgb"])}])[0]["instances"]
    same_detections(found, arrays, "nms")


def train_batch(arrays):
    batch = []
    for i in range(2):
        image, size = picture(arrays[f"image{i}_rgb"]), arrays[f"image{i}_rgb"].shape[:2]
        gt = Instances(size, gt_boxes=Boxes(torch.as_tensor(arrays[f"gt{i}_boxes"])))
        gt.gt_classes = torch.as_tensor(arrays[f"gt{i}_classes"])
        gt.gt_masks = BitMasks(torch.as_tensor(bits(arrays[f"gt{i}_masks"], size[1])))
        maps = torch.as_tensor(arrays[f"gt{i}_semantic"]).long()
        batch.append({"image": image, "instances": gt, "sem_seg": maps})
    return batch


def train_step(model, arrays):
    """Losses of the heads on given proposals; features, proposals and targets."""
    model.train()
    batch = train_batch(arrays)
    images = model.preprocess_image(batch)
    features, gt = model.backbone(images.tensor), [x["instances"] for x in batch]
    rows = [arrays[f"proposals{i}"] for i in range(2)]
    proposals = [proposals_of(r, t.image_size)[0] for r, t in zip(rows, gt)]
    with model.roi_heads.semantic_maps([x["sem_seg"] for x in batch]):
        losses = model.roi_heads(images, features, proposals, gt)[1]
    return losses, features, proposals, gt, [x["sem_seg"] for x in batch]


def same_losses(losses, arrays):
    names = {"loss_sem_seg": "loss_semantic_seg"}
    for kind, theirs in (("cls", "cls"), ("box_reg", "bbox"), ("mask", "mask")):
        names.update({f"loss_{kind}_stage{k}": f"s{k}.loss_{theirs}" for k in range(3)})
    assert names.keys() == losses.keys()
    for name, theirs in names.items():
        close(losses[name].detach(), arrays[f"loss/{theirs}"], 5e-6)


@all_arrays
def test_losses_and_counts(build, train_arrays, storage):
    losses, *_ = train_step(build(samples=10**6, positives=1.0), train_arrays)
    same_losses(losses, train_arrays)
    logged = storage.latest()
    for stage in range(3):
        for branch, prefix in (("box", ""), ("mask", "mask/")):
            for kind, theirs in (("fg", "pos"), ("bg", "neg")):
                key = f"stage{stage}/{branch}_n_{theirs}"
                if key in train_arrays:
                    mean = logged[f"stage{stage}/{prefix}roi_head/num_{kind}_samples"][0]
                    assert mean == train_arrays[key].mean()


@all_arrays
def test_losses_of_the_float64_reference(build, train_arrays):
    model = build(samples=10**6, positives=1.0)
    _, features, proposals, gt, maps = train_step(model, train_arrays)
    plain = PlainHTC(model.roi_heads.state_dict(), stds=STDS, ious=IOUS, num_classes=6)
    losses = plain.losses(
        {name: x.detach().double() for name, x in features.items()},
        [p.proposal_boxes.tensor.double() for p in proposals],
        [(t.gt_boxes.tensor.double(), t.gt_classes, t.gt_masks.tensor, t.image_size) for t in gt],
        maps,
    )
    same_losses(losses, train_arrays)


class CellsOfTheImage(InsideAnchorRPN):
    """Matches all anchors but those of cells in the padding that the batch adds to an image."""

    def matched(self, anchors, image_size):
        h, w = (-(-side // 32) * 32 for side in image_size)
        strides = [4, 8, 16, 32, 64]
        masks = []
        for stride in strides:
            rows, columns = (torch.arange(-(-n // stride)) * stride for n in (192, 256))
            inside = (rows < h)[:, None] & (columns < w)
            masks.append(inside.flatten().repeat_interleave(3))
        return torch.cat(masks)


@all_arrays
@pytest.mark.parametrize(
    "name, cls", [("rpn_inside", InsideAnchorRPN), ("rpn_all", CellsOfTheImage)]
)
def test_losses_of_the_rpn(build, train_arrays, name, cls):
    whole = 10**6
    model = build(rpn=htc_rpn(cls=cls, batch_size_per_image=whole)).train()
    rpn = model.proposal_generator
    batch = train_batch(train_arrays)
    levels = model.backbone(model.preprocess_image(batch).tensor)
    levels = [levels[name] for name in rpn.in_features]
    anchors = rpn.anchor_generator(levels)
    labels, boxes = rpn.label_and_sample_anchors(anchors, [x["instances"] for x in batch])
    count = train_arrays[f"{name}/avg_factor"]
    assert sum((x >= 0).sum() for x in labels) == count
    logits, deltas = rpn.rpn_head(levels)
    logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]
    deltas = [x.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3) for x in deltas]
    level = torch.cat([torch.full((len(a),), i) for i, a in enumerate(anchors)])
    for i in range(5):
        own = [x.where(level == i, -1) for x in labels]
        losses = rpn.losses(anchors, logits, own, deltas, boxes)
        for ours, theirs in (("loss_rpn_cls", "loss_cls"), ("loss_rpn_loc", "loss_bbox")):
            # Detectron2 divides by the samples asked for, mmdetection by those found.
            found = losses[ours].detach() * (2 * whole / count)
            close(found, train_arrays[f"{name}/{theirs}"][i], 5e-6)


@all_arrays
@pytest.mark.parametrize("window", [7, 12])
@pytest.mark.parametrize("size", ["61x83", "64x96", "33x150"])
@torch.no_grad()
def test_swin(window, size):
    arrays = arrays_of("swin")
    state = {k[3:]: torch.as_tensor(arrays[k]).float() for k in arrays if k.startswith("w7/")}
    if window == 12:
        larger = {k[4:]: arrays[k] for k in arrays if k.startswith("w12/")}
        state.update({k: torch.as_tensor(v).float() for k, v in larger.items()})
        state = {k: v for k, v in state.items() if not k.endswith("position_index")}
    model = tiny_swin(window_size=window).eval()
    missing, unexpected = model.load_state_dict(swin_from_mmdet(state), strict=False)
    assert not unexpected and all(k.endswith("relative_position_index") for k in missing)
    found = model(torch.as_tensor(arrays[f"x_{size}"]).float()[None])
    for stage in range(4):
        close(found[f"p{stage}"][0], arrays[f"out{window}_{size}/stage{stage}"], 6e-5)
