"""What the step benchmark compares: the floor, and a training step of ours, on the same images.

- floor: a supervised step of a stock Detectron2 model on all images, and one inference pass of a
  second one on the weak views of the unlabeled images;
- ours: a step of :class:`SoftTeacherLoop` with the paper's settings, the teacher's update and the
  monitoring hooks of every run.

Random weights detect nothing. ``bench_injection.py`` lets a network detect given boxes, in both
variants, after its own arithmetic is done.
"""

import itertools
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from bench_injection import (
    NUM_CLASSES,
    ellipses,
    inject,
    random_boxes,
    random_detections,
)
from bench_measures import timed
from bench_scenarios import Scenario
from detectron2.engine import AMPTrainer, SimpleTrainer
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import BoxMode, Instances
from detectron2.utils.events import EventStorage

from soft_teacher.data.augmentation.policies import build_policy
from soft_teacher.data.mapper import LabeledDatasetMapper, TwoViewDatasetMapper
from soft_teacher.data.streams.schedule import BatchSchedule
from soft_teacher.engine.ema import EMAHook
from soft_teacher.experiment.build import build_train_loop
from soft_teacher.experiment.train_settings import TrainSettings
from soft_teacher.modeling.views import ViewTransport
from soft_teacher.monitoring.hooks import WatchHook

__all__ = [
    "GROUND_TRUTH", "VARIANTS", "Ours", "Work", "calibrate", "fixed_schedule", "largest_change",
    "make_work", "mappers", "seconds_of_views", "with_boxes",
]  # fmt: skip

MAX_SIZE = 1333
# More than a benchmark takes.
STEPS = 10_000
# Boxes of a COCO image on average.
GROUND_TRUTH = 7


@dataclass(frozen=True)
class Work:
    """The images of a step."""

    batch: list[dict]  # as the training loader gives them
    # Per unlabeled image, what the teacher is to detect: pred_boxes (weak view, absolute XYXY),
    # pred_classes, scores; the first STABLE are localized well.
    detected: list[Instances]
    masks: bool = False  # whether the detector learns masks

    @property
    def unlabeled(self) -> list[dict]:
        return self.batch[-len(self.detected) :]

    def supervised(self) -> list[dict]:
        """The same views for a supervised model, with G_cls as the ground truth."""
        found = self.batch[: -len(self.detected)]
        for sample, detected in zip(self.unlabeled, self.detected):
            transport = ViewTransport.of([sample], torch.device("cpu"))
            (boxes,), (size,) = transport.to_strong([detected.pred_boxes]), transport.strong_sizes
            truth = Instances(size, gt_boxes=boxes, gt_classes=detected.pred_classes)
            if self.masks:
                truth.gt_masks = ellipses(boxes)
            confident = (detected.scores > 0.9) & boxes.nonempty()
            found.append({"image": sample["image"], "instances": truth[confident]})
        return found

    def weak(self) -> list[dict]:
        """The teacher's views."""
        return [{"image": x["weak_image"]} for x in self.unlabeled]


def mappers(scenario: Scenario):
    """The paper's mappers of labeled and of unlabeled images, with all views of one size."""
    view = dict(short_edge=scenario.short_side, max_size=MAX_SIZE, scale_range=(1, 1))
    labeled, weak, strong = (
        build_policy(name, "paper", **view) for name in ("labeled", "weak", "strong")
    )
    one_view = LabeledDatasetMapper(augmentations=labeled, image_format="BGR")
    views = {"weak_augmentations": weak, "strong_augmentations": strong}
    return one_view, TwoViewDatasetMapper(**views, image_format="BGR")


def with_boxes(dataset_dict: dict, rng: np.random.Generator) -> dict:
    """A dataset dict with random ground truth."""
    size = dataset_dict["height"], dataset_dict["width"]
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": int(rng.integers(NUM_CLASSES))}
        for box in random_boxes(rng, size, GROUND_TRUTH).tolist()
    ]
    return {**dataset_dict, "annotations": annotations}


def make_work(scenario: Scenario, dicts: list[dict]) -> Work:
    """Views of the same images at every call.

    Args:
        dicts: dataset dicts, one per image of the step.
    """
    np.random.seed(0)
    rng = np.random.default_rng(0)
    one_view, two_views = mappers(scenario)
    batch, masks = [], bool(scenario.experiment()["MODEL.MASK_ON"])
    for dataset_dict in dicts[: scenario.labeled]:
        sample = one_view(with_boxes(dataset_dict, rng))
        if masks:
            sample["instances"].gt_masks = ellipses(sample["instances"].gt_boxes)
        batch.append({**sample, "image_weight": 1 / scenario.labeled})
    for i, dataset_dict in enumerate(dicts[scenario.labeled :]):
        batch.append({**two_views(dataset_dict), "seed": i, "image_weight": 1 / scenario.unlabeled})
    sizes = [tuple(sample["weak_image"].shape[1:]) for sample in batch[scenario.labeled :]]
    return Work(batch, [random_detections(rng, size) for size in sizes], masks)


