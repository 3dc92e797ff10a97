#!/usr/bin/env python
"""Draw what Table 2 makes of some images: labeled, weak and strong views with their boxes.

The dataset and the sizes of the views come from a training's config. Each row is one image under
the paper's or the released code's policies, and below each tile stands what was drawn.
"""

import argparse
import inspect
import sys
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.utils.registry import locate
from omegaconf import OmegaConf

from soft_teacher import ConfigError
from soft_teacher.analysis.augmentation_sheet import augmentation_sheet
from soft_teacher.analysis.augmented_views import Policies
from soft_teacher.data.augmentation.policies import VARIANTS
from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.data.datasets.dataset_dicts import as_list, dataset_reading
from soft_teacher.data.roles import KEYS, LABELED
from soft_teacher.data.streams.loader import build_two_stream_train_loader
from soft_teacher.experiment.entry import load_experiment
from soft_teacher.utils.checks import check_not_negative
from soft_teacher.utils.command_line import add_config_arguments, exit_status
from soft_teacher.utils.errors import one_line

VIEWS = ("labeled", "weak", "strong")
EPILOG = """
Example:
  show_augmentations.py --config-file configs/demo/soft_teacher.yaml --dataset digits_val \\
      --num-draws 2 SOFT_TEACHER.AUGMENTATION.MAX_ANGLE 30.0
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--dataset", help="registered name or path; the first labeled one of the config if left out"
    )
    parser.add_argument("--variant", choices=VARIANTS, help="one of the two; both if left out")
    parser.add_argument("--num-images", type=int, default=3, help="the dataset's first ones")
    parser.add_argument("--num-draws", type=int, default=2, help="of each kind of view")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("output/augmentations.png"))
    return parser.parse_args(argv)


def yaml_policies(cfg, variant: Optional[str]) -> Tuple[Dict[str, Policies], List[str]]:
    """Policies per variant, and the names of the labeled datasets."""
    found = {}
    for name in [variant] if variant else VARIANTS:
        cfg.SOFT_TEACHER.AUGMENTATION.VARIANT = name
        loader = build_two_stream_train_loader.from_config(cfg)
        columns = (loader[f"{view}_augmentations"] for view in VIEWS)
        found[name] = Policies(*columns, image_format=loader["image_format"])
    return found, list(loader["labeled_names"])


def lazy_policies(cfg, variant: Optional[str]) -> Tuple[Dict[str, Policies], List[str]]:
    """The same of a LazyConfig; one that lists its augmentations itself has one set, "config"."""
    loader = OmegaConf.select(cfg, "dataloader.train", default={})
    for key in (*(f"{view}_augmentations" for view in VIEWS), "image_format"):
        if key not in loader:
            raise ConfigError(f"the LazyConfig has no dataloader.train.{key}")
    nodes = [loader[f"{view}_augmentations"] for view in VIEWS]
    variants = [variant] if variant else VARIANTS
    if not any(takes_variant(node) for node in nodes):
        if variant:
            raise ConfigError("--variant: the config lists its own augmentations, leave it out")
        variants = ["config"]
    found = {}
    for name in variants:
        columns = (instantiated(node, name) for node in nodes)
        found[name] = Policies(*columns, image_format=loader.image_format)
    return found, as_list(loader.get("labeled_names") or [])


def takes_variant(node) -> bool:
    """Whether a node calls a policy function, rather than being a list of augmentations."""
    if not OmegaConf.is_dict(node) or "_target_" not in node:
        return False
    target = node["_target_"]
    target = locate(target) if isinstance(target, str) else target
    return "variant" in inspect.signature(target).parameters


def instantiated(node, variant: str):
    """The augmentations of a node, of this variant if it takes one."""
    if takes_variant(node):
        node = OmegaConf.merge(node, {"variant": variant})
    try:
        return instantiate(node)
    except ConfigError:
        raise
    except Exception as error:  # whatever a class makes of a wrong argument
        raise ConfigError(f"the augmentations cannot be built: {one_line(error)}") from error


def draw(args) -> Path:
    """Draws the sheet and returns its path.

    Raises:
        ConfigError: for every mistake in the arguments, the config and the data.
    """
    check_not_negative("--seed", args.seed)
    for option, value in (("--num-images", args.num_images), ("--num-draws", args.num_draws)):
        if value < 1:
            raise ConfigError(f"{option} must be at least 1, got {value}")
    if args.output.suffix != ".png":
        raise ConfigError(f"--output must end in .png, got '{args.output}'")
    experiment = load_experiment(args.config_file, args.opts)
    with experiment.words.spoken():
        return draw_views(args, experiment.cfg)


def draw_views(args, cfg) -> Path:
    """The same for a config that could be read."""
    read = lazy_policies if OmegaConf.is_config(cfg) else yaml_policies
    policies, labeled = read(cfg, args.variant)
    register_builtin()
    if not (args.dataset or labeled):
        raise ConfigError("the config names no labeled dataset: name one with --dataset")
    name = args.dataset or labeled[0]
    key = "--dataset" if args.dataset else KEYS[LABELED]
    dicts = dataset_reading(key, name).dicts
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        augmentation_sheet(
            dicts[: args.num_images],
            policies,
            args.output,
            class_names=MetadataCatalog.get(name).get("thing_classes", ()),
            num_draws=args.num_draws,
            seed=args.seed,
        )
    except OSError as error:
        raise ConfigError(f"--output cannot be written: {one_line(error)}") from error
    return args.output


@exit_status
def main(argv=None) -> None:
    print(f"written: {draw(parse_args(argv))}")


if __name__ == "__main__":
    sys.exit(main())
