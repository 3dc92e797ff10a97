"""Masks of labeled and of unlabeled images follow every augmentation, as their boxes do.

The oracle moves the corners of a shape by a matrix that is written out here, in double precision.
"""

import copy

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, PolygonMasks
from PIL import Image
from shapes import FORMS, QUAD, as_polygon, box_of, iou, moved, raster, rle

from soft_teacher.data.augmentation.policies import NAMES, VARIANTS, build_policy
from soft_teacher.data.augmentation.transforms import (
    AffineTransform,
    CutoutTransform,
    FlipTransform,
    ResizeTransform,
)
from soft_teacher.data.mapper import LabeledDatasetMapper, TwoViewDatasetMapper
from soft_teacher.data.masks import packed

H, W = SIZE = (90, 120)
SMALL = QUAD * 0.25
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def affine(linear, shift=(0, 0)):
    return np.vstack([np.column_stack([linear, shift]), [0, 0, 1]])


def turned(degrees):
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    linear, centre = np.array([[cos, -sin], [sin, cos]]), np.array([W / 2, H / 2])
    return affine(linear, centre - linear @ centre)


FLIP = affine(np.diag([-1, 1]), [W, 0])
TURN, SHEAR, SHIFT = turned(24), affine([[1, 0.3], [-0.2, 0.94]]), affine(np.eye(2), [11.3, -7.6])
GROW = np.diag([216 / W, 150 / H, 1])


def warp(matrix):
    return AffineTransform(matrix, H, W)


# name: (transforms, image to view, (height, width) of the view)
MOVES = {
    "nothing": ([], np.eye(3), SIZE),
    "resize": ([ResizeTransform(H, W, 150, 216)], GROW, (150, 216)),
    "shrink": ([ResizeTransform(H, W, 54, 72)], np.diag([0.6, 0.6, 1]), (54, 72)),
    "flip": ([FlipTransform(W)], FLIP, SIZE),
    "rotate": ([warp(TURN)], TURN, SIZE),
    "shear": ([warp(SHEAR)], SHEAR, SIZE),
    "translate": ([warp(SHIFT)], SHIFT, SIZE),
    "cutout": ([CutoutTransform([[30, 20, 60, 50]])], np.eye(3), SIZE),
    "all": (
        [warp(SHIFT), warp(TURN), warp(SHEAR), FlipTransform(W), ResizeTransform(H, W, 150, 216)],
        GROW @ FLIP @ SHEAR @ TURN @ SHIFT,
        (150, 216),
    ),
}
every_move = pytest.mark.parametrize("transforms, matrix, view", MOVES.values(), ids=MOVES)


def annotation(segmentation, corners=QUAD, **values):
    box = {"bbox": box_of(corners), "bbox_mode": 0, "category_id": 0, "iscrowd": 0}
    return {**box, "segmentation": segmentation, **values}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("masks") / "image.png"
    Image.fromarray(np.full((*SIZE, 3), 99, np.uint8)).save(path)
    return {"file_name": str(path), "image_id": 1, "height": H, "width": W}


def labeled(image, annotations, transforms=(), mask_format="bitmask"):
    mapper = LabeledDatasetMapper(
        augmentations=list(transforms), image_format="BGR", mask_format=mask_format
    )
    record = {**image, "annotations": annotations}
    before = copy.deepcopy(record)
    sample = mapper(record)
    assert record == before
    return sample


def unlabeled(image, weak=(), strong=(), mask_format="bitmask", **annotations):
    mapper = TwoViewDatasetMapper(
        weak_augmentations=list(weak),
        strong_augmentations=list(strong),
        image_format="BGR",
        mask_format=mask_format,
    )
    record = {**image, **{f"{key}_annotations": found for key, found in annotations.items()}}
    before = copy.deepcopy(record)
    sample = mapper(record)
    assert record == before
    return sample


def bitmaps(masks, size):
    """bool (N, H, W), of stock masks of either kind."""
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *size)
    return masks.tensor.numpy()


def tight(mask):
    ys, xs = np.nonzero(mask)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


# --- labeled images -----------------------------------------------------------------------------


@every_move
@every_form
def test_a_mask_of_every_form_goes_where_the_matrix_takes_its_corners(
    form, transforms, matrix, view, image
):
    found = labeled(image, [annotation(packed(form(QUAD, SIZE)))], transforms)["instances"]
    expected = raster(moved(QUAD, matrix), view)
    assert type(found.gt_masks) is BitMasks and found.gt_masks.tensor.dtype == torch.bool
    (mask,) = found.gt_masks.tensor.numpy()
    assert mask.shape == view and iou(mask, expected) > 0.93
    # The box is the one around the moved box, which holds the mask.
    x0, y0, x1, y1 = found.gt_boxes.tensor[0].numpy()
    left, top, right, bottom = tight(mask)
    assert x0 - 1 <= left and y0 - 1 <= top and right <= x1 + 1 and bottom <= y1 + 1


