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


def _with_masks(record):
    extra = {"segmentation": [[9.0, 7.0, 20.0, 7.0, 9.0, 15.0]], "keypoints": [9, 7, 2]}
    return {**record, "annotations": [{**a, **extra} for a in record["annotations"]]}


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
        "masks": [_with_masks(d) for d in labeled],
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
        if key in ("instances", "hidden_instances"):
            boxes = value.gt_boxes.tensor.tolist()
            value = (value.image_size, boxes, value.gt_classes.tolist())
        elif key == "given_instances":
            boxes, scores = value.pred_boxes.tensor.tolist(), value.scores.tolist()
            value = (value.image_size, boxes, value.pred_classes.tolist(), scores)
        elif isinstance(value, torch.Tensor):
            value = (str(value.dtype), value.tolist())
        found[key] = value
    return found


def batches(source):
    return [[plain(sample) for sample in batch] for batch in source]


# --- what a batch is ----------------------------------------------------------------------------


def test_a_training_of_no_steps_has_no_batches():
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


def test_burn_in_alone_needs_no_place_for_unlabeled_images():
    for batch in loader(burn_in=12):
        labeled, unlabeled = divided(batch)
        assert unlabeled == [] and len(labeled) in (2, 3)


def test_boxes_follow_their_image():
    augmentations = VIEW + [A.RandomRotate(prob=1.0, angle=(0.0, 20.0))]
    for batch in loader(labeled_augmentations=augmentations, labeled_share=1.0, max_iter=5):
        for sample in batch:
            ys, xs = np.nonzero(sample["image"].numpy().min(0) > (A.GREY + 240) / 2)
            seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            np.testing.assert_allclose(sample["instances"].gt_boxes.tensor[0], seen, atol=2)


def test_over_a_pass_every_image_is_seen():
    names = [s["file_name"] for batch in loader(max_iter=12) for s in batch]
    assert len(set(names)) == NUM_LABELED + NUM_UNLABELED


def test_masks_and_keypoints_change_nothing():
    names = ("labeled_names", "unlabeled_names")
    masks, boxes = (dict.fromkeys(names, [f"build_test_{n}"]) for n in ("masks", "labeled"))
    assert batches(loader(**masks)) == batches(loader(**boxes))


# --- what it depends on -------------------------------------------------------------------------


def test_two_workers_load_the_same_as_none():
    alone = batches(loader())
    assert batches(loader(num_workers=2)) == alone


def test_a_worker_takes_one_core_and_leaves_the_memory_of_its_parent_alone(monkeypatch):
    def state(self, position):
        frozen = gc.get_freeze_count()
        return {"image": cv2.getNumThreads(), "frozen": frozen, "unreadable": []}

    monkeypatch.setattr(build_module.StreamDataset, "__getitem__", state)
    here = (cv2.getNumThreads(), gc.get_freeze_count())
    (sample, *_), *_ = loader(num_workers=1, max_iter=1)
    assert sample["image"] == 1 and sample["frozen"] > 10000
    assert (cv2.getNumThreads(), gc.get_freeze_count()) == here


def test_the_seed_decides():
    assert batches(loader(max_iter=3)) == batches(loader(max_iter=3))
    assert batches(loader(max_iter=3)) != batches(loader(max_iter=3, seed=3))


def test_the_streams_draw_for_themselves():
    names = dict(labeled_names=["build_test_labeled"], unlabeled_names=["build_test_labeled"])
    parts = [divided(batch) for batch in loader(**names, labeled_share=0.5)]
    labeled, unlabeled = ([s for part in parts for s in part[stream]] for stream in (0, 1))
    assert not {s["seed"] for s in labeled} & {s["seed"] for s in unlabeled}
    assert [s["image_id"] for s in labeled] != [s["image_id"] for s in unlabeled]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_start_in_the_middle_gives_the_batches_that_were_left(num_workers):
    whole = batches(loader(burn_in=4))
    for start in (3, 9):
        rest = loader(burn_in=4, num_workers=num_workers)
        rest.start_step = start
        assert batches(rest) == whole[start:]


def test_a_loader_may_be_iterated_again():
    source = loader(max_iter=3)
    assert batches(source) == batches(source)


def test_the_global_states_of_random_and_numpy_are_untouched():
    before = random.getstate(), pickle.dumps(np.random.get_state())
    batches(loader(max_iter=3))
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == before


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


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_image_weighs_the_number_of_ranks_over_the_images_of_the_global_batch(
    world_size, monkeypatch
):
    sources = [on_rank(monkeypatch, rank, world_size) for rank in range(world_size)]
    for step, ranks in enumerate(zip(*sources)):
        everywhere = [divided(batch) for batch in ranks]
        for stream in (LABELED, UNLABELED):
            samples = [s for parts in everywhere for s in parts[stream]]
            assert len(samples) == sources[0].schedule.total(stream, step) > 0
            assert {s["image_weight"] for s in samples} == {world_size / len(samples)}


# --- settings and data that cannot be -----------------------------------------------------------


