#!/usr/bin/env python
"""Train or evaluate Soft Teacher from a YAML config or a LazyConfig file."""

import sys

from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from soft_teacher import ConfigError
from soft_teacher.engine.device import share_cpu
from soft_teacher.engine.entry import entry_of

USAGE_ERROR = 2
EPILOG = """
A config that ends in .py is a LazyConfig and takes overrides as key=value; any other is YAML and
takes KEY VALUE. Without a GPU, --num-gpus N trains N processes on the CPU.

Examples:
  train on one machine with 8 GPUs
    train_net.py --config-file configs/demo/soft_teacher.yaml --num-gpus 8
  change options
    train_net.py --config-file configs/demo/soft_teacher.yaml SOFT_TEACHER.ALPHA 2.0
    train_net.py --config-file configs/demo/soft_teacher.py model.alpha=2.0
  go on after an interruption
    train_net.py --config-file configs/demo/soft_teacher.yaml --resume
  evaluate student and teacher of a checkpoint of ours, or any Detectron2 detector
    train_net.py --config-file configs/demo/soft_teacher.yaml --eval-only MODEL.WEIGHTS model.pth
  two machines
    (machine0) train_net.py --machine-rank 0 --num-machines 2 --dist-url tcp://HOST:PORT ...
    (machine1) train_net.py --machine-rank 1 --num-machines 2 --dist-url tcp://HOST:PORT ...
"""


def main(args):
    """Runs on every rank. A mistake of the user's ends it with one line and status 2."""
    share_cpu(args.num_gpus)
    try:
        return entry_of(args.config_file).main(args)
    except ConfigError as error:
        if comm.is_main_process():
            print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(USAGE_ERROR)


def parse_args(argv=None):
    parser = default_argument_parser(epilog=EPILOG)
    parser.description = __doc__
    args = parser.parse_args(argv)
    if not args.config_file:
        parser.error("--config-file is required")
    return args


if __name__ == "__main__":
    args = parse_args()
    try:
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessExitedException as error:
        sys.exit(error.exit_code)
