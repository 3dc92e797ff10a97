"""Training from a CfgNode: DefaultTrainer with two streams, a teacher and CPU support."""

import logging
import weakref

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
from ..data.streams.loader import build_two_stream_train_loader
from ..engine.checkpoint import SoftTeacherCheckpointer
from ..engine.ema import EMAHook
from ..engine.identity import RunIdentity, flat
from ..evaluation.evaluate import best_metric, build_evaluator, evaluate_networks, results_folder
from ..monitoring.events import build_writers
from ..monitoring.hooks import build_watch_hooks
from ..utils.checks import check_choice
from ..utils.folders import room_for_results
from .build import build_hooks, build_train_loop, saves_after

__all__ = ["SoftTeacherTrainer"]

OPTIMIZERS = ("SGD", "AdamW")
# Keys that may change when a training is gone on with. Its images are compared themselves.
COURSE_FREE = (
    "CUDNN_BENCHMARK",
    "DATALOADER.MAX_UNREADABLE",
    "DATALOADER.NUM_WORKERS",
    "DATASETS",
    "GLOBAL",
    "INPUT.MAX_SIZE_TEST",
    "INPUT.MIN_SIZE_TEST",
    "MODEL.DEVICE",
    "MODEL.WEIGHTS",
    "OUTPUT_DIR",
    "SOFT_TEACHER.EVAL_NETWORKS",
    "SOFT_TEACHER.RESUME_CHANGED",
    "SOFT_TEACHER.WATCH",
    "SOLVER.CHECKPOINTS_TO_KEEP",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.GRADIENT_ACCUMULATION",
    "SOLVER.MAX_NONFINITE",
    "TEST",
    "VERSION",
    "VIS_PERIOD",
)


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
        self._trainer = build_train_loop(
            model,
            loader,
            optimizer,
            output_dir=cfg.OUTPUT_DIR,
            seed=cfg.SEED,
            chunks=cfg.SOLVER.GRADIENT_ACCUMULATION,
            max_nonfinite=cfg.SOLVER.MAX_NONFINITE,
            amp=cfg.SOLVER.AMP.ENABLED,
            precision=cfg.SOLVER.AMP.PRECISION,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SoftTeacherCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            identity=self._identity(loader),
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
        cfg = self.cfg
        return build_hooks(
            loop=self._trainer,
            output_dir=cfg.OUTPUT_DIR,
            ema=self.build_ema(cfg, self.soft_teacher),
            checkpointer=self.checkpointer,
            checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
            max_to_keep=cfg.SOLVER.CHECKPOINTS_TO_KEEP or None,
            eval_period=cfg.TEST.EVAL_PERIOD,
            evaluate=self._evaluate,
            best_metric=best_metric(cfg.SOFT_TEACHER.EVAL_NETWORKS, cfg.DATASETS.TEST),
            build_writers=self.build_writers,
            watch=self._build_watch_hooks(),
        )

    def _build_watch_hooks(self):
        cfg = self.cfg
        return build_watch_hooks(
            self.soft_teacher,
            self.data_loader.schedule,
            output_dir=cfg.OUTPUT_DIR,
            vis_period=cfg.VIS_PERIOD,
            patience=cfg.SOFT_TEACHER.WATCH.PATIENCE,
            saves=saves_after(self._trainer, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD),
            class_names=class_names(train_names(cfg)[0]),
            image_format=cfg.INPUT.FORMAT,
        )

    def build_writers(self, first: int = 0):
        """See :func:`~soft_teacher.monitoring.events.build_writers`."""
        wandb = self.cfg.SOFT_TEACHER.WATCH.WANDB
        return build_writers(
            self.cfg.OUTPUT_DIR,
            self.max_iter,
            first,
            resume=self.start_iter > 0,
            wandb_project=wandb.PROJECT,
            wandb_name=wandb.NAME,
        )

    def _identity(self, loader) -> RunIdentity:
        values = {**flat(self.cfg, without=COURSE_FREE), **loader.identity()}
        return RunIdentity(values, allow_changes=self.cfg.SOFT_TEACHER.RESUME_CHANGED)

    def _evaluate(self):
        self._last_eval_results = self.test(self.cfg, self.soft_teacher)
        return self._last_eval_results

    @classmethod
    def build_train_loader(cls, cfg):
        return build_two_stream_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return build_detection_test_loader(cfg, dataset_name, mapper=InferenceMapper(cfg))

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
            buffers=_C.EMA.BUFFERS,
        )

    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        """The dataset's own evaluator: Pascal VOC's, else COCO's."""
        folder = output_folder or results_folder(cfg.OUTPUT_DIR, "", dataset_name)
        return build_evaluator(
            dataset_name,
            lambda name: COCOEvaluator(name, tasks=("bbox",), output_dir=folder),
        )

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        """Evaluates the networks that SOFT_TEACHER.EVAL_NETWORKS names.

        Args:
            model: a SoftTeacher.
            evaluators: not supported, each network needs its own.

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
                build_loader=lambda name: cls.build_test_loader(cfg, name),
                build_evaluator=evaluator,
            )
