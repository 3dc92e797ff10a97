from types import SimpleNamespace

import pytest
import torch
from detectron2.engine import HookBase, hooks
from fvcore.common.checkpoint import Checkpointer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from soft_teacher.engine.density import DensityThresholdsHook
from soft_teacher.engine.ema import EMAHook
from soft_teacher.engine.evaluation_hooks import Evaluation, PendingEvaluation
from soft_teacher.engine.pending import PendingHook
from soft_teacher.engine.saving import BestTeacher, LastStepSaver, Saver, StepsDone
from soft_teacher.engine.stopping import StopOnSignal
from soft_teacher.experiment import build as build_module
from soft_teacher.experiment.build import build_hooks, build_train_loop, saves_after, wrap_ddp
from soft_teacher.experiment.config_checks import check_amp
from soft_teacher.experiment.train_settings import TrainSettings
from soft_teacher.modeling import BoxJitter, FasterRCNNFamily, PseudoLabeler, RetinaNetFamily
from soft_teacher.monitoring.events import EventFiles, EventHistory
from soft_teacher.monitoring.health import DeclineCheck
from soft_teacher.monitoring.hooks import HTMLReport, WatchHook
from soft_teacher.monitoring.picture_hooks import ValidationPictureHook
from soft_teacher.utils.errors import ConfigError


