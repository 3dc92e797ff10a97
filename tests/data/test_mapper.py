import copy

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from PIL import Image

from soft_teacher.data import mapper as mapper_module
from soft_teacher.data.augmentation import spatial as A
from soft_teacher.data.augmentation.policies import build_policy
from soft_teacher.data.images.image import UnreadableImage
from soft_teacher.data.mapper import (
    InferenceMapper,
    LabeledDatasetMapper,
    TwoViewDatasetMapper,
)
from soft_teacher.geometry import transform_boxes

H, W = 90, 120
# One bright rectangle on the grey that augmentations fill with; x0, y0, x1, y1 in the source.
RECTANGLE = (44, 30, 80, 56)
GREY, BRIGHT = A.GREY, 245


@pytest.fixture
def record(tmp_path):
    """An unlabeled image whose dataset has annotations all the same."""
    image = np.full((H, W, 3), GREY, dtype=np.uint8)
    x0, y0, x1, y1 = RECTANGLE
    image[y0:y1, x0:x1] = (255, 250, BRIGHT)
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    box = {"bbox": list(RECTANGLE), "bbox_mode": 0, "category_id": 0}
    size = {"height": H, "width": W}
    return {"file_name": str(path), "image_id": 9, **size, "annotations": [box]}


def two_views(weak=(), strong=(), image_format="BGR"):
    return TwoViewDatasetMapper(
        weak_augmentations=list(weak), strong_augmentations=list(strong), image_format=image_format
    )


def bright(image):
    """Centre (x, y) and box of the bright rectangle in a (3, h, w) view, absolute pixels."""
    light = image.numpy().min(0).astype(float) - GREY
    assert light.max() > 0.9 * (BRIGHT - GREY)
    border = [light[0], light[-1], light[:, 0], light[:, -1]]
    assert max(edge.max() for edge in border) < 2, "the rectangle left the view"
    ys, xs = np.indices(light.shape) + 0.5
    light = light.clip(0)
    centre = np.array([(xs * light).sum(), (ys * light).sum()]) / light.sum()
    # An edge lies where half of the light is.
    inside = light > 0.5 * (BRIGHT - GREY)
    xs, ys = xs[inside], ys[inside]
    box = [xs.min() - 0.5, ys.min() - 0.5, xs.max() + 0.5, ys.max() + 0.5]
    return centre, np.array(box, dtype=np.float32)


# --- what a sample is ---------------------------------------------------------------------------


def test_without_augmentations_both_views_are_the_image(record):
    sample = two_views()(record)
    source = np.asarray(Image.open(record["file_name"]))[:, :, ::-1].transpose(2, 0, 1)
    for key in ("image", "weak_image"):
        assert sample[key].dtype == torch.uint8
        np.testing.assert_array_equal(sample[key], source)
    assert sample["weak_to_strong"].dtype == torch.float32
    np.testing.assert_array_equal(sample["weak_to_strong"], np.eye(3))


def test_the_channels_come_in_the_order_of_the_image_format(record):
    bgr, rgb = (two_views(image_format=order)(record) for order in ("BGR", "RGB"))
    for key in ("image", "weak_image"):
        assert torch.equal(bgr[key], rgb[key].flip(0))
        assert not torch.equal(bgr[key], rgb[key])


def test_annotations_never_reach_the_sample(record):
    before = copy.deepcopy(record)
    sample = two_views()(record)
    assert set(sample) == {
        *("file_name", "image_id", "height", "width"),
        *("image", "weak_image", "weak_to_strong"),
    }
    assert record == before


def test_the_annotations_are_not_even_read(record):
    record["annotations"] = None
    assert "annotations" not in two_views()(record)


HIDDEN = {"bbox": list(RECTANGLE), "bbox_mode": 0, "category_id": 3}


def test_hidden_annotations_come_along_in_the_weak_view(record):
    np.random.seed(3)
    record["hidden_annotations"] = [HIDDEN]
    for _ in range(5):
        sample = two_views(WEAK, WEAK + GEOMETRY)(record)
        assert "hidden_annotations" not in sample
        truth = sample["hidden_instances"]
        assert truth.image_size == tuple(sample["weak_image"].shape[1:])
        assert truth.gt_classes.tolist() == [3]
        _, box = bright(sample["weak_image"])
        np.testing.assert_allclose(truth.gt_boxes.tensor[0], box, atol=2)


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("hidden", [[], [HIDDEN], 5 * [HIDDEN]])
def test_hidden_annotations_change_neither_view(record, variant, hidden):
    view = dict(short_edge=64, max_size=128)
    mapper = two_views(
        build_policy("weak", variant, **view), build_policy("strong", variant, **view)
    )
    for seed in range(4):
        np.random.seed(seed)
        expected = mapper(record)
        np.random.seed(seed)
        found = mapper({**record, "hidden_annotations": hidden})
        assert len(found.pop("hidden_instances")) == len(hidden)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
            assert same(found[key], value), key


GIVEN = {**HIDDEN, "score": 0.5}


