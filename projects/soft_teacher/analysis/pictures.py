"""Pictures for people: what detectors see, and how their AP grew."""

from typing import Dict, List, Sequence

import cv2
import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import Visualizer
from matplotlib import colormaps
from matplotlib.figure import Figure

from .annotations import annotated_boxes

__all__ = ["detection_sheet", "draw_boxes", "ap_curves"]


@torch.no_grad()
def detect(network, dataset_dict: dict, augmentations: Sequence, image_format: str) -> Instances:
    """Detections of a GeneralizedRCNN in eval mode on one image, in the image's own pixels."""
    image = utils.read_image(dataset_dict["file_name"], format=image_format)
    height, width = image.shape[:2]
    view = T.AugInput(image)
    T.AugmentationList(augmentations)(view)
    tensor = torch.as_tensor(np.ascontiguousarray(view.image.transpose(2, 0, 1)))
    inputs = {"image": tensor, "height": height, "width": width}
    return network([inputs])[0]["instances"].to("cpu")


def ground_truth(dataset_dict: dict) -> Instances:
    """The annotations of a dataset dict as Instances with ``pred_boxes`` and ``pred_classes``."""
    boxes, classes = annotated_boxes(dataset_dict)
    truth = Instances((dataset_dict["height"], dataset_dict["width"]))
    truth.pred_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
    truth.pred_classes = torch.tensor(classes, dtype=torch.int64)
    return truth


def draw_boxes(image: np.ndarray, instances: Instances, metadata, *, side: int) -> np.ndarray:
    """An RGB image, enlarged to ``side`` pixels, with labeled boxes in one colour per class.

    Args:
        image: RGB, uint8 (H, W, 3).
        instances: ``pred_boxes`` (absolute pixels of the image), ``pred_classes`` and, for
            detections, ``scores``.
        metadata: of the dataset, with ``thing_classes``.
    """
    scale = side / max(image.shape[:2])
    boxes = instances.pred_boxes.clone()
    boxes.scale(scale, scale)
    classes = instances.pred_classes.tolist()
    labels = [metadata.thing_classes[c] for c in classes]
    if instances.has("scores"):
        labels = [f"{label} {score:.0%}" for label, score in zip(labels, instances.scores)]
    drawer = Visualizer(cv2.resize(image, None, fx=scale, fy=scale), metadata)
    colors = [colormaps["tab10"](c % 10)[:3] for c in classes]
    return drawer.overlay_instances(boxes=boxes, labels=labels, assigned_colors=colors).get_image()


def detection_sheet(
    networks: Dict[str, torch.nn.Module],
    dataset: str,
    path: str,
    *,
    augmentations: Sequence,
    image_format: str,
    count: int = 6,
    score_thresh: float = 0.5,
) -> None:
    """Draws one column per image: the ground truth above, each network's detections below.

    Args:
        networks: title -> GeneralizedRCNN in eval mode.
        dataset: a registered dataset with annotations; its first ``count`` images are drawn.
        path: of the picture.
        augmentations: of the test loader.
        image_format: of the networks' input.
        score_thresh: detections below it are left out.
    """
    metadata = MetadataCatalog.get(dataset)
    dicts = DatasetCatalog.get(dataset)[:count]
    rows = 1 + len(networks)
    figure = Figure(figsize=(2.4 * len(dicts), 2.5 * rows))
    axes = figure.subplots(rows, len(dicts), squeeze=False)
    for column, sample in zip(axes.T, dicts):
        image = utils.read_image(sample["file_name"], format="RGB")
        found = [ground_truth(sample)]
        for network in networks.values():
            detected = detect(network, sample, augmentations, image_format)
            found.append(detected[detected.scores > score_thresh])
        for axis, instances in zip(column, found):
            axis.imshow(draw_boxes(image, instances, metadata, side=320))
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, title in zip(axes[:, 0], ["ground truth", *networks]):
        axis.set_ylabel(title, fontsize=11)
    _save(figure, path)


def ap_curves(histories: Dict[str, List[tuple]], path: str) -> None:
    """Draws AP against the step.

    Args:
        histories: label -> list of (step, AP).
        path: of the picture.
    """
    figure = Figure(figsize=(6, 4))
    axis = figure.subplots()
    for label, history in histories.items():
        axis.plot(*zip(*history), marker="o", label=label)
    axis.set_xlabel("optimizer steps")
    axis.set_ylabel("AP on val")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend()
    _save(figure, path)


def _save(figure: Figure, path: str) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
