"""Train or evaluate Soft Teacher from a YAML config or a LazyConfig file."""

import sys

from detectron2.engine import default_argument_parser

from ..distributed.device import share_cpu
from ..distributed.launch import run
from ..distributed.launch_args import is_first_here, parse_launch_args
from ..experiment.entry import load_experiment, path_of_config
from ..utils.command_line import USAGE_ERROR
from ..utils.errors import ConfigError

EPILOG = """
A config that ends in .py is a LazyConfig and takes overrides as key=value; any other is YAML and
takes KEY VALUE. Without a GPU, --num-gpus N trains N processes on the CPU.

Examples:
  train on one machine with 8 GPUs
    %(prog)s --config-file configs/demo/soft_teacher.yaml --num-gpus 8
  change options
    %(prog)s --config-file configs/demo/soft_teacher.yaml SOFT_TEACHER.ALPHA 2.0
    %(prog)s --config-file configs/demo/soft_teacher.py model.alpha=2.0
  resume an interrupted run
    %(prog)s --config-file configs/demo/soft_teacher.yaml --resume
  evaluate student and teacher of one of our checkpoints, or any Detectron2 detector
    %(prog)s --config-file configs/demo/soft_teacher.yaml --eval-only MODEL.WEIGHTS model.pth
  two machines
    (machine0) %(prog)s --machine-rank 0 --num-machines 2 --dist-url tcp://HOST:PORT ...
    (machine1) %(prog)s --machine-rank 1 --num-machines 2 --dist-url tcp://HOST:PORT ...
  torchrun instead of --num-gpus, --num-machines, --machine-rank and --dist-url
    torchrun --nproc_per_node 8 -m soft_teacher.commands.train \
        --config-file configs/demo/soft_teacher.yaml
"""


def on_rank(args):
    """Runs on every rank."""
    share_cpu(args.num_gpus)
    args.config_file = path_of_config(args.config_file)  # Detectron2 logs the file
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


def main(argv=None) -> int:
    return run(on_rank, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
