"""Training on several ranks: the same training, however they are started and however they end."""

import os
import signal
import sys
import time

import pytest
import torch
from detectron2.engine import launch
from processes import (
    ENDLESS,
    TORCHRUN,
    Job,
    free_port,
    machine,
    train_net,
    train_yaml_on_rank,
    wait_for_steps,
)
from training import CONFIGS, YAML_OPTS, train_yaml, weights

from soft_teacher.distributed.launch import LOST_RANK

pytestmark = pytest.mark.usefixtures("tiny_digits")

# Nothing is drawn at random by a rank: every candidate is a sample, and every image has as many.
# No anchor that ties with another for a pseudo box, which rounding would decide.
EVERY_CANDIDATE = [
    "MODEL.RESNETS.NORM", "FrozenBN",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "2000",
    "MODEL.RPN.POSITIVE_FRACTION", "1.0",
    "MODEL.RPN.NMS_THRESH", "1.0",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "2000",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "2000",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "2000",
    "MODEL.ROI_HEADS.POSITIVE_FRACTION", "1.0",
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", "False",
    "SOFT_TEACHER.AUGMENTATION.SCALE_RANGE", "(1.0, 1.0)",
    "SOFT_TEACHER.RPN_ON_UNLABELED", "False",
    "SOFT_TEACHER.SCORE_THRESH", "0.15",
    "SOFT_TEACHER.JITTER.SCORE_THRESH", "0.15",
    "SOFT_TEACHER.JITTER.VARIANCE_THRESH", "0.5",
    "SOFT_TEACHER.AVERAGE", "image",
    "SOLVER.OPTIMIZER", "SGD",
    "SOLVER.BASE_LR", "0.01",
    "SOLVER.WARMUP_ITERS", "0",
    "SOLVER.STEPS", "()",
    "SOLVER.MAX_ITER", "3",
    "SOLVER.CHECKPOINT_PERIOD", "10",
]  # fmt: skip


def on_two_ranks(folder, *opts):
    """Trains and returns what each rank tells: see train_yaml_on_rank."""
    folder.mkdir(exist_ok=True)
    launch(train_yaml_on_rank, 2, dist_url="auto", args=(str(folder), [*map(str, opts)]))
    return [torch.load(folder / f"rank{rank}.pth") for rank in range(2)]


class TestTheSameTraining:
    @pytest.mark.long
    def test_ranks_that_lack_a_stream_or_pseudo_boxes_go_on_with_batch_norm(self, tmp_path):
        """One image per rank: one has no labeled image, the other no unlabeled one."""
        first, second = on_two_ranks(
            tmp_path,
            *("SOLVER.IMS_PER_BATCH", 2, "SOFT_TEACHER.LABELED_SHARE", 0.5),
            *("SOFT_TEACHER.SCORE_THRESH", 0.999, "SOFT_TEACHER.JITTER.SCORE_THRESH", 0.998),
        )
        assert first["synchronized"] > 0
        assert first["scalars"]["pseudo/num_cls_boxes"] == 0
        assert first["student"] == second["student"]
        assert first["teacher"] == second["teacher"] != first["student"]

    @pytest.mark.long
    @pytest.mark.parametrize("share", [0.5, 0.25])
    def test_two_processes_train_as_one(self, share, start, tmp_path):
        """With a share of 0.25 one of the processes has no labeled image."""
        opts = [*EVERY_CANDIDATE, "MODEL.WEIGHTS", start, "SOFT_TEACHER.LABELED_SHARE", share]
        train_yaml(tmp_path / "one", *opts)
        on_two_ranks(tmp_path / "two", *opts)
        before, one, two = (
            weights(start.parent),
            weights(tmp_path / "one"),
            weights(tmp_path / "two"),
        )
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-6)
        moved = [name for name in one if not torch.allclose(one[name], before[name], atol=1e-4)]
        assert {name.split(".")[0] for name in moved} == {"student", "teacher"}

    @pytest.mark.long
    def test_chunks_of_one_process_train_as_processes(self, start, tmp_path):
        """Also where proposals are sampled: a chunk draws what the process would draw."""
        opts = ["MODEL.WEIGHTS", start, "MODEL.RESNETS.NORM", "FrozenBN"]
        opts += ["SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", "0.01", "SOLVER.WARMUP_ITERS", "0"]
        train_yaml(tmp_path / "one", *opts, "SOLVER.GRADIENT_ACCUMULATION", 2)
        on_two_ranks(tmp_path / "two", *opts)
        before, one, two = (
            weights(folder) for folder in (start.parent, tmp_path / "one", tmp_path / "two")
        )
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-6)
        assert any(not torch.allclose(one[name], before[name], atol=1e-4) for name in one)

    @pytest.fixture(scope="class")
    def start(self, tiny_digits, tmp_path_factory):
        """Weights that find some pseudo boxes."""
        folder = tmp_path_factory.mktemp("start")
        train_yaml(folder, "SOLVER.MAX_ITER", 20, "SOLVER.WARMUP_ITERS", 0)
        return folder / "model_final.pth"


