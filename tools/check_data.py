#!/usr/bin/env python
"""Look at a training's images and labels before it starts.

Takes the config that train_net.py would take, reads every image and every annotation, and writes
one page of text and one figure: images and boxes per dataset and class, images without a box, what
becomes of the annotations, boxes that cannot be right, images that cannot be read, and images that
stand in more than one dataset.
"""

import argparse
import sys
from pathlib import Path

from soft_teacher.analysis.data_check import check_dataset
from soft_teacher.analysis.data_report import report_figure, report_text
from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.data.datasets.loading import loaded_once
from soft_teacher.experiment.entry import load_experiment
from soft_teacher.utils.command_line import add_config_arguments, exit_status, make_output

EPILOG = """
It exits with 0 if all images can be read, with 1 if some cannot, and with 2 if the config or its
datasets are refused. unreadable.txt lists all images that cannot be read.

Example:
  check_data.py --config-file configs/demo/soft_teacher.yaml \\
      DATASETS.TRAIN_LABELED my/train.json@my/images DATASETS.TRAIN_UNLABELED my/photos
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument("--output", type=Path, default=Path("output/check-data"))
    parser.add_argument(
        "--headers-only",
        action="store_true",
        help="trust that a file with a readable header is whole: much faster",
    )
    return parser.parse_args(argv)


def check(args) -> bool:
    """Writes the report; returns whether every image can be read.

    Raises:
        ConfigError: the folder, the config or its datasets are refused.
    """
    make_output(args.output)
    experiment = load_experiment(args.config_file, args.opts)
    register_builtin()
    with loaded_once(), experiment.words.spoken():
        warnings = experiment.check(eval_only=False)
        how = {"headers_only": args.headers_only, "max_pixels": experiment.max_pixels}
        checks = [
            check_dataset(role, name, **how)
            for role, names in experiment.dataset_names().items()
            for name in names
        ]
    unreadable = [line for found in checks for line in found.unreadable]
    text = report_text(checks, warnings)
    (args.output / "report.txt").write_text(text)
    (args.output / "unreadable.txt").write_text("".join(f"{line}\n" for line in unreadable))
    report_figure(checks, str(args.output / "report.png"))
    print(text)
    print(f"written to {args.output}: report.txt, report.png, unreadable.txt")
    return not unreadable


@exit_status
def main(argv=None) -> int:
    return 0 if check(parse_args(argv)) else 1


if __name__ == "__main__":
    sys.exit(main())
