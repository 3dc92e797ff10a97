"""The loop and the hooks of a run, the same for both config languages."""

import os
from collections.abc import Callable, Sequence
from functools import partial

import torch
from detectron2.engine import HookBase, create_ddp_model, hooks
from detectron2.utils import comm

from ..data.datasets.dataset_dicts import as_list
from ..distributed.sync_bn import check_no_idle_rank, synchronize_batch_norm
from ..engine.checkpoint import SoftTeacherCheckpointer
from ..engine.density import DensityThresholdsHook
from ..engine.evaluation_hooks import Evaluation, PendingEvaluation
from ..engine.identity import RunIdentity
from ..engine.nonfinite import NonFiniteGuard
from ..engine.pending import PendingHook
from ..engine.saving import BestTeacher, LastStepSaver, Saver, StepsDone
from ..engine.stopping import StopOnSignal
from ..engine.train_loop import SoftTeacherLoop
from ..evaluation.evaluate import best_metric
from ..monitoring.events import EventFiles, EventHistory, build_writers
from ..monitoring.health import DeclineCheck
from ..monitoring.hooks import HTMLReport, WatchHook
from ..monitoring.picture_hooks import PictureHook, ValidationPictureHook
from .train_settings import TrainSettings
from .words import YAML_WORDS

__all__ = [
    "PRECISIONS",
    "build_hooks",
    "build_train_loop",
    "run_identity",
    "run_writers",
    "wrap_ddp",
]

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16}


def wrap_ddp(model):
    """DistributedDataParallel over the ranks, also without GPUs; the model itself on one rank."""
    on_gpu = model.device.type == "cuda"
    device_ids = [comm.get_local_rank()] if on_gpu else None
    return create_ddp_model(model, broadcast_buffers=False, device_ids=device_ids)


def build_train_loop(model, loader, optimizer, settings: TrainSettings) -> SoftTeacherLoop:
    """The loop over the steps.

    Args:
        model: a SoftTeacher.
        loader: a TwoStreamLoader for as many micro-batches.
        optimizer: of the student.
        settings: of the run.
    """
    schedule = loader.schedule
    synchronize_batch_norm(model, supervised=settings.labeled_share == 1)
    passes = schedule.passes(apart=model.statistics == "labeled")
    check_no_idle_rank(model, passes, schedule.world_size)
    return SoftTeacherLoop(
        wrap_ddp(model),
        loader,
        optimizer,
        NonFiniteGuard(model, settings.output_dir, settings.max_nonfinite),
        seed=settings.seed,
        micro_batches=settings.micro_batches,
        precision=PRECISIONS[settings.precision] if settings.amp else None,
    )


def build_hooks(
    settings: TrainSettings,
    *,
    loop: SoftTeacherLoop,
    ema: HookBase,
    checkpointer: SoftTeacherCheckpointer,
    evaluate: Callable,
    class_names: Sequence[str] = (),
    test_mapper: Callable[[dict], dict] | None = None,
    build_writers: Callable | None = None,
    scheduler: HookBase | None = None,
) -> list[HookBase | None]:
    """Hooks in the order they must run.

    The teacher is updated before it is evaluated; evaluations and events are on the disk before
    the checkpoint that represents them. The last step is saved before its evaluation, too.

    Args:
        settings, loop: of the run.
        ema: updates the teacher.
        checkpointer: of the SoftTeacher that is trained.
        evaluate: () -> nested dict of results.
        class_names: for the pictures, scalars and warnings.
        test_mapper: of the test loader, for pictures of test images; None draws none of them.
        build_writers: see :class:`.EventFiles`; :func:`run_writers` if None.
        scheduler: of the learning rate; the trainer's own if None.
    """
    stop = StopOnSignal(loop)
    steps_done = StepsDone(loop)
    evaluation = Evaluation(settings.eval_period, stop.interruptible(evaluate))
    before, closing = [], []
    if comm.is_main_process():
        saver = Saver(
            checkpointer,
            steps_done,
            settings.checkpoint_period,
            settings.checkpoints_to_keep or None,
        )
        writers = build_writers or partial(run_writers, settings)
        files = EventFiles(settings.output_dir, writers, settings.log_period)
        tests = as_list(settings.test_names or [])
        best = best_metric(settings.eval_networks, tests)
        before = [LastStepSaver(saver)]
        closing = [BestTeacher(checkpointer, best)]
        if "teacher" in settings.eval_networks and settings.labeled_share < 1:
            closing += [DeclineCheck(checkpointer.model, best, burn_in=settings.burn_in)]
        if settings.vis_period and tests and test_mapper:
            drawn = {"dataset": tests[0], "mapper": test_mapper}
            drawn |= _picture_options(settings, class_names)
            closing += [ValidationPictureHook(checkpointer.model, evaluation, **drawn)]
        closing += [files, EventHistory(files), saver, HTMLReport(settings.output_dir)]
    return [
        hooks.IterationTimer(),
        scheduler or hooks.LRScheduler(),
        ema,
        *_counters(settings, checkpointer.model, class_names),
        steps_done,
        *_monitors(settings, loop, checkpointer.model, class_names),
        *before,
        evaluation,
        *closing,
        stop,
        PendingEvaluation(evaluation, closing),
    ]


def run_writers(settings: TrainSettings, first: int = 0, resumed: bool = False):
    """Writers to every place that the settings name, from step ``first`` on."""
    return build_writers(
        settings.output_dir,
        settings.max_iter,
        first,
        resume=resumed,
        wandb_project=settings.wandb_project,
        wandb_name=settings.wandb_name,
    )


def run_identity(values: dict, loader, allow_changes: bool) -> RunIdentity:
    """What decides the course of a run.

    Args:
        values: of the config, without what a resumed run may change.
        loader: of the run.
        allow_changes: whether a resumed run may differ all the same.
    """
    # Checkpoints of both languages have the images under the names that YAML has for them.
    images = {YAML_WORDS(name): value for name, value in loader.identity().items()}
    return RunIdentity({**values, **images}, allow_changes=allow_changes)


def saves_after(loop: SoftTeacherLoop, settings: TrainSettings) -> Callable[[int], bool]:
    """steps done -> whether a checkpoint may be saved then; all ranks know it alike.

    A signal can interrupt an evaluation, after which there is no time to ask other ranks.
    """

    def saves(done: int) -> bool:
        evaluates = settings.eval_period > 0 and done % settings.eval_period == 0
        return done % settings.checkpoint_period == 0 or evaluates or loop.stops

    return saves


def _counters(settings: TrainSettings, model, class_names) -> list[HookBase]:
    density, counted = model.pseudo_labeler.density, model.family.counted()
    period, found = settings.log_period, []
    if density is not None:
        found += [DensityThresholdsHook(density, class_names=class_names, period=period)]
    return found if counted is None else [*found, PendingHook(counted, period=period)]


def _monitors(settings: TrainSettings, loop, model, class_names) -> list[HookBase]:
    found: list[HookBase] = [
        WatchHook(
            model,
            loop.data_loader.schedule,
            patience=settings.patience,
            period=settings.log_period,
            saves=saves_after(loop, settings),
            class_names=class_names,
        )
    ]
    if settings.vis_period and comm.is_main_process():
        options = _picture_options(settings, class_names)
        found.append(PictureHook(model, period=settings.vis_period, **options))
    return found


def _picture_options(settings: TrainSettings, class_names) -> dict:
    return {
        "folder": os.path.join(settings.output_dir, "pictures"),
        "class_names": class_names,
        "image_format": settings.image_format,
    }
