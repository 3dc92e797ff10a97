"""Views of steps, made by hand, and runs that are watched, for the tests of monitoring."""

import contextlib
from types import SimpleNamespace

import numpy as np
import torch
from detectron2.engine.train_loop import TrainerBase
from detectron2.structures import Boxes, Instances
from torch.nn import functional as F

from soft_teacher.data.streams.schedule import BatchSchedule
from soft_teacher.modeling import PseudoLabeler, PseudoLabels
from soft_teacher.modeling.step_record import StepView, TeacherBoxes
from soft_teacher.monitoring.hooks import WatchHook

SIZE = (40, 60)
MAX_ITER = 12
LEFT, RIGHT = [4, 10, 24, 30], [34, 10, 54, 30]


def watched_model():
    """What monitoring knows of a SoftTeacher."""
    labeler = PseudoLabeler(score_thresh=0.9, variance_thresh=0.02, measure_stability=True)
    return SimpleNamespace(
        observers=[],
        device=torch.device("cpu"),
        pseudo_labeler=labeler,
        alpha=4.0,
        label_source="teacher",
    )


def targets(boxes=(), classes=(), size=SIZE):
    """Ground truth, or pseudo boxes as the student gets them."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances(size, gt_boxes=Boxes(boxes), gt_classes=torch.tensor(classes).long())


def teacher_boxes(
    boxes=(), classes=(), scores=(), *, confident=(), variances=None, stable=(), masks=None
):
    """What a teacher found on an image; ``variances`` maps rows to values.

    ``masks`` are probabilities on each box, (n, M, M).
    """
    variances = variances or {}
    detections = Instances(
        SIZE,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        pred_classes=torch.tensor(classes).long(),
        scores=torch.tensor(scores, dtype=torch.float32),
    )
    if masks is not None:
        detections.pred_masks = torch.as_tensor(np.array(masks, dtype=np.float32))[:, None]
    return TeacherBoxes(
        detections,
        torch.tensor(confident).long(),
        torch.tensor(list(variances)).long(),
        torch.tensor(list(variances.values()), dtype=torch.float32),
        torch.tensor(stable).long(),
    )


class MasksOnBoxes:
    """The pseudo masks of a student where both views are the same, each cropped to its own box."""

    def __init__(self, probabilities):
        self.probabilities = probabilities

    def __len__(self):
        return len(self.probabilities)

    def __getitem__(self, rows):
        return MasksOnBoxes(self.probabilities[rows])

    def crop_and_resize(self, boxes, size):
        assert len(boxes) == len(self)
        return F.interpolate(self.probabilities, (size, size))[:, 0]


def targets_of(image, rows):
    """Pseudo boxes made of some of the teacher's."""
    chosen = image.detections[rows]
    found = Instances(SIZE, gt_boxes=chosen.pred_boxes, gt_classes=chosen.pred_classes)
    if chosen.has("pred_masks"):
        found.gt_masks = MasksOnBoxes(chosen.pred_masks)
    return found


def step_view(*images, truths=None, reliability=None, labeled=()):
    """A step that saw ``images`` (TeacherBoxes); the strong view is the weak one.

    ``truths`` are Instances, or None for an image without known ground truth; ``labeled`` are the
    Instances of labeled images.
    """
    samples = [
        {
            "image": torch.zeros(3, *SIZE, dtype=torch.uint8),
            "weak_image": torch.zeros(3, *SIZE, dtype=torch.uint8),
            **({} if truth is None else {"hidden_instances": truth}),
        }
        for truth in truths or [None] * len(images)
    ]
    labels = PseudoLabels(
        [targets_of(i, i.confident) for i in images],
        [targets_of(i, i.stable) for i in images],
    )
    if reliability is not None:
        reliability = torch.tensor(reliability)
    labeled = [{"instances": truth} for truth in labeled]
    return StepView(samples, list(images), labels, reliability, labeled)


HIT = teacher_boxes([LEFT], [1], [0.95], confident=[0], variances={0: 0.01}, stable=[0])
MISS = teacher_boxes([RIGHT], [1], [0.91], confident=[0], variances={0: 0.03})
TRUTH = targets([LEFT], [1])


def step(*images, **fields):
    return [step_view(*images, **fields)]


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


def schedule(**changes):
    """Four images per step, one of them labeled."""
    settings = dict(
        batch_size=4, share=0.25, decay_steps=0, max_iter=MAX_ITER, burn_in=0, draw="global",
        world_size=1, seed=0,
    )  # fmt: skip
    return BatchSchedule(**{**settings, **changes})


class Trainer(TrainerBase):
    """Shows given views and logs given losses at given steps, and keeps what is logged."""

    def __init__(self, model, hooks, views, losses=None, interrupted_at=None, broken_at=None):
        super().__init__()
        self.model = model
        self.views = views
        self.losses = losses or {}
        self.observed = {}
        self.interrupted_at, self.broken_at = interrupted_at, broken_at
        self.register_hooks(hooks)

    def run_step(self):
        if self.iter == self.interrupted_at:
            raise KeyboardInterrupt
        self.observed[self.iter] = len(self.model.observers)
        for view in self.views.get(self.iter, ()):
            for observe in self.model.observers:
                observe(view)
        self.storage.put_scalars(**self.losses.get(self.iter, {}))
        if self.iter == self.broken_at:
            raise KeyboardInterrupt

    def logged(self, name):
        """{step: value}"""
        history = self.storage.histories().get(name)
        return {int(step): value for value, step in history.values()} if history else {}


def watched(
    views, *, start=0, stop=MAX_ITER, state=None, saves=lambda done: False, share=0.25, burn_in=0,
    world_size=1, patience=5, max_iter=MAX_ITER, losses=None, **broken,
):  # fmt: skip
    """A trainer that has run with a WatchHook of period 5, with some losses at each step."""
    plan = schedule(share=share, burn_in=burn_in, world_size=world_size, max_iter=max_iter)
    options = dict(period=5, patience=patience, saves=saves, class_names=["cat", "dog"])
    watch = WatchHook(watched_model(), plan, **options)
    trainer = Trainer(watch.model, [watch], views, losses, **broken)
    if state is not None:
        trainer.load_state_dict(state)
    with contextlib.suppress(KeyboardInterrupt):
        trainer.train(start, stop)
    assert trainer.model.observers == []
    return trainer
