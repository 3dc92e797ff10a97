"""Label unlabeled images once with a trained detector: the first stage of multi-stage training.

Takes config and weights as soft-teacher-train --eval-only does, detects objects in all images of
DATASETS.TRAIN_UNLABELED as an evaluation would, and writes a COCO JSON of boxes with scores, with
masks if the detector has them. A run with SOFT_TEACHER.LABEL_SOURCE dataset learns
from it.
"""

import argparse
import json
import sys
from pathlib import Path

from ..data.datasets.dataset_checks import check_datasets
from ..data.datasets.dataset_dicts import unlabeled_dicts
from ..evaluation.evaluate import NETWORKS
from ..evaluation.labeling import check_label_threshold, coco_categories, label_images
from ..experiment.experiment import Experiment
from ..utils.atomic import atomic_write
from ..utils.command_line import exit_status
from .common import config_parser, experiment_of, new_file, writing

EPILOG = """
Images that cannot be read are listed and left out.

Example:
  %(prog)s --config-file configs/demo/supervised.yaml --output output/labels.json \\
      DATASETS.TRAIN_UNLABELED my/photos MODEL.WEIGHTS output/demo/supervised/model_final.pth
  soft-teacher-train --config-file configs/demo/soft_teacher.yaml \\
      SOFT_TEACHER.LABEL_SOURCE dataset DATASETS.TRAIN_UNLABELED output/labels.json \\
      SOFT_TEACHER.JITTER.ENABLED False SOFT_TEACHER.INDICATOR none SOFT_TEACHER.BURN_IN 0
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = config_parser(__doc__, EPILOG)
    parser.add_argument("--output", type=Path, required=True, help="the .json file to write")
    parser.add_argument(
        "--network", choices=NETWORKS, default="teacher", help="the detector; default: teacher"
    )
    parser.add_argument(
        "--score-thresh",
        type=float,
        help="keep boxes scored above it; default: SOFT_TEACHER.SCORE_THRESH",
    )
    return parser.parse_args(argv)


def labeled(args, experiment: Experiment) -> dict:
    """The dataset to write.

    Raises:
        ConfigError: for a mistake in the arguments, the config, the data or the weights.
    """
    classes_from, names = experiment.train_names()
    dicts = unlabeled_dicts(names, hidden_labels=False)
    trained = experiment.load_trained()
    family, detector = trained.model.family, getattr(trained.model, args.network)
    check_datasets(
        labeled=classes_from,
        unlabeled=names,
        test=[],
        num_classes=trained.num_classes,
        classes_key=family.num_classes_parameter,
    )
    thresh = args.score_thresh
    if thresh is None:
        thresh = trained.model.pseudo_labeler.score_thresh
    check_label_threshold(family.score_floor(detector), thresh, key=family.score_floor_parameter)
    return label_images(
        detector,
        trained.loader(dicts),
        score_thresh=thresh,
        categories=coco_categories(classes_from, trained.num_classes),
        info={
            "description": "labels by a detector",
            "datasets": names,
            "weights": trained.weights,
            "network": args.network,
            "score_thresh": thresh,
        },
    )


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    new_file(args.output, ".json")
    with experiment_of(args) as experiment:
        dataset = labeled(args, experiment)
    with writing(), atomic_write(str(args.output)) as file:
        json.dump(dataset, file)
    boxes, images = len(dataset["annotations"]), len(dataset["images"])
    print(f"{boxes} boxes on {images} images, {dataset['info']['unreadable']} images left out")
    print(f"written: {args.output}")


if __name__ == "__main__":
    sys.exit(main())