@every_move
def test_a_polygon_goes_there_exactly(transforms, matrix, view, image):
    given = [annotation([*as_polygon(QUAD), *as_polygon(SMALL)])]
    found = labeled(image, given, transforms, "polygon")["instances"].gt_masks
    assert type(found) is PolygonMasks
    for corners, polygon in zip((QUAD, SMALL), found.polygons[0], strict=True):
        np.testing.assert_allclose(polygon.reshape(-1, 2), moved(corners, matrix), atol=1e-9)


@pytest.mark.parametrize("name", ["nothing", "resize", "flip", "translate"])
def test_where_sides_stay_upright_the_box_is_tight_on_the_mask(name, image):
    transforms, matrix, _ = MOVES[name]
    found = labeled(image, [annotation(rle(QUAD, SIZE))], transforms)["instances"]
    (mask,) = found.gt_masks.tensor.numpy()
    np.testing.assert_allclose(found.gt_boxes.tensor[0], box_of(moved(QUAD, matrix)), atol=1e-3)
    np.testing.assert_allclose(found.gt_boxes.tensor[0], tight(mask), atol=1.5)


@pytest.mark.parametrize(
    "name, variant", [(name, variant) for name in NAMES for variant in VARIANTS]
)
def test_all_forms_agree_on_their_boxes_through_whole_policies(name, variant, image):
    policy = build_policy(name, variant, short_edge=100, max_size=180)
    shared = []
    for seed in range(12):
        seen = []
        for form, mask_format in (
            (as_polygon, "polygon"),
            (as_polygon, "bitmask"),
            (rle, "bitmask"),
        ):
            np.random.seed(seed)
            sample = labeled(image, [annotation(form(QUAD, SIZE))], policy, mask_format)
            found = sample["instances"]
            assert len(found) == 1  # the middle of the image stays in every view
            seen.append(found.gt_masks.crop_and_resize(found.gt_boxes.tensor, 28)[0].numpy())
        shared += [iou(seen[0], seen[1]), iou(seen[0], seen[2])]
    assert np.mean(shared) > 0.94 and min(shared) > 0.85


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
@pytest.mark.parametrize(
    "shift, kept", [((0, 0), [3, 5]), ((90, 0), [3]), ((-26, -20), [5]), ((200, 0), [])]
)
def test_what_leaves_the_view_is_dropped_with_its_mask(shift, kept, mask_format, image):
    given = [
        annotation(as_polygon(SMALL), SMALL, category_id=3),
        annotation(as_polygon(QUAD), category_id=5),
    ]
    shapes = {3: SMALL, 5: QUAD}
    found = labeled(image, given, [warp(affine(np.eye(2), shift))], mask_format)["instances"]
    assert found.gt_classes.tolist() == kept and len(found.gt_masks) == len(kept)
    for number, mask in zip(kept, bitmaps(found.gt_masks, SIZE)):
        assert iou(mask, raster(shapes[number] + shift, SIZE)) > 0.8


def test_a_box_whose_mask_is_empty_is_dropped(image):
    given = [annotation(rle(QUAD + [0, 500], SIZE)), annotation(rle(QUAD, SIZE), category_id=1)]
    assert labeled(image, given)["instances"].gt_classes.tolist() == [1]


def test_crowds_need_no_mask(image):
    crowd = annotation(None, iscrowd=1)
    del crowd["segmentation"]
    assert len(labeled(image, [crowd, annotation(rle(QUAD, SIZE))])["instances"].gt_masks) == 1


def test_boxes_alone_are_what_they_are_without_masks(image):
    with_mask, policy = annotation(as_polygon(QUAD)), build_policy("labeled", short_edge=64)
    bare = {key: value for key, value in with_mask.items() if key != "segmentation"}
    samples = []
    for given, mask_format in ((bare, None), (with_mask, None), (with_mask, "polygon")):
        np.random.seed(7)
        samples.append(labeled(image, [given], policy, mask_format))
    for sample in samples:
        assert torch.equal(sample["image"], samples[0]["image"])
        for name, value in samples[0]["instances"].get_fields().items():
            tensors = (getattr(v, "tensor", v) for v in (sample["instances"].get(name), value))
            assert torch.equal(*tensors)
    fields = [set(sample["instances"].get_fields()) for sample in samples]
    assert fields == [{"gt_boxes", "gt_classes"}] * 2 + [{"gt_boxes", "gt_classes", "gt_masks"}]


