"""Semantic maps: where they come from, what is refused, and how they follow an image into a view.

The oracle of a view looks up, for the center of each of its pixels, the pixel of the map under it.
"""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from PIL import Image

from soft_teacher import ConfigError
from soft_teacher.data.augmentation.policies import NAMES, VARIANTS, build_policy
from soft_teacher.data.augmentation.transforms import (
    AffineTransform,
    CutoutTransform,
    FlipTransform,
    ResizeTransform,
)
from soft_teacher.data.images.image import UnreadableImage
from soft_teacher.data.mapper import LabeledDatasetMapper, TwoViewDatasetMapper
from soft_teacher.data.masks import encoded
from soft_teacher.data.semantic_maps import InstanceMaps, MapFiles, in_view
from soft_teacher.data.streams.loader import build_two_stream_train_loader
from soft_teacher.geometry import transform_matrix

H, W = SIZE = (60, 90)
STUFF = 183


def blocks(seed=0) -> np.ndarray:
    """Squares of 10 pixels of random classes, some of them unknown."""
    rng = np.random.default_rng(seed)
    cells = rng.choice([*range(STUFF - 1), 255], (H // 10, W // 10))
    return np.kron(cells, np.ones((10, 10), int)).astype(np.uint8)


# --- in a view


def seen(labels, matrix, view):
    """(labels, whether the nearest pixel is beyond doubt) for each pixel of a view."""
    y, x = np.mgrid[: view[0], : view[1]] + 0.5
    points = np.linalg.inv(matrix) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    places = points[:2].reshape(2, *view)
    sure = (np.abs(places - places.round()) > 0.05).all(axis=0)
    x, y = np.floor(places).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < W) & (y < H)
    found = np.where(inside, labels[y.clip(0, H - 1), x.clip(0, W - 1)], 255)
    return found, sure


def turn(degrees):
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return AffineTransform(np.array([[cos, -sin, 9], [sin, cos, -4]]), H, W)


MOVES = {
    "nothing": [],
    "flip": [FlipTransform(W)],
    "translation": [AffineTransform([[1, 0, 13], [0, 1, -8]], H, W)],
    "rotation": [turn(25)],
    "shear": [AffineTransform([[1, 0.4, 0], [-0.2, 1, 3]], H, W)],
    "enlarged": [ResizeTransform(H, W, 96, 126)],
    "reduced": [ResizeTransform(H, W, 42, 63)],
    "several": [turn(-12), FlipTransform(W), ResizeTransform(H, W, 50, 70)],
    "Detectron2's": [T.HFlipTransform(W)],
}


@pytest.mark.parametrize("transforms", MOVES.values(), ids=MOVES)
def test_a_map_follows_its_image_and_is_ignored_where_that_ends(transforms):
    transforms = T.TransformList(transforms)
    found = in_view(blocks(), transforms)
    expected, sure = seen(blocks(), transform_matrix(transforms), found.shape)
    assert found.dtype == torch.uint8 and found.is_contiguous()
    # Several moves are nearest pixels of nearest pixels.
    wrong = (found.numpy() != expected) & sure
    assert wrong.mean() < (0.1 if len(transforms.transforms) > 1 else 0.001)


def test_detectron2_s_own_transforms_ignore_what_they_add():
    padded = T.PadTransform(3, 2, 1, 4, W, H)
    found = in_view(np.zeros(SIZE, np.uint8), T.TransformList([padded])).numpy()
    assert (found[2:-4, 3:-1] == 0).all() and found.sum() == 255 * (found.size - H * W)


def test_cutout_changes_no_map():
    cutout = T.TransformList([CutoutTransform([[10, 10, 50, 40]])])
    np.testing.assert_array_equal(in_view(blocks(), cutout), blocks())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_policy_takes_a_map(name, variant):
    np.random.seed(0)
    augmentations = T.AugmentationList(
        build_policy(name, variant, short_edge=64, max_size=96, scale_range=(0.8, 1.2))
    )
    for seed in range(5):
        view = T.AugInput(np.zeros((*SIZE, 3), np.uint8))
        transforms = augmentations(view)
        found = in_view(blocks(seed), transforms)
        assert found.shape == view.image.shape[:2]
        assert set(found.unique().tolist()) <= {*np.unique(blocks(seed)), 255}


# --- files


@pytest.fixture
def images(tmp_path):
    """Two datasets of two images each, of the same names."""
    datasets = []
    for part in "ab":
        (tmp_path / part).mkdir()
        files = [tmp_path / part / f"{n}.jpg" for n in range(2)]
        for file in files:
            Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(file)
        datasets.append([{"file_name": str(f), "height": H, "width": W} for f in files])
    return datasets


@pytest.fixture
def maps(tmp_path, monkeypatch):
    """maps(name): a folder of $DETECTRON2_DATASETS with a map for each of two images."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))

    def maps(name="stuff", seed=0, **save):
        (tmp_path / name).mkdir()
        for n in range(2):
            write(tmp_path / name / f"{n}.png", blocks(seed + n))
        return tmp_path / name

    return maps


def write(path, labels, mode="L"):
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette(np.random.default_rng(0).integers(256, size=768).tolist())
    image.save(path)


def files(folders, num_classes=STUFF):
    return MapFiles(folders=folders, num_classes=num_classes)


def read(source, datasets):
    return [[source.read(d, SIZE) for d in dicts] for dicts in source.located(datasets)]


def test_one_folder_is_that_of_all_datasets(images, maps):
    maps("stuff")
    for found in read(files("stuff"), images):
        for n, labels in enumerate(found):
            np.testing.assert_array_equal(labels, blocks(n))


def test_each_dataset_can_have_a_folder_or_none(images, maps):
    maps("one", seed=0), maps("other", seed=7)
    found = read(files(["one", "other"]), images)
    np.testing.assert_array_equal(found[1][0], blocks(7))
    found = read(files([None, "other"]), images)
    assert found[0] == [None, None]
    np.testing.assert_array_equal(found[1][1], blocks(8))


def test_a_dataset_may_name_its_own_files(images, maps):
    images[0][1]["sem_seg_file_name"] = str(maps() / "0.png")
    found = read(files(None), images)
    assert found[0][0] is None and found[1] == [None, None]
    np.testing.assert_array_equal(found[0][1], blocks(0))


def test_numbers_of_a_palette_are_classes(images, maps):
    write(maps() / "0.png", blocks(5), "P")
    np.testing.assert_array_equal(read(files("stuff"), images)[0][0], blocks(5))


def refusal(source, images):
    with pytest.raises(ConfigError) as error:
        source.located(images)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_folder_says_how_to_get_it_or_to_do_without(images, maps):
    said = refusal(files("coco/stuffthingmaps/train2017"), images)
    for part in ("no folder", "stuffthingmaps_trainval2017.zip", "semantic_head to None"):
        assert part in said


def test_missing_files_are_counted(images, maps):
    (maps() / "1.png").unlink()
    said = refusal(files("stuff"), images)
    assert "1 of 2 semantic maps are missing, first" in said and "1.png: unpack stuff" in said


def test_folders_of_another_number_and_no_map_at_all_are_refused(images, maps):
    assert "one for each of the 2 labeled datasets, got 3" in refusal(files(["a"] * 3), images)
    assert "no labeled image has a semantic map" in refusal(files(None), images)


BROKEN = {
    "another size": (blocks()[1:], "it has 59 x 90 pixels, its image 60 x 90"),
    "another class": (np.full(SIZE, 200, np.uint8), "class 200 is not below"),
    "colors": (np.zeros((*SIZE, 3), np.uint8), "its pixels are RGB, not 8-bit classes"),
    "16 bits": (np.zeros(SIZE, np.uint16), "not 8-bit classes"),
    "no image": (None, "cannot identify"),
}


@pytest.mark.parametrize("labels, said", BROKEN.values(), ids=BROKEN)
def test_a_broken_map_is_found_before_the_run_or_in_it(images, maps, labels, said):
    file = maps() / "1.png"
    file.write_bytes(b"PNG") if labels is None else write(file, labels)
    assert said in (refused := refusal(files("stuff"), images)) and str(file) in refused
    with pytest.raises(UnreadableImage, match=said):
        files("stuff").read({"sem_seg_file_name": str(file)}, SIZE)


@pytest.mark.parametrize("num_classes", [0, 256])
def test_a_number_of_classes_that_no_pixel_holds_is_refused(num_classes):
    with pytest.raises(ConfigError, match=r"num_classes must lie in \[1, 255\]"):
        files("stuff", num_classes)


# --- painted


def object_at(box, label, form="rle", **fields):
    x0, y0, x1, y1 = box
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    polygon = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    segmentation = encoded(mask) if form == "rle" else polygon
    found = {"bbox": box, "bbox_mode": 0, "category_id": label, "segmentation": segmentation}
    return {**found, "iscrowd": 0, **fields}


def test_objects_are_painted_on_the_last_class():
    source = InstanceMaps(num_classes=6)
    assert (source.read({}, SIZE) == 5).all()
    objects = [object_at([5, 6, 30, 20], 2), object_at([40, 10, 70, 50], 4, "polygon")]
    crowd = {"bbox": [0, 50, 20, 60], "bbox_mode": 0, "category_id": 1, "iscrowd": 1}
    labels = source.read({"annotations": [*objects, crowd]}, SIZE)
    expected = np.full(SIZE, 5)
    expected[6:20, 5:30], expected[10:50, 40:70], expected[50:60, :20] = 2, 4, 255
    np.testing.assert_array_equal(labels, expected)


def test_there_must_be_a_class_for_everything_else():
    datasets = [[], [{"annotations": [object_at([5, 6, 30, 20], 4)]}]]
    assert InstanceMaps(num_classes=6).located(datasets) == datasets
    with pytest.raises(ConfigError, match="must be 6 at least, .* got 5"):
        InstanceMaps(num_classes=5).located(datasets)


# --- mapper and loader


def labeled(record, source, *transforms):
    mapper = LabeledDatasetMapper(
        augmentations=list(transforms), image_format="BGR", semantic_maps=source
    )
    return mapper(record)


def test_a_labeled_sample_has_the_map_of_its_view(images, maps):
    maps()
    (record, _), _ = files("stuff").located(images)
    moves = turn(25), FlipTransform(W)
    sample = labeled(record, files("stuff"), *moves)
    assert sample["sem_seg"].shape == sample["image"].shape[1:]
    assert torch.equal(sample["sem_seg"], in_view(blocks(), T.TransformList(moves)))


def test_without_a_map_or_a_source_there_is_no_key(images):
    assert "sem_seg" not in labeled(images[0][0], files(None))
    assert "sem_seg" not in labeled(images[0][0], None)


def test_unlabeled_samples_have_no_map(images, maps):
    maps()
    (record, _), _ = files("stuff").located(images)
    mapper = TwoViewDatasetMapper(
        weak_augmentations=[], strong_augmentations=[], image_format="BGR"
    )
    assert "sem_seg" not in mapper(record)


def test_the_loader_passes_maps_of_labeled_images_on(tiny_digits):
    view = dict(variant="paper", short_edge=64, max_size=96, scale_range=(0.8, 1.2))
    loader = build_two_stream_train_loader(
        labeled_names=["digits_fold1_labeled"],
        unlabeled_names=["digits_unlabeled"],
        **{f"{n}_augmentations": build_policy(n, **view) for n in ("labeled", "strong", "weak")},
        image_format="BGR",
        masks=True,
        mask_format="bitmask",
        semantic_maps=InstanceMaps(num_classes=11),
        batch_size=4,
        labeled_share=0.5,
        decay_steps=0,
        max_iter=3,
        num_workers=0,
        seed=0,
    )
    batch = next(iter(loader))
    with_maps = [x for x in batch if "sem_seg" in x]
    assert len(batch) == 4 and with_maps == [x for x in batch if "weak_image" not in x] != []
    for x in with_maps:
        masks = x["instances"].gt_masks.tensor
        assert set(x["instances"].gt_classes.tolist()) <= set(x["sem_seg"].unique().tolist())
        shown = x["sem_seg"] < 10
        assert (shown == masks.any(dim=0)).float().mean() > 0.99
