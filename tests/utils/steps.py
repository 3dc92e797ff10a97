"""Batches, teachers and losses for the tests of a training step of SoftTeacher."""

import torch

BOXES = [[10, 10, 40, 40], [50, 20, 90, 60], [4, 40, 24, 60], [70, 2, 94, 22]]
CLASSES = [0, 2, 1, 2]

RPN_LOSSES = {"loss_rpn_cls", "loss_rpn_loc"}
HEAD_LOSSES = {"loss_cls", "loss_box_reg"}
ALL_LOSSES = {f"{s}/{k}" for s in ("sup", "unsup") for k in RPN_LOSSES | HEAD_LOSSES}

# Bias of the teacher's classifier, whose weights are set to 0: what it says of every box.
NOTHING = (0.0, 0.0, 0.0, 30.0)
EVERYTHING = (0.0, 30.0, 0.0, 0.0)
UNSURE = (0.0, 1.6, 0.0, 0.0)  # 62 %: a candidate for regression, none for classification
WITHOUT_SAMPLING = (
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 4096),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 256),
)
# Labeled and unlabeled images of a batch.
COMPOSITIONS = {
    "one labeled": (1, 0),
    "labeled only": (2, 0),
    "one unlabeled": (0, 1),
    "unlabeled only": (0, 2),
    "one of each": (1, 1),
    "both": (2, 3),
}


def teach(model, bias):
    predictor = model.teacher.roi_heads.box_predictor
    predictor.cls_score.weight.zero_()
    predictor.cls_score.bias.copy_(torch.tensor(bias))


def losses_of(model, batch, seed=0):
    torch.manual_seed(seed)
    return model(batch)


def values(losses):
    return {key: loss.item() for key, loss in losses.items()}


def count_calls(module):
    calls = []
    module.register_forward_hook(lambda module, args, output: calls.append((args, output)))
    return calls
