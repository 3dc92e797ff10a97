"""What the step benchmark compares: the floor, and a training step of ours, on the same images.

- floor: a supervised step of a stock Detectron2 model on all images, and one inference pass of a
  second one on the weak views of the unlabeled images;
- ours: a step of :class:`SoftTeacherLoop` with the paper's settings, the teacher's update and the
  hooks that watch every training.

Random weights detect nothing. :class:`InjectedTeacher` lets a network detect given boxes, in both
variants, after its own arithmetic is done.
"""

import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Callable, Dict, List

import numpy as np
import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import GeneralizedRCNN
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage

from soft_teacher.data.augmentation.policies import build_policy
from soft_teacher.data.mapper import LabeledDatasetMapper, TwoViewDatasetMapper
from soft_teacher.data.streams.schedule import BatchSchedule
from soft_teacher.engine.ema import EMAHook
from soft_teacher.experiment.build import build_train_loop
from soft_teacher.experiment.yaml_entry import load_config
from soft_teacher.modeling import SoftTeacher
from soft_teacher.modeling.views import ViewTransport
from soft_teacher.monitoring.hooks import build_watch_hooks

MAX_SIZE = 1333
NUM_CLASSES = 80
# More than a benchmark takes.
STEPS = 10_000
# Boxes of a COCO image on average, and the paper's number of jittered candidates (section 3.3).
GROUND_TRUTH, CANDIDATES = 7, 17
# Of the candidates: G_cls and, roughly, G_reg. The rest of the detections scores low.
CONFIDENT, STABLE, UNSURE = 8, 10, 60
# Proposals that the teacher refines to each candidate, for the NMS to choose from.
COPIES = 3
NARROW = [
    "MODEL.RESNETS.STEM_OUT_CHANNELS", 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS", 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP", 8,
    "MODEL.FPN.OUT_CHANNELS", 16,
    "MODEL.ROI_BOX_HEAD.FC_DIM", 32,
]  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    """One comparison.

    Attributes:
        name: of its row.
        config: of the paper's setting.
        narrow: R-50-FPN with an eighth of the channels, the same layers and tensors.
        short_side: of all views, pixels.
        labeled, unlabeled: images of a step.
        precision: "fp32", "fp16" or "bf16".
        device: "cpu" or "cuda".
    """

    name: str
    config: str
    short_side: int
    labeled: int
    unlabeled: int
    narrow: bool = False
    precision: str = "fp32"
    device: str = "cpu"

    def cfg(self):
        """The config of the model."""
        # Weights that do not move give all steps the same work.
        opts = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", self.device, "SOLVER.BASE_LR", 0.0]
        opts += ["SOLVER.AMP.ENABLED", self.precision != "fp32"]
        if self.precision != "fp32":
            opts += ["SOLVER.AMP.PRECISION", self.precision]
        return load_config(self.config, opts + (NARROW if self.narrow else []))


@dataclass(frozen=True)
class Work:
    """The images of a step.

    Attributes:
        batch: as the training loader gives them.
        detected: per unlabeled image, what the teacher is to detect: ``pred_boxes`` (weak view,
            absolute XYXY), ``pred_classes``, ``scores``; the first ``STABLE`` are localized well.
    """

    batch: List[dict]
    detected: List[Instances]

    @property
    def unlabeled(self) -> List[dict]:
        return self.batch[-len(self.detected) :]

    def supervised(self) -> List[dict]:
        """The same views for a supervised model, with G_cls as the truth."""
        labeled = self.batch[: -len(self.detected)]
        return labeled + [self._with_truth(*x) for x in zip(self.unlabeled, self.detected)]

    def _with_truth(self, sample: dict, detected: Instances) -> dict:
        transport = ViewTransport.of([sample], torch.device("cpu"))
        (boxes,), (size,) = transport.to_strong([detected.pred_boxes]), transport.strong_sizes
        truth = Instances(size, gt_boxes=boxes, gt_classes=detected.pred_classes)
        confident = (detected.scores > 0.9) & boxes.nonempty()
        return {"image": sample["image"], "instances": truth[confident]}

    def weak(self) -> List[dict]:
        """The teacher's views."""
        return [{"image": x["weak_image"]} for x in self.unlabeled]


def mappers(scenario: Scenario):
    """The paper's mappers of labeled and of unlabeled images, with all views of one size."""
    view = dict(short_edge=scenario.short_side, max_size=MAX_SIZE, scale_range=(1, 1))
    labeled, weak, strong = (
        build_policy(name, "paper", **view) for name in ("labeled", "weak", "strong")
    )
    one_view = LabeledDatasetMapper(augmentations=labeled, image_format="BGR")
    two_views = TwoViewDatasetMapper(
        weak_augmentations=weak, strong_augmentations=strong, image_format="BGR"
    )
    return one_view, two_views


