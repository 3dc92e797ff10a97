"""Convert a checkpoint of microsoft/SoftTeacher or mmdetection to one of Detectron2.

Takes a Faster R-CNN with FPN on ResNet-50 or 101, of mmdetection 2 or 3, alone or as student and
teacher, and makes a folder:

  model.pth     weights, under student. and teacher. if there are both
  config.yaml   for soft-teacher-train and, with one network, for Detectron2 alone
  classes.json  names of the classes
  keys.tsv      what became of every tensor

Nothing in the checkpoint is run. Layouts that are not known are refused.
"""

import argparse
import os
import sys
from pathlib import Path

from ..deploy.convert import convert, write_conversion
from ..evaluation.evaluate import NETWORKS
from ..utils.command_line import exit_status
from ..utils.errors import ConfigError
from ..utils.folders import make_folder
from .common import tool_parser, writing

EPILOG = """
Example:
  %(prog)s soft_teacher.pth --style caffe --output output/converted
  soft-teacher-train --config-file output/converted/config.yaml --eval-only \\
      MODEL.WEIGHTS output/converted/model.pth DATASETS.TEST coco_2017_val
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
    return parser.parse_args(argv)


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    if os.path.isfile(args.output) or os.path.isdir(args.output) and os.listdir(args.output):
        raise ConfigError(f"--output '{args.output}' is there already: name another")
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


if __name__ == "__main__":
    sys.exit(main())
