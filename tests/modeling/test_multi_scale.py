"""Several views of an image and one post-processing: no detector may tell them from one."""

import weakref

import numpy as np
import pytest
import torch
from contract import CASES
from detectron2.structures import Boxes, Instances
from steps import labeled

from soft_teacher import ConfigError
from soft_teacher.data.multi_scale import MultiScale, View
from soft_teacher.modeling.families.base import Candidates, Encoded, MergesViews, family_of
from soft_teacher.modeling.multi_scale import MultiScaleDetector, check_merges_views, contribution

MERGING = {n: case for n, case in CASES.items() if issubclass(family_of(case[1]), MergesViews)}
WITH_MASKS = [name for name in MERGING if "Mask" in name or name == "HTC"]


def test_all_two_stage_detectors_merge_views():
    assert set(CASES) - set(MERGING) == {"RetinaNet", "FCOS", "toy"}


@pytest.fixture
def model(build):
    """model(name of a detector, "KEY", value, ...): one that detects something, in eval mode."""
    return lambda name, *opts: build(*MERGING[name], *opts).eval()


def image_of(key=0):
    """A whole image, 64 x 96."""
    image = labeled(key)["image"].clamp(0, 255).byte()
    return {"image": image, "height": image.shape[1], "width": image.shape[2]}


def detector(model, min_sizes=(64,), flip=False, **settings):
    looks = MultiScale(min_sizes=min_sizes, max_size=400, flip=flip, **settings)
    return MultiScaleDetector(model.family, model.student, looks)


def blinded(model):
    """The same model, which detects nothing any more."""
    for predictor in model.student.roi_heads.predictors:
        predictor.test_score_thresh = 1.0
    return model


def assert_equal(found: Instances, other: Instances):
    found, other = found.get_fields(), other.get_fields()
    assert found.keys() == other.keys()
    for key, value in found.items():
        assert torch.equal(*(getattr(x, "tensor", x) for x in (value, other[key]))), key


# --- nothing


@pytest.mark.parametrize("name", MERGING)
def test_no_detection_in_any_view_is_no_detection(model, name):
    nothing = blinded(model(name))
    found = detector(nothing, (48, 64), flip=True)([image_of()])[0]["instances"]
    with torch.no_grad():
        plain = nothing.student([image_of()])[0]["instances"]
    assert len(found) == 0 and found.image_size == (64, 96)
    assert_equal(found, plain)


def test_no_image_is_no_result(model):
    assert detector(model("Mask R-CNN"))([]) == []


# --- one view


@pytest.mark.parametrize("soft_nms", ["none", "linear", "gaussian"])
@pytest.mark.parametrize("name", MERGING)
def test_one_view_is_an_evaluation_to_the_bit(model, name, soft_nms):
    network = model(name, "SOFT_TEACHER.SOFT_NMS", soft_nms)
    looks = MultiScale(min_sizes=[100], max_size=400, flip=False)
    for key in range(2):
        whole = image_of(key)
        view = looks.view(whole["image"].permute(1, 2, 0).numpy(), 0)
        with torch.no_grad():
            plain = network.student([{**whole, "image": view.image}])[0]["instances"]
        found = MultiScaleDetector(network.family, network.student, looks)([whole])[0]["instances"]
        assert len(plain) > 0 and view.size == (100, 150)
        assert_equal(found, plain)


@pytest.mark.parametrize("name", MERGING)
def test_the_same_view_again_adds_nothing(model, name):
    """Its boxes come before NMS, which drops them, and the best are counted after it."""
    network = model(name, "TEST.DETECTIONS_PER_IMAGE", 5)
    once, twice = (
        detector(network, sizes)([image_of()])[0]["instances"] for sizes in ([64], [64] * 2)
    )
    assert len(once) > 2
    assert_equal(once, twice)


# --- mirror images


@pytest.mark.parametrize("name", MERGING)
def test_a_mirrored_image_has_mirrored_detections(model, name):
    looks = detector(model(name), (64,), flip=True)
    image = image_of()
    mirrored = {**image, "image": image["image"].flip(2)}
    (found,), (other,) = ([o["instances"] for o in looks([x])] for x in (image, mirrored))
    assert len(found) == len(other) > 1
    assert torch.equal(found.pred_classes, other.pred_classes)
    torch.testing.assert_close(found.scores, other.scores)
    boxes = other.pred_boxes.tensor[:, [2, 1, 0, 3]]
    boxes[:, 0::2] = 96 - boxes[:, 0::2]
    torch.testing.assert_close(found.pred_boxes.tensor, boxes, atol=1e-3, rtol=0)
    if name in WITH_MASKS:
        same = found.pred_masks == other.pred_masks.flip(2)
        assert same.float().mean() > 0.999 and found.pred_masks.any()


