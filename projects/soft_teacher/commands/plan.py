"""Plan a run: for your own data on this machine, or for another number of images per step.

Prints overrides of a config, each with its reason, and writes a config that applies them.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

import torch
from omegaconf import ListConfig, OmegaConf
from tabulate import tabulate

from ..analysis.data_stats import DataStats, size_text, stats_of
from ..analysis.plan import Hardware, Override, plan
from ..data.datasets.dataset_dicts import dataset_reading
from ..data.roles import KEYS, LABELED, UNLABELED
from ..experiment.entry import path_of_config
from ..experiment.experiment import Experiment
from ..experiment.scaling import SCALES, scaled_values
from ..experiment.words import YAML_WORDS
from ..utils.atomic import atomic_write
from ..utils.command_line import exit_status
from ..utils.errors import ConfigError
from .common import config_parser, disk_errors, experiment_of

EPILOG = """
Without --images and --num-gpus the plan is for the labeled and unlabeled images that the config
names: batch, steps, burn-in, learning rate, alpha, threshold, sizes of the views, anchors. These
are rules of thumb for a first run.

With k times the images per step, the learning rate is k times as high, there are k times fewer
steps, and the EMA momentum m becomes m^k. The rule is known to hold for SGD with warm-up; for AdamW
it is a guess. One GPU can also train the whole batch in parts with SOLVER.GRADIENT_ACCUMULATION,
which changes nothing else.

Examples:
  your own data
    %(prog)s --config-file configs/custom/small_images.yaml --write my_config.yaml \\
        DATASETS.TRAIN_LABELED my/train.json@my/images DATASETS.TRAIN_UNLABELED my/photos
  the paper's partial protocol, 40 images on 8 GPUs, on one GPU with 5
    %(prog)s --config-file configs/coco/paper/soft_teacher_R_50_FPN_partial_180k.yaml \\
        --num-gpus 1
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = config_parser(__doc__, EPILOG)
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--images", type=int, help="per step, over all GPUs and both streams")
    target.add_argument("--num-gpus", type=int, help="with as many images each as on --of-gpus")
    parser.add_argument("--of-gpus", type=int, default=8, help="GPUs the config is made for")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a config that applies the plan")
    return parser.parse_args(argv)


def planned(args, experiment: Experiment) -> tuple[str, list[Override], list[str]]:
    """What is known of the data, overrides by YAML keys, and notes."""
    if args.images is None and args.num_gpus is None:
        return planned_for_data(args, experiment)
    now = {key: plain(experiment[key]) for key in SCALES if experiment.values(key)}
    then = scaled_values(now, target_images(args, now["SOLVER.IMS_PER_BATCH"]))
    return "", [Override(key, value, f"{SCALES[key]} scale") for key, value in then.items()], []


def planned_for_data(args, experiment: Experiment) -> tuple[str, list[Override], list[str]]:
    names = experiment.dataset_names()
    labeled = stats_of([dataset_reading(KEYS[LABELED], name) for name in names["labeled"]])
    if not len(labeled.sides):
        raise ConfigError(f"{KEYS[LABELED]}: no image has an annotation to plan for")
    unlabeled = stats_of([dataset_reading(KEYS[UNLABELED], name) for name in names["unlabeled"]])
    family = experiment.family
    levels = family.anchor_levels_parameter
    found = plan(
        labeled,
        unlabeled,
        this_machine(),
        pretrained=bool(experiment["MODEL.WEIGHTS"]),
        base_lr=experiment["SOLVER.BASE_LR"] / labeled_images(experiment),
        classes_key=YAML_WORDS(family.num_classes_parameter),
        levels=len(experiment[YAML_WORDS(levels)]) if levels else 0,
        thresholds=family.thresholds,
        ignore=family.ignore,
        score_floor=experiment[YAML_WORDS(family.score_floor_parameter)] or 0.0,
    )
    # A LazyConfig's milestones are stretched with train.max_iter.
    stretched = ["SOLVER.STEPS"] if is_lazy(args) else []
    overrides = [o for o in found.overrides if o.key not in stretched]
    return described(labeled, unlabeled), overrides, found.notes


