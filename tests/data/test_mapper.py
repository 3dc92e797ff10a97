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
from soft_teacher.data.mapper import InferenceMapper, LabeledDatasetMapper, TwoViewDatasetMapper
from soft_teacher.geometry import transform_boxes

H, W = 90, 120
# One bright rectangle on the grey that augmentations fill with; x0, y0, x1, y1 in the source.
RECTANGLE = (44, 30, 80, 56)
GREY, BRIGHT = A.GREY, 245
HIDDEN = {"bbox": list(RECTANGLE), "bbox_mode": 0, "category_id": 3}
GIVEN = {**HIDDEN, "score": 0.5}
WEAK = [A.ShortEdgeScaleJitter(180, 400, (0.8, 1.2)), A.RandomHorizontalFlip()]
GEOMETRY = [
    A.RandomTranslation(prob=1.0),
    A.RandomRotate(prob=1.0),
    A.RandomShear(prob=1.0, angle=(0.0, 10.0)),
]


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


def two_views(weak=(), strong=(), image_format="BGR", **options):
    return TwoViewDatasetMapper(
        weak_augmentations=list(weak),
        strong_augmentations=list(strong),
        image_format=image_format,
        **options,
    )


def labeled(*augmentations, image_format="BGR", **options):
    augmentations = list(augmentations)
    return LabeledDatasetMapper(augmentations=augmentations, image_format=image_format, **options)


def detected_in(*augmentations, image_format="BGR", **options):
    return InferenceMapper(augmentations=list(augmentations), image_format=image_format, **options)


def damage(record):
    with open(record["file_name"], "wb") as file:
        file.write(b"no image")


def bright(image):
    """Centre (x, y) and box of the bright rectangle in a (3, h, w) view, absolute pixels."""
    light = image.numpy().min(0).astype(float) - GREY
    assert light.max() > 0.9 * (BRIGHT - GREY)
    border = [light[0], light[-1], light[:, 0], light[:, -1]]
    assert max(edge.max() for edge in border) < 2, "the rectangle left the view"
    ys, xs = np.indices(light.shape) + 0.5
    light = light.clip(0)
    centre = np.array([(xs * light).sum(), (ys * light).sum()]) / light.sum()
    # An edge is where half of the light is.
    inside = light > 0.5 * (BRIGHT - GREY)
    xs, ys = xs[inside], ys[inside]
    box = [xs.min() - 0.5, ys.min() - 0.5, xs.max() + 0.5, ys.max() + 0.5]
    return centre, np.array(box, dtype=np.float32)


# --- two views ----------------------------------------------------------------------------------


def test_without_augmentations_both_views_are_the_image_and_annotations_are_gone(record):
    source = np.asarray(Image.open(record["file_name"]))[:, :, ::-1].transpose(2, 0, 1)
    before = copy.deepcopy(record)
    sample, rgb = two_views()(record), two_views(image_format="RGB")(record)
    keys = {"image", "weak_image", "weak_to_strong", "file_name", "image_id", "height", "width"}
    assert set(sample) == keys and record == before
    for key in ("image", "weak_image"):
        assert sample[key].dtype == torch.uint8
        np.testing.assert_array_equal(sample[key], source)
        assert torch.equal(rgb[key], sample[key].flip(0))
    assert sample["weak_to_strong"].dtype == torch.float32
    np.testing.assert_array_equal(sample["weak_to_strong"], np.eye(3))


def test_annotations_are_not_even_read_and_the_size_is_the_file_s(record):
    sample = two_views()({**record, "annotations": None, "width": W + 1})
    assert "annotations" not in sample and (sample["height"], sample["width"]) == (H, W)


@pytest.mark.parametrize("keys", [["hidden"], ["given"], ["hidden", "given"]])
def test_held_out_and_precomputed_annotations_are_transformed_into_the_weak_view(record, keys):
    values = {"hidden_annotations": [HIDDEN], "given_annotations": [GIVEN]}
    record.update({f"{key}_annotations": values[f"{key}_annotations"] for key in keys})
    np.random.seed(3)
    for _ in range(5):
        sample = two_views(WEAK, WEAK + GEOMETRY)(record)
        found = {key: sample.pop(f"{key}_instances") for key in keys}
        assert not any("annotations" in key or "instances" in key for key in sample)
        _, box = bright(sample["weak_image"])
        for key, instances in found.items():
            fields = instances.get_fields()
            name = "gt" if key == "hidden" else "pred"
            assert instances.image_size == tuple(sample["weak_image"].shape[1:])
            assert fields[f"{name}_classes"].tolist() == [3]
            np.testing.assert_allclose(fields[f"{name}_boxes"].tensor[0], box, atol=2)
        if "given" in keys:
            assert found["given"].scores.tolist() == [0.5]


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("extra", [[], [HIDDEN], 5 * [HIDDEN]])
def test_such_annotations_change_neither_view(record, variant, extra):
    view = dict(short_edge=64, max_size=128)
    mapper = two_views(*(build_policy(name, variant, **view) for name in ("weak", "strong")))
    for seed in range(4):
        np.random.seed(seed)
        expected = mapper(record)
        np.random.seed(seed)
        found = mapper({**record, "hidden_annotations": extra, "given_annotations": extra})
        assert len(found.pop("hidden_instances")) == len(found.pop("given_instances"))
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
            assert same(found[key], value), key


def test_the_image_is_decoded_once(record, monkeypatch):
    decoded, read_image = [], mapper_module.read_image
    monkeypatch.setattr(
        mapper_module, "read_image", lambda *args: (decoded.append(args), read_image(*args))[1]
    )
    two_views(build_policy("weak"), build_policy("strong"))(record)
    assert len(decoded) == 1


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