def seconds_of_views(scenario: Scenario, dicts: list[dict]) -> float:
    """What the images of a step cost one loading worker."""
    one_view, two_views = mappers(scenario)
    mapped = [one_view] * scenario.labeled + [two_views] * scenario.unlabeled
    return timed(lambda: [mapper(dataset_dict) for mapper, dataset_dict in zip(mapped, dicts)])


def fixed_schedule(scenario: Scenario) -> BatchSchedule:
    """As many labeled and unlabeled images at every step."""
    images = scenario.labeled + scenario.unlabeled
    share = scenario.labeled / images
    settings = {"decay_steps": 0, "max_iter": STEPS, "draw": "global", "burn_in": 0, "seed": 0}
    return BatchSchedule(world_size=1, batch_size=images, share=share, **settings)


@torch.no_grad()
def calibrate(model: torch.nn.Module, images: list[dict]) -> None:
    """Gives frozen batch normalisation the statistics of these images.

    Random weights behind statistics of 0 and 1 let activations grow from layer to layer.
    """

    def set_statistics(layer, args):
        layer.running_mean.copy_(args[0].mean(dim=(0, 2, 3)))
        layer.running_var.copy_(args[0].var(dim=(0, 2, 3)))

    layers = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    handles = [layer.register_forward_pre_hook(set_statistics) for layer in layers]
    model.backbone(model.preprocess_image(images).tensor)
    for handle in handles:
        handle.remove()


class Floor:
    """Detectron2's own supervised step and an inference pass."""

    def __init__(self, scenario: Scenario, work: Work):
        torch.manual_seed(0)
        model, self.second = (scenario.stock_detector() for _ in range(2))
        calibrate(model, work.weak())
        self.second.load_state_dict(model.state_dict())
        self.second.eval().requires_grad_(False)
        inject(self.second, work.detected)
        self.weak = work.weak()
        how = model, itertools.repeat(work.supervised()), scenario.optimizer(model)
        dtype, half = scenario.dtype, scenario.dtype is not None
        self.loop = AMPTrainer(*how, precision=dtype) if half else SimpleTrainer(*how)
        self.autocast = partial(torch.autocast, scenario.device, dtype=dtype, enabled=half)
        self.storage = EventStorage()

    def step(self) -> None:
        with self.storage:
            self.loop.run_step()
            self.storage.step()
            with self.autocast(), torch.no_grad():
                self.second(self.weak)


class Ours:
    """A training step with everything that a run does at every step."""

    def __init__(self, scenario: Scenario, work: Work):
        experiment = scenario.experiment()
        torch.manual_seed(0)
        self.model = experiment.build_model()
        calibrate(self.model.student, work.weak())
        self.model.copy_student_to_teacher()
        inject(self.model.teacher, work.detected)
        self.device = scenario.device
        schedule = fixed_schedule(scenario)
        self.model.train()
        self.loop = build_train_loop(
            self.model,
            Repeated(work.batch, schedule),
            scenario.optimizer(self.model),
            TrainSettings.of(experiment.__getitem__),
        )
        self.ema = EMAHook(self.model.student, self.model.teacher)
        self.hooks = [self.ema, WatchHook(self.model, schedule)]
        self.storage = EventStorage()
        self.trainer = SimpleNamespace(iter=0, max_iter=STEPS, storage=self.storage)
        for hook in self.hooks:
            hook.trainer = self.trainer
            hook.before_train()

    def step(self) -> None:
        with self.storage:
            self.loop.iter = self.trainer.iter
            for hook in self.hooks:
                hook.before_step()
            self.loop.run_step()
            for hook in self.hooks:
                hook.after_step()
            self.trainer.iter += 1
            self.storage.step()

    def losses(self) -> dict[str, float]:
        """Of the last step, by name."""
        return {name: v for name, (v, _) in self.storage.latest().items() if "loss" in name}


def largest_change(losses: dict[str, float], reference: dict[str, float]) -> float:
    """The largest change of a loss, as a share of their sum."""
    changes = [abs(losses[name] - value) for name, value in reference.items()]
    return max(changes) / reference["total_loss"]


class Repeated:
    """A loader that repeats a batch for ever."""

    def __init__(self, batch: list[dict], schedule: BatchSchedule):
        self.batch, self.schedule = batch, schedule

    def __iter__(self):
        return itertools.repeat(self.batch)


VARIANTS = {"floor": Floor, "ours": Ours}
