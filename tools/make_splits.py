#!/usr/bin/env python
"""Make the splits of COCO, or of a dataset of your own, into labeled and unlabeled images.

A split is a small file of image ids with a checksum that training verifies. An existing file is
kept if it is identical; one that differs is replaced only with --force. For a dataset of your own
(--json) both parts are also written as COCO JSONs, which a run takes as they are.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from config_tool import disk_errors, tool_parser

from soft_teacher.data.datasets.coco import coco_root
from soft_teacher.data.datasets.splits.families import (
    FAMILIES,
    FULL,
    full_split,
    read_coco_ids,
    split_name,
    stac_split,
    unbiased_teacher_split,
    without_replacement_split,
)
from soft_teacher.data.datasets.splits.manifest import Split, read_manifest, write_manifest
from soft_teacher.data.datasets.splits.parts import write_parts
from soft_teacher.data.roles import KEYS
from soft_teacher.experiment.words import YAML_WORDS
from soft_teacher.utils.command_line import USAGE_ERROR, exit_status
from soft_teacher.utils.errors import ConfigError

EPILOG = """
The files are FAMILY_PERCENTp_foldFOLD.json and full.json; training finds those in the default
output folder as coco_2017_stac_10p_fold1_labeled, coco_2017_stac_10p_fold1_unlabeled and so on.

Examples:
  STAC's 1, 2, 5 and 10 %, five folds each
    make_splits.py
  one file, for a first run
    make_splits.py --family stac --percent 10 --folds 1
  Unbiased Teacher's, from dataseed/COCO_supervision.txt of its repository
    make_splits.py --family unbiased_teacher --index-file COCO_supervision.txt --folds 0 1 2
  all of train2017 labeled, all of unlabeled2017 unlabeled
    make_splits.py --family full
  a dataset of your own: my/splits/stac_20p_fold1.json and its two parts
    make_splits.py --json my/instances.json --images my/images --percent 20 --folds 1
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = tool_parser(__doc__, EPILOG)
    # Every mistake is reported in one line.
    parser.error = lambda text: parser.exit(USAGE_ERROR, f"error: {text} (see --help)\n")
    add = parser.add_argument
    add(
        "--family",
        nargs="+",
        choices=FAMILIES,
        default=["stac"],
        metavar="FAMILY",
        help=f"one or more of {', '.join(FAMILIES)}; default: stac",
    )
    percent = {"type": share, "default": [1.0, 2.0, 5.0, 10.0]}
    add("--percent", nargs="+", metavar="P", **percent, help="labeled shares; default: 1 2 5 10")
    folds = {"type": int, "default": [1, 2, 3, 4, 5]}
    add("--folds", nargs="+", metavar="N", **folds, help="default: 1 2 3 4 5")
    add("--index-file", type=Path, help="Unbiased Teacher's published index, for its family")
    annotations = coco_root() / "annotations"
    add(
        "--json",
        type=Path,
        help="annotations, as COCO JSON, of images of your own; default: those of COCO's train2017",
    )
    add("--images", type=Path, help="folder of these images; default: the folder of --json")
    add(
        "--unlabeled-json",
        type=Path,
        default=annotations / "image_info_unlabeled2017.json",
        help="COCO images without labels, for the family full; default: %(default)s",
    )
    add("--output", type=Path, help="default: the folder splits of COCO, or one beside --json")
    add("--force", action="store_true", help="replace files that differ")
    args = parser.parse_args(argv)
    if "unbiased_teacher" in args.family and args.index_file is None:
        parser.error(
            "--family unbiased_teacher needs --index-file, the file dataseed/COCO_supervision.txt "
            "of its repository"
        )
    args.own = args.json is not None
    args.json = args.json or annotations / "instances_train2017.json"
    args.output = args.output or (args.json.parent if args.own else coco_root()) / "splits"
    args.images = args.images or args.json.parent
    return args


def share(text: str) -> float:
    """A percentage that a file name holds exactly."""
    try:
        percent = float(text)
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100 or float(f"{percent:g}") != percent:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no percentage: use more than 0 and at most 100, with at most 6 digits"
        )
    return percent


def make_splits(args: argparse.Namespace) -> Iterator[Split]:
    """The requested splits one by one; each JSON is read once.

    Raises:
        ConfigError: a JSON or the index file cannot be read or does not fit.
    """
    ids = read_ids(args.json, "--json")
    source = args.json.name
    for family in args.family:
        if family == FULL:
            pool = read_ids(args.unlabeled_json, "--unlabeled-json")
            both = f"{source} + {args.unlabeled_json.name}"
            yield full_split(ids[FULL], pool[FULL], source=both)
            continue
        draw = {
            "stac": stac_split,
            "without_replacement": without_replacement_split,
            "unbiased_teacher": partial(unbiased_teacher_split, args.index_file),
        }[family]
        for percent in args.percent:
            for fold in args.folds:
                yield draw(ids[family], percent, fold, source=source)


def read_ids(json_file: Path, option: str) -> dict:
    if not json_file.is_file():
        raise ConfigError(
            f"{json_file} does not exist: set $DETECTRON2_DATASETS, or pass {option} FILE"
        )
    print(f"reading {json_file}", flush=True)
    return read_coco_ids(json_file)


def store(split: Split, path: Path, *, force: bool) -> str:
    """Writes the manifest unless it exists; returns "written" or "kept".

    Raises:
        ConfigError: another file exists, and ``force`` is not given.
    """
    if path.exists():
        try:
            if read_manifest(path) == split:
                return "kept"
        except ConfigError:
            pass  # a damaged file is one that differs
        if not force:
            raise ConfigError(
                f"{path} exists and differs: pass --force to replace it, or another --output"
            )
    write_manifest(split, path)
    return "written"


@exit_status
@disk_errors()
def main(argv=None) -> None:
    args = parse_args(argv)
    row = "{:<40}{:>8}{:>11}  {:<14}{}"
    for number, split in enumerate(make_splits(args)):
        if number == 0:
            print(f"writing to {args.output}")
            print(row.format("file", "labeled", "unlabeled", "sha256", ""))
        name = split_name(split.family, split.percent, split.fold) + ".json"
        state = store(split, args.output / name, force=args.force)
        counts = len(split.labeled), len(split.unlabeled)
        print(row.format(name, *counts, split.sha256[:12], state), flush=True)
        if args.own and split.family != FULL:
            parts = write_parts(args.json, split, (args.output / name).with_suffix(""))
            for key, part in zip(map(YAML_WORDS, KEYS.values()), parts):
                print(f"  {key} {part}@{args.images}")


if __name__ == "__main__":
    sys.exit(main())