def test_given_annotations_come_along_in_the_weak_view(record):
    np.random.seed(3)
    record["given_annotations"] = [GIVEN]
    for _ in range(5):
        sample = two_views(WEAK, WEAK + GEOMETRY)(record)
        assert not {"given_annotations", "hidden_instances"} & set(sample)
        given = sample["given_instances"]
        assert given.image_size == tuple(sample["weak_image"].shape[1:])
        assert (given.pred_classes.tolist(), given.scores.tolist()) == ([3], [0.5])
        _, box = bright(sample["weak_image"])
        np.testing.assert_allclose(given.pred_boxes.tensor[0], box, atol=2)


def test_given_annotations_change_neither_view(record):
    found = []
    for extra in ({}, {"given_annotations": [GIVEN]}):
        np.random.seed(0)
        found.append(two_views(WEAK, WEAK + GEOMETRY)({**record, **extra}))
    assert set(found[1]) - set(found[0]) == {"given_instances"}
    for key in ("image", "weak_image", "weak_to_strong"):
        assert torch.equal(found[0][key], found[1][key])


def test_given_annotations_of_another_image_size_are_not_trusted(record):
    with pytest.raises(UnreadableImage, match=record["file_name"]):
        two_views()({**record, "width": W + 1, "given_annotations": [GIVEN]})


def test_the_image_is_decoded_once(record, monkeypatch):
    decoded = []
    read_image = mapper_module.read_image

    def count(*args, **kwargs):
        decoded.append(args)
        return read_image(*args, **kwargs)

    monkeypatch.setattr(mapper_module, "read_image", count)
    mapper = two_views(build_policy("weak"), build_policy("strong"))
    mapper(record)
    assert len(decoded) == 1


def test_the_size_is_the_file_s_whatever_the_dataset_says(record):
    sample = two_views()({**record, "width": W + 1})
    assert (sample["height"], sample["width"]) == (H, W)


# --- two views ----------------------------------------------------------------------------------


class PaintInPlace(T.Augmentation):
    """Writes into the array it gets, as a careless augmentation does."""

    def get_transform(self, image):
        image[:] = 7
        return T.NoOpTransform()


@pytest.mark.parametrize("painted, kept", [("weak", "image"), ("strong", "weak_image")])
def test_a_view_that_is_painted_leaves_the_other_alone(record, painted, kept):
    sample = two_views(**{painted: [PaintInPlace()]})(record)
    assert sample[kept].max() == 255
    other = {"image": "weak_image", "weak_image": "image"}[kept]
    assert sample[other].unique().tolist() == [7]


def test_the_views_are_drawn_one_for_itself(record):
    np.random.seed(0)
    jitter = [A.ShortEdgeScaleJitter(90, 200, (0.5, 1.5)), A.RandomHorizontalFlip()]
    mapper = two_views(jitter, jitter)
    samples = [mapper(record) for _ in range(20)]
    assert all(sample["image"].shape != sample["weak_image"].shape for sample in samples)
    flipped = [float(sample["weak_to_strong"][0, 0]) < 0 for sample in samples]
    assert 0 < sum(flipped) < 20


WEAK = [A.ShortEdgeScaleJitter(180, 400, (0.8, 1.2)), A.RandomHorizontalFlip()]
GEOMETRY = [
    A.RandomTranslation(prob=1.0),
    A.RandomRotate(prob=1.0),
    A.RandomShear(prob=1.0, angle=(0.0, 10.0)),
]
STRONG_VIEWS = {
    "nothing": [],
    "scale": WEAK[:1],
    "scale and flip": WEAK,
    "translation": WEAK + GEOMETRY[:1],
    "rotation": WEAK + GEOMETRY[1:2],
    "shear": WEAK + GEOMETRY[2:],
    "everything": WEAK + GEOMETRY,
    "one of them": WEAK + [A.OneOf(GEOMETRY)],
}


@pytest.mark.parametrize("strong", STRONG_VIEWS.values(), ids=STRONG_VIEWS.keys())
def test_the_matrix_carries_points_and_boxes_from_the_weak_to_the_strong_view(record, strong):
    np.random.seed(11)
    mapper = two_views(WEAK, strong)
    for _ in range(5):
        sample = mapper(record)
        matrix = sample["weak_to_strong"]
        assert matrix.shape == (3, 3) and matrix[2].tolist() == [0, 0, 1]
        weak_centre, weak_box = bright(sample["weak_image"])
        centre, box = bright(sample["image"])
        carried = matrix.numpy() @ [*weak_centre, 1]
        np.testing.assert_allclose(carried[:2], centre, atol=0.1)
        carried = transform_boxes(torch.from_numpy(weak_box)[None], matrix)[0]
        np.testing.assert_allclose(carried, box, atol=2)


