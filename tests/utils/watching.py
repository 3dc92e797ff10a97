"""Views of steps, made by hand, and a trainer that shows them, for the tests of monitoring."""

from types import SimpleNamespace

import torch
from detectron2.engine.train_loop import TrainerBase
from detectron2.structures import Boxes, Instances

from soft_teacher.modeling import PseudoLabels
from soft_teacher.modeling.step_record import StepView, TeacherBoxes

SIZE = (40, 60)
LEFT, RIGHT = [4, 10, 24, 30], [34, 10, 54, 30]


def targets(boxes=(), classes=(), size=SIZE):
    """Ground truth, or pseudo boxes as the student gets them."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances(size, gt_boxes=Boxes(boxes), gt_classes=torch.tensor(classes).long())


def teacher_boxes(boxes=(), classes=(), scores=(), *, confident=(), variances=None, stable=()):
    """What a teacher found on an image; ``variances`` maps rows to values."""
    variances = variances or {}
    detections = Instances(
        SIZE,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        pred_classes=torch.tensor(classes).long(),
        scores=torch.tensor(scores, dtype=torch.float32),
    )
    return TeacherBoxes(
        detections,
        torch.tensor(confident).long(),
        torch.tensor(list(variances)).long(),
        torch.tensor(list(variances.values()), dtype=torch.float32),
        torch.tensor(stable).long(),
    )


def targets_of(image, rows):
    """Pseudo boxes made of some of the teacher's."""
    chosen = image.detections[rows]
    return Instances(SIZE, gt_boxes=chosen.pred_boxes, gt_classes=chosen.pred_classes)


def step_view(*images, truths=None, reliability=None):
    """A step that saw ``images`` (TeacherBoxes); the strong view is the weak one.

    ``truths`` are Instances, or None for an image without known ground truth.
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
    return StepView(samples, list(images), labels, reliability)


def step(*images, **fields):
    return [step_view(*images, **fields)]


def model():
    labeler = SimpleNamespace(score_thresh=0.9, variance_thresh=0.02, measure_stability=True)
    return SimpleNamespace(
        observers=[],
        device=torch.device("cpu"),
        pseudo_labeler=labeler,
        label_source="teacher",
    )


class Trainer(TrainerBase):
    """Shows given views at given steps, and keeps what is logged at each step."""

    def __init__(self, model, hooks, views, interrupted_at=None, broken_at=None):
        super().__init__()
        self.model = model
        self.views = views
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
        if self.iter == self.broken_at:
            raise KeyboardInterrupt

    def logged(self, name):
        """{step: value}"""
        history = self.storage.histories().get(name)
        return {int(step): value for value, step in history.values()} if history else {}
