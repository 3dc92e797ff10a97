"""Draw the augmentations of Table 2: labeled, weak and strong views of images with their boxes.

The dataset and the sizes of the views come from a run's config. Each row is one image under the
paper's or the released code's policies; the sampled operations are listed below each view.
"""

import argparse
import inspect
import sys
from pathlib import Path

from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.utils.registry import locate
from omegaconf import OmegaConf

from ..analysis.augmentation_sheet import augmentation_sheet
from ..analysis.augmented_views import Policies
from ..data.augmentation.policies import VARIANTS
from ..data.datasets.dataset_dicts import as_list, dataset_reading, labeled_dicts
from ..data.datasets.loading import loaded_once
from ..data.roles import KEYS, LABELED
from ..data.streams.loader import build_two_stream_train_loader
from ..utils.checks import check_not_negative
from ..utils.command_line import exit_status
from ..utils.errors import ConfigError, one_line
from .common import AT_LEAST_ONE, config_parser, experiment_of, new_file, writing

VIEWS = tuple(f"{view}_augmentations" for view in ("labeled", "weak", "strong"))
EPILOG = """
Example:
  %(prog)s --config-file configs/demo/soft_teacher.yaml --dataset digits_val \\
      --num-draws 2 SOFT_TEACHER.AUGMENTATION.MAX_ANGLE 30.0
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = config_parser(__doc__, EPILOG)
    add = parser.add_argument
    add("--dataset", help="registered name or path; default: the config's first labeled dataset")
    add("--variant", choices=VARIANTS, help="draw one variant only; default: both")
    add("--num-images", type=int, default=3, help="the first N of the dataset; default: 3")
    add("--num-draws", type=int, default=2, help="views of each kind; default: 2")
    add("--seed", type=int, default=0)
    add("--output", type=Path, default=Path("output/augmentations.png"))
    return parser.parse_args(argv)


def yaml_policies(cfg, variants: list[str]) -> tuple[dict[str, Policies], list[str]]:
    """Policies per variant, and the names of the labeled datasets."""
    found = {}
    for name in variants:
        cfg.SOFT_TEACHER.AUGMENTATION.VARIANT = name
        loader = build_two_stream_train_loader.from_config(cfg)
        others = {key: loader[key] for key in ("image_format", "instance_paste")}
        found[name] = Policies(*(loader[v] for v in VIEWS), **others)
    return found, list(loader["labeled_names"])


def lazy_policies(cfg, variants: list[str]) -> tuple[dict[str, Policies], list[str]]:
    """The same of a LazyConfig; one that lists its augmentations itself has one set, "config"."""
    loader = OmegaConf.select(cfg, "dataloader.train", default={})
    for key in (*VIEWS, "image_format"):
        if key not in loader:
            raise ConfigError(f"the LazyConfig has no dataloader.train.{key}")
    if not any(takes_variant(loader[view]) for view in VIEWS):
        if variants != list(VARIANTS):
            raise ConfigError("--variant: the config lists its own augmentations, leave it out")
        variants = ["config"]
    paste, found = instantiate(loader.get("instance_paste")), {}
    for name in variants:
        columns = (instantiated(loader[view], name) for view in VIEWS)
        others = {"image_format": loader.image_format, "instance_paste": paste}
        found[name] = Policies(*columns, **others)
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


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    new_file(args.output, ".png")
    check_not_negative("--seed", args.seed)
    AT_LEAST_ONE("--num-images", args.num_images)
    AT_LEAST_ONE("--num-draws", args.num_draws)
    with experiment_of(args) as experiment:
        read = lazy_policies if OmegaConf.is_config(experiment.cfg) else yaml_policies
        variants = [args.variant] if args.variant else list(VARIANTS)
        policies, labeled = read(experiment.cfg, variants)
        if not (args.dataset or labeled):
            raise ConfigError("the config names no labeled dataset: name one with --dataset")
        key, name = ("--dataset", args.dataset) if args.dataset else (KEYS[LABELED], labeled[0])
        moving = any(p.instance_paste for p in policies.values())
        with loaded_once(masks=moving):
            dicts = dataset_reading(key, name).dicts
            if moving:
                dicts = labeled_dicts([name], filter_empty=False, mask_format="bitmask")
        with writing():
            augmentation_sheet(
                dicts[: args.num_images],
                policies,
                args.output,
                class_names=MetadataCatalog.get(name).get("thing_classes", ()),
                num_draws=args.num_draws,
                seed=args.seed,
            )
    print(f"written: {args.output}")


if __name__ == "__main__":
    sys.exit(main())
