"""BatchNorm over all ranks: what is converted, and that it normalizes the whole batch."""

import copy
from types import SimpleNamespace

import pytest
import torch
from detectron2.engine import launch
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from processes import backbone_on_rank
from torch import nn

from soft_teacher import ConfigError
from soft_teacher.data.streams.schedule import BatchSchedule
from soft_teacher.demo import small_resnet_fpn
from soft_teacher.distributed import sync_bn as sync_bn_module
from soft_teacher.distributed.sync_bn import check_no_idle_rank, synchronize_batch_norm
from soft_teacher.engine import EMAHook
from soft_teacher.experiment.words import LAZY_WORDS, YAML_WORDS

SMALL = dict(stem_channels=4, stage_channels=(4, 6), blocks=(1, 1), out_channels=4)


def steps_of(schedule, apart=False):
    return schedule.passes(apart=apart), schedule.world_size


class Model(nn.Module):
    """What matters of a SoftTeacher."""

    def __init__(self, norm="BN", head=None):
        super().__init__()
        torch.manual_seed(0)
        self.student = nn.Module()
        self.student.backbone = small_resnet_fpn(norm=norm, **SMALL)
        self.student.head = nn.Sequential(nn.Conv2d(4, 4, 1), head or nn.Identity())
        self.teacher = copy.deepcopy(self.student).eval().requires_grad_(False)


@pytest.fixture
def world(monkeypatch):
    """world(size): pretends that there are as many ranks."""

    def pretend(size):
        monkeypatch.setattr(sync_bn_module.comm, "get_world_size", lambda: size)

    pretend(2)
    return pretend


def norms(module, kind):
    """Names of the modules of exactly this kind."""
    return [name for name, m in module.named_modules() if type(m) is kind]


def first(model):
    return model.student.backbone.bottom_up.stem.conv1.norm


BATCH_NORM = type(first(Model()))


class TestConversion:
    @pytest.mark.parametrize(
        "norm, size, before, after",
        [
            ("BN", 1, BATCH_NORM, BATCH_NORM),
            ("FrozenBN", 2, FrozenBatchNorm2d, FrozenBatchNorm2d),
            ("BN", 2, BATCH_NORM, NaiveSyncBatchNorm),
            ("SyncBN", 2, nn.SyncBatchNorm, NaiveSyncBatchNorm),  # it does not run on the CPU
        ],
    )
    def test_the_students_backbone_on_the_cpu(self, norm, size, before, after, world):
        world(size)
        model = Model(norm=norm)
        names, teachers = norms(model.student, before), norms(model.teacher, before)
        assert synchronize_batch_norm(model) is model
        assert norms(model.student, after) == names != []
        assert norms(model.teacher, before) == teachers == names
        assert before is after or norms(model.student, before) == []

    def test_batch_norm_of_a_head_and_detectron2s_own_layer_are_kept(self, world):
        """A head runs once per stream, and a rank may lack a stream."""
        model = Model(norm="naiveSyncBN", head=nn.BatchNorm2d(4))
        layer = first(model)
        synchronize_batch_norm(model)
        assert first(model) is layer
        assert type(model.student.head[1]) is nn.BatchNorm2d

    @pytest.mark.parametrize("kind", [nn.SyncBatchNorm, NaiveSyncBatchNorm])
    def test_a_synchronized_head_is_refused(self, world, kind):
        with pytest.raises(ConfigError, match="'head.1' .* set its NORM to 'GN' or 'BN'"):
            synchronize_batch_norm(Model(head=kind(4)))

    @pytest.mark.parametrize("kind", [nn.SyncBatchNorm, NaiveSyncBatchNorm])
    def test_a_synchronized_head_may_train_supervised(self, world, kind):
        """Every rank has labeled images then; torch's own layer does not run on the CPU."""
        model = Model(head=kind(4))
        synchronize_batch_norm(model, supervised=True)
        assert type(model.student.head[1]) is NaiveSyncBatchNorm
        assert type(model.teacher.head[1]) is kind

    def test_on_gpus_torchs_own_layer_is_used(self, world, monkeypatch):
        """As far as it can be seen without a GPU."""
        model = Model()
        names = norms(model.student, BATCH_NORM)
        on_gpu = SimpleNamespace(device=torch.device("cuda"))
        monkeypatch.setattr(model.student, "parameters", lambda: iter([on_gpu]))
        tensors = dict(model.named_parameters())
        synchronize_batch_norm(model)
        assert norms(model.student, nn.SyncBatchNorm) == names
        assert all(p is tensors[name] for name, p in model.named_parameters())


