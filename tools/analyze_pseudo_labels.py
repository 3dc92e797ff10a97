#!/usr/bin/env python
"""What the pseudo labels of a trained model are worth, on images whose objects are known.

Draws the paper's Fig. 3: (a) precision and recall of the boxes above a score threshold, (b) the IoU
of box candidates with the ground truth against their score, (c) against their box regression
variance; prints both correlations and the threshold that would suit each class. With --compare also
Fig. 4: the detections of another model beside this one's and the ground truth.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import List, Optional, Tuple

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

from detectron2.data import MetadataCatalog

from soft_teacher import ConfigError
from soft_teacher.analysis.comparison import comparison_sheet
from soft_teacher.analysis.findings import findings_of
from soft_teacher.analysis.measured_boxes import choose_images, measure
from soft_teacher.analysis.pseudo_label_report import report_text, write_findings
from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.data.datasets.dataset_dicts import ground_truth_dicts
from soft_teacher.data.roles import TEST
from soft_teacher.evaluation.evaluate import NETWORKS
from soft_teacher.experiment.entry import load_experiment
from soft_teacher.experiment.trained import Trained
from soft_teacher.utils.checks import check_fraction, check_not_negative
from soft_teacher.utils.command_line import add_config_arguments, exit_status, make_output
from soft_teacher.utils.errors import one_line

EPILOG = """
Weights and config are those of train_net.py --eval-only: a checkpoint of ours, or of any Detectron2
Faster R-CNN. Hidden labels of a split's unlabeled images are ground truth here.

Examples:
  analyze_pseudo_labels.py --config-file configs/demo/soft_teacher.yaml \\
      --dataset digits_fold1_unlabeled MODEL.WEIGHTS output/demo/seed0/soft_teacher/model_final.pth
  analyze_pseudo_labels.py --config-file configs/demo/soft_teacher.py \\
      --compare output/demo/seed0/supervised/model_final.pth \\
      train.init_checkpoint=output/demo/seed0/soft_teacher/model_final.pth
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--dataset", help="registered name or path; the config's first test dataset if left out"
    )
    parser.add_argument("--network", choices=NETWORKS, default="teacher")
    parser.add_argument(
        "--images", type=int, metavar="N", help="a random sample, in place of all images"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sample and of the box jitter")
    parser.add_argument("--compare", metavar="WEIGHTS", help="of a supervised model: draw Fig. 4")
    parser.add_argument(
        "--compare-config",
        metavar="FILE",
        help="config of that model; --config-file with its overrides if left out",
    )
    parser.add_argument(
        "--rows", type=int, default=4, help="images of Fig. 4, those that differ most"
    )
    parser.add_argument(
        "--draw-above", type=float, default=0.5, metavar="SCORE", help="of the boxes of Fig. 4"
    )
    parser.add_argument("--output", type=Path, default=Path("output/pseudo-labels"))
    return parser.parse_args(argv)


def check_options(args) -> None:
    """Raises ConfigError for a value that makes no sense."""
    check_not_negative("--seed", args.seed)
    check_fraction("--draw-above", args.draw_above)
    for option, value in (("--images", args.images), ("--rows", args.rows)):
        if value is not None and value < 1:
            raise ConfigError(f"{option} must be at least 1, got {value}")
    if args.compare_config and not args.compare:
        raise ConfigError("--compare-config needs the weights: give them with --compare")


def load_compared(args, num_classes: int) -> Trained:
    """The model of --compare, which must have as many classes."""
    file, opts = (args.compare_config, []) if args.compare_config else (args.config_file, args.opts)
    try:
        compared = load_experiment(file, opts).load_trained(weights=args.compare)
    except ConfigError as error:
        raise ConfigError(f"--compare: {error}") from error
    if compared.num_classes != num_classes:
        raise ConfigError(
            f"--compare: the model has {compared.num_classes} classes, the other {num_classes}"
        )
    return compared


def load_images(args, names: List[str], trained: Trained) -> Tuple[str, List[dict]]:
    """Name of the dataset and dicts of the images to be measured."""
    if not (args.dataset or names):
        raise ConfigError(f"{TEST} is empty: name a dataset with --dataset")
    key, name = ("--dataset", args.dataset) if args.dataset else (TEST, names[0])
    classes_key = trained.model.family.num_classes_parameter
    dicts = ground_truth_dicts(key, name, num_classes=trained.num_classes, classes_key=classes_key)
    return name, choose_images(dicts, args.images, args.seed)


def draw_comparison(args, ours, theirs, dicts: List[dict], dataset: str) -> Optional[Path]:
    """Draws Fig. 4 and returns its path; None where there is nothing to see.

    Args:
        ours, theirs: number of the image -> boxes.
    """
    path = args.output / "figure4.png"
    drawn = comparison_sheet(
        {"supervised": theirs, "ours": ours},
        dicts,
        MetadataCatalog.get(dataset),
        str(path),
        count=args.rows,
        score_thresh=args.draw_above,
    )
    if not drawn:
        print(f"no Fig. 4: both models find the same boxes above a score of {args.draw_above:g}")
    return path if drawn else None


def analyze(args) -> None:
    """Prints the tables and writes everything else.

    Raises:
        ConfigError: for every mistake in the arguments, the config, the weights and the data.
        OSError: a file cannot be written.
    """
    check_options(args)
    make_output(args.output)
    register_builtin()
    experiment = load_experiment(args.config_file, args.opts)
    trained = experiment.load_trained()
    compared = load_compared(args, trained.num_classes) if args.compare else None
    names = experiment.dataset_names(eval_only=True)["test"]
    with experiment.words.spoken():
        dataset, dicts = load_images(args, names, trained)
    found = measure(trained, args.network, dicts, seed=args.seed, title=f"ours, {dataset}")
    findings = findings_of(found, trained, network=args.network, dataset=dataset)
    comparison = None
    if compared:
        theirs = measure(compared, args.network, dicts, variances=False, title="supervised")
        comparison = draw_comparison(args, found, theirs, dicts, dataset)
    command = shlex.join(sys.argv)
    files = write_findings(findings, args.output, comparison=comparison, command=command)
    print(report_text(findings))
    print(f"written: {', '.join(map(str, files + [comparison] * bool(comparison)))}")


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    try:
        analyze(args)
    except OSError as error:
        raise ConfigError(one_line(error)) from error


if __name__ == "__main__":
    sys.exit(main())
