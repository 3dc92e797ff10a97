"""Check a run's images and labels before it starts.

Takes the config of the run, reads every image and every annotation, and writes one page of text and
one figure: images and boxes per dataset and class, images without boxes, how many annotations are
used, implausible boxes, unreadable images, and images that are in more than one dataset.
"""

import argparse
import sys
from pathlib import Path

from ..analysis.data_check import check_dataset
from ..analysis.data_report import report_figure, report_text
from ..data.datasets.loading import loaded_once
from ..utils.command_line import exit_status, make_output
from .common import config_parser, disk_errors, experiment_of

EPILOG = """
The exit status is 0 if all images can be read, 1 if some cannot, and 2 if the config or its
datasets are refused. unreadable.txt lists all images that cannot be read.

Example:
  %(prog)s --config-file configs/demo/soft_teacher.yaml \\
      DATASETS.TRAIN_LABELED my/train.json@my/images DATASETS.TRAIN_UNLABELED my/photos
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = config_parser(__doc__, EPILOG)
    parser.add_argument("--output", type=Path, default=Path("output/check-data"))
    parser.add_argument(
        "--headers-only",
        action="store_true",
        help="read no more than the headers of the images, and assume that the rest is intact: "
        "much faster",
    )
    return parser.parse_args(argv)


@exit_status
@disk_errors()
def main(argv=None) -> int:
    args = parse_args(argv)
    make_output(args.output)
    with experiment_of(args) as experiment, loaded_once():
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
    return 1 if unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