def test_the_views_are_sampled_independently(record):
    np.random.seed(0)
    jitter = [A.ShortEdgeScaleJitter(90, 200, (0.5, 1.5)), A.RandomHorizontalFlip()]
    samples = [two_views(jitter, jitter)(record) for _ in range(20)]
    assert all(sample["image"].shape != sample["weak_image"].shape for sample in samples)
    assert 0 < sum(float(sample["weak_to_strong"][0, 0]) < 0 for sample in samples) < 20


@pytest.mark.parametrize(
    "strong",
    [[], WEAK[:1], WEAK, *(WEAK + [op] for op in GEOMETRY), WEAK + GEOMETRY],
    ids=["nothing", "scale", "flip", "translation", "rotation", "shear", "everything"],
)
def test_the_matrix_maps_points_and_boxes_from_the_weak_to_the_strong_view(record, strong):
    np.random.seed(11)
    mapper = two_views(WEAK, strong)
    for _ in range(5):
        sample = mapper(record)
        matrix = sample["weak_to_strong"]
        assert matrix.shape == (3, 3) and matrix[2].tolist() == [0, 0, 1]
        weak_centre, weak_box = bright(sample["weak_image"])
        centre, box = bright(sample["image"])
        np.testing.assert_allclose((matrix.numpy() @ [*weak_centre, 1])[:2], centre, atol=0.1)
        moved = transform_boxes(torch.from_numpy(weak_box)[None], matrix)[0]
        np.testing.assert_allclose(moved, box, atol=2)


def test_only_affine_augmentations_are_accepted(record):
    class Bend(T.NoOpTransform):
        def apply_coords(self, coords):
            return coords + 1e-3 * coords[:, :1] * coords[:, 1:]

    with pytest.raises(ValueError, match="not an affine transform"):
        two_views(strong=[Bend()])(record)


# --- labeled images -----------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_a_labeled_sample_is_that_of_detectron2_s_mapper(record, image_format):
    view = [A.ShortEdgeScaleJitter(64, 128), A.RandomHorizontalFlip(), A.RandomRotate(prob=1.0)]
    stock = DatasetMapper(True, augmentations=view, image_format=image_format)
    before = copy.deepcopy(record)
    for seed in range(4):
        np.random.seed(seed)
        expected = stock(record)
        np.random.seed(seed)
        found = labeled(*view, image_format=image_format)(record)
        assert set(found) == set(expected) and record == before
        assert torch.equal(found["image"], expected["image"])
        found, expected = found["instances"], expected["instances"]
        assert torch.equal(found.gt_boxes.tensor, expected.gt_boxes.tensor)
        assert torch.equal(found.gt_classes, expected.gt_classes)


@pytest.mark.parametrize(
    "mapper, changes",
    [(labeled(), {}), (two_views(), {"given_annotations": [GIVEN]})],
    ids=["labeled", "precomputed"],
)
def test_boxes_of_another_image_size_are_not_trusted(mapper, changes, record):
    with pytest.raises(UnreadableImage) as error:
        mapper({**record, "width": W + 1, **changes})
    assert "\n" not in str(error.value) and record["file_name"] in str(error.value)


@pytest.mark.parametrize("mapper", [two_views, labeled])
def test_an_image_that_cannot_be_read_or_is_too_large_is_named(mapper, record):
    assert "image" in mapper(max_pixels=H * W)(record)
    with pytest.raises(UnreadableImage, match="max_pixels"):
        mapper(max_pixels=H * W - 1)(record)
    damage(record)
    with pytest.raises(UnreadableImage, match=record["file_name"]):
        mapper()(record)


# --- images to detect in ------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_an_image_to_detect_in_is_that_of_detectron2_s_mapper(record, image_format):
    view = [T.ResizeShortestEdge(64, 128)]
    record = {**record, "anything": "else"}
    expected = DatasetMapper(False, augmentations=view, image_format=image_format)(record)
    found = detected_in(*view, image_format=image_format)(record)
    assert torch.equal(found.pop("image"), expected.pop("image"))
    assert found == expected and found["image_id"] == 9
    sample = detected_in()({"file_name": record["file_name"], "width": W + 1})
    assert (sample["height"], sample["width"]) == (H, W) and "unreadable" not in sample


@pytest.mark.parametrize("fault", ["no image", "another size", "too large"])
def test_an_image_to_detect_in_that_cannot_be_used_is_black_and_says_why(record, fault):
    if fault == "no image":
        damage(record)
    changed = {**record, "width": W + (fault == "another size")}
    before = copy.deepcopy(changed)
    sample = detected_in(max_pixels=H * W - (fault == "too large"))(changed)
    assert record["file_name"] in sample["unreadable"] and "\n" not in sample["unreadable"]
    assert sample["image"].dtype == torch.uint8 and not sample["image"].any()
    assert sample["image_id"] == 9 and "annotations" not in sample and changed == before


@pytest.mark.parametrize(
    "size, view", [((1, 1), (64, 64)), ((1, 10_000), (1, 128)), ((10_000, 1), (128, 1))]
)
def test_a_very_long_image_keeps_a_pixel_of_its_short_edge(size, view, tmp_path):
    path = tmp_path / "thin.png"
    Image.fromarray(np.full((*size, 3), 9, np.uint8)).save(path)
    sample = detected_in(T.ResizeShortestEdge([64], 128, "choice"))({"file_name": str(path)})
    assert sample["image"].shape == (3, *view) and (sample["image"] == 9).all()