# --- unlabeled images ---------------------------------------------------------------------------


@every_move
@pytest.mark.parametrize("form", [as_polygon, rle])
def test_masks_of_unlabeled_images_are_in_the_weak_view(form, transforms, matrix, view, image):
    given = [annotation(form(QUAD, SIZE))]
    sample = unlabeled(image, transforms, [FlipTransform(W)], hidden=given, given=given)
    hidden, found = sample["hidden_instances"], sample["given_instances"]
    expected = raster(moved(QUAD, matrix), view)
    assert iou(bitmaps(hidden.gt_masks, view)[0], expected) > 0.93
    assert torch.equal(hidden.gt_boxes.tensor, found.pred_boxes.tensor)
    # What the mask head would show: the mask through its box.
    assert found.pred_masks.shape == (1, 1, 28, 28) and found.pred_masks.dtype == torch.float32
    x0, y0, x1, y1 = found.pred_boxes.tensor[0].double().numpy()
    onto_box = (moved(QUAD, matrix) - [x0, y0]) * [28 / (x1 - x0), 28 / (y1 - y0)]
    assert iou(found.pred_masks[0, 0].numpy() > 0.5, raster(onto_box, (28, 28))) > 0.9


def test_hidden_masks_have_the_format_that_is_asked_for_unless_they_are_rle(image):
    both = [annotation(as_polygon(QUAD)), annotation(rle(SMALL, SIZE), SMALL)]
    kinds = {
        (mask_format, number): type(
            unlabeled(image, mask_format=mask_format, hidden=both[:number])["hidden_instances"].get(
                "gt_masks"
            )
        )
        for mask_format in ("polygon", "bitmask")
        for number in (0, 1, 2)
    }
    polygons = {("polygon", 0), ("polygon", 1)}
    assert kinds == {key: PolygonMasks if key in polygons else BitMasks for key in kinds}


def test_what_leaves_the_weak_view_is_dropped_with_its_mask(image):
    both = [annotation(rle(QUAD, SIZE), category_id=1), annotation(rle(SMALL, SIZE), SMALL)]
    sample = unlabeled(image, [warp(affine(np.eye(2), [-30, -20]))], hidden=both, given=both)
    hidden, given = sample["hidden_instances"], sample["given_instances"]
    assert hidden.gt_classes.tolist() == given.pred_classes.tolist() == [1]
    assert len(hidden.gt_masks) == len(given.pred_masks) == 1


@pytest.mark.parametrize(
    "annotations, mask_format",
    [
        ([annotation(rle(QUAD, SIZE))], None),
        ([{k: v for k, v in annotation(None).items() if k != "segmentation"}], "bitmask"),
        ([annotation(rle(QUAD, (80, 120)))], "bitmask"),  # the file has another size by now
    ],
    ids=["not wanted", "not there", "another size"],
)
def test_without_masks_there_are_boxes_alone(annotations, mask_format, image):
    sample = unlabeled(image, mask_format=mask_format, hidden=annotations, given=annotations)
    assert set(sample["hidden_instances"].get_fields()) == {"gt_boxes", "gt_classes"}
    fields = {"pred_boxes", "pred_classes", "scores"}
    assert set(sample["given_instances"].get_fields()) == fields
    np.testing.assert_allclose(sample["given_instances"].pred_boxes.tensor[0], box_of(QUAD))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_masks_change_neither_view_nor_box(count, image):
    policies = [build_policy(name, short_edge=64, max_size=128) for name in ("weak", "strong")]
    given = [annotation(rle(QUAD, SIZE))] * count
    for seed in range(3):
        samples = []
        for mask_format in (None, "bitmask"):
            np.random.seed(seed)
            samples.append(unlabeled(image, *policies, mask_format, hidden=given, given=given))
        one, other = samples
        for key in ("image", "weak_image", "weak_to_strong"):
            assert torch.equal(one[key], other[key])
        boxes = [sample["hidden_instances"].gt_boxes.tensor for sample in samples]
        assert torch.equal(*boxes) and len(boxes[0]) == count


def test_masks_may_come_through_augmentations_of_detectron2(image):
    view = [T.ResizeTransform(H, W, 2 * H, 2 * W), T.HFlipTransform(2 * W)]
    sample = unlabeled(image, view, hidden=[annotation(rle(QUAD, SIZE))])
    (mask,) = sample["hidden_instances"].gt_masks.tensor.numpy()
    expected = moved(QUAD, np.array([[-2.0, 0, 2 * W], [0, 2, 0], [0, 0, 1]]))
    assert iou(mask, raster(expected, (2 * H, 2 * W))) > 0.95
