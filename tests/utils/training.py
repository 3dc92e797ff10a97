"""Short runs for the end-to-end tests, importable by their child processes, too."""

import hashlib
import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from detectron2.engine import TrainerBase, launch
from detectron2.utils import comm

from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.distributed.launch import leave_group
from soft_teacher.experiment import SoftTeacherTrainer, yaml_config
from soft_teacher.experiment.entry import load_experiment

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "demo"

# Everything small, unlabeled images from the first step on, and pseudo boxes even from an
# untrained teacher.
YAML_OPTS = [
    "DATASETS.TRAIN_LABELED", "('digits_fold1_labeled',)",
    "DATASETS.TRAIN_UNLABELED", "('digits_fold1_unlabeled', 'digits_unlabeled')",
    "SOFT_TEACHER.AUGMENTATION.SHORT_EDGE", "64",
    "SOFT_TEACHER.AUGMENTATION.MAX_SIZE", "96",
    "SOFT_TEACHER.BURN_IN", "0",
    "SOFT_TEACHER.SCORE_THRESH", "0.3",
    "SOFT_TEACHER.JITTER.SCORE_THRESH", "0.3",
    "INPUT.MIN_SIZE_TEST", "64",
    "SOLVER.IMS_PER_BATCH", "4",
    "SOLVER.MAX_ITER", "4",
    "SOLVER.STEPS", "(3,)",
    "SOLVER.CHECKPOINT_PERIOD", "2",
    "TEST.EVAL_PERIOD", "0",
]  # fmt: skip
VIEWS = ("labeled", "strong", "weak")
LAZY_OPTS = [
    "dataloader.train.labeled_names=[digits_fold1_labeled]",
    "dataloader.train.unlabeled_names=[digits_fold1_unlabeled,digits_unlabeled]",
    *(f"dataloader.train.{v}_augmentations.short_edge=64" for v in VIEWS),
    *(f"dataloader.train.{v}_augmentations.max_size=96" for v in VIEWS),
    "train.burn_in=0",
    "model.pseudo_labeler.score_thresh=0.3",
    "model.pseudo_labeler.candidate_thresh=0.3",
    "dataloader.train.batch_size=4",
    "train.max_iter=4",
    "train.checkpointer.period=2",
    "train.eval_period=0",
]


def arguments(config: str, opts, *, eval_only=False, resume=False) -> Namespace:
    """What train_net.py's parser returns."""
    return Namespace(
        config_file=str(CONFIGS / config), opts=list(opts), eval_only=eval_only, resume=resume
    )


def main(args):
    """What train_net.py does on every rank."""
    return load_experiment(args.config_file, args.opts).main(args)


def train_yaml(folder, *opts, config="soft_teacher.yaml", **flags):
    """Trains or evaluates in this process; returns the results."""
    opts = [*YAML_OPTS, "OUTPUT_DIR", str(folder), *map(str, opts)]
    return main(arguments(config, opts, **flags))


def train_lazy(folder, *opts, config="soft_teacher.py", **flags):
    """The same from the LazyConfig twin."""
    opts = [*LAZY_OPTS, f"train.output_dir={folder}", *opts]
    return main(arguments(config, opts, **flags))


def interrupted_after_2_of_4_steps(train, folder, *opts, **flags) -> None:
    """Of 4 steps, 2 are made and saved before the interruption."""
    step = TrainerBase.after_step

    def interrupted(self):
        step(self)
        if self.iter == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainerBase, "after_step", interrupted)
        train(folder, *opts, **flags)


def save_untrained(path, *opts, seed=0) -> None:
    """A checkpoint whose student and teacher are as they were initialised, and differ."""
    cfg = yaml_config.load_config(str(CONFIGS / "soft_teacher.yaml"), opts)
    torch.manual_seed(seed)
    models = [SoftTeacherTrainer.build_model(cfg) for _ in range(2)]
    networks = zip(("student", "teacher"), (model.student for model in models))
    state = {f"{n}.{k}": v for n, network in networks for k, v in network.state_dict().items()}
    torch.save({"model": state}, path)


def metrics(folder) -> dict:
    """The last value of every scalar in metrics.json."""
    latest = {}
    for line in (Path(folder) / "metrics.json").read_text().splitlines():
        latest.update(json.loads(line))
    return latest


def weights(folder, name="model_final.pth") -> dict:
    """The model of a checkpoint."""
    return torch.load(Path(folder) / name, weights_only=True)["model"]


def digest(model: torch.nn.Module) -> str:
    """A checksum of every tensor of a model."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode() + tensor.cpu().numpy().tobytes())
    return total.hexdigest()


def train_on_ranks(folder, processes: int, *opts) -> list:
    """Trains on several processes over gloo and returns every rank's checksum of the weights."""
    opts = [*YAML_OPTS, "OUTPUT_DIR", str(folder), *map(str, opts)]
    launch(_rank, processes, dist_url="auto", args=(opts, str(folder)))
    return [(Path(folder) / f"rank{rank}.txt").read_text() for rank in range(processes)]


def _rank(opts, folder: str) -> None:
    torch.set_num_threads(1)
    register_builtin()
    cfg = yaml_config.load_config(str(CONFIGS / "soft_teacher.yaml"), opts)
    trainer = SoftTeacherTrainer(cfg)
    trainer.train()
    (Path(folder) / f"rank{comm.get_rank()}.txt").write_text(digest(trainer.soft_teacher))
    leave_group()
