"""Make the splits of COCO, or of a dataset of your own, into labeled and unlabeled images.

A split is a small file of image ids with a checksum that training verifies. An existing file is
kept if it is identical; one that differs is replaced only with --force. For a dataset of your own
(--json, --dataset) both parts are also written as COCO JSONs, which a run takes as they are.
"""

import argparse
import sys
from pathlib import Path

from ..data.datasets.builtin import register_builtin
from ..data.datasets.coco import coco_root
from ..data.datasets.paths import slug
from ..data.datasets.splits.drawn import drawn_splits
from ..data.datasets.splits.families import FAMILIES, FULL, SHOTS, SIZES, split_name
from ..data.datasets.splits.manifest import Split, store_manifest
from ..data.datasets.splits.parts import write_parts
from ..data.datasets.splits.shots import scarce_classes
from ..data.datasets.splits.source import Source, dataset_source, json_source
from ..data.roles import KEYS
from ..experiment.words import YAML_WORDS
from ..utils.command_line import USAGE_ERROR, exit_status
from ..utils.errors import ConfigError
from .common import disk_errors, tool_parser

EPILOG = """
The files are FAMILY_PERCENTp_foldFOLD.json, FAMILY_COUNT_foldFOLD.json, shots_K_foldFOLD.json and
full.json; training finds those in the default output folder as coco_2017_stac_10p_fold1_labeled,
coco_2017_stac_10p_fold1_unlabeled and so on.

Examples:
  STAC's 1, 2, 5 and 10 %%, five folds each
    %(prog)s
  one file, for a first run
    %(prog)s --family stac --percent 10 --folds 1
  Unbiased Teacher's, from dataseed/COCO_supervision.txt of its repository
    %(prog)s --family unbiased_teacher --index-file COCO_supervision.txt --folds 0 1 2
  all of train2017 labeled, all of unlabeled2017 unlabeled
    %(prog)s --family full
  at least 10 labeled images of every class, three draws
    %(prog)s --shots 10 --folds 1 2 3
  a dataset of your own: my/splits/stac_20p_fold1.json and its two parts
    %(prog)s --json my/instances.json --images my/images --percent 20 --folds 1
  exactly 20 labeled images of a Pascal VOC folder's set train
    %(prog)s --dataset my/voc@train --count 20 --folds 1
"""
PERCENTAGES = [1.0, 2.0, 5.0, 10.0]
# The family of a size if none is named: exactly as many images for a count.
DEFAULT_FAMILY = {"percent": "stac", "count": "without_replacement", "shots": SHOTS}


def parse_args(argv=None) -> argparse.Namespace:
    parser = tool_parser(__doc__, EPILOG)
    # Every mistake is reported in one line.
    parser.error = lambda text: parser.exit(USAGE_ERROR, f"error: {text} (see --help)\n")
    add_source_options(parser)
    add_split_options(parser)
    parser.add_argument(
        "--output",
        type=Path,
        help="default: the folder splits of COCO, one beside --json, or output/splits/DATASET",
    )
    parser.add_argument("--force", action="store_true", help="replace files that differ")
    args = parser.parse_args(argv)
    args.size = next((size for size in DEFAULT_FAMILY if getattr(args, size)), "percent")
    args.sizes = getattr(args, args.size) or PERCENTAGES
    args.family = args.family or [DEFAULT_FAMILY[args.size]]
    mistake = mistake_in(args)
    if mistake:
        parser.error(mistake)
    args.own = bool(args.json or args.dataset)
    args.json = args.json or coco_root() / "annotations" / "instances_train2017.json"
    args.output = args.output or default_output(args)
    return args


def add_source_options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--json",
        type=Path,
        help="annotations, as COCO JSON, of images of your own; default: those of COCO's train2017",
    )
    source.add_argument(
        "--dataset",
        metavar="FORM",
        help="a dataset of your own as a config names it: FOLDER or FOLDER@SET (Pascal VOC), "
        "FILE.yaml@SPLIT (YOLO), FILE.json@FOLDER (COCO), or a registered name",
    )
    add = parser.add_argument
    add("--images", type=Path, help="folder of the images of --json; default: the folder of --json")
    add(
        "--unlabeled-json",
        type=Path,
        default=coco_root() / "annotations" / "image_info_unlabeled2017.json",
        help="COCO images without labels, for the family full; default: %(default)s",
    )