# --- what a view contributes


def view_of(scale=1.0, mirrored=False, box_sizes=None, size=(50, 100)):
    """A view of an image of (height, width)."""
    height, width = (round(scale * length) for length in size)
    matrix = np.diag([scale, scale, 1.0])
    if mirrored:
        matrix = np.array([[-scale, 0, width], [0, scale, 0], [0, 0, 1]])
    return View(torch.zeros(3, height, width), matrix, box_sizes)


def candidates(boxes, n_classes=2):
    boxes = torch.tensor(boxes, dtype=torch.float32)
    return Candidates(boxes, torch.full((len(boxes), n_classes + 1), 0.3))


def test_no_candidate_is_none_in_another_frame():
    for width in (4, 8):
        found = Candidates(torch.zeros(0, width), torch.zeros(0, 3))
        moved = contribution(found, view_of(2, True, (0, 9)), view_of())
        assert (moved.boxes.shape, moved.scores.shape) == ((0, width), (0, 3))


@pytest.mark.parametrize(
    "view, frame, expected",
    [
        (view_of(), view_of(), [10, 4, 30, 24]),
        (view_of(2), view_of(), [5, 2, 15, 12]),
        (view_of(2), view_of(0.5), [2.5, 1, 7.5, 6]),
        (view_of(mirrored=True), view_of(), [70, 4, 90, 24]),
        (view_of(2, mirrored=True), view_of(), [85, 2, 95, 12]),
    ],
)
def test_boxes_come_into_the_frame(view, frame, expected):
    found = contribution(candidates([[10, 4, 30, 24]]), view, frame)
    torch.testing.assert_close(found.boxes, torch.tensor([expected], dtype=torch.float32))
    of_classes = contribution(candidates([[0, 0, 1, 1, 10, 4, 30, 24]]), view, frame)
    torch.testing.assert_close(of_classes.boxes[:, 4:], found.boxes)


def test_boxes_of_other_sizes_score_nothing():
    """Sides are measured in the image; a box's part outside it does not count."""
    boxes = [[0, 0, 20, 20], [0, 0, 40, 40], [0, 0, 80, 80], [-400, 0, 40, 40]]
    for mirrored in (False, True):
        found = contribution(candidates(boxes), view_of(2, mirrored, (20, 40)), view_of())
        assert found.scores.gt(0).tolist() == [[n % 2 == 1] * 2 + [True] for n in range(4)]
    within = candidates(boxes)
    assert torch.equal(contribution(within, view_of(2), view_of()).scores, within.scores)


def test_of_a_box_for_each_class_each_has_a_size():
    boxes = [[0, 0, 10, 10, 0, 0, 30, 30], [0, 0, 30, 30, 0, 0, 10, 10]]
    found = contribution(candidates(boxes), view_of(box_sizes=(20, 40)), view_of())
    assert (found.scores[:, :2] > 0).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("name", MERGING)
def test_a_scale_may_contribute_small_boxes_alone(model, name):
    network = model(name)

    def sides(**settings):
        found = detector(network, (64, 96), **settings)([image_of()])[0]["instances"]
        return found.pred_boxes.area().sqrt()

    middle = float(sides().median())
    alone = sides(box_sizes=[(0, middle), (0, middle)])
    assert len(alone) and alone.max() <= middle * (1 + 1e-5) < sides().max()
    # One scale contributes nothing: the other one is all there is.
    other = detector(network, (96,))([image_of()])[0]["instances"]
    only = sides(box_sizes=[(1e5, 1e6), (0, 1e6)])
    torch.testing.assert_close(only, other.pred_boxes.area().sqrt())


# --- masks


class Fake(MergesViews):
    """Finds one object everywhere, with a mask of noise that is another in every view."""

    BOX = [12.3, 7.9, 51.2, 33.4]
    SIZE = (40, 60)

    def __init__(self, side=7):
        self.random, self.side = np.random.default_rng(0), side
        self.masks = {}

    def has_masks(self, network):
        return True

    def encode_views(self, network, views):
        (view,) = views
        scale = view.shape[1] / self.SIZE[0]
        # The upper left pixel says which view it is.
        return Encoded(None, {"scale": scale, "mirrored": int(view[0, 0, 0]) == 0})

    def candidates(self, network, encoded):
        return [
            Candidates(torch.tensor([self.box_in(**encoded.features)]), torch.tensor([[1.0, 0]]))
        ]

    def select(self, network, candidates, size):
        found = Instances(size, pred_boxes=Boxes(candidates.boxes[:1]))
        found.pred_classes, found.scores = torch.zeros(1).long(), torch.ones(1)
        return found

    def add_masks(self, network, encoded, found):
        box = self.box_in(**encoded.features)
        np.testing.assert_allclose(found[0].pred_boxes.tensor[0], box, atol=1e-4)
        mask = self.random.uniform(0, 1, (self.side, self.side)).astype(np.float32)
        self.masks[encoded.features["scale"], encoded.features["mirrored"]] = mask
        found[0].pred_masks = torch.tensor(mask)[None, None]
        return found

    def box_in(self, scale, mirrored):
        x0, y0, x1, y1 = (scale * value for value in self.BOX)
        width = scale * self.SIZE[1]
        return [width - x1, y0, width - x0, y1] if mirrored else [x0, y0, x1, y1]


