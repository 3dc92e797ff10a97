"""Runs from YAML configs (CfgNode)."""

from __future__ import annotations

from functools import reduce
from typing import Any

from detectron2.modeling import build_model
from detectron2.utils import comm

from ..data.datasets.dataset_dicts import train_names
from ..data.mapper import InferenceMapper
from ..data.multi_scale import MultiScale
from ..data.streams.loader import build_two_stream_train_loader
from ..modeling.families.base import family_of
from .config_checks import check_monitors, rehearsal, rehearsed_model
from .experiment import Experiment, in_its_words
from .trainer import SoftTeacherTrainer
from .words import YAML_WORDS
from .yaml_config import load_config, value_of

__all__ = ["YamlExperiment"]


class YamlExperiment(Experiment):
    """A run from a CfgNode with the keys of :func:`soft_teacher.add_soft_teacher_config`."""

    words = YAML_WORDS

    @classmethod
    def load(cls, config_file: str, opts=()) -> YamlExperiment:
        """From a file with ``KEY VALUE ...`` overrides; see :func:`.yaml_config.load_config`."""
        return cls(load_config(config_file, opts))

    def values(self, key: str) -> list[tuple[str, Any]]:
        return [(key, value_of(self.cfg, key))]

    def set(self, key: str, value: Any) -> None:
        *nodes, name = key.split(".")
        setattr(reduce(getattr, nodes, self.cfg), name, value)

    @property
    def family(self):
        return family_of(self.cfg.SOFT_TEACHER.DETECTOR)

    @in_its_words
    def train_names(self) -> tuple[list[str], list[str]]:
        return train_names(self.cfg)

    def mapper(self) -> InferenceMapper:
        return InferenceMapper(self.cfg)

    def check_settings(self, *, eval_only: bool) -> list[str]:
        ranks = comm.get_world_size()
        if eval_only or self.cfg.SOLVER.REFERENCE_WORLD_SIZE in (0, ranks):
            return super().check_settings(eval_only=eval_only)
        with rehearsal("SOLVER.REFERENCE_WORLD_SIZE"):
            scaled = SoftTeacherTrainer.auto_scale_workers(self.cfg, ranks)
        return YamlExperiment(scaled).check_settings(eval_only=False)

    def rehearse(self, *, eval_only: bool) -> None:
        cfg, model = self._bare_cfg(), self.bare_model()
        with rehearsal("the loader"):
            InferenceMapper(cfg)
            self.multi_scale()
        if eval_only:
            return
        with rehearsal("the loader"):
            build_two_stream_train_loader.from_config(cfg)
        if model is not None:
            with rehearsal("the optimizer"):
                optimizer = SoftTeacherTrainer.build_optimizer(cfg, model)
            with rehearsal("the schedule of the learning rate"):
                SoftTeacherTrainer.build_lr_scheduler(cfg, optimizer)
            with rehearsal("the monitors of the run"):
                SoftTeacherTrainer.build_ema(cfg, model)
                check_monitors(model, self)

    def build_model(self):
        return SoftTeacherTrainer.build_model(self.cfg)

    def bare_model(self):
        cfg = self._bare_cfg()
        return rehearsed_model(lambda: build_model(cfg))

    def _bare_cfg(self):
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.MODEL.DEVICE = "meta"
        return cfg

    def build_run(self) -> SoftTeacherTrainer:
        self.cfg.freeze()
        return SoftTeacherTrainer(self.cfg)

    def train(self, run: SoftTeacherTrainer, *, resume: bool) -> dict:
        run.resume_or_load(resume=resume)
        return run.train()

    def evaluate(self, model, multi_scale=None) -> dict:
        return SoftTeacherTrainer.test(self.cfg, model, multi_scale=multi_scale)

    def multi_scale(self) -> MultiScale:
        return MultiScale(self.cfg)
