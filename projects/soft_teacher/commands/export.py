"""Export a trained detector, to be used without this package.

What is written follows from the name of --output:

  model.ts            TorchScript: PyTorch and torchvision alone
  model.onnx          ONNX: onnxruntime alone
  model.safetensors   weights alone
  FOLDER              checkpoint, YAML and classes for Detectron2's DefaultPredictor

Each file is run at once on sample images, in two sizes, and compared with the detector; where they
differ, nothing is written. Classes and the size of images travel inside.
"""

import argparse
import sys
from pathlib import Path

from ..deploy.export import export, sample_views, source_of
from ..deploy.export.exporting import check_output
from ..deploy.export.onnx_file import OPSET
from ..deploy.trained_run import weights_of
from ..evaluation.evaluate import NETWORKS
from ..utils.command_line import exit_status
from ..utils.folders import make_folder
from .common import config_parser, experiment_of, writing

EPILOG = """
Example:
  %(prog)s --config-file output/my_run --output model.onnx
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = config_parser(__doc__, EPILOG)
    parser.add_argument("--output", required=True, help="what to write, see above")
    parser.add_argument(
        "--weights", help="checkpoint; default: the last of the run's folder, or MODEL.WEIGHTS"
    )
    parser.add_argument(
        "--network", choices=NETWORKS, default="teacher", help="the detector; default: teacher"
    )
    parser.add_argument(
        "--images",
        default="",
        metavar="PATH",
        help="sample images: a folder or a pattern; default: those of DATASETS.TEST",
    )
    parser.add_argument(
        "--classes",
        default="",
        metavar="FILE",
        help="names of the classes, as JSON or one a line; default: classes.json beside the "
        "weights, or those of the datasets",
    )
    parser.add_argument(
        "--opset", type=int, default=OPSET, help=f"version of ONNX's operators; default: {OPSET}"
    )
    return parser.parse_args(argv)


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    with experiment_of(args) as experiment:
        check_output(args.output, experiment, args.opset)
        make_folder(Path(args.output).parent, "--output")
        weights = args.weights or weights_of(experiment, args.config_file, args.opts)
        source = source_of(experiment, args.network, args.classes, weights)
        views = sample_views(source, args.images)
        settings = {"opset": args.opset} if args.output.endswith(".onnx") else {}
        with writing():
            agreement = export(source, views, args.output, **settings)
    print(f"on {len(views)} images {agreement}")
    print(f"written: {args.output}, the {source.name} with {len(source.classes)} classes")


if __name__ == "__main__":
    sys.exit(main())
