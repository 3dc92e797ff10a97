#!/usr/bin/env python
"""Train or evaluate Soft Teacher from a YAML config or a LazyConfig file."""

import sys

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

from detectron2.engine import default_argument_parser

from soft_teacher import ConfigError
from soft_teacher.distributed.device import share_cpu
from soft_teacher.distributed.launch import run
from soft_teacher.distributed.launch_args import is_first_here, parse_launch_args
from soft_teacher.experiment.entry import load_experiment
from soft_teacher.utils.command_line import USAGE_ERROR

EPILOG = """
A config that ends in .py is a LazyConfig and takes overrides as key=value; any other is YAML and
takes KEY VALUE. Without a GPU, --num-gpus N trains N processes on the CPU.

Examples:
  train on one machine with 8 GPUs
    train_net.py --config-file configs/demo/soft_teacher.yaml --num-gpus 8
  change options
    train_net.py --config-file configs/demo/soft_teacher.yaml SOFT_TEACHER.ALPHA 2.0
    train_net.py --config-file configs/demo/soft_teacher.py model.alpha=2.0
  resume an interrupted run
    train_net.py --config-file configs/demo/soft_teacher.yaml --resume
  evaluate student and teacher of one of our checkpoints, or any Detectron2 detector
    train_net.py --config-file configs/demo/soft_teacher.yaml --eval-only MODEL.WEIGHTS model.pth
  two machines
    (machine0) train_net.py --machine-rank 0 --num-machines 2 --dist-url tcp://HOST:PORT ...
    (machine1) train_net.py --machine-rank 1 --num-machines 2 --dist-url tcp://HOST:PORT ...
  torchrun instead of --num-gpus, --num-machines, --machine-rank and --dist-url
    torchrun --nproc_per_node 8 train_net.py --config-file configs/demo/soft_teacher.yaml
"""


def main(args):
    """Runs on every rank."""
    share_cpu(args.num_gpus)
    return load_experiment(args.config_file, args.opts).main(args)


def parse_args(argv=None):
    parser = default_argument_parser(epilog=EPILOG)
    parser.description = __doc__
    try:
        args = parse_launch_args(parser, argv)
    except ConfigError as error:
        parser.exit(USAGE_ERROR, f"error: {error}\n" if is_first_here() else None)
    if not args.config_file:
        parser.error("--config-file is required")
    return args


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
