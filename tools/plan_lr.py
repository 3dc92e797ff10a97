#!/usr/bin/env python
"""Scale a config to another number of images per step, or of GPUs.

Prints learning rate, steps and EMA momentum by the linear scaling rule as overrides for
train_net.py, and writes a config that applies them.
"""

import argparse
import sys
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

from config_tool import config_parser
from omegaconf import OmegaConf
from tabulate import tabulate

from soft_teacher import ConfigError
from soft_teacher.experiment import lazy_config, yaml_config
from soft_teacher.experiment.scaling import LAZY_KEYS, YAML_KEYS, scaled_values
from soft_teacher.utils.command_line import exit_status

EPILOG = """
With k times the images, the learning rate is k times as high, there are k times fewer steps, and
the EMA momentum m becomes m^k. The rule is known to hold for SGD with warm-up; for AdamW it is a
guess. One GPU can also train the whole batch in parts with SOLVER.GRADIENT_ACCUMULATION, which
changes nothing else.

Examples:
  the paper's partial protocol, 40 images on 8 GPUs, on one GPU with 5
    plan_lr.py --config-file configs/coco/paper/soft_teacher_R_50_FPN_partial_180k.yaml \\
        --num-gpus 1
  with 16 images a step, as a config of its own
    plan_lr.py --config-file ... --images 16 --write my_config.yaml
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = config_parser(__doc__, EPILOG)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--images", type=int, help="per step, over all GPUs and both streams")
    target.add_argument("--num-gpus", type=int, help="with as many images each as on --of-gpus")
    parser.add_argument("--of-gpus", type=int, default=8, help="GPUs the config is made for")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a config that applies the plan")
    return parser.parse_args(argv)


def read_values(args, rules: dict) -> dict:
    """Values of the config that the plan is about."""
    if rules is LAZY_KEYS:
        cfg = lazy_config.load_config(args.config_file, args.opts)
        values = {key: OmegaConf.select(cfg, key) for key in rules}
        return {k: list(v) if OmegaConf.is_list(v) else v for k, v in values.items()}
    cfg = yaml_config.load_config(args.config_file, args.opts)
    return {key: yaml_config.value_of(cfg, key) for key in rules}


def target_images(args, now: int) -> int:
    if args.images is not None:
        return args.images
    if now % args.of_gpus:
        raise ConfigError(f"--of-gpus {args.of_gpus} does not divide the {now} images of a step")
    return now // args.of_gpus * args.num_gpus


def plan(args) -> str:
    """Writes and returns the plan.

    Raises:
        ConfigError: for a mistake in the arguments or in the config.
    """
    lazy = args.config_file.endswith(".py")
    rules = LAZY_KEYS if lazy else YAML_KEYS
    now = read_values(args, rules)
    (images_key,) = [key for key, rule in rules.items() if rule == "images"]
    then = scaled_values(now, rules, target_images(args, now[images_key]))
    changed = {key: value for key, value in then.items() if value != now[key]}
    rows = [[key, now[key], then[key]] for key in rules]
    parts = [tabulate(rows, ["key", "config", "plan"], disable_numparse=True)]
    parts.append("overrides:\n" + overrides(changed, lazy) if changed else "nothing changes")
    if args.write:
        write_config(args, changed, lazy)
        parts.append(f"written to {args.write}")
    return "\n\n".join(parts)


def overrides(values: dict, lazy: bool) -> str:
    if lazy:
        items = [(k, list(v) if isinstance(v, tuple) else v) for k, v in values.items()]
        return " ".join(f"{k}={v}".replace(" ", "") for k, v in items)
    return " ".join(f'{k} "{v}"' if isinstance(v, tuple) else f"{k} {v}" for k, v in values.items())


def write_config(args, values: dict, lazy: bool) -> None:
    if lazy or args.write.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"--write {args.write}: only YAML configs can be written; pass the overrides to a "
            "LazyConfig"
        )
    nested = OmegaConf.create({"_BASE_": str(Path(args.config_file).resolve())})
    for key, value in values.items():
        OmegaConf.update(nested, key, list(value) if isinstance(value, tuple) else value)
    args.write.write_text(OmegaConf.to_yaml(nested))


@exit_status
def main(argv=None) -> None:
    print(plan(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