class TestWhatStays:
    def test_parameters_and_buffers_are_the_same_tensors_under_the_same_names(self, world):
        model = Model()
        before = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        keys = list(model.state_dict())
        values = {k: v.clone() for k, v in model.state_dict().items()}
        synchronize_batch_norm(model)
        after = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        assert all(after[name] is tensor for name, tensor in before.items())
        assert list(after) == list(before) and list(model.state_dict()) == keys
        assert all(torch.equal(v, values[k]) for k, v in model.state_dict().items())

    def test_an_optimizer_that_was_built_before_trains_the_new_layers(self, world):
        model = Model()
        optimizer = torch.optim.SGD(model.student.parameters(), lr=1.0)
        synchronize_batch_norm(model)
        world(1)  # a forward without other ranks
        layer = first(model)
        before = layer.weight.detach().clone()
        model.student.backbone(torch.randn(2, 3, 16, 16))["p2"].square().sum().backward()
        optimizer.step()
        assert not torch.equal(layer.weight, before)

    def test_an_ema_that_was_built_before_sees_the_new_layers_statistics(self, world):
        model = Model()
        ema = EMAHook(model.student, model.teacher)
        synchronize_batch_norm(model)
        layer = first(model)
        layer.running_mean += 1
        seen = [student for _, student in ema._float_buffers]
        assert any(torch.equal(t, layer.running_mean) and t.sum() > 0 for t in seen)

    @pytest.mark.parametrize("training", [True, False])
    def test_mode_and_settings(self, world, training):
        model = Model().train(training)
        old = first(model)
        old.eps, old.momentum = 0.25, 0.5
        synchronize_batch_norm(model)
        new = first(model)
        assert (new.training, new.eps, new.momentum) == (training, 0.25, 0.5)

    def test_a_checkpoint_of_one_process_loads(self, world):
        model, other = Model(), Model()
        first(other).running_mean += 3
        synchronize_batch_norm(model)
        found = model.load_state_dict(other.state_dict())
        assert not found.missing_keys and not found.unexpected_keys
        assert first(model).running_mean.min() == 3