def test_only_affine_augmentations_are_accepted(record):
    class Bend(T.NoOpTransform):
        def apply_coords(self, coords):
            return coords + 1e-3 * coords[:, :1] * coords[:, 1:]

    with pytest.raises(ValueError, match="not an affine transform"):
        two_views(strong=[Bend()])(record)


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_the_policies_of_table_2_give_two_views_and_a_matrix_that_can_be_inverted(record, variant):
    np.random.seed(5)
    view = dict(short_edge=64, max_size=128)
    mapper = two_views(
        build_policy("weak", variant, **view), build_policy("strong", variant, **view)
    )
    for _ in range(10):
        sample = mapper(record)
        for key in ("image", "weak_image"):
            assert sample[key].dtype == torch.uint8 and sample[key].shape[0] == 3
            assert max(sample[key].shape[1:]) <= 128
        there = sample["weak_to_strong"].double()
        back = torch.linalg.inv(there)
        np.testing.assert_allclose(there @ back, np.eye(3), atol=1e-6)


# --- labeled images -----------------------------------------------------------------------------


def labeled(*augmentations, image_format="BGR"):
    return LabeledDatasetMapper(augmentations=list(augmentations), image_format=image_format)


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_a_labeled_sample_is_what_detectron2_s_mapper_makes_of_it(record, image_format):
    view = [A.ShortEdgeScaleJitter(64, 128), A.RandomHorizontalFlip(), A.RandomRotate(prob=1.0)]
    stock = DatasetMapper(True, augmentations=view, image_format=image_format)
    for seed in range(4):
        np.random.seed(seed)
        expected = stock(record)
        np.random.seed(seed)
        found = labeled(*view, image_format=image_format)(record)
        assert set(found) == set(expected)
        assert torch.equal(found["image"], expected["image"])
        assert torch.equal(
            found["instances"].gt_boxes.tensor, expected["instances"].gt_boxes.tensor
        )
        assert torch.equal(found["instances"].gt_classes, expected["instances"].gt_classes)


def test_a_labeled_record_is_left_as_it_was(record):
    before = copy.deepcopy(record)
    labeled(A.RandomHorizontalFlip(prob=1.0))(record)
    assert record == before


def test_boxes_of_another_image_size_are_not_trusted(record):
    with pytest.raises(UnreadableImage) as error:
        labeled()({**record, "width": W + 1})
    assert "\n" not in str(error.value) and record["file_name"] in str(error.value)


@pytest.mark.parametrize("mapper", [two_views(), labeled()])
def test_a_file_that_cannot_be_read_is_named(mapper, record):
    with open(record["file_name"], "wb") as file:
        file.write(b"no image")
    with pytest.raises(UnreadableImage, match=record["file_name"]):
        mapper(record)


# --- images to detect in ------------------------------------------------------------------------


def detected_in(*augmentations, **options):
    return InferenceMapper(augmentations=list(augmentations), image_format="BGR", **options)


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_an_image_to_detect_in_is_what_detectron2_s_mapper_makes_of_it(record, image_format):
    view = [T.ResizeShortestEdge(64, 128)]
    record = {**record, "image_id": 7, "anything": "else"}
    expected = DatasetMapper(False, augmentations=view, image_format=image_format)(record)
    found = InferenceMapper(augmentations=view, image_format=image_format)(record)
    assert torch.equal(found.pop("image"), expected.pop("image"))
    assert found == expected and found["image_id"] == 7


def test_the_size_of_an_image_to_detect_in_is_the_file_s(record):
    sample = detected_in()({"file_name": record["file_name"], "width": W + 1})
    assert (sample["height"], sample["width"]) == (H, W) and "unreadable" not in sample


@pytest.mark.parametrize("fault", ["no image", "another size", "too large"])
def test_an_image_to_detect_in_that_cannot_be_used_is_black_and_says_why(record, fault):
    before = copy.deepcopy(record)
    if fault == "no image":
        with open(record["file_name"], "wb") as file:
            file.write(b"no image")
    changed = {"width": W + 1} if fault == "another size" else {}
    limit = {"max_pixels": H * W - 1} if fault == "too large" else {}
    sample = detected_in(**limit)({**record, "image_id": 7, **changed})
    assert record["file_name"] in sample["unreadable"] and "\n" not in sample["unreadable"]
    assert sample["image"].dtype == torch.uint8 and not sample["image"].any()
    assert sample["image_id"] == 7 and "annotations" not in sample
    assert record == before


@pytest.mark.parametrize(
    "size, view", [((1, 1), (64, 64)), ((1, 10_000), (1, 128)), ((10_000, 1), (128, 1))]
)
def test_a_very_long_image_keeps_a_pixel_of_its_short_edge(size, view, tmp_path):
    path = tmp_path / "thin.png"
    Image.fromarray(np.full((*size, 3), 9, np.uint8)).save(path)
    sample = detected_in(T.ResizeShortestEdge([64], 128, "choice"))({"file_name": str(path)})
    assert sample["image"].shape == (3, *view)
    assert (sample["image"] == 9).all()


def test_the_limit_of_pixels_is_the_same_in_all_mappers(record):
    for mapper in (two_views, labeled):
        full, half = mapper(), mapper()
        half.max_pixels = H * W - 1
        assert "image" in full(record)
        with pytest.raises(UnreadableImage, match="max_pixels"):
            half(record)
