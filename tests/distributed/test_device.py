import os

import pytest
import torch

from soft_teacher import ConfigError
from soft_teacher.distributed.device import (
    PRIMITIVES,
    bound_compiled_shapes,
    share_cpu,
    usable_device,
)
from soft_teacher.experiment.entry import load_experiment


@pytest.fixture
def machine(monkeypatch):
    """machine(cores, gpu=False): pretends; returns the list of thread counts that are set."""

    def pretend(cores, gpu=False):
        threads = []
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch, "set_num_threads", threads.append)
        return threads

    return pretend


@pytest.mark.parametrize(
    "cores, processes, threads", [(1, 1, 1), (8, 1, 8), (8, 2, 4), (8, 3, 2), (2, 8, 1)]
)
def test_the_processes_of_a_machine_share_the_cores_it_lends_them(
    machine, cores, processes, threads
):
    found = machine(cores)
    share_cpu(processes)
    assert found == [threads]


def test_where_the_affinity_is_unknown_all_cores_count(machine, monkeypatch):
    found = machine(2)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    share_cpu(2)
    assert found == [3]


def test_what_the_environment_says_stands(machine, monkeypatch):
    found = machine(8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    share_cpu(2)
    assert found == []


def test_the_shapes_that_are_remembered_are_bounded_unless_the_user_bounds_them(monkeypatch):
    monkeypatch.setenv(PRIMITIVES[0], "64")
    bound_compiled_shapes()
    assert os.environ[PRIMITIVES[0]] == "64"
    monkeypatch.delenv(PRIMITIVES[0])
    bound_compiled_shapes()
    assert os.environ[PRIMITIVES[0]] == PRIMITIVES[1]


def test_they_are_bounded_before_a_run_or_a_tool_has_a_network(monkeypatch):
    monkeypatch.delenv(PRIMITIVES[0], raising=False)
    load_experiment("configs/demo/soft_teacher.yaml")
    assert os.environ[PRIMITIVES[0]] == PRIMITIVES[1]


def test_with_gpus_the_cpu_is_left_alone(machine):
    found = machine(8, gpu=True)
    share_cpu(2)
    assert found == []


@pytest.mark.parametrize(
    "device, gpu, used",
    [
        ("cpu", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cuda", True, "cuda"),
        ("cuda:1", True, "cuda:1"),
        ("cuda", False, "cpu"),
    ],
)
def test_without_a_gpu_the_cpu_is_used(machine, device, gpu, used):
    machine(1, gpu)
    assert usable_device("device", device) == used


@pytest.mark.parametrize("device", ["", "gpu"])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(ConfigError, match=f"device '{device}' is not a device"):
        usable_device("device", device)