def make_work(scenario: Scenario, dicts: List[dict]) -> Work:
    """Views of the same images at every call.

    Args:
        dicts: dataset dicts, one per image of the step.
    """
    np.random.seed(0)
    rng = np.random.default_rng(0)
    one_view, two_views = mappers(scenario)
    batch = []
    for dataset_dict in dicts[: scenario.labeled]:
        size = dataset_dict["height"], dataset_dict["width"]
        annotations = [
            {"bbox": box, "bbox_mode": 0, "category_id": int(rng.integers(NUM_CLASSES))}
            for box in random_boxes(rng, size, GROUND_TRUTH).tolist()
        ]
        sample = one_view({**dataset_dict, "annotations": annotations})
        batch.append({**sample, "image_weight": 1 / scenario.labeled})
    for i, dataset_dict in enumerate(dicts[scenario.labeled :]):
        batch.append({**two_views(dataset_dict), "seed": i, "image_weight": 1 / scenario.unlabeled})
    detected = [
        random_detections(rng, tuple(x["weak_image"].shape[1:])) for x in batch[scenario.labeled :]
    ]
    return Work(batch, detected)


def seconds_of_views(scenario: Scenario, dicts: List[dict]) -> float:
    """What the images of a step cost one loading worker."""
    one_view, two_views = mappers(scenario)
    start = time.perf_counter()
    for i, dataset_dict in enumerate(dicts):
        (one_view if i < scenario.labeled else two_views)(dataset_dict)
    return time.perf_counter() - start


def random_boxes(rng: np.random.Generator, size: tuple, count: int) -> np.ndarray:
    """(count, 4) XYXY inside an image of ``size`` (height, width), of a tenth to half its sides."""
    height, width = size
    sides = rng.uniform(0.1, 0.5, (count, 2)) * (width, height)
    corners = rng.uniform(0, 1, (count, 2)) * ((width, height) - sides)
    return np.hstack([corners, corners + sides]).astype(np.float32)


def random_detections(rng: np.random.Generator, size: tuple) -> Instances:
    """Candidates and, after them, boxes that score low."""
    count = CANDIDATES + UNSURE
    scores = np.full(count, 0.0)
    scores[:CONFIDENT] = rng.uniform(0.91, 0.99, CONFIDENT)
    scores[CONFIDENT:CANDIDATES] = rng.uniform(0.55, 0.85, CANDIDATES - CONFIDENT)
    scores[CANDIDATES:] = rng.uniform(0.06, 0.4, UNSURE)
    return Instances(
        size,
        pred_boxes=Boxes(torch.from_numpy(random_boxes(rng, size, count))),
        pred_classes=torch.from_numpy(rng.integers(NUM_CLASSES, size=count)),
        scores=torch.from_numpy(scores).float(),
    )


class InjectedTeacher:
    """Overwrites what a network's box head predicts so that it detects given boxes.

    The first pass after the backbone is the detection: the first proposals of each image are
    refined to the boxes. The second one is the jitter: copies of the ``STABLE`` boxes are refined
    to them, others keep what the network says. Every later step gets the proposals of the first,
    whatever its own RPN says. So both passes have the same boxes at every step, also while weights
    learn, and what is overwritten is worked out once: no step that is timed pays for it.
    """

    def __init__(self, model: GeneralizedRCNN, detected: List[Instances]):
        self._predictor = model.roi_heads.box_predictor
        self._detected = [d.to(model.device) for d in detected]
        self._pass, self._boxes = 0, []
        self._proposals: List[Instances] = []
        self._overwritten: Dict[int, tuple] = {}
        model.backbone.register_forward_pre_hook(self._begin)
        model.proposal_generator.register_forward_hook(self._keep_proposals)
        model.roi_heads.box_pooler.register_forward_pre_hook(self._note)
        self._predictor.register_forward_hook(self._overwrite)

    def _begin(self, *_) -> None:
        self._pass = -1

    def _keep_proposals(self, _, args, output):
        proposals, losses = output
        self._proposals = self._proposals or proposals
        return self._proposals, losses

    def _note(self, _, args) -> None:
        self._boxes = [boxes.tensor for boxes in args[1]]

    def _overwrite(self, _, args, predictions):
        self._pass += 1
        if self._pass > 1:
            return predictions
        if self._pass not in self._overwritten:
            self._overwritten[self._pass] = self._work_out(predictions)
        return self._overwritten[self._pass]

    def _work_out(self, predictions):
        scores, deltas = (p.clone() for p in predictions)
        counts = [len(boxes) for boxes in self._boxes]
        parts = zip(self._boxes, self._detected, scores.split(counts), deltas.split(counts))
        for boxes, detected, score, delta in parts:
            if self._pass == 0:
                self._detect(boxes, detected, score, delta)
            else:
                self._refine(boxes, detected[:STABLE], delta)
        return scores, deltas

    def _detect(self, boxes, detected, scores, deltas) -> None:
        repeats = torch.tensor([COPIES] * CANDIDATES + [1] * UNSURE, device=boxes.device)
        found = detected[torch.repeat_interleave(repeats)]
        rows = torch.arange(len(found), device=boxes.device)
        scores.fill_(-10)
        scores[:, -1] = 0
        scores[rows, found.pred_classes] = torch.logit(found.scores).to(scores.dtype)
        self._refine_to(found, boxes, deltas, rows)

    def _refine(self, boxes, detected, deltas) -> None:
        overlaps, nearest = pairwise_iou(Boxes(boxes), detected.pred_boxes).max(dim=1)
        rows = torch.nonzero(overlaps > 0.7).squeeze(1)
        self._refine_to(detected[nearest[rows]], boxes, deltas, rows)

    def _refine_to(self, found, boxes, deltas, rows) -> None:
        transform = self._predictor.box2box_transform
        moves = transform.get_deltas(boxes[rows], found.pred_boxes.tensor).to(deltas.dtype)
        by_class = deltas.view(len(deltas), -1, 4)
        by_class[rows, found.pred_classes % by_class.shape[1]] = moves