@pytest.mark.long
class TestWaysToStart:
    def test_two_machines(self, tmp_path):
        port = free_port()
        with (
            Job(train_net(tmp_path, flags=machine(0, port)), tmp_path / "0.txt") as first,
            Job(train_net(tmp_path, flags=machine(1, port)), tmp_path / "1.txt") as second,
        ):
            assert first.wait() == 0, first.text()[-3000:]
            assert second.wait() == 0, second.text()[-3000:]
        assert (tmp_path / "model_final.pth").is_file()
        assert "World size: 2" in (tmp_path / "log.txt.rank1").read_text()

    def test_torchrun_trains_what_num_gpus_trains(self, tmp_path):
        started = {
            "torchrun": train_net(tmp_path / "a", launcher=[*TORCHRUN, "--nproc_per_node", 2]),
            "num_gpus": train_net(tmp_path / "b", flags=["--num-gpus", 2]),
        }
        for name, command in started.items():
            with Job(command, tmp_path / f"{name}.txt") as job:
                assert job.wait() == 0, job.text()[-3000:]
        first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
        assert all(torch.equal(first[name], second[name]) for name in second)

    @pytest.mark.parametrize(
        "flags, opts, line",
        [
            (["--num-gpus", "3"], [], "--num-gpus 3 contradicts torchrun, which says 2"),
            ([], ["SOFT_TEACHER.ALPA", "2"], "did you mean SOFT_TEACHER.ALPHA?"),
        ],
    )
    def test_under_torchrun_a_mistake_is_told_once(self, flags, opts, line, tmp_path):
        config = ["train_net.py", "--config-file", str(CONFIGS / "soft_teacher.yaml")]
        command = [*TORCHRUN, "--nproc_per_node", "2", *config, *flags, *YAML_OPTS, *opts]
        with Job(command, tmp_path / "output.txt") as job:
            assert job.wait() != 0
            (told,) = job.errors()
            assert line in told
            assert "exitcode  : 2" in job.text()


