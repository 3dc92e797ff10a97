"""Predict with a trained detector on images, folders or videos, and write pictures and files.

Formats of --format, several of which may be given:
  pictures, video  drawn with class names
  coco             a COCO dataset with scores, which CVAT reads, and COCO results
  csv              a row for each box
  label-studio     tasks with predictions
  review           CSV of the images worth a look first: unstable boxes, or near the threshold
  voc, yolo        folders that can be trained on, with links to the images
  yolo-seg         the same with outlines of masks
"""

import argparse
import sys
from pathlib import Path

from ..deploy.confidence import Confidence
from ..deploy.outputs import DRAWN, FORMATS
from ..deploy.prediction import Summary, predict, review_margin
from ..deploy.predictor import Predictor
from ..deploy.sources import Sources, find_sources
from ..evaluation.evaluate import NETWORKS
from ..utils.command_line import exit_status, make_output
from ..utils.errors import ConfigError
from ..utils.folders import held
from .common import config_parser, disk_errors

INTERRUPTED = 130
DEFAULT_FORMATS = {False: ("pictures", "coco", "csv"), True: ("video", "csv")}
EPILOG = """
Examples:
  %(prog)s --config-file output/my_run --source my/photos --output found
  %(prog)s --config-file output/my_run --source clip.mp4 --output found
  %(prog)s --config-file config.yaml --weights model.pth --source 'photos/**/*.jpg' \\
      --output labels --format coco --format review --variances --confidence 0.5 \\
      --confidence car=0.3 MODEL.DEVICE cpu
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = config_parser(__doc__, EPILOG)
    add = parser.add_argument
    add(
        "--source",
        action="append",
        required=True,
        help="image, folder, pattern in quotes, .txt list or video; may be repeated",
    )
    add("--output", type=Path, required=True, help="folder to write to")
    add("--weights", help="checkpoint; default: the last of the run's folder, or MODEL.WEIGHTS")
    add("--network", choices=NETWORKS, default="teacher", help="default: teacher")
    add("--device", help="cuda or cpu; default: the config's")
    add("--classes", help="file of class names, if neither the run nor its datasets are there")
    add("--format", action="append", choices=[*DRAWN, *FORMATS], help="default: pictures, coco and "
        "csv; of a video: video and csv")  # fmt: skip
    add(
        "--confidence",
        action="append",
        default=[],
        metavar="[CLASS=]SCORE",
        help="keep boxes scored above it; for one class as car=0.3; default: 0.5",
    )
    add("--variances", action="store_true", help="measure how stable each box is")
    add("--tta", action="store_true", help="look at several views of an image, those of TEST.AUG, "
        "in a LazyConfig of dataloader.test_aug")  # fmt: skip
    add("--tile", type=int, help="cut larger images into tiles with sides of so many pixels")
    add("--overlap", type=float, default=0.2, help="share that tiles have in common; default: 0.2")
    add("--batch-size", type=int, default=8, help="images looked at together; default: 8")
    add("--codec", default="mp4v", help="of videos, four characters; default: mp4v")
    add("--resume", action="store_true", help="go on with what an interrupted call has left")
    return parser.parse_args(argv)


def wanted_confidence(texts: list[str]) -> tuple[float, dict[str, float]]:
    """The threshold of all classes, and those of single ones."""
    single, common = {}, 0.5
    for text in texts:
        name, is_single, value = text.rpartition("=")
        try:
            score = float(value)
        except ValueError:
            raise ConfigError(f"--confidence '{text}' is neither a score nor CLASS=SCORE") from None
        if is_single:
            single[name] = score
        else:
            common = score
    return common, single


def built(args: argparse.Namespace) -> tuple[Predictor, Confidence]:
    """A predictor that also reports what is nearly kept, and what is kept."""
    common, single = wanted_confidence(args.confidence)
    predictor = Predictor(
        args.config_file,
        args.weights,
        network=args.network,
        device=args.device,
        classes=args.classes,
        batch_size=args.batch_size,
        tile=args.tile,
        overlap=args.overlap,
        tta=args.tta,
        variances=args.variances,
        opts=args.opts,
    )
    confidence = predictor.confidence_of({**dict.fromkeys(predictor.class_names, common), **single})
    predictor.confidence = review_margin(confidence, predictor.lowest)
    return predictor, confidence


def settings_of(args: argparse.Namespace, predictor: Predictor, confidence: Confidence) -> dict:
    """What the predictions depend on."""
    return {
        "weights": predictor.weights,
        "network": args.network,
        "confidence": dict(zip(predictor.class_names, confidence.thresholds)),
        "variances": args.variances,
        "tta": args.tta and vars(predictor.multi_scale),
        "tile": args.tile,
        "overlap": args.overlap,
        "overrides": args.opts,
    }


def report(summary: Summary, sources: Sources) -> None:
    what = "frames" if sources.are_videos else "images"
    print(f"{summary.boxes} boxes in {summary.images} {what}, {summary.unreadable} left out")
    for written in summary.written:
        print(f"written: {written}")


@exit_status
def main(argv=None) -> int | None:
    args = parse_args(argv)
    if len(args.codec) != 4:
        raise ConfigError(f"--codec must have four characters, got '{args.codec}'")
    sources = find_sources(args.source)
    for note in sources.notes:
        print(note)
    predictor, confidence = built(args)
    make_output(args.output)
    with held(args.output, "--output"), disk_errors("--output cannot be written: "):
        try:
            summary = predict(
                predictor,
                sources,
                args.output,
                formats=args.format or DEFAULT_FORMATS[sources.are_videos],
                confidence=confidence,
                settings=settings_of(args, predictor, confidence),
                resume=args.resume,
                codec=args.codec,
            )
        except KeyboardInterrupt:
            print("interrupted: the same command with --resume goes on", file=sys.stderr)
            return INTERRUPTED
    report(summary, sources)


if __name__ == "__main__":
    sys.exit(main())
