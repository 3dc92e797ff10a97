"""Training from a CfgNode: DefaultTrainer with two streams, a teacher and CPU support."""

import logging
import weakref
from functools import partial

import torch
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import COCOEvaluator
from detectron2.solver import build_optimizer, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..data.datasets.dataset_dicts import class_names, train_names
from ..data.mapper import InferenceMapper
from ..data.multi_scale import MultiScale
from ..data.streams.loader import build_two_stream_train_loader
from ..engine.checkpoint import SoftTeacherCheckpointer
from ..engine.ema import EMAHook
from ..engine.identity import flat
from ..evaluation.evaluate import build_evaluator, evaluate_networks, results_folder
from ..utils.checks import check_choice
from ..utils.folders import room_for_results
from .build import build_hooks, build_train_loop, run_identity, run_writers
from .settings import free_keys
from .train_settings import TrainSettings
from .yaml_config import value_of

__all__ = ["SoftTeacherTrainer"]

OPTIMIZERS = ("SGD", "AdamW")


class SoftTeacherTrainer(DefaultTrainer):
    """DefaultTrainer of a SoftTeacher: build, resume_or_load, train, test as usual."""

    def __init__(self, cfg):
        """
        Args:
            cfg: a config with the keys of :func:`soft_teacher.add_soft_teacher_config` and a
                non-negative SEED.

        Raises:
            ConfigError: for settings or data that cannot be used.
        """
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg = cfg
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        self.settings = TrainSettings.of(partial(value_of, cfg))
        self._trainer = build_train_loop(model, loader, optimizer, self.settings)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SoftTeacherCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            identity=run_identity(
                flat(cfg, without=free_keys()), loader, cfg.SOFT_TEACHER.RESUME_CHANGED
            ),
            save_to_disk=comm.is_main_process(),
            trainer=weakref.proxy(self),
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    @property
    def soft_teacher(self):
        """The SoftTeacher under DDP."""
        return getattr(self.model, "module", self.model)

    def build_hooks(self):
        return build_hooks(
            self.settings,
            loop=self._trainer,
            ema=self.build_ema(self.cfg, self.soft_teacher),
            checkpointer=self.checkpointer,
            evaluate=self._evaluate,
            class_names=class_names(train_names(self.cfg)[0]),
            test_mapper=InferenceMapper(self.cfg),
            build_writers=self.build_writers,
        )

    def build_writers(self, first: int = 0, resumed: bool = False):
        """Writers from step ``first`` on of a run that was resumed, or not."""
        return run_writers(self.settings, first, resumed)

    def _evaluate(self):
        self._last_eval_results = self.test(self.cfg, self.soft_teacher)
        return self._last_eval_results

    @classmethod
    def build_train_loader(cls, cfg):
        return build_two_stream_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name, *, whole: bool = False):
        """Batches of one image, as the evaluation or, if ``whole``, a multi-scale test takes it."""
        mapper = InferenceMapper(cfg)
        mapper = mapper.whole() if whole else mapper
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_optimizer(cls, cfg, model):
        check_choice("SOLVER.OPTIMIZER", cfg.SOLVER.OPTIMIZER, OPTIMIZERS)
        if cfg.SOLVER.OPTIMIZER == "SGD":
            return build_optimizer(cfg, model)
        params = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
            bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
            weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        )
        adamw = torch.optim.AdamW(
            params, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY
        )
        return maybe_add_gradient_clipping(cfg, adamw)

    @classmethod
    def build_ema(cls, cfg, model) -> EMAHook:
        """What updates the teacher of a SoftTeacher."""
        _C = cfg.SOFT_TEACHER
        return EMAHook(
            model.student,
            model.teacher,
            momentum=_C.EMA.MOMENTUM,
            ramp=_C.EMA.RAMP,
            interval=_C.EMA.INTERVAL,
            burn_in=_C.BURN_IN,
            through_burn_in=_C.EMA.THROUGH_BURN_IN,
            buffers=_C.EMA.BUFFERS,
        )

    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        """The dataset's own evaluator: Pascal VOC's, else COCO's of what the detector predicts."""
        folder = output_folder or results_folder(cfg.OUTPUT_DIR, "", dataset_name)
        return build_evaluator(dataset_name, lambda name: COCOEvaluator(name, output_dir=folder))

    @classmethod
    def test(cls, cfg, model, evaluators=None, *, multi_scale: MultiScale | None = None):
        """Evaluates the networks that SOFT_TEACHER.EVAL_NETWORKS names.

        Args:
            model: a SoftTeacher.
            evaluators: not supported, each network needs its own.
            multi_scale: see :func:`~soft_teacher.evaluation.evaluate.evaluate_networks`.

        Returns:
            see :func:`~soft_teacher.evaluation.evaluate.evaluate_networks`.
        """
        assert evaluators is None, "evaluators are built per network"

        def evaluator(name, network):
            return cls.build_evaluator(cfg, name, results_folder(cfg.OUTPUT_DIR, network, name))

        with room_for_results(cfg.OUTPUT_DIR):
            return evaluate_networks(
                model,
                networks=cfg.SOFT_TEACHER.EVAL_NETWORKS,
                datasets=cfg.DATASETS.TEST,
                build_loader=partial(cls.build_test_loader, cfg, whole=multi_scale is not None),
                build_evaluator=evaluator,
                multi_scale=multi_scale,
            )