@pytest.mark.long
class TestDeadRanks:
    """A rank is killed in the middle of a training."""

    @pytest.mark.parametrize("victim", [0, 1])
    def test_on_one_machine(self, victim, tmp_path):
        with Job(train_net(tmp_path, *ENDLESS, flags=["--num-gpus", 2]), tmp_path / "o") as job:
            pid = kill(victim, [job], tmp_path)
            assert job.wait(60) == 128 + signal.SIGKILL
            line = (
                f"error: rank {victim} (pid {pid}, signal SIGKILL) ended; the others were stopped"
            )
            assert job.errors() == [line]

    @pytest.mark.parametrize("victim", [0, 1])
    def test_under_torchrun(self, victim, tmp_path):
        command = train_net(tmp_path, *ENDLESS, launcher=[*TORCHRUN, "--nproc_per_node", 2])
        with Job(command, tmp_path / "o") as job:
            pid = kill(victim, [job], tmp_path)
            assert job.wait(60) != 0
            (line,) = job.errors()
            assert line.startswith(f"error: rank {victim} (host {os.uname().nodename}, pid {pid})")

    @pytest.mark.parametrize("victim", [0, 1])
    def test_on_another_machine(self, victim, tmp_path):
        """Rank 0 keeps the store through which the ranks hear of each other."""
        port = free_port()
        with (
            Job(train_net(tmp_path, *ENDLESS, flags=machine(0, port)), tmp_path / "0") as first,
            Job(train_net(tmp_path, *ENDLESS, flags=machine(1, port)), tmp_path / "1") as second,
        ):
            jobs = [first, second]
            pid = kill(victim, jobs, tmp_path)
            dead, alive = jobs[victim], jobs[1 - victim]
            assert alive.wait(60) == LOST_RANK
            (line,) = alive.errors()
            assert line.startswith(f"error: rank {victim} (host {os.uname().nodename}, pid {pid})")
            assert dead.wait() == 128 + signal.SIGKILL
            assert f"rank {victim} (pid {pid}, signal SIGKILL) ended" in dead.errors()[0]

    def test_a_rank_that_stands_still_while_the_others_wait_without_end(self, tmp_path):
        """As NCCL waits. Nothing breaks, there is only silence."""
        port = free_port()
        with (
            Job(stand_in("waiting", tmp_path, 0, port), tmp_path / "0") as first,
            Job(stand_in("waiting", tmp_path, 1, port), tmp_path / "1") as second,
        ):
            for rank, job in enumerate((first, second)):
                job.wait_for_files(tmp_path, f"rank{rank}")
            start = time.monotonic()
            os.kill(second.ranks()[0], signal.SIGSTOP)
            assert first.wait(60) == LOST_RANK
            assert time.monotonic() - start > 30
            # Its parent kills it, though no other rank is there to end before.
            assert second.wait(30) == LOST_RANK
            assert second.left_behind() == []
            for job in (first, second):
                (line,) = job.errors()
                assert line.startswith("error: rank 1 (host")

    def test_a_long_evaluation_on_rank_0_is_no_death(self, tmp_path):
        port = free_port()
        with (
            Job(stand_in("evaluating", tmp_path, 0, port), tmp_path / "0") as first,
            Job(stand_in("evaluating", tmp_path, 1, port), tmp_path / "1") as second,
        ):
            assert (first.wait(), second.wait()) == (0, 0), first.text() + second.text()


@pytest.mark.long
class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_the_parent_alone_is_told_to_stop(self, number, tmp_path):
        with Job(train_net(tmp_path, *ENDLESS, flags=["--num-gpus", 2]), tmp_path / "o") as job:
            wait_for_steps(job, tmp_path)
            job.process.send_signal(number)
            assert job.wait(120) == 128 + number
            assert job.errors() == [] and "Traceback" not in job.text()
        (checkpoint,) = tmp_path.glob("model_*.pth")
        assert torch.load(checkpoint, weights_only=True)["iteration"] >= 2


def kill(rank: int, jobs: list, folder) -> int:
    """Kills a rank of a training that goes on; returns its process id."""
    wait_for_steps(jobs[0], folder)
    pid = [pid for job in jobs for pid in job.ranks()][rank]
    os.kill(pid, signal.SIGKILL)
    return pid


def stand_in(main: str, folder, number: int, port: int) -> list:
    """The command that runs a function of the module ``processes`` on one of two machines."""
    code = f"import sys, processes as p; sys.exit(p.run_on_machine(p.{main}, *sys.argv[1:]))"
    return [sys.executable, "-W", "ignore", "-c", code, str(folder), str(number), str(port)]
