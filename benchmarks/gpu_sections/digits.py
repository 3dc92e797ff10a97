"""The demo's training, on fewer images of its dataset."""

import os
from pathlib import Path

from gpu_sections.job import Job

from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.demo.data import SPEC, digits_root, make_split
from soft_teacher.demo.digits import DigitsSpec, generate
from soft_teacher.experiment.yaml_config import load_config

__all__ = ["demo_config", "make_demo_data"]

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo" / "soft_teacher.yaml"
LABELED_IMAGES = 20
# Pseudo boxes from the first steps on, although the teacher knows little.
OPTS = {
    "SOFT_TEACHER.BURN_IN": 0,
    "SOFT_TEACHER.SCORE_THRESH": 0.3,
    "SOFT_TEACHER.JITTER.SCORE_THRESH": 0.3,
    "TEST.EVAL_PERIOD": 0,
}


def make_demo_data(job: Job) -> None:
    """Generates the images, and registers them under the names that the demo's config has."""
    os.environ["DETECTRON2_DATASETS"] = str(job.folder / "datasets")
    splits = zip(("num_train", "num_unlabeled", "num_val"), job.size.digits)
    generate(digits_root(), DigitsSpec(**{**SPEC.to_dict(), **dict(splits)}))
    make_split("fold1", 1, count=LABELED_IMAGES)
    register_builtin()


def demo_config(job: Job, name: str, device: str, steps: int, **opts):
    """The demo's config.

    Args:
        name: of the folder of its results.
        device: to train on.
        steps: to train for.
        opts: more overrides, with __ for each dot.
    """
    found = {**OPTS, "OUTPUT_DIR": job.folder / name, "MODEL.DEVICE": device}
    found |= {"SOLVER.IMS_PER_BATCH": job.size.demo_images, "SOLVER.MAX_ITER": steps}
    found |= {key.replace("__", "."): value for key, value in opts.items()}
    cfg = load_config(str(CONFIG), [str(word) for pair in found.items() for word in pair])
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    return cfg