class TestIdleRanks:
    @staticmethod
    def schedule(**changes):
        settings = dict(batch_size=4, share=0.25, decay_steps=0, max_iter=6, burn_in=3)
        settings |= dict(draw="global", world_size=2, seed=0)
        return BatchSchedule(**{**settings, **changes})

    def test_a_rank_without_images_is_refused(self, world):
        said = "^BatchSchedule.burn_in: step 0 has 1 labeled images for 2 batches"
        with pytest.raises(ConfigError, match=said):
            check_no_idle_rank(synchronize_batch_norm(Model()), *steps_of(self.schedule()))

    @pytest.mark.parametrize(
        "norm, changes",
        [
            *(
                ("BN", changes)
                for changes in (dict(burn_in=0), dict(share=0.5), dict(batch_size=8))
            ),
            ("BN", dict(batch_size=2, share=1e-9)),  # some steps have no image at all
            ("FrozenBN", {}),
            ("BN", dict(world_size=1)),
        ],
    )
    def test_enough_images_for_all_or_no_rank_that_waits(self, norm, changes, world):
        world(changes.get("world_size", 2))
        model, schedule = synchronize_batch_norm(Model(norm)), self.schedule(**changes)
        assert changes.get("share") != 1e-9 or schedule.total(0, 0) == 0
        check_no_idle_rank(model, *steps_of(schedule))

    # Changes of the schedule; step, images and stream that are refused.
    APART = {
        "labeled images": (dict(burn_in=0), "step 0 has 1 labeled"),
        "unlabeled images": (dict(burn_in=3, share=0.75), "step 3 has 1 unlabeled"),
    }

    @pytest.mark.parametrize("changes, said", APART.values(), ids=APART)
    def test_with_a_pass_for_each_stream_so_is_a_rank_that_lacks_one(self, world, changes, said):
        model, schedule = synchronize_batch_norm(Model()), self.schedule(**changes)
        check_no_idle_rank(model, *steps_of(schedule))
        with pytest.raises(ConfigError) as error:
            check_no_idle_rank(model, *steps_of(schedule, apart=True))
        assert str(error.value) == (
            f"SoftTeacher.statistics 'labeled': {said} images for 2 batches, and BatchNorm needs "
            "one in each: set SoftTeacher.statistics to 'all', raise BatchSchedule.batch_size or "
            "set the norm of the backbone to 'FrozenBN'"
        )
        assert "SOFT_TEACHER.STATISTICS" in YAML_WORDS(str(error.value))
        assert "model.statistics" in LAZY_WORDS(str(error.value))

    def test_what_no_pass_for_both_would_help_says_so(self, world):
        said = "^BatchSchedule.burn_in: step 0 has 1 labeled images for 2 batches"
        with pytest.raises(ConfigError, match=said):
            schedule = self.schedule(burn_in=1)
            check_no_idle_rank(synchronize_batch_norm(Model()), *steps_of(schedule, apart=True))

    @pytest.mark.parametrize("norm, changes", [("BN", dict(share=0.5)), ("FrozenBN", {})])
    def test_enough_images_of_each_stream(self, world, norm, changes):
        model, schedule = synchronize_batch_norm(Model(norm)), self.schedule(**changes)
        check_no_idle_rank(model, *steps_of(schedule, apart=True))

    @pytest.mark.parametrize("draw, share", [("global", 0.4), ("per_rank", 0.4)])
    def test_as_many_images_as_ranks_give_every_rank_one(self, draw, share):
        schedule = self.schedule(
            batch_size=12, world_size=3, share=share, draw=draw, burn_in=0, max_iter=50
        )
        joint, *streams = schedule.passes(apart=True).values()
        assert joint == [12] * 50 and len(streams) == 2
        for stream, counts in enumerate(streams):
            for step, count in enumerate(counts):
                assert count == schedule.total(stream, step) >= 3
                assert min(schedule.count(stream, step, rank) for rank in range(3)) > 0


COUNTS = [(2, 2), (1, 3)]


@pytest.fixture(scope="module")
def on_two_processes(tmp_path_factory):
    """A backbone, a batch, and what two processes find with the batch dealt in several ways."""
    torch.manual_seed(1)
    images = torch.randn(4, 3, 32, 32)
    backbone = small_resnet_fpn(norm="BN", **SMALL)
    folder = tmp_path_factory.mktemp("ranks")
    torch.save((backbone.state_dict(), images, COUNTS, SMALL), folder / "start.pth")
    launch(backbone_on_rank, 2, dist_url="auto", args=(str(folder),))
    return backbone, images, [torch.load(folder / f"rank{rank}.pth") for rank in range(2)]


@pytest.mark.long
@pytest.mark.parametrize("deal", range(len(COUNTS)), ids=map(str, COUNTS))
def test_two_processes_normalize_as_one(deal, on_two_processes):
    """Outputs, gradients and running means."""
    backbone, images, found = on_two_processes
    backbone = copy.deepcopy(backbone)
    ranks = [rank[deal] for rank in found]
    levels = backbone(images)
    sum(level.exp().sum() for level in levels.values()).backward()
    for name, level in levels.items():
        torch.testing.assert_close(torch.cat([r["levels"][name] for r in ranks]), level.detach())
    for name, parameter in backbone.named_parameters():
        for rank in ranks:
            mean = rank["gradients"][name]
            torch.testing.assert_close(2 * mean, parameter.grad, rtol=1e-4, atol=1e-3)
    for name, buffer in backbone.named_buffers():
        if name.endswith("running_mean"):
            torch.testing.assert_close(ranks[0]["buffers"][name], buffer)
            assert torch.equal(ranks[0]["buffers"][name], ranks[1]["buffers"][name]), name
