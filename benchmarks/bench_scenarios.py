"""What the benchmarks compare: a config, at a size of views and batch, a width and a precision."""

from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.solver import build_optimizer

from soft_teacher.experiment.entry import load_experiment
from soft_teacher.experiment.experiment import Experiment
from soft_teacher.experiment.lazy_experiment import LazyExperiment

__all__ = [
    "CASCADE", "CASCADE_MASK", "FCOS", "FULL", "MASK", "PARTIAL", "RETINANET", "Scenario",
]  # fmt: skip

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "coco" / "paper"
PARTIAL = str(CONFIGS / "soft_teacher_R_50_FPN_partial_180k.yaml")
FULL = str(CONFIGS / "soft_teacher_R_50_FPN_full_720k.yaml")
MASK, CASCADE, CASCADE_MASK, RETINANET = (
    str(CONFIGS.parent / f"{name}_partial_180k.yaml")
    for name in ("mask", "cascade", "cascade_mask", "retinanet")
)
FCOS = str(CONFIGS.parent / "fcos_partial_180k.py")
# Weights that do not move give all steps the same work. The scores of the injected boxes are a
# softmax's, whatever the detector. The floor has no images whose masks are not learned.
SAME_WORK = {
    "MODEL.WEIGHTS": "",
    "SOLVER.BASE_LR": 0.0,
    "SOFT_TEACHER.SCORE_THRESH": 0.9,
    "SOFT_TEACHER.JITTER.SCORE_THRESH": 0.5,
    "SOFT_TEACHER.MASK.ENABLED": True,
    "SEED": 0,
}
NARROW = [
    "MODEL.RESNETS.STEM_OUT_CHANNELS", 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS", 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP", 8,
    "MODEL.FPN.OUT_CHANNELS", 16,
    "MODEL.ROI_BOX_HEAD.FC_DIM", 32,
    "MODEL.ROI_MASK_HEAD.CONV_DIM", 32,
]  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    """One comparison."""

    name: str
    config: str  # a file
    short_side: int  # of all views, pixels
    labeled: int  # images of a step
    unlabeled: int
    narrow: bool = False  # R-50-FPN with an eighth of the channels, the same layers and tensors
    precision: str = "fp32"  # or "fp16" or "bf16"
    device: str = "cpu"  # or "cuda"

    def experiment(self) -> Experiment:
        """A run of the config, in either language."""
        found = load_experiment(self.config, NARROW if self.narrow else [])
        for key, value in SAME_WORK.items():
            found.set(key, value)
        found.set("MODEL.DEVICE", self.device)
        if self.precision != "fp32":
            found.set("SOLVER.AMP.ENABLED", True)
            found.set("SOLVER.AMP.PRECISION", self.precision)
        return found

    def stock_detector(self) -> torch.nn.Module:
        """What a SoftTeacher of the config wraps, as Detectron2 has it."""
        found = self.experiment()
        cfg = found.cfg
        if isinstance(found, LazyExperiment):
            return instantiate(cfg.model.student).to(self.device)
        if cfg.MODEL.ROI_HEADS.NAME == "SoftTeacherROIHeads":
            cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        return META_ARCH_REGISTRY.get(cfg.SOFT_TEACHER.DETECTOR)(cfg).to(self.device)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Of the parameters of a model, with the config's settings."""
        found = self.experiment()
        if isinstance(found, LazyExperiment):
            return found.build_optimizer(model)
        return build_optimizer(found.cfg, model)

    @property
    def dtype(self) -> torch.dtype | None:
        """Of mixed precision; None of fp32."""
        return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(self.precision)