def bilinear(mask, x, y):
    """Values of a grid (M, M) at points in units of its cells, 0 outside."""
    padded = np.pad(mask.astype(np.float64), 1)
    x, y = (np.clip(v - 0.5, -1, len(mask) - 1e-9) + 1 for v in (x, y))
    i, j = y.astype(int), x.astype(int)
    v, u = y - i, x - j
    upper = padded[i, j] * (1 - u) + padded[i, j + 1] * u
    lower = padded[i + 1, j] * (1 - u) + padded[i + 1, j + 1] * u
    return upper * (1 - v) + lower * v


def probabilities(fake: Fake) -> np.ndarray:
    """The mean over views at the pixels of the image, (H, W) float64."""
    y, x = np.mgrid[: fake.SIZE[0], : fake.SIZE[1]] + 0.5
    seen = []
    for (scale, mirrored), mask in fake.masks.items():
        x0, y0, x1, y1 = fake.box_in(scale, mirrored)
        in_view = scale * (fake.SIZE[1] - x if mirrored else x)
        across, down = (in_view - x0) / (x1 - x0), (scale * y - y0) / (y1 - y0)
        seen.append(bilinear(mask, fake.side * across, fake.side * down))
    return np.mean(seen, axis=0)


@pytest.mark.parametrize("min_sizes", [[40], [40, 20], [20, 80, 60]])
@pytest.mark.parametrize("flip", [False, True])
def test_masks_are_averaged_at_the_pixels_of_the_image(min_sizes, flip):
    fake = Fake()
    image = torch.full((3, *fake.SIZE), 255).byte()
    image[:, :, 30:] = 0  # white on the left, black where it is mirrored
    looks = MultiScale(min_sizes=min_sizes, max_size=500, flip=flip)
    found = MultiScaleDetector(fake, torch.nn.Identity(), looks)([{"image": image}])[0]["instances"]
    assert len(fake.masks) == len(min_sizes) * (1 + flip)
    expected = probabilities(fake)
    clear = np.abs(expected - 0.5) > 1e-4
    assert clear.mean() > 0.99 and (expected > 0.5).sum() > 50
    np.testing.assert_array_equal(found.pred_masks[0].numpy()[clear], (expected >= 0.5)[clear])
    np.testing.assert_allclose(found.pred_boxes.tensor, [fake.BOX], atol=1e-4)


# --- memory


@pytest.mark.parametrize(
    "name, finds, passes",
    [("Faster R-CNN", True, 4), ("Mask R-CNN", True, 7), ("HTC", True, 7), ("HTC", False, 4)],
)
def test_features_of_one_view_are_held_at_a_time(model, monkeypatch, name, finds, passes):
    """Masks need all views but the last again, unless nothing was detected."""
    network = model(name) if finds else blinded(model(name))
    encode, held = network.family.encode_views, []

    def encode_views(*args):
        assert all(reference() is None for features in held for reference in features)
        encoded = encode(*args)
        held.append([weakref.ref(tensor) for tensor in encoded.features.values()])
        return encoded

    monkeypatch.setattr(network.family, "encode_views", encode_views)
    found = detector(network, (48, 64), flip=True)([image_of()])[0]["instances"]
    assert (len(found) > 0, len(held)) == (finds, passes)


# --- who can


def test_a_dense_detector_is_refused_in_one_line():
    check_merges_views(family_of("GeneralizedRCNN"), "--tta")
    with pytest.raises(ConfigError) as error:
        check_merges_views(family_of("RetinaNet"), "--tta")
    assert str(error.value).startswith("--tta merges views before NMS")
    assert str(error.value).endswith("not supported for a RetinaNet: switch it off")


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_of_the_network_is_its_own(model, training):
    network = model("Faster R-CNN")
    network.student.train(training)
    assert detector(network).training == training
