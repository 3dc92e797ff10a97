"""Measure the pseudo labels of a trained model on images with ground truth.

Draws the paper's Fig. 3: (a) precision and recall of the boxes above a score threshold, (b) the IoU
of box candidates with the ground truth against their score, (c) against their box regression
variance; prints both correlations and the best threshold for each class. With --compare also
Fig. 4: the detections of another model beside this one's and the ground truth.
"""

import argparse
import sys
from pathlib import Path

from detectron2.data import MetadataCatalog

from ..analysis.comparison import comparison_sheet
from ..analysis.findings import findings_of
from ..analysis.measured_boxes import choose_images, measure
from ..analysis.pseudo_label_report import report_text, write_findings
from ..data.datasets.dataset_dicts import ground_truth_dicts
from ..data.roles import TEST
from ..evaluation.evaluate import NETWORKS
from ..experiment.entry import load_experiment
from ..experiment.trained import Trained
from ..utils.checks import check_fraction, check_not_negative
from ..utils.command_line import exit_status, make_output, shown_command
from ..utils.errors import ConfigError
from .common import AT_LEAST_ONE, config_parser, disk_errors, experiment_of

FIGURE_4 = "figure4.png"
EPILOG = """
Weights and config are those of soft-teacher-train --eval-only: a checkpoint of ours, or of any
Detectron2 Faster R-CNN. The held-out labels of a split's unlabeled images are ground truth here.

Examples:
  %(prog)s --config-file configs/demo/soft_teacher.yaml \\
      --dataset digits_fold1_unlabeled MODEL.WEIGHTS output/demo/seed0/soft_teacher/model_final.pth
  %(prog)s --config-file demo/soft_teacher.py \\
      --compare output/demo/seed0/supervised/model_final.pth \\
      train.init_checkpoint=output/demo/seed0/soft_teacher/model_final.pth
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = config_parser(__doc__, EPILOG)
    add = parser.add_argument
    add("--dataset", help="registered name or path; default: the config's first test dataset")
    add("--network", choices=NETWORKS, default="teacher", help="default: teacher")
    add("--images", type=int, metavar="N", help="measure N random images; default: all")
    add("--seed", type=int, default=0, help="of the random images and of the box jitter")
    add("--compare", metavar="WEIGHTS", help="weights of a supervised model: draw Fig. 4")
    add(
        "--compare-config",
        metavar="FILE",
        help="config of that model; default: --config-file with its overrides",
    )
    add("--rows", type=int, default=4, help="images in Fig. 4, those that differ most; default: 4")
    add(
        "--draw-above",
        type=float,
        default=0.5,
        metavar="SCORE",
        help="threshold of the boxes in Fig. 4; default: 0.5",
    )
    add("--output", type=Path, default=Path("output/pseudo-labels"))
    args = parser.parse_args(argv)
    check_not_negative("--seed", args.seed)
    check_fraction("--draw-above", args.draw_above)
    if args.images is not None:
        AT_LEAST_ONE("--images", args.images)
    AT_LEAST_ONE("--rows", args.rows)
    if args.compare_config and not args.compare:
        raise ConfigError("--compare-config needs the weights: give them with --compare")
    return args


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


@exit_status
@disk_errors()
def main(argv=None) -> None:
    args = parse_args(argv)
    make_output(args.output)
    with experiment_of(args) as experiment:
        trained = experiment.load_trained()
        compared = load_compared(args, trained.num_classes) if args.compare else None
        names = experiment.dataset_names(eval_only=True)["test"]
        if not (args.dataset or names):
            raise ConfigError(f"{TEST} is empty: name a dataset with --dataset")
        key, name = ("--dataset", args.dataset) if args.dataset else (TEST, names[0])
        classes_key = trained.model.family.num_classes_parameter
        dicts = ground_truth_dicts(
            key, name, num_classes=trained.num_classes, classes_key=classes_key
        )
    dicts = choose_images(dicts, args.images, args.seed)
    found = measure(trained, args.network, dicts, seed=args.seed, title=f"ours, {name}")
    findings = findings_of(found, trained, network=args.network, dataset=name)
    comparison = None
    if compared:
        theirs = measure(compared, args.network, dicts, variances=False, title="supervised")
        if comparison_sheet(
            {"supervised": theirs, "ours": found},
            dicts,
            MetadataCatalog.get(name),
            str(args.output / FIGURE_4),
            count=args.rows,
            score_thresh=args.draw_above,
        ):
            comparison = args.output / FIGURE_4
        else:
            print(
                f"no Fig. 4: both models find the same boxes above a score of {args.draw_above:g}"
            )
    command = shown_command(sys.argv)
    files = write_findings(findings, args.output, comparison=comparison, command=command)
    print(report_text(findings))
    print(f"written: {', '.join(map(str, files + [comparison] * bool(comparison)))}")


if __name__ == "__main__":
    sys.exit(main())
