"""Which processes are on which machine."""

import pytest
import torch
from detectron2.engine import default_argument_parser

from soft_teacher import ConfigError
from soft_teacher.distributed.launch_args import (
    free_address,
    is_first_here,
    parse_launch_args,
    under_torchrun,
)

# Process 5 of 8, on the second of two machines.
TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "2345",
}
ALL_FLAGS = "--num-gpus 4 --num-machines 2 --machine-rank 1 --dist-url tcp://node0:2345"


def parsed(flags="", environ=()):
    args = parse_launch_args(default_argument_parser(), flags.split(), dict(environ))
    return args.num_gpus, args.num_machines, args.machine_rank, args.dist_url


def refusal(flags="", environ=()):
    with pytest.raises(ConfigError, match=r"^.*\Z") as error:
        parsed(flags, environ)
    return str(error.value)


@pytest.mark.parametrize(
    "flags, found",
    [
        ("", (1, 1, 0, "auto")),
        ("--num-gpus 4", (4, 1, 0, "auto")),
        ("--num-gpus 4 --dist-url tcp://a:1", (4, 1, 0, "tcp://a:1")),
        (ALL_FLAGS, (4, 2, 1, "tcp://node0:2345")),
    ],
)
def test_flags(flags, found):
    assert parsed(flags) == found


def test_other_arguments_are_kept():
    argv = ["--config-file", "a.yaml", "--resume", "SEED", "1"]
    args = parse_launch_args(default_argument_parser(), argv, {})
    assert (args.config_file, args.resume, args.opts) == ("a.yaml", True, ["SEED", "1"])


@pytest.mark.parametrize(
    "flags, words",
    [
        ("--num-gpus 0", "--num-gpus must be at least 1, got 0"),
        ("--num-machines -1", "--num-machines must be at least 1, got -1"),
        ("--machine-rank 1", "--machine-rank 1 must be at least 0 and below"),
        ("--machine-rank -1", "--machine-rank -1 must be"),
        ("--num-machines 2", "--num-machines needs --dist-url tcp://HOST:PORT"),
        ("--num-machines 2 --dist-url auto", "needs --dist-url"),
        ("--num-machines 2 --dist-url env://", "--dist-url env:// must be tcp://HOST:PORT"),
        ("--num-gpus 2 --dist-url file:///tmp/a", "--dist-url file:///tmp/a must be tcp://"),
        *(
            (f"--num-gpus 2 --dist-url tcp://{address}", "must be tcp://HOST:PORT, or auto")
            for address in ("node0", "node0:port", "node0:65536", ":2345", "[::1")
        ),
    ],
)
def test_inconsistent_flags_are_refused(flags, words):
    assert words in refusal(flags)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert parsed("--num-gpus 4")[0] == 4
    assert "has 4 GPUs, too few for 5" in refusal("--num-gpus 5")


def test_free_addresses_are_addresses_and_differ():
    first, second = free_address(), free_address()
    assert parsed(f"--dist-url {first}")[3] == first != second


# --- torchrun -----------------------------------------------------------------------------------


def test_torchrun_s_environment_replaces_flags_and_is_not_contradicted_by_equal_ones():
    assert under_torchrun(TORCHRUN)
    for flags in ("", ALL_FLAGS):
        assert parsed(flags, TORCHRUN) == (4, 2, 1, "tcp://node0:2345")
    ipv6 = {**TORCHRUN, "MASTER_ADDR": "fe80::1"}
    assert parsed(environ=ipv6)[3] == "tcp://[fe80::1]:2345"


@pytest.mark.parametrize("missing", TORCHRUN)
def test_a_part_of_its_environment_means_nothing(missing):
    """Clusters set some of these names for purposes of their own."""
    environ = {k: v for k, v in TORCHRUN.items() if k != missing}
    assert not under_torchrun(environ)
    assert parsed(environ=environ) == (1, 1, 0, "auto")


@pytest.mark.parametrize(
    "flag, value, says",
    [
        ("--num-gpus", "1", "4"),
        ("--num-machines", "1", "2"),
        ("--machine-rank", "0", "1"),
        ("--dist-url", "auto", "tcp://node0:2345"),
    ],
)
def test_flags_that_contradict_it_are_refused(flag, value, says):
    found = refusal(f"{flag} {value}", TORCHRUN)
    assert found == f"{flag} {value} contradicts torchrun, which says {says}: leave it out"


def test_machines_with_different_numbers_of_processes_are_refused():
    assert "start as many on each machine" in refusal(environ={**TORCHRUN, "WORLD_SIZE": "7"})


def test_one_process_of_a_machine_reports_mistakes():
    assert is_first_here({}) and is_first_here({**TORCHRUN, "LOCAL_RANK": "0"})
    assert not is_first_here(TORCHRUN)