@pytest.mark.parametrize(
    "key, changes",
    [
        ("labeled_names", dict(labeled_names=[])),
        ("labeled_names", dict(labeled_names=["build_test_nothing"])),
        ("unlabeled_names", dict(unlabeled_names=[])),
        ("unlabeled_names", dict(unlabeled_names=["build_test_nothing"])),
        ("BatchSchedule.share", dict(labeled_share=0.0)),
        ("BatchSchedule.draw", dict(draw="both")),
        ("BatchSchedule.burn_in", dict(burn_in=-1)),
        ("BatchSchedule.batch_size", dict(batch_size=0)),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_key(key, changes):
    with pytest.raises(ConfigError) as error:
        loader(**changes)
    assert key in str(error.value) and "\n" not in str(error.value)


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


BASE = dict(
    labeled_names=["build_test_with_empty"],
    unlabeled_names=["build_test_unlabeled"],
    image_format="BGR",
    batch_size=6,
    labeled_share=0.4,
    decay_steps=0,
    max_iter=4,
    num_workers=0,
    seed=4,
)
VIEW_KEYS = "SOFT_TEACHER.AUGMENTATION."
EXPECTED = {
    # key: (value in the config, keywords of the loader, keywords of the policies)
    "SEED": (5, {"seed": 5}, {}),
    "INPUT.FORMAT": ("RGB", {"image_format": "RGB"}, {"image_format": "RGB"}),
    "DATASETS.TRAIN_LABELED": (("build_test_one",), {"labeled_names": ["build_test_one"]}, {}),
    "DATASETS.TRAIN_UNLABELED": (
        ("build_test_unlabeled_one",),
        {"unlabeled_names": ["build_test_unlabeled_one"]},
        {},
    ),
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": (False, {"filter_empty": False}, {}),
    "SOLVER.IMS_PER_BATCH": (4, {"batch_size": 4}, {}),
    "SOLVER.MAX_ITER": (3, {"max_iter": 3}, {}),
    "SOFT_TEACHER.LABELED_SHARE": (0.7, {"labeled_share": 0.7}, {}),
    "SOFT_TEACHER.LABELED_SHARE_DECAY": (4, {"decay_steps": 4}, {}),
    "SOFT_TEACHER.LABELED_DRAW": ("per_rank", {"draw": "per_rank"}, {}),
    "SOFT_TEACHER.BURN_IN": (2, {"burn_in": 2}, {}),
    "SOFT_TEACHER.LABEL_SOURCE": ("dataset", {"label_source": "dataset"}, {}),
    f"{VIEW_KEYS}VARIANT": ("reference", {}, {"variant": "reference"}),
    f"{VIEW_KEYS}SHORT_EDGE": (24, {}, {"short_edge": 24}),
    f"{VIEW_KEYS}MAX_SIZE": (40, {}, {"max_size": 40}),
    f"{VIEW_KEYS}SCALE_RANGE": ((0.8, 0.9), {}, {"scale_range": (0.8, 0.9)}),
    f"{VIEW_KEYS}FLIP": (False, {}, {"flip": False}),
    f"{VIEW_KEYS}MAX_ANGLE": (5.0, {}, {"max_angle": 5.0}),
}


def expected_batches(settings, view):
    """What the loader gives when it is called with keywords."""
    view = {"short_edge": 32, "max_size": 64, **view}
    policies = {
        f"{name}_augmentations": build_policy(name, **view)
        for name in ("labeled", "strong", "weak")
    }
    return batches(build_two_stream_train_loader(**{**BASE, **settings}, **policies))


def test_a_config_gives_the_loader_of_its_values():
    assert batches(build_two_stream_train_loader(config())) == expected_batches({}, {})


@pytest.mark.parametrize("key", EXPECTED)
def test_every_key_of_the_config_reaches_the_loader(key):
    value, settings, view = EXPECTED[key]
    found = batches(build_two_stream_train_loader(config(**{key: value})))
    assert found == expected_batches(settings, view)
    assert found != expected_batches({}, {})


def test_the_number_of_workers_comes_from_the_config(monkeypatch):
    asked = []
    usual = torch.utils.data.DataLoader

    def record(*args, num_workers, **kwargs):
        asked.append(num_workers)
        return usual(
            *args,
            num_workers=0,
            collate_fn=kwargs["collate_fn"],
            batch_sampler=kwargs["batch_sampler"],
        )

    monkeypatch.setattr(torch.utils.data, "DataLoader", record)
    batches(build_two_stream_train_loader(config(**{"DATALOADER.NUM_WORKERS": 3})))
    assert asked == [3, 3]


def test_augmentations_may_be_detectron2_s_own():
    plain_view = [T.ResizeShortestEdge(32, 64)]
    names = ("labeled_augmentations", "strong_augmentations", "weak_augmentations")
    batch = next(iter(loader(**dict.fromkeys(names, plain_view))))
    assert {s["image"].shape[1] for s in batch} == {32}
    for sample in divided(batch)[1]:
        assert torch.equal(sample["image"], sample["weak_image"])
        np.testing.assert_allclose(sample["weak_to_strong"], np.eye(3), atol=1e-6)
