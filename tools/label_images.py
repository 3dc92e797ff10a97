#!/usr/bin/env python
"""Label unlabeled images once with a trained detector: the first stage of multi-stage training.

Takes the config and the weights that train_net.py --eval-only would take, detects in all images of
DATASETS.TRAIN_UNLABELED in the view of the evaluation, and writes a COCO JSON whose boxes have
scores. A training with SOFT_TEACHER.LABEL_SOURCE dataset learns from it.
"""

import argparse
import json
import sys
from contextlib import contextmanager
from pathlib import Path

from soft_teacher import ConfigError
from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.data.datasets.dataset_dicts import check_datasets, unlabeled_dicts
from soft_teacher.evaluation.evaluate import NETWORKS
from soft_teacher.evaluation.labeling import check_label_threshold, coco_categories, label_images
from soft_teacher.experiment.entry import load_experiment
from soft_teacher.experiment.experiment import Experiment
from soft_teacher.utils.atomic import atomic_write
from soft_teacher.utils.command_line import add_config_arguments, exit_status
from soft_teacher.utils.errors import one_line

EPILOG = """
Images that cannot be read are named and left out.

Example:
  label_images.py --config-file configs/demo/supervised.yaml --output output/labels.json \\
      DATASETS.TRAIN_UNLABELED my/photos MODEL.WEIGHTS output/demo/supervised/model_final.pth
  train_net.py --config-file configs/demo/soft_teacher.yaml \\
      SOFT_TEACHER.LABEL_SOURCE dataset DATASETS.TRAIN_UNLABELED output/labels.json \\
      SOFT_TEACHER.JITTER.ENABLED False SOFT_TEACHER.INDICATOR none SOFT_TEACHER.BURN_IN 0
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, help="the .json file to write")
    parser.add_argument("--network", choices=NETWORKS, default="teacher", help="the one to detect")
    parser.add_argument(
        "--score-thresh",
        type=float,
        help="boxes scored above it are kept; SOFT_TEACHER.SCORE_THRESH if left out",
    )
    return parser.parse_args(argv)


def labeled(args, experiment: Experiment) -> dict:
    """The dataset to write.

    Raises:
        ConfigError: for a mistake in the arguments, the config, the data or the weights.
    """
    register_builtin()
    classes_from, names = experiment.train_names()
    dicts = unlabeled_dicts(names, hidden_labels=False)
    trained = experiment.load_trained()
    detector = getattr(trained.model, args.network)
    num_classes = trained.num_classes
    check_datasets(
        labeled=classes_from,
        unlabeled=names,
        test=[],
        num_classes=num_classes,
        classes_key=trained.model.family.num_classes_parameter,
    )
    thresh = (
        trained.model.pseudo_labeler.score_thresh
        if args.score_thresh is None
        else args.score_thresh
    )
    family = trained.model.family
    check_label_threshold(family.score_floor(detector), thresh, key=family.score_floor_parameter)
    return label_images(
        detector,
        trained.loader(dicts),
        score_thresh=thresh,
        categories=coco_categories(classes_from, num_classes),
        info={
            "description": "labels by a detector",
            "datasets": names,
            "weights": trained.weights,
            "network": args.network,
            "score_thresh": thresh,
        },
    )


@contextmanager
def output_errors():
    """What the disk refuses is a mistake in --output."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"--output cannot be written: {one_line(error)}") from error


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    if args.output.suffix != ".json":
        raise ConfigError(f"--output must end in .json, got '{args.output}'")
    with output_errors():
        args.output.parent.mkdir(parents=True, exist_ok=True)
    experiment = load_experiment(args.config_file, args.opts)
    with experiment.words.spoken():
        dataset = labeled(args, experiment)
    with output_errors(), atomic_write(str(args.output)) as file:
        json.dump(dataset, file)
    boxes, images = len(dataset["annotations"]), len(dataset["images"])
    print(f"{boxes} boxes on {images} images, {dataset['info']['unreadable']} images left out")
    print(f"written: {args.output}")


if __name__ == "__main__":
    sys.exit(main())