def labeled_images(experiment: Experiment) -> float:
    """Of a step of the config."""
    return experiment["SOLVER.IMS_PER_BATCH"] * experiment["SOFT_TEACHER.LABELED_SHARE"]


def described(labeled: DataStats, unlabeled: DataStats) -> str:
    """A table of both."""
    classes = [
        [name, count, f"{count / labeled.images:.1f}"] for name, count in labeled.boxes.items()
    ]
    everything = ["all", len(labeled.sides), f"{labeled.boxes_per_image:.1f}"]
    images = [
        [role, data.images, size_text(data.size)]
        for role, data in (("labeled", labeled), ("unlabeled", unlabeled))
    ]
    return "\n\n".join(
        [
            tabulate(images, ["images", "number", "median size"]),
            tabulate(
                [*classes, everything],
                ["class", "boxes", "per labeled image"],
                disable_numparse=True,
            ),
        ]
    )


def this_machine() -> Hardware:
    """GPUs of this machine, with the memory of the smallest, or its CPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return Hardware("cpu")
    memory = min(torch.cuda.get_device_properties(n).total_memory for n in range(count))
    return Hardware("cuda", count, memory / 2**30)


def is_lazy(args) -> bool:
    return args.config_file.endswith(".py")


def target_images(args, now: int) -> int:
    if args.images is not None:
        return args.images
    if now % args.of_gpus:
        raise ConfigError(f"--of-gpus {args.of_gpus} does not divide the {now} images of a step")
    return now // args.of_gpus * args.num_gpus


def report(args, experiment: Experiment) -> str:
    """Writes and returns the plan.

    Raises:
        ConfigError: for a mistake in the arguments, the config or its datasets.
    """
    data, overrides, notes = planned(args, experiment)
    rows = [
        [name, now, o.value, o.reason] for o in overrides for name, now in experiment.values(o.key)
    ]
    changed = {name: then for name, now, then, _ in rows if plain(then) != plain(now)}
    parts = [data] if data else []
    parts += [tabulate(rows, ["key", "config", "plan", "reason"], disable_numparse=True)]
    parts += [f"note: {note}" for note in notes]
    parts.append("overrides:\n" + command_line(changed, args) if changed else "nothing changes")
    if args.write:
        write_config(args, {**chosen(args, experiment), **changed})
        parts.append(f"written to {args.write}")
    return "\n\n".join(parts)


def plain(value):
    """A value whose lists compare equal whatever their type."""
    return [plain(v) for v in value] if isinstance(value, (list, tuple, ListConfig)) else value


def command_line(values: dict, args) -> str:
    """Overrides as a shell takes them."""
    texts = {key: str(plain(value)).replace(" ", "") for key, value in values.items()}
    if is_lazy(args):
        paths = {key.replace("[", ".").replace("]", ""): text for key, text in texts.items()}
        return shlex.join(f"{path}={text}" for path, text in paths.items())
    return shlex.join(word for pair in texts.items() for word in pair)


def chosen(args, experiment: Experiment) -> dict:
    """The overrides of the command line, as the config has understood them."""
    return {} if is_lazy(args) else {key: experiment[key] for key in args.opts[0::2]}


def write_config(args, values: dict) -> None:
    if is_lazy(args) or args.write.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"--write {args.write}: only YAML configs can be written; pass the overrides to a "
            "LazyConfig"
        )
    nested = OmegaConf.create({"_BASE_": os.path.abspath(path_of_config(args.config_file))})
    for key, value in values.items():
        OmegaConf.update(nested, key, plain(value))
    with disk_errors("--write cannot be written: "):
        args.write.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(str(args.write)) as file:
            file.write(OmegaConf.to_yaml(nested))


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    with experiment_of(args) as experiment:
        print(report(args, experiment))


if __name__ == "__main__":
    sys.exit(main())
