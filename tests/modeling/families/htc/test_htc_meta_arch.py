"""The detector takes semantic maps from its inputs; it trains and predicts."""

import pytest
import torch
from detectron2.modeling import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.structures import BitMasks
from htc import htc_heads, htc_rpn
from mmdet_htc import MEAN, STD, tiny_swin
from steps import targets

from soft_teacher import ConfigError
from soft_teacher.modeling.families.htc import HybridTaskCascade

SIZE = (50, 70)


def detector(**kwargs):
    torch.manual_seed(0)
    swin = tiny_swin(window_size=4)
    return HybridTaskCascade(
        backbone=FPN(swin, ["p0", "p1", "p2", "p3"], 8, top_block=LastLevelMaxPool()),
        proposal_generator=htc_rpn(8, post_nms_topk=(30, 10)),
        roi_heads=htc_heads(channels=8, fc_dim=8, samples=16, **kwargs),
        pixel_mean=MEAN,
        pixel_std=STD,
    )


def image(seed, objects=True, **fields):
    g = torch.Generator().manual_seed(seed)
    gt = targets([[5, 8, 40, 44], [30, 4, 66, 30]], [1, 3], SIZE) if objects else targets(size=SIZE)
    masks = torch.zeros(len(gt), *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, gt.gt_boxes.tensor.int().tolist()):
        mask[y0:y1, x0:x1] = True
    gt.gt_masks = BitMasks(masks)
    picture = torch.randint(256, (3, *SIZE), generator=g, dtype=torch.uint8)
    return {"image": picture, "instances": gt, **fields}


def stuff(seed):
    return torch.randint(11, SIZE, generator=torch.Generator().manual_seed(seed))


BATCHES = {
    "with maps": [image(0, sem_seg=stuff(0)), image(1, sem_seg=stuff(1))],
    "one without a map": [image(0, sem_seg=stuff(0)), image(1)],
    "no map": [image(0), image(1)],
    "no objects": [image(0, objects=False, sem_seg=stuff(0))],
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
def test_a_step_has_every_loss_and_a_gradient_for_every_parameter(batch):
    model = detector().train()
    losses = model(batch)
    named = [f"{n}_stage{k}" for n in ("loss_cls", "loss_box_reg", "loss_mask") for k in range(3)]
    assert set(losses) == {*named, "loss_sem_seg", "loss_rpn_cls", "loss_rpn_loc"}
    assert (losses["loss_sem_seg"] > 0) == any("sem_seg" in x for x in batch)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_maps_of_a_step_are_forgotten_after_it():
    model = detector().train()
    model(BATCHES["with maps"])
    with pytest.raises(ConfigError, match="semantic"):
        super(HybridTaskCascade, model).forward(BATCHES["with maps"])


def test_without_a_semantic_branch_it_is_a_generalized_rcnn():
    model = detector(semantic_classes=0).train()
    batch = BATCHES["no map"]
    torch.manual_seed(1)
    losses = model(batch)
    torch.manual_seed(1)
    stock = super(HybridTaskCascade, model).forward(batch)
    assert "loss_sem_seg" not in losses
    assert {k: v.item() for k, v in losses.items()} == {k: v.item() for k, v in stock.items()}


def test_it_predicts_masks_in_the_size_of_the_image():
    model = detector().eval()
    with torch.no_grad():
        (found,) = model([{"image": image(0)["image"], "height": 100, "width": 140}])
    found = found["instances"]
    assert len(found) and found.pred_masks.shape == (len(found), 100, 140)
    assert found.pred_masks.dtype == torch.bool


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_it_suppresses_softly(method):
    images = [{"image": image(0)["image"]}]
    with torch.no_grad():
        hard, soft = (
            detector(predictor={"soft_nms": m}).eval()(images)[0]["instances"]
            for m in ("none", method)
        )
    assert len(soft) > len(hard)