@torch.no_grad()
def calibrate(model: GeneralizedRCNN, images: List[dict]) -> None:
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
        cfg = stock(scenario.cfg())
        torch.manual_seed(0)
        model, self.second = (GeneralizedRCNN(cfg).to(scenario.device) for _ in range(2))
        calibrate(model, work.weak())
        self.second.load_state_dict(model.state_dict())
        self.second.eval().requires_grad_(False)
        InjectedTeacher(self.second, work.detected)
        self.weak = work.weak()
        trainer = SimpleTrainer if scenario.precision == "fp32" else AMPTrainer
        kwargs = {} if scenario.precision == "fp32" else {"precision": dtype_of(scenario)}
        loader = [work.supervised()]
        self.loop = trainer(model, Repeated(loader), build_optimizer(cfg, model), **kwargs)
        self.autocast = autocast_of(scenario)
        self.storage = EventStorage()

    def step(self) -> None:
        with self.storage:
            self.loop.run_step()
            self.storage.step()
            with self.autocast(), torch.no_grad():
                self.second.inference(self.weak, do_postprocess=False)


class Ours:
    """A training step with everything that a training does at every step."""

    def __init__(self, scenario: Scenario, work: Work):
        cfg = scenario.cfg()
        torch.manual_seed(0)
        self.model = SoftTeacher(cfg).to(scenario.device)
        calibrate(self.model.student, work.weak())
        self.model.copy_student_to_teacher()
        InjectedTeacher(self.model.teacher, work.detected)
        images = scenario.labeled + scenario.unlabeled
        schedule = BatchSchedule(
            world_size=1,
            batch_size=images,
            share=scenario.labeled / images,
            decay_steps=0,
            max_iter=STEPS,
            draw="global",
            burn_in=0,
            seed=0,
        )
        loader = Repeated([work.batch], schedule=schedule)
        self.model.train()
        self.loop = build_train_loop(
            self.model,
            loader,
            build_optimizer(cfg, self.model),
            output_dir="",
            seed=0,
            amp=scenario.precision != "fp32",
            precision=cfg.SOLVER.AMP.PRECISION,
        )
        self.ema = EMAHook(self.model.student, self.model.teacher)
        self.hooks = [self.ema, *build_watch_hooks(self.model, schedule, output_dir="")]
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


class Repeated:
    """A loader of one batch for ever."""

    def __init__(self, batches: List[list], **attributes):
        self.batches = batches
        self.__dict__.update(attributes)

    def __iter__(self):
        while True:
            yield from self.batches


VARIANTS: Dict[str, Callable] = {"floor": Floor, "ours": Ours}


def stock(cfg):
    """The same detector with Detectron2's own heads."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    return cfg


def dtype_of(scenario: Scenario) -> torch.dtype:
    return {"fp16": torch.float16, "bf16": torch.bfloat16}[scenario.precision]


def autocast_of(scenario: Scenario) -> Callable:
    enabled = scenario.precision != "fp32"
    dtype = dtype_of(scenario) if enabled else None
    return lambda: torch.autocast(scenario.device, dtype=dtype, enabled=enabled)
