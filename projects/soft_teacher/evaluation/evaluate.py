"""Evaluation of the student and the teacher, with Detectron2's own evaluators."""

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence

from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    PascalVOCDetectionEvaluator,
    inference_on_dataset,
    print_csv_format,
)

from ..data.datasets.evaluated import evaluation_name, has_annotations
from ..data.datasets.paths import slug
from ..data.multi_scale import MultiScale
from ..modeling.multi_scale import MultiScaleDetector
from ..utils.checks import check_choice
from ..utils.errors import ConfigError, is_full_disk
from .mask_truth import KnownMasksEvaluator
from .server_files import ServerFilesEvaluator
from .unreadable import ReadableImagesEvaluator

__all__ = [
    "NETWORKS",
    "best_metric",
    "build_evaluator",
    "check_networks",
    "evaluate_networks",
    "results_folder",
]

NETWORKS = ("student", "teacher")

logger = logging.getLogger(__name__)


def check_networks(networks: Sequence[str]) -> None:
    """Raises ConfigError unless ``networks`` names "student", "teacher" or both."""
    if not networks:
        raise ConfigError("evaluate_networks.networks is empty: name student, teacher or both")
    for network in networks:
        check_choice("evaluate_networks.networks", network, NETWORKS)


def best_metric(networks: Sequence[str], datasets: Sequence[str]) -> str:
    """Name in the event storage of the AP that decides which checkpoint is the best.

    It is the teacher's if that is evaluated, on the first test dataset; of the boxes, which every
    detector has.
    """
    network = "teacher" if "teacher" in networks else networks[0]
    return "/".join([network, *datasets[:1], "bbox/AP"] if datasets[1:] else [network, "bbox/AP"])


def build_evaluator(dataset: str, coco: Callable[[str], DatasetEvaluator]) -> DatasetEvaluator:
    """Pascal VOC's evaluator for such a dataset, else what ``coco`` builds.

    Args:
        coco: name of the dataset as it was read (:mod:`..data.datasets.evaluated`) -> evaluator.
    """
    if MetadataCatalog.get(dataset).get("evaluator_type") == "pascal_voc":
        return PascalVOCDetectionEvaluator(dataset)
    evaluator = coco(evaluation_name(dataset))
    unmeasured = isinstance(evaluator, COCOEvaluator) and not has_annotations(dataset)
    return ServerFilesEvaluator(evaluator) if unmeasured else evaluator


def results_folder(output_dir: str, network: str, dataset: str) -> str:
    """The folder for the detections of a network on a dataset."""
    return os.path.join(output_dir, "inference", network, slug(dataset))


def evaluate_networks(
    model,
    *,
    networks: Sequence[str],
    datasets: Sequence[str],
    build_loader: Callable,
    build_evaluator: Callable,
    multi_scale: MultiScale | None = None,
) -> OrderedDict:
    """
    Args:
        model: a SoftTeacher.
        networks: "student", "teacher" or both.
        build_loader: name of a dataset as it was read -> loader.
        build_evaluator: (dataset name, network) -> DatasetEvaluator.
        multi_scale: look at these views of each image, of which the loader gives the whole; None
            looks at what it gives.

    Returns:
        {network: results}, or {network: {dataset: results}} for several datasets; results has
        "bbox" and, where there are masks, "segm", and is empty except on the main process.

    Raises:
        OSError: there was no space to write the results.
    """
    check_networks(networks)
    results, full_disk = OrderedDict(), None
    for network in networks:
        detector, per_dataset = getattr(model, network), OrderedDict()
        how = ""
        if multi_scale is not None:
            detector = MultiScaleDetector(model.family, detector, multi_scale)
            how = f", {len(multi_scale)} views of an image"
        for name in datasets:
            logger.info(f"Evaluating the {network} on {name}{how}")
            try:
                evaluator = KnownMasksEvaluator(build_evaluator(name, network), name)
                found = inference_on_dataset(
                    detector,
                    build_loader(evaluation_name(name)),
                    ReadableImagesEvaluator(evaluator, name),
                )
            except Exception as error:
                if not is_full_disk(error):
                    raise
                # Other ranks write nothing, and wait for this one in the evaluations that follow.
                found, full_disk = {}, error
            per_dataset[name] = found
            if found:
                logger.info(f"Results of the {network} on {name} in csv format:")
                print_csv_format(found)
        results[network] = per_dataset[datasets[0]] if len(datasets) == 1 else per_dataset
    if full_disk is not None:
        raise full_disk
    return results
