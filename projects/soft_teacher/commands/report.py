"""Write the HTML report of a run, finished or not, into its folder."""

import argparse
import sys
from pathlib import Path

from ..monitoring.run_report import write_report
from ..utils.command_line import exit_status
from .common import disk_errors


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="+", help="OUTPUT_DIR of a run")
    parser.add_argument("--title", default="Soft Teacher")
    return parser.parse_args(argv)


@exit_status
@disk_errors()
def main(argv=None) -> None:
    args = parse_args(argv)
    for folder in args.folder:
        print(write_report(folder, title=args.title))


if __name__ == "__main__":
    sys.exit(main())
