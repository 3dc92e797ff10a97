"""Training and evaluation from a LazyConfig, on the parts that YAML trains with, too."""

import weakref
from typing import List

from detectron2.config import LazyCall, get_cfg, instantiate
from detectron2.data import DatasetMapper
from detectron2.engine import hooks
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from omegaconf import OmegaConf

from ..data.datasets.dataset_dicts import as_list, class_names
from ..data.mapper import InferenceMapper
from ..engine.checkpoint import SoftTeacherCheckpointer
from ..engine.identity import RunIdentity, flat
from ..evaluation.evaluate import best_metric, build_evaluator, evaluate_networks, results_folder
from ..monitoring.events import build_writers
from ..monitoring.hooks import build_watch_hooks
from ..utils.folders import room_for_results
from .build import build_hooks, build_train_loop, saves_after
from .lazy_config import is_known

__all__ = ["build_ema", "build_optimizer", "evaluate", "test_names", "train"]

# Keys that may change when a training is gone on with. Its images are compared themselves.
COURSE_FREE = (
    "dataloader.evaluator",
    "dataloader.test",
    "dataloader.train.chunks",
    "dataloader.train.hidden_labels",
    "dataloader.train.labeled_names",
    "dataloader.train.max_unreadable",
    "dataloader.train.num_workers",
    "dataloader.train.unlabeled_names",
    "split",
    "train.checkpointer",
    "train.device",
    "train.eval_networks",
    "train.eval_period",
    "train.init_checkpoint",
    "train.log_period",
    "train.max_nonfinite",
    "train.output_dir",
    "train.resume_changed",
    "train.vis_period",
    "train.watch",
)


def train(cfg, model, loader, *, resume: bool) -> dict:
    """Trains on this rank.

    Args:
        cfg: a LazyConfig that was checked.
        model: the SoftTeacher on its device.
        loader: of ``dataloader.train``.
        resume: go on from the last checkpoint, if there is one.

    Returns:
        results of the last evaluation.
    """
    optimizer, ema = build_optimizer(cfg, model), build_ema(cfg, model)
    settings = cfg.train
    trainer = build_train_loop(
        model,
        loader,
        optimizer,
        output_dir=settings.output_dir,
        seed=settings.seed,
        chunks=cfg.dataloader.train.chunks,
        max_nonfinite=settings.max_nonfinite,
        amp=settings.amp.enabled,
        precision=settings.amp.precision,
    )
    checkpointer = SoftTeacherCheckpointer(
        model,
        settings.output_dir,
        identity=_identity(cfg, loader),
        save_to_disk=comm.is_main_process(),
        trainer=weakref.proxy(trainer),
    )
    results = {}

    def evaluate_now():
        results.update(evaluate(cfg, model))
        return results

    trainer.register_hooks(
        build_hooks(
            loop=trainer,
            output_dir=settings.output_dir,
            ema=ema,
            scheduler=hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            checkpointer=checkpointer,
            checkpoint_period=settings.checkpointer.period,
            max_to_keep=settings.checkpointer.max_to_keep,
            eval_period=settings.eval_period,
            evaluate=evaluate_now,
            best_metric=best_metric(settings.eval_networks, test_names(cfg)),
            build_writers=lambda first: build_writers(
                settings.output_dir,
                settings.max_iter,
                first,
                resume=trainer.start_iter > 0,
                wandb_project=settings.watch.wandb.project,
                wandb_name=settings.watch.wandb.name,
            ),
            watch=_watch_hooks(cfg, model, loader, trainer),
            log_period=settings.log_period,
        )
    )
    checkpointer.resume_or_load(settings.init_checkpoint, resume=resume)
    start = trainer.iter + 1 if resume and checkpointer.has_checkpoint() else 0
    trainer.train(start, settings.max_iter)
    return results


def _watch_hooks(cfg, model, loader, trainer):
    settings = cfg.train
    return build_watch_hooks(
        model,
        loader.schedule,
        output_dir=settings.output_dir,
        log_period=settings.log_period,
        vis_period=settings.vis_period,
        patience=settings.watch.patience,
        saves=saves_after(trainer, settings.checkpointer.period, settings.eval_period),
        class_names=class_names(cfg.dataloader.train.labeled_names),
        image_format=cfg.dataloader.train.image_format,
    )


def _identity(cfg, loader) -> RunIdentity:
    values = flat(OmegaConf.to_container(cfg, resolve=True), without=COURSE_FREE)
    return RunIdentity({**values, **loader.identity()}, allow_changes=cfg.train.resume_changed)


def build_optimizer(cfg, model):
    """The optimizer of ``optimizer``, with Detectron2's gradient clipping if that is wanted."""
    cfg.optimizer.params.model = model
    solver = get_cfg()
    clipping = {key.upper(): value for key, value in cfg.train.clip_gradients.items()}
    solver.SOLVER.CLIP_GRADIENTS.update(clipping)
    return maybe_add_gradient_clipping(solver, instantiate(cfg.optimizer))


def build_ema(cfg, model):
    """The hook of ``ema``, which updates the teacher of a SoftTeacher."""
    cfg.ema.student, cfg.ema.teacher = model.student, model.teacher
    return instantiate(cfg.ema)


def evaluate(cfg, model) -> dict:
    """Evaluates the networks of ``train.eval_networks`` on the test datasets."""
    with room_for_results(cfg.train.output_dir):
        return evaluate_networks(
            model,
            networks=cfg.train.eval_networks,
            datasets=test_names(cfg),
            build_loader=lambda name: instantiate(_for_dataset(cfg.dataloader.test, name)),
            build_evaluator=lambda name, network: build_evaluator(
                name, lambda read_as: instantiate(_evaluator(cfg, name, read_as, network))
            ),
        )


def _evaluator(cfg, name: str, read_as: str, network: str):
    """``dataloader.evaluator`` for a dataset, with a folder of its own where it can have one."""
    found = OmegaConf.merge(cfg.dataloader.evaluator, {"dataset_name": read_as})
    if found.get("output_dir") is None and is_known(found, "output_dir"):
        found.output_dir = results_folder(cfg.train.output_dir, network, name)
    return found


def _for_dataset(test_loader, name: str):
    """``dataloader.test`` for a dataset; Detectron2's own mapper, which may raise, becomes ours."""
    loader = test_loader.copy()
    loader.dataset.names = name
    mapper = loader.get("mapper")
    if type(instantiate(mapper)) is DatasetMapper:
        loader.mapper = LazyCall(InferenceMapper)(
            augmentations=mapper.augmentations, image_format=mapper.image_format
        )
    return loader


def test_names(cfg) -> List[str]:
    """Names of the test datasets."""
    return as_list(cfg.dataloader.test.dataset.names)