@pytest.fixture
def gpu(monkeypatch):
    """Pretends that there is a GPU; ``gpu(bf16=False)`` one that lacks bfloat16."""

    def pretend(bf16=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return pretend


def refusal(function, *args, **kwargs):
    with pytest.raises(ConfigError) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- mixed precision ----------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_without_mixed_precision_every_device_will_do(device, precision, gpu):
    check_amp(False, precision, device)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("precision", ["", "fp32", "float16"])
def test_an_unknown_precision_is_refused_even_where_it_is_not_used(precision, enabled, gpu):
    gpu()
    found = refusal(check_amp, enabled, precision, "cuda")
    assert "SOLVER.AMP.PRECISION" in found and "fp16, bf16" in found and f"'{precision}'" in found


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_mixed_precision_needs_a_gpu(precision, gpu):
    for device in ("cpu", "cuda"):
        found = refusal(check_amp, True, precision, device)
        assert "SOLVER.AMP.ENABLED" in found and "set it to False" in found
    gpu()
    for device in ("cuda", "cuda:1"):
        check_amp(True, precision, device)
    # A GPU that is there but not used is of no help.
    assert "SOLVER.AMP.ENABLED" in refusal(check_amp, True, precision, "cpu")


def test_bf16_needs_a_gpu_that_has_it(gpu):
    gpu(bf16=False)
    check_amp(True, "fp16", "cuda")
    found = refusal(check_amp, True, "bf16", "cuda")
    assert "SOLVER.AMP.PRECISION 'bf16'" in found and "use 'fp16'" in found


USUAL = dict(
    **dict.fromkeys(("image_format", "weights", "wandb_project", "wandb_name"), ""),
    **dict.fromkeys(("amp", "resume_changed"), False),
    **dict.fromkeys(("max_nonfinite", "vis_period"), 0),
    output_dir="output",
    seed=7,
    max_iter=100,
    precision="fp16",
    micro_batches=1,
    checkpoint_period=5,
    checkpoints_to_keep=None,
    eval_period=6,
    eval_networks=["student", "teacher"],
    test_names=["one"],
    burn_in=50,
    labeled_share=0.5,
    patience=200,
)


def settings(**changes):
    return TrainSettings(**{**USUAL, **changes})


SCHEDULE = SimpleNamespace(passes=lambda apart: {"": [], "apart": []}, world_size=1)
LOADER = SimpleNamespace(schedule=SCHEDULE)


def loop_of(tmp_path, model=None, **options):
    model = model or Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return build_train_loop(model, LOADER, optimizer, settings(output_dir=str(tmp_path), **options))


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("precision, dtype", [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_the_precision_matters_where_it_is_mixed(amp, precision, dtype, tmp_path):
    loop = loop_of(tmp_path, amp=amp, precision=precision)
    assert loop.precision is (dtype if amp else None)


def test_the_loop_gets_what_it_needs(tmp_path):
    model = Model()
    loop = loop_of(tmp_path, model, micro_batches=3, max_nonfinite=4)
    assert loop.model is model and loop.data_loader is LOADER
    assert (loop.seed, loop.micro_batches, loop.guard.max_skips) == (7, 3, 4)
    assert loop.guard.folder == str(tmp_path / "nonfinite")


# --- several ranks ------------------------------------------------------------------------------


class Model(nn.Module):
    statistics = "all"

    def __init__(self, device="cpu"):
        super().__init__()
        self.device = torch.device(device)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(x)


@pytest.fixture
def process_group(tmp_path):
    """A gloo group of this process alone."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_one_rank_needs_no_ddp():
    model = Model()
    assert wrap_ddp(model) is model


def test_ddp_runs_on_the_cpu_and_leaves_buffers_to_the_ema(process_group, monkeypatch):
    monkeypatch.setattr("detectron2.engine.defaults.comm.get_world_size", lambda: 2)
    model = Model()
    wrapped = wrap_ddp(model)
    assert isinstance(wrapped, DistributedDataParallel) and wrapped.module is model
    assert wrapped.device_ids is None
    assert wrapped.broadcast_buffers is False
    wrapped(torch.arange(8.0).view(4, 2)).square().sum().backward()
    assert model.norm.weight.grad.abs().sum() > 0


def test_on_gpus_a_rank_drives_its_own(monkeypatch):
    asked = []
    monkeypatch.setattr(build_module, "create_ddp_model", lambda *a, **k: asked.append((a, k)))
    monkeypatch.setattr(build_module.comm, "get_local_rank", lambda: 3)
    model = Model("cuda")
    wrap_ddp(model)
    assert asked == [((model,), {"broadcast_buffers": False, "device_ids": [3]})]


# --- hooks --------------------------------------------------------------------------------------


class Watched(nn.Linear):
    label_source = "teacher"
    pseudo_labeler = PseudoLabeler()
    family = FasterRCNNFamily(jitter=BoxJitter())
    alpha = 4.0


def hooks_of(*, with_settings=(), **changes):
    network = Watched(1, 1)
    parts = dict(
        loop=SimpleNamespace(stops=False, data_loader=LOADER),
        ema=EMAHook(network, network),
        checkpointer=Checkpointer(network),
        evaluate=dict,
    )
    return build_hooks(settings(**dict(with_settings)), **{**parts, **changes})


def test_the_teacher_is_updated_before_it_is_evaluated_and_all_is_written_before_it_is_saved():
    assert [type(hook) for hook in hooks_of()] == [
        hooks.IterationTimer,
        hooks.LRScheduler,
        EMAHook,
        StepsDone,
        WatchHook,
        LastStepSaver,
        Evaluation,
        BestTeacher,
        DeclineCheck,
        EventFiles,
        EventHistory,
        Saver,
        HTMLReport,
        StopOnSignal,
        PendingEvaluation,
    ]


def test_thresholds_by_density_follow_the_teacher_and_are_saved_with_it(monkeypatch):
    found = hooks_of()
    labeler = PseudoLabeler(by_density=True)
    labeler.density.allocate(2, 0.9)
    monkeypatch.setattr(Watched, "pseudo_labeler", labeler)
    with_density = hooks_of(with_settings={"log_period": 9}, class_names=["a", "b"])
    assert [type(hook) for hook in with_density] == [
        *map(type, found[:3]),
        DensityThresholdsHook,
        *map(type, found[3:]),
    ]
    hook = with_density[3]
    assert hook.counted is labeler.density
    assert (hook.class_names, hook.period) == (["a", "b"], 9)


def test_what_a_family_counts_follows_the_teacher_and_is_saved_with_it(monkeypatch):
    monkeypatch.setattr(Watched, "family", RetinaNetFamily())
    hook = hooks_of(with_settings={"log_period": 9})[3]
    assert type(hook) is PendingHook and hook.period == 9
    assert hook.counted is Watched.family.normalizers


@pytest.mark.parametrize("statistics, apart", [("all", False), ("labeled", True)])
def test_batch_norm_is_checked_for_the_passes_that_there_are(
    statistics, apart, tmp_path, monkeypatch
):
    asked, checked = [], []
    monkeypatch.setattr(SCHEDULE, "passes", lambda *, apart: asked.append(apart) or {"x": [1]})
    monkeypatch.setattr(build_module, "check_no_idle_rank", lambda *args: checked.append(args))
    monkeypatch.setattr(Model, "statistics", statistics)
    model = Model()
    loop_of(tmp_path, model)
    assert asked == [apart] and checked == [(model, {"x": [1]}, 1)]


def test_only_the_main_rank_saves_and_writes(monkeypatch):
    monkeypatch.setattr(build_module.comm, "is_main_process", lambda: False)
    assert [type(hook) for hook in hooks_of()] == [
        hooks.IterationTimer,
        hooks.LRScheduler,
        EMAHook,
        StepsDone,
        WatchHook,
        Evaluation,
        StopOnSignal,
        PendingEvaluation,
    ]


def test_the_hooks_get_what_they_need():
    checkpointer, scheduler, ema = Checkpointer(Watched(1, 1)), HookBase(), HookBase()
    found = hooks_of(
        with_settings={"checkpoints_to_keep": 2, "log_period": 9, "vis_period": 3},
        checkpointer=checkpointer,
        ema=ema,
        scheduler=scheduler,
        evaluate=lambda: 5,
        class_names=["a"],
    )
    _, second, third, steps_done, watch, pictures, before, evaluation, best = found[:9]
    decline, files, history, saver, report, stop, pending = found[9:]
    assert (watch.period, watch.health.patience) == (9, 200)
    assert watch.class_names == watch.health.settings.class_names == ["a"]
    assert (pictures.period, pictures.files.path) == (3, "output/pictures")
    assert pictures.class_names == ["a"]
    assert (second, third) == (scheduler, ema)
    assert (saver.checkpointer, saver.period, saver.max_to_keep) == (checkpointer, 5, 2)
    assert saver.steps_done is steps_done and before.saver is saver
    assert (evaluation._period, evaluation._func()) == (6, 5)
    assert (best.checkpointer, best.metric) == (checkpointer, "teacher/bbox/AP")
    assert (decline.metric, decline.burn_in) == ("teacher/bbox/AP", 50)
    assert (files.output_dir, files.period, history.files) == ("output", 9, files)
    assert pending.evaluation is evaluation and pending.closing == found[8:14]
    assert report.output_dir == "output" and stop.loop.stops is False


@pytest.mark.parametrize(
    "names, vis_period, mapper, drawn",
    [
        ([], 3, print, None),
        (None, 3, print, None),
        (["one", "two"], 0, print, None),
        (["one", "two"], 3, None, None),
        (["one", "two"], 3, print, "one"),
        ("one", 3, print, "one"),
    ],
)
def test_images_of_the_first_test_dataset_are_drawn_between_evaluation_and_writing(
    names, vis_period, mapper, drawn
):
    periods = {"test_names": names, "vis_period": vis_period}
    found = hooks_of(with_settings=periods, test_mapper=mapper, class_names=["a"])
    kinds = [type(hook) for hook in found]
    assert (ValidationPictureHook in kinds) == (drawn is not None)
    if drawn:
        place = kinds.index(ValidationPictureHook)
        assert kinds.index(Evaluation) < place < kinds.index(EventFiles)
        pictures = found[place]
        assert (pictures.dataset, pictures.mapper, pictures.class_names) == (drawn, mapper, ["a"])
        assert pictures.files.path == "output/pictures"
        assert pictures.evaluation is found[kinds.index(Evaluation)]
        assert pictures in found[-1].closing


@pytest.mark.parametrize("names", ["one", ["one"]])
def test_one_test_dataset_may_be_named_without_a_list(names):
    found = hooks_of(with_settings={"test_names": names})
    (best,) = [hook for hook in found if isinstance(hook, BestTeacher)]
    assert best.metric == "teacher/bbox/AP"


@pytest.mark.parametrize(
    "changes", [{"eval_networks": ["student"]}, {"labeled_share": 1.0}], ids=str
)
def test_a_decline_is_looked_for_where_a_teacher_is_evaluated_and_learns_without_labels(changes):
    assert DeclineCheck not in {type(hook) for hook in hooks_of(with_settings=changes)}


@pytest.mark.parametrize(
    "eval_period, stops, expected",
    [(0, False, [4, 8]), (3, False, [3, 4, 6, 8]), (0, True, [1, 2, 3, 4, 5, 6, 7, 8])],
)
def test_a_checkpoint_may_be_saved_after_a_period_an_evaluation_or_a_signal(
    eval_period, stops, expected
):
    periods = settings(checkpoint_period=4, eval_period=eval_period)
    saves = saves_after(SimpleNamespace(stops=stops), periods)
    assert [done for done in range(1, 9) if saves(done)] == expected