def add_split_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--family",
        nargs="+",
        choices=FAMILIES,
        metavar="FAMILY",
        help=f"one or more of {', '.join(FAMILIES)}; default: stac, with --count "
        "without_replacement, with --shots shots",
    )
    size = parser.add_mutually_exclusive_group().add_argument
    size("--percent", nargs="+", type=share, metavar="P", help="labeled shares; default: 1 2 5 10")
    size(
        "--count",
        nargs="+",
        type=int,
        metavar="N",
        help="numbers of labeled images; for stac of samples, among which an image may be twice",
    )
    size(
        "--shots",
        nargs="+",
        type=int,
        metavar="K",
        help="numbers of images that show a class, for every class at least",
    )
    folds = {"type": int, "default": [1, 2, 3, 4, 5]}
    add("--folds", nargs="+", metavar="N", **folds, help="default: 1 2 3 4 5")
    add("--index-file", type=Path, help="Unbiased Teacher's published index, for its family")


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


def mistake_in(args: argparse.Namespace) -> str:
    """What is wrong with options that do not fit each other; empty if nothing is."""
    for family in args.family:
        if args.size not in SIZES.get(family, DEFAULT_FAMILY):
            options = " or ".join(f"--{size}" for size in SIZES[family])
            return f"--family {family} needs {options}"
    if "unbiased_teacher" in args.family and args.index_file is None:
        return (
            "--family unbiased_teacher needs --index-file, the file dataseed/COCO_supervision.txt "
            "of its repository"
        )
    if args.dataset and FULL in args.family:
        return "--family full is made of --json and --unlabeled-json, not of --dataset"
    if args.dataset and args.images:
        return "--images is the folder of --json, not of --dataset"
    return ""


def default_output(args: argparse.Namespace) -> Path:
    if args.dataset:
        return Path("output") / "splits" / slug(args.dataset)
    return (args.json.parent if args.own else coco_root()) / "splits"


def read_source(args: argparse.Namespace) -> Source:
    """The dataset to split.

    Raises:
        ConfigError: it cannot be read.
    """
    if args.dataset is None:
        return read_json(args.json, "--json", args.images)
    print(f"reading {args.dataset}", flush=True)
    register_builtin()
    return dataset_source("--dataset", args.dataset)


def read_json(json_file: Path, option: str, images: Path | None = None) -> Source:
    if not json_file.is_file():
        raise ConfigError(
            f"{json_file} does not exist: set $DETECTRON2_DATASETS, or pass {option} FILE"
        )
    print(f"reading {json_file}", flush=True)
    return json_source(json_file, images or json_file.parent)


def make_splits(args: argparse.Namespace, source: Source) -> list[Split]:
    """The splits that are asked for; each JSON is read once."""
    full = FULL in args.family
    return list(
        drawn_splits(
            source,
            args.family,
            size=args.size,
            sizes=args.sizes,
            folds=args.folds,
            unlabeled=read_json(args.unlabeled_json, "--unlabeled-json") if full else None,
            index_file=args.index_file,
        )
    )


@exit_status
@disk_errors()
def main(argv=None) -> None:
    args = parse_args(argv)
    source = read_source(args)
    splits = make_splits(args, source)  # all, so that a mistake leaves no file behind
    scarce = [line for shots in args.shots or () for line in scarce_classes(source.shown, shots)]
    for note in (*source.notes, *scarce):
        print(f"note: {note}")
    row = "{:<40}{:>8}{:>11}  {:<14}{}"
    print(f"writing to {args.output}")
    print(row.format("file", "labeled", "unlabeled", "sha256", ""))
    for split in splits:
        name = split_name(split.family, split.percent, split.fold, split.count) + ".json"
        state = store_manifest(split, args.output / name, force=args.force)
        counts = len(split.labeled), len(split.unlabeled)
        print(row.format(name, *counts, split.sha256[:12], state), flush=True)
        if args.own and split.family != FULL:
            parts = write_parts(source, split, (args.output / name).with_suffix(""))
            for key, part in zip(map(YAML_WORDS, KEYS.values()), parts):
                print(f"  {key} {part}@{source.folder}")


if __name__ == "__main__":
    sys.exit(main())
