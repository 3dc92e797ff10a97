import gc
import pickle
import random

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from PIL import Image

from soft_teacher import ConfigError, add_soft_teacher_config
from soft_teacher.data.augmentation import spatial as A
from soft_teacher.data.augmentation.color import RandomBrightness
from soft_teacher.data.augmentation.policies import build_policy
from soft_teacher.data.roles import LABELED, UNLABELED
from soft_teacher.data.streams import loader as build_module
from soft_teacher.data.streams.loader import build_two_stream_train_loader

H, W = 30, 40
NUM_LABELED, NUM_UNLABELED = 5, 7


def write_image(path, box, color):
    """A box on the grey that augmentations fill with."""
    image = np.full((H, W, 3), A.GREY, dtype=np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = color
    Image.fromarray(image).save(path)


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    """Datasets build_test_*: labeled, unlabeled, one (a single labeled image), unlabeled_one."""
    folder = tmp_path_factory.mktemp("images")

    def records(name, count, color):
        dicts = []
        for number in range(count):
            box = [8 + number, 6, 28, 20 + number]
            path = folder / f"{name}{number}.png"
            write_image(path, box, color)
            annotation = {"bbox": box, "bbox_mode": 0, "category_id": 0, "iscrowd": 0}
            record = {"file_name": str(path), "image_id": number, "height": H, "width": W}
            dicts.append({**record, "annotations": [annotation]})
        return dicts

    labeled = records("labeled", NUM_LABELED, (255, 250, 240))
    unlabeled = records("unlabeled", NUM_UNLABELED, (200, 240, 250))
    named = {
        "labeled": labeled,
        "unlabeled": unlabeled,
        "one": labeled[:1],
        "unlabeled_one": unlabeled[:1],
        "with_empty": labeled[:2] + [{**d, "annotations": []} for d in labeled[2:]],
    }
    for name, dicts in named.items():
        DatasetCatalog.register(f"build_test_{name}", lambda dicts=dicts: dicts)
    yield
    for name in named:
        DatasetCatalog.remove(f"build_test_{name}")
        MetadataCatalog.pop(f"build_test_{name}", None)


VIEW = [A.ShortEdgeScaleJitter(32, 64, (0.8, 1.2)), A.RandomHorizontalFlip()]
STRONG = VIEW + [RandomBrightness(), A.RandomRotate(prob=1.0)]
SETTINGS = dict(
    labeled_names=["build_test_labeled"],
    unlabeled_names=["build_test_unlabeled"],
    labeled_augmentations=VIEW,
    strong_augmentations=STRONG,
    weak_augmentations=VIEW,
    image_format="BGR",
    batch_size=6,
    labeled_share=0.4,
    decay_steps=0,
    max_iter=12,
    num_workers=0,
    seed=2,
)


def loader(**changes):
    return build_two_stream_train_loader(**{**SETTINGS, **changes})


def on_rank(monkeypatch, rank, world_size, **changes):
    """The loader as a rank of several would build it."""
    monkeypatch.setattr(build_module.comm, "get_world_size", lambda: world_size)
    monkeypatch.setattr(build_module.comm, "get_rank", lambda: rank)
    return loader(**changes)


def divided(batch):
    """(labeled samples, unlabeled samples)"""
    unlabeled = [s for s in batch if "weak_image" in s]
    return [s for s in batch if "weak_image" not in s], unlabeled


def plain(sample):
    """A sample as something that == compares."""
    found = {}
    for key, value in sample.items():
        if isinstance(value, Instances):
            fields = value.get_fields().items()
            tensors = {k: v.tensor if isinstance(v, Boxes) else v for k, v in fields}
            value = (value.image_size, {k: v.tolist() for k, v in tensors.items()})
        elif isinstance(value, torch.Tensor):
            value = (str(value.dtype), value.tolist())
        found[key] = value
    return found


def batches(source):
    return [[plain(sample) for sample in batch] for batch in source]


# --- what a batch is ----------------------------------------------------------------------------


def test_a_run_of_no_steps_has_no_batches():
    assert list(loader(max_iter=0)) == []


def test_labeled_images_come_first_and_only_they_have_ground_truth():
    for batch in loader():
        labeled, unlabeled = divided(batch)
        assert len(batch) == 6 and labeled + unlabeled == batch
        for sample in labeled:
            assert {"image", "instances", "image_weight", "seed"} <= set(sample)
            assert len(sample["instances"]) == 1
            assert sample["image"].dtype == torch.uint8
        for sample in unlabeled:
            views = {"image", "weak_image", "weak_to_strong", "image_weight", "seed"}
            assert views <= set(sample)
            assert not {"instances", "annotations"} & set(sample)
        assert not any("unlabeled" in sample["file_name"] for sample in labeled)
        assert all("unlabeled" in sample["file_name"] for sample in unlabeled)


def test_the_numbers_of_images_are_the_schedule_s():
    source = loader(decay_steps=6, burn_in=3)
    for step, batch in enumerate(source):
        labeled, unlabeled = divided(batch)
        assert len(labeled) == source.schedule.total(LABELED, step)
        assert len(unlabeled) == source.schedule.total(UNLABELED, step)
        assert (len(unlabeled) == 0) == (step < 3)
    assert step == 11


def test_boxes_follow_their_image():
    augmentations = VIEW + [A.RandomRotate(prob=1.0, angle=(0.0, 20.0))]
    for batch in loader(labeled_augmentations=augmentations, labeled_share=1.0, max_iter=5):
        for sample in batch:
            ys, xs = np.nonzero(sample["image"].numpy().min(0) > (A.GREY + 240) / 2)
            seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            np.testing.assert_allclose(sample["instances"].gt_boxes.tensor[0], seen, atol=2)


# --- what it depends on -------------------------------------------------------------------------


def test_a_worker_takes_one_core_and_leaves_the_memory_of_its_parent_alone(monkeypatch):
    def state(self, position):
        frozen = gc.get_freeze_count()
        return {"image": cv2.getNumThreads(), "frozen": frozen, "unreadable": []}

    monkeypatch.setattr(build_module.StreamDataset, "__getitem__", state)
    here = (cv2.getNumThreads(), gc.get_freeze_count())
    (sample, *_), *_ = loader(num_workers=1, max_iter=1)
    assert sample["image"] == 1 and sample["frozen"] > 10000
    assert (cv2.getNumThreads(), gc.get_freeze_count()) == here


def test_the_seed_decides_and_the_global_states_are_untouched():
    before = random.getstate(), pickle.dumps(np.random.get_state())
    source = loader(max_iter=3)
    assert batches(source) == batches(source) == batches(loader(max_iter=3))
    assert batches(source) != batches(loader(max_iter=3, seed=3))
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == before


def test_the_streams_are_independent():
    names = dict(labeled_names=["build_test_labeled"], unlabeled_names=["build_test_labeled"])
    parts = [divided(batch) for batch in loader(**names, labeled_share=0.5)]
    labeled, unlabeled = ([s for part in parts for s in part[stream]] for stream in (0, 1))
    assert not {s["seed"] for s in labeled} & {s["seed"] for s in unlabeled}
    assert [s["image_id"] for s in labeled] != [s["image_id"] for s in unlabeled]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_and_a_start_in_the_middle_give_the_same_batches(num_workers):
    whole = batches(loader(burn_in=4))
    for start in (0, 3, 9):
        rest = loader(burn_in=4, num_workers=num_workers)
        rest.start_step = start
        assert batches(rest) == whole[start:]


@pytest.mark.parametrize("world_size", [2, 3])
def test_all_ranks_together_load_the_batches_of_one(world_size, monkeypatch):
    def views(batch):
        """Both streams, each in order, without the weights."""
        samples = [plain({**s, "image_weight": 0}) for s in batch]
        return divided(samples)

    alone = [views(batch) for batch in loader()]
    parts = [
        [views(b) for b in on_rank(monkeypatch, rank, world_size)] for rank in range(world_size)
    ]
    together = [
        (sum((p[0] for p in step), []), sum((p[1] for p in step), [])) for step in zip(*parts)
    ]
    assert together == alone


# --- small sets ---------------------------------------------------------------------------------


def test_sets_smaller_than_the_batch_are_repeated_each_time_augmented_anew():
    names = dict(labeled_names=["build_test_one"], unlabeled_names=["build_test_unlabeled_one"])
    for batch in loader(**names, batch_size=12, labeled_share=0.5, max_iter=3):
        for samples in divided(batch):
            assert len(samples) == 6
            assert len({s["file_name"] for s in samples}) == 1
            assert len({s["seed"] for s in samples}) == 6
            assert len({tuple(s["image"].shape) for s in samples}) > 1


def test_images_without_a_box_are_left_out_unless_wanted():
    def labeled_images(**changes):
        names = ["build_test_with_empty"]
        source = loader(labeled_names=names, labeled_share=1.0, max_iter=4, **changes)
        return {s["image_id"] for batch in source for s in batch}

    assert labeled_images() == {0, 1}
    assert labeled_images(filter_empty=False) == {0, 1, 2, 3, 4}


def test_at_share_one_there_is_no_unlabeled_stream():
    for batch in loader(labeled_share=1.0, unlabeled_names=["build_test_nothing"], max_iter=3):
        labeled, unlabeled = divided(batch)
        assert len(labeled) == 6 and unlabeled == []


# --- weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("world_size, chunks", [(1, 1), (2, 1), (3, 1), (1, 3)])
def test_an_image_weighs_the_number_of_ranks_over_the_images_of_the_global_batch(
    world_size, chunks, monkeypatch
):
    """A micro-batch counts as a rank."""
    ranks = range(world_size)
    sources = [on_rank(monkeypatch, rank, world_size, chunks=chunks) for rank in ranks]
    found = [list(source) for source in sources]
    for step in range(12):
        parts = [batch for rank in found for batch in rank[step * chunks : (step + 1) * chunks]]
        everywhere = [divided(batch) for batch in parts]
        for stream in (LABELED, UNLABELED):
            samples = [s for parts in everywhere for s in parts[stream]]
            assert len(samples) == sources[0].schedule.total(stream, step) > 0
            assert {s["image_weight"] for s in samples} == {world_size * chunks / len(samples)}


@pytest.mark.parametrize(
    "key, changes",
    [
        ("labeled_names", dict(labeled_names=[])),
        ("unlabeled_names", dict(unlabeled_names=["build_test_nothing"])),
        ("BatchSchedule.batch_size", dict(batch_size=0)),
        ("SoftTeacher.label_source", dict(label_source="nobody")),
        ("TwoStreamLoader.chunks", dict(chunks=0)),
        ("TwoStreamLoader.mask_format", dict(mask_format="rle")),
        ("TwoStreamLoader.masks", dict(masks=True)),
    ],
)
def test_an_impossible_setting_is_one_line_that_names_the_key(key, changes):
    with pytest.raises(ConfigError) as error:
        loader(**changes)
    assert key in str(error.value) and "\n" not in str(error.value)


# --- masks --------------------------------------------------------------------------------------


def test_batches_have_masks_where_they_are_wanted_and_are_the_same_otherwise(tiny_digits):
    names = {
        "labeled_names": ["digits_fold1_labeled"],
        "unlabeled_names": ["digits_fold1_unlabeled", "digits_unlabeled"],
        "max_iter": 4,
        "num_workers": 1,
    }
    bare, full = loader(**names), loader(**names, masks=True, mask_format="bitmask")
    assert bare.identity()["labeled_names"] != full.identity()["labeled_names"]
    shown = 0
    for expected, batch in zip(bare, full, strict=True):
        for sample in batch:
            for key in {"instances", "hidden_instances"} & sample.keys():
                masks = sample[key].get("gt_masks")
                sample[key].remove("gt_masks")
                shown += len(masks)
                boxes = sample[key].gt_boxes.tensor
                covered = masks.get_bounding_boxes().tensor
                assert (covered - boxes)[:, :2].min() >= -1 and (boxes - covered)[:, 2:].min() >= -1
        assert list(map(plain, batch)) == list(map(plain, expected))
    assert shown > 20


# --- from a config ------------------------------------------------------------------------------


def config(**changes):
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    options = {
        "DATASETS.TRAIN_LABELED": ("build_test_with_empty",),
        "DATASETS.TRAIN_UNLABELED": ("build_test_unlabeled",),
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS": True,
        "INPUT.FORMAT": "BGR",
        "SEED": 4,
        "SOLVER.IMS_PER_BATCH": 6,
        "SOLVER.MAX_ITER": 4,
        "SOFT_TEACHER.LABELED_SHARE": 0.4,
        "SOFT_TEACHER.LABELED_SHARE_DECAY": 0,
        "SOFT_TEACHER.AUGMENTATION.SHORT_EDGE": 32,
        "SOFT_TEACHER.AUGMENTATION.MAX_SIZE": 64,
        **changes,
    }
    cfg.merge_from_list([item for pair in options.items() for item in pair])
    return cfg


VIEW_KEYS = "SOFT_TEACHER.AUGMENTATION."
EXPECTED = {
    # key: (value in the config, keywords of the loader, keywords of the policies)
    "SEED": (5, {"seed": 5}, {}),
    "INPUT.FORMAT": ("RGB", {"image_format": "RGB"}, {"image_format": "RGB"}),
    "INPUT.MAX_PIXELS": (9, {"max_pixels": 9}, {}),
    "INPUT.MASK_FORMAT": ("bitmask", {"mask_format": "bitmask"}, {}),
    "MODEL.MASK_ON": (True, {"masks": True}, {}),
    "DATASETS.TRAIN_LABELED": (("a{FOLD}",), {"labeled_names": ["a1"]}, {}),
    "DATASETS.TRAIN_UNLABELED": (("b",), {"unlabeled_names": ["b"]}, {}),
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": (False, {"filter_empty": False}, {}),
    "DATALOADER.ASPECT_RATIO_GROUPING": (False, {"aspect_ratio_grouping": False}, {}),
    "DATALOADER.MAX_UNREADABLE": (0.3, {"max_unreadable": 0.3}, {}),
    "DATALOADER.NUM_WORKERS": (3, {"num_workers": 3}, {}),
    "SOLVER.IMS_PER_BATCH": (4, {"batch_size": 4}, {}),
    "SOLVER.MAX_ITER": (3, {"max_iter": 3}, {}),
    "SOLVER.GRADIENT_ACCUMULATION": (2, {"chunks": 2}, {}),
    "SOFT_TEACHER.LABELED_SHARE": (0.7, {"labeled_share": 0.7}, {}),
    "SOFT_TEACHER.LABELED_SHARE_DECAY": (4, {"decay_steps": 4}, {}),
    "SOFT_TEACHER.LABELED_DRAW": ("per_rank", {"draw": "per_rank"}, {}),
    "SOFT_TEACHER.BURN_IN": (2, {"burn_in": 2}, {}),
    "SOFT_TEACHER.LABEL_SOURCE": ("dataset", {"label_source": "dataset"}, {}),
    "SOFT_TEACHER.WATCH.HIDDEN_LABELS": (False, {"hidden_labels": False}, {}),
    f"{VIEW_KEYS}VARIANT": ("reference", {}, {"variant": "reference"}),
    f"{VIEW_KEYS}SHORT_EDGE": (24, {}, {"short_edge": 24}),
    f"{VIEW_KEYS}MAX_SIZE": (40, {}, {"max_size": 40}),
    f"{VIEW_KEYS}SCALE_RANGE": ((0.8, 0.9), {}, {"scale_range": (0.8, 0.9)}),
    f"{VIEW_KEYS}FLIP": (False, {}, {"flip": False}),
    f"{VIEW_KEYS}MAX_ANGLE": (5.0, {}, {"max_angle": 5.0}),
}


def policies(**view):
    view = {"short_edge": 32, "max_size": 64, **view}
    names = ("labeled", "strong", "weak")
    return {f"{name}_augmentations": build_policy(name, **view) for name in names}


def test_a_config_gives_the_loader_of_its_values():
    by_hand = loader(labeled_names=["build_test_with_empty"], max_iter=4, seed=4, **policies())
    assert batches(build_two_stream_train_loader(config())) == batches(by_hand)


@pytest.mark.parametrize("key", EXPECTED)
def test_every_key_of_the_config_reaches_the_loader(key):
    def settings(**changes):
        found = build_two_stream_train_loader.from_config(config(**changes))
        return {name: str(value) for name, value in found.items()}

    value, changed, view = EXPECTED[key]
    changed = {name: str(v) for name, v in {**changed, **policies(**view)}.items()}
    assert settings(**{key: value}) == {**settings(), **changed} != settings()


def test_the_number_of_workers_is_that_of_each_stream(monkeypatch):
    asked, usual = [], torch.utils.data.DataLoader

    def record(*args, num_workers, **kwargs):
        asked.append(num_workers)
        return usual(*args, **{**kwargs, "num_workers": 0, "worker_init_fn": None})

    monkeypatch.setattr(torch.utils.data, "DataLoader", record)
    batches(loader(num_workers=3))
    assert asked == [3, 3]


def test_augmentations_may_be_detectron2_s_own():
    plain_view = [T.ResizeShortestEdge(32, 64)]
    names = ("labeled_augmentations", "strong_augmentations", "weak_augmentations")
    batch = next(iter(loader(**dict.fromkeys(names, plain_view))))
    assert {s["image"].shape[1] for s in batch} == {32}
    for sample in divided(batch)[1]:
        assert torch.equal(sample["image"], sample["weak_image"])
        np.testing.assert_allclose(sample["weak_to_strong"], np.eye(3), atol=1e-6)
