"""Convert a checkpoint of microsoft/SoftTeacher or mmdetection to one of Detectron2.

Takes a Faster R-CNN with FPN on ResNet-50 or 101, of mmdetection 2 or 3, alone or as student and
teacher, and makes a folder:

  model.pth     weights, under student. and teacher. if there are both
  config.yaml   for soft-teacher-train and, with one network, for Detectron2 alone
  classes.json  names of the classes
  keys.tsv      what became of every tensor

Layouts that are not known are refused.

With --config-file it takes any Swin or R-CNN of mmdetection, Swin's own files, and weights of
Detectron2 and of this project, and writes what fits into the detector of that config, for a
training to begin with:

  model.pth     for MODEL.WEIGHTS, in a LazyConfig train.init_checkpoint
  keys.tsv      what became of every tensor, and what the detector initializes itself

Nothing in the checkpoint is run.
"""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from ..deploy.convert import convert, fit, parts_of, write_conversion, write_fitted
from ..evaluation.evaluate import NETWORKS
from ..experiment.entry import load_experiment
from ..utils.command_line import exit_status
from ..utils.errors import ConfigError
from ..utils.folders import make_folder
from .common import tool_parser, writing

EPILOG = """
Examples:
  %(prog)s soft_teacher.pth --style caffe --output output/converted
  soft-teacher-train --config-file output/converted/config.yaml --eval-only \\
      MODEL.WEIGHTS output/converted/model.pth DATASETS.TEST coco_2017_val

  %(prog)s swin_large_patch4_window7_224_22k.pth --output output/swin_L \\
      --config-file coco/paper/htcpp_swin_L_supervised_full_720k.py
  soft-teacher-train --config-file coco/paper/htcpp_swin_L_supervised_full_720k.py \\
      train.init_checkpoint=output/swin_L/model.pth
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = tool_parser(__doc__, EPILOG)
    parser.add_argument("checkpoint", help="the file to convert")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="the folder to make")
    parser.add_argument(
        "--network", choices=NETWORKS, default="", help="one of two networks; default: both"
    )
    parser.add_argument(
        "--style",
        choices=("caffe", "pytorch"),
        default="",
        help="of the ResNet; default: what the config in the checkpoint says",
    )
    parser.add_argument(
        "--annotations",
        default="",
        metavar="FILE.json",
        help="COCO annotations that it was trained on, whose order of categories is that of its "
        "classes; not needed for COCO itself",
    )
    into = parser.add_argument_group("into the detector of a config")
    into.add_argument("--config-file", default="", help="YAML or LazyConfig (.py)")
    into.add_argument(
        "--new-classes", action="store_true", help="take no layer that has rows of classes"
    )
    into.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="overrides of the config"
    )
    args = parser.parse_args(argv)
    _check_options(args)
    return args


def _check_options(args: argparse.Namespace) -> None:
    if args.config_file and args.style:
        raise ConfigError("--style is the config's: leave it out with --config-file")
    if not args.config_file and (args.new_classes or args.opts):
        raise ConfigError("--new-classes and --opts need --config-file")


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    if os.path.isfile(args.output) or os.path.isdir(args.output) and os.listdir(args.output):
        raise ConfigError(f"--output '{args.output}' is there already: name another")
    (fit_into_config if args.config_file else convert_alone)(args)


def convert_alone(args: argparse.Namespace) -> None:
    """A detector with a config of its own."""
    conversion = convert(
        args.checkpoint, style=args.style, annotations=args.annotations, network=args.network
    )
    make_folder(Path(args.output).parent, "--output")
    with writing():
        write_conversion(conversion, args.output)
    converted = sum(bool(key.target) for key in conversion.keys)
    dropped = len(conversion.keys) - converted
    print(f"{converted} tensors converted, {dropped} counters of batches dropped, 0 unknown")
    if conversion.left_out:
        print(f"left out: {', '.join(conversion.left_out)}")
    print(f"written: {args.output}, {len(conversion.classes)} classes")


def fit_into_config(args: argparse.Namespace) -> None:
    """What fits into the detector of a config."""
    fitted = fit(
        args.checkpoint,
        load_experiment(args.config_file, args.opts),
        network=args.network,
        annotations=args.annotations,
        new_classes=args.new_classes,
    )
    make_folder(Path(args.output).parent, "--output")
    with writing():
        write_fitted(fitted, args.output)
    fates = Counter(key.note.partition(":")[0] for key in fitted.keys)
    print("tensors of the file: " + ", ".join(f"{count} {fate}" for fate, count in fates.items()))
    for title, names in (("loaded", fitted.weights), ("initialized anew", fitted.missing)):
        parts = ", ".join(f"{part} ({count})" for part, count in parts_of(names))
        print(f"{title}: {len(names)} of {len(fitted.weights) + len(fitted.missing)}: {parts}")
    print(f"written: {args.output}")


if __name__ == "__main__":
    sys.exit(main())
