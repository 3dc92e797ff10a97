"""The smallest detector that the recipe trains: one object an image, linear in 8 x 12 cells."""

import torch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances
from torch.nn import functional as F

from soft_teacher import ConfigError
from soft_teacher.modeling.families import base


@META_ARCH_REGISTRY.register()
class ToyDetector(torch.nn.Linear):
    """Predicts a class, or background, and a box as shares of width and height."""

    device = torch.device("cpu")

    def __init__(self, cfg):
        super().__init__(3 * 8 * 12, cfg.MODEL.ROI_HEADS.NUM_CLASSES + 5)

    def preprocess_image(self, inputs):
        cells = [F.adaptive_avg_pool2d(x["image"] / 255, (8, 12)) for x in inputs]
        return ImageList.from_tensors(cells)

    def backbone(self, cells):
        return {"predicted": super().forward(cells.flatten(1))}

    def forward(self, inputs):
        found = ToyFamily().teach(self, [x["image"] for x in inputs]).detections
        return [{"instances": detections} for detections in found]


@base.FAMILY_REGISTRY.register()
class ToyFamily(base.DetectorFamily):
    """Both losses are means over images; a background counts by the teacher's background score."""

    detectors = ("ToyDetector",)
    measures_stability = False

    def __init__(self, cfg=None):
        """It has no settings."""

    def check(self, student):
        if not isinstance(student, ToyDetector):
            raise ConfigError(f"ToyFamily wraps a ToyDetector, got {type(student).__name__}")

    def loss_names(self, network):
        return ("loss_cls", "loss_box")

    def num_classes(self, network):
        return network.out_features - 5

    def score_floor(self, network):
        return 0.0

    def losses(self, student, encoded, inputs):
        targets = [x["instances"] for x in inputs]
        return _losses(encoded, targets, targets, torch.ones(len(inputs)))

    def pseudo_losses(self, student, encoded, inputs, labels, teacher_pass, transport):
        # Precomputed pseudo labels have no background scores.
        r = getattr(teacher_pass, "background", torch.ones(len(inputs)))
        losses = _losses(encoded, labels.classification, labels.regression, r)
        return base.PseudoLosses(losses, r.mean())

    def teach(self, teacher, views, *, as_evaluated=False):
        encoded = self.encode(teacher, [{"image": view} for view in views])
        predicted = encoded.features["predicted"]
        teacher_pass = base.TeacherPass([_found(*x) for x in zip(predicted, views)])
        teacher_pass.background = predicted[:, :-4].softmax(dim=1)[:, -1]
        return teacher_pass


def _losses(encoded, g_cls, g_reg, r):
    """Of the first pseudo box of an image, or of the background."""
    predicted = encoded.features["predicted"]
    background = predicted.shape[1] - 5
    classes = torch.stack([F.pad(g.gt_classes, (0, 1), value=background)[0] for g in g_cls])
    entropies = F.cross_entropy(predicted[:, :-4], classes, reduction="none")
    shares = [g.gt_boxes.tensor / torch.tensor(g.image_size[::-1] * 2) for g in g_reg]
    goals = [F.pad(boxes, (0, 0, 0, 1))[0] for boxes in shares]
    distances = (predicted[:, -4:] - torch.stack(goals)).abs().sum(dim=1)
    loss_cls = (entropies * r.where(classes == background, 1)).mean()
    loss_box = (distances * torch.tensor([len(g) > 0 for g in g_reg])).mean()
    return {"loss_cls": loss_cls, "loss_box": loss_box}


def _found(predicted, view):
    score, label = predicted[:-4].softmax(dim=0)[:-1].max(dim=0, keepdim=True)
    size = tuple(view.shape[1:])
    boxes = Boxes(predicted[None, -4:].clamp(0, 1) * torch.tensor(size[::-1] * 2))
    return Instances(size, pred_boxes=boxes, pred_classes=label, scores=score)[boxes.nonempty()]
