import pytest
import torch
from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, hooks
from fvcore.common.checkpoint import Checkpointer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from soft_teacher.engine import build as build_module
from soft_teacher.engine.build import build_hooks, build_train_loop, check_amp, wrap_ddp
from soft_teacher.engine.ema import EMAHook
from soft_teacher.engine.hooks import ReproducibleSteps
from soft_teacher.errors import ConfigError


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


def loop_of(amp, precision):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loop = build_train_loop(model, [], optimizer, amp=amp, precision=precision)
    assert loop.model is model and loop.data_loader == [] and loop.optimizer is optimizer
    return loop


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_full_precision_is_detectron2_s_simple_trainer(precision):
    assert type(loop_of(False, precision)) is SimpleTrainer


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("precision, dtype", [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_mixed_precision_is_detectron2_s_amp_trainer_in_that_precision(precision, dtype):
    loop = loop_of(True, precision)
    assert type(loop) is AMPTrainer and loop.precision is dtype


def test_a_detectron2_that_cannot_be_told_the_precision_runs_fp16_alone(monkeypatch):
    class OldAMPTrainer(SimpleTrainer):
        def __init__(self, model, data_loader, optimizer, grad_scaler=None):
            super().__init__(model, data_loader, optimizer)

    monkeypatch.setattr(build_module, "AMPTrainer", OldAMPTrainer)
    assert type(loop_of(True, "fp16")) is OldAMPTrainer
    assert "SOLVER.AMP.PRECISION 'bf16'" in refusal(loop_of, True, "bf16")


# --- several ranks ------------------------------------------------------------------------------


class Model(nn.Module):
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


def hooks_of(**changes):
    network = nn.Linear(1, 1)
    settings = dict(
        seed=3,
        data_loader=object(),
        ema=EMAHook(network, network),
        checkpointer=Checkpointer(network),
        checkpoint_period=5,
        eval_period=6,
        evaluate=dict,
        build_writers=lambda: [],
    )
    return build_hooks(**{**settings, **changes})


def test_the_teacher_is_updated_before_it_is_saved_and_evaluated_and_all_before_it_is_written():
    assert [type(hook) for hook in hooks_of()] == [
        hooks.IterationTimer,
        ReproducibleSteps,
        hooks.LRScheduler,
        EMAHook,
        hooks.PeriodicCheckpointer,
        hooks.EvalHook,
        hooks.PeriodicWriter,
    ]


def test_only_the_main_rank_saves_and_writes(monkeypatch):
    monkeypatch.setattr(build_module.comm, "is_main_process", lambda: False)

    def writers():
        raise AssertionError("writers belong to the main rank")

    found = [type(hook) for hook in hooks_of(build_writers=writers) if hook is not None]
    assert found == [
        hooks.IterationTimer,
        ReproducibleSteps,
        hooks.LRScheduler,
        EMAHook,
        hooks.EvalHook,
    ]


def test_the_hooks_get_what_they_need():
    loader, checkpointer, scheduler = object(), Checkpointer(nn.Linear(1, 1)), HookBase()
    ema = HookBase()
    _, steps, third, fourth, saver, evaluation, writer = hooks_of(
        data_loader=loader,
        checkpointer=checkpointer,
        ema=ema,
        scheduler=scheduler,
        max_to_keep=2,
        evaluate=list,
        log_period=9,
    )
    assert (steps.data_loader, steps.seed) == (loader, 3)
    assert (third, fourth) == (scheduler, ema)
    assert (saver.checkpointer, saver.period, saver.max_to_keep) == (checkpointer, 5, 2)
    assert (evaluation._period, evaluation._func) == (6, list)
    assert (writer._period, writer._writers) == (9, [])
