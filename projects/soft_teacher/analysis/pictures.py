"""Pictures of detections, and of AP by step."""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.visualizer import Visualizer
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ..data.annotations import annotated_boxes, boxed_annotations
from ..evaluation.mask_polygons import annotated_polygons, bitmap_polygons
from ..monitoring.drawing import class_color

__all__ = ["ap_curves", "detection_sheet", "draw_boxes", "drawable", "ground_truth", "picture_grid"]

LINE = 0.2  # inches, of a caption


@torch.no_grad()
def detect(network, dataset_dict: dict, augmentations: Sequence, image_format: str) -> Instances:
    """Detections of a GeneralizedRCNN in eval mode on one image, in the image's own pixels.

    Masks are polygons.
    """
    image = utils.read_image(dataset_dict["file_name"], format=image_format)
    height, width = image.shape[:2]
    view = T.AugInput(image)
    T.AugmentationList(augmentations)(view)
    tensor = torch.as_tensor(np.ascontiguousarray(view.image.transpose(2, 0, 1)))
    inputs = {"image": tensor, "height": height, "width": width}
    found = network([inputs])[0]["instances"].to("cpu")
    if found.has("pred_masks"):
        found.pred_masks = bitmap_polygons(found.pred_masks)
    return found


def ground_truth(dataset_dict: dict) -> Instances:
    """The annotations of a dataset dict as Instances with ``pred_boxes`` and ``pred_classes``."""
    boxes, classes = annotated_boxes(dataset_dict)
    return drawable((dataset_dict["height"], dataset_dict["width"]), boxes, classes)


def ground_truth_masks(dataset_dict: dict) -> Instances:
    """:func:`ground_truth` with ``pred_masks``, polygons; an object without a mask has none."""
    found = ground_truth(dataset_dict)
    found.pred_masks = annotated_polygons(boxed_annotations(dataset_dict))
    return found


def drawable(
    image_size, boxes: np.ndarray, classes: Sequence[int], scores: np.ndarray | None = None
) -> Instances:
    """Instances for :func:`draw_boxes`.

    Args:
        image_size: (height, width).
        boxes: (n, 4) XYXY, absolute pixels of the image.
        classes, scores: n each; without scores it is ground truth.
    """
    found = Instances(image_size)
    found.pred_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
    found.pred_classes = torch.as_tensor(classes, dtype=torch.int64)
    if scores is not None:
        found.scores = torch.as_tensor(scores)
    return found


def draw_boxes(image: np.ndarray, instances: Instances, metadata, *, side: int) -> np.ndarray:
    """An RGB image, enlarged to ``side`` pixels, with labeled boxes in one colour per class.

    Masks are translucent.

    Args:
        image: RGB, uint8 (H, W, 3).
        instances: ``pred_boxes`` (absolute pixels of the image), ``pred_classes``, for
            detections ``scores``, and for masks ``pred_masks``, PolygonMasks.
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
    masks = None
    if instances.has("pred_masks"):
        masks = PolygonMasks([[p * scale for p in ps] for ps in instances.pred_masks.polygons])
    colors = [to_rgb(class_color(c)) for c in classes]
    return drawer.overlay_instances(
        boxes=boxes, labels=labels, masks=masks, assigned_colors=colors
    ).get_image()


def detection_sheet(
    networks: dict[str, torch.nn.Module],
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
    columns = []
    for sample in DatasetCatalog.get(dataset)[:count]:
        image = utils.read_image(sample["file_name"], format="RGB")
        column = [ground_truth_masks(sample)]
        for network in networks.values():
            found = detect(network, sample, augmentations, image_format)
            column.append(found[found.scores > score_thresh])
        columns.append([draw_boxes(image, boxes, metadata, side=320) for boxes in column])
    picture_grid(list(zip(*columns)), path, row_titles=["ground truth", *networks])


def picture_grid(
    rows: Sequence[Sequence[np.ndarray]],
    path: str,
    *,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    captions: Sequence[str] = (),
    tile: float = 2.4,
) -> None:
    """Draws pictures in rows of equal length.

    Args:
        rows: RGB images.
        path: of the picture.
        row_titles, column_titles: at the left, above.
        captions: below the pictures, row by row.
        tile: width of a picture in inches.
    """
    heights = [tile * max(p.shape[0] / p.shape[1] for p in row) + 0.1 for row in rows]
    figure = Figure(figsize=(tile * len(rows[0]), sum(heights) + LINE * bool(captions) * len(rows)))
    ratios = {"height_ratios": heights}
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False, gridspec_kw=ratios)
    for axis, picture in zip(axes.flat, itertools.chain(*rows)):
        axis.imshow(picture)
        axis.set_xticks([])
        axis.set_yticks([])
    for axis, title in zip(axes[:, 0], row_titles):
        axis.set_ylabel(title, fontsize=11)
    for axis, title in zip(axes[0], column_titles):
        axis.set_title(title, fontsize=11)
    for axis, caption in zip(axes.flat, captions):
        axis.set_xlabel(caption, fontsize=9)
    _save(figure, path)


def ap_curves(histories: dict[str, list[tuple]], path: str) -> None:
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
