"""The device of a run, its precision, and what is process-wide."""

from __future__ import annotations

import math
import os

import pytest
import torch

from cifar.options.option import ConfigError
from cifar.training import device
from cifar.training.device import dtype_of, max_concurrent_runs, set_up_device, uses_cuda_graph

CPU = torch.device("cpu")


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_of_the_setting_and_no_more_than_cores(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        assert set_up_device("cpu", threads, deterministic=True) == CPU
        assert torch.get_num_threads() == threads
        monkeypatch.setattr(device, "cores_of_process", lambda: 64)
        set_up_device("cpu", None, deterministic=True)
        assert torch.get_num_threads() == threads
        monkeypatch.setattr(device, "cores_of_process", lambda: 1)  # of a container's quota, which PyTorch does not see
        set_up_device("cpu", None, deterministic=True)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_run_that_begins_on_a_bound_thread_has_the_threads_of_the_others() -> None:
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    try:
        torch.set_num_threads(len(cores))
        set_up_device("cpu", None, deterministic=True)
        before = torch.get_num_threads()
        os.sched_setaffinity(0, {min(cores)})
        set_up_device("cpu", None, deterministic=True)
        assert torch.get_num_threads() == before
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_cuda_on_a_machine_without_it_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=rf"device={name}: .*allowed: auto, cpu"):
        set_up_device(name, None, deterministic=True)
    assert set_up_device("auto", None, deterministic=True) == CPU


def test_a_cuda_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"device=cuda:2: this machine has 2 CUDA devices, numbered from 0"):
        set_up_device("cuda:2", None, deterministic=True)


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:x", ""])
def test_another_name_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device={name}: unknown; allowed: auto, cpu, cuda, cuda:N"):
        set_up_device(name, None, deterministic=True)


@pytest.mark.parametrize("deterministic", [True, False])
def test_cudnn_is_deterministic_or_chooses_the_fastest_kernels(deterministic: bool) -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    try:
        set_up_device("cpu", None, deterministic)
        assert (cudnn.deterministic, cudnn.benchmark) == (deterministic, not deterministic)
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def test_the_precision_is_that_of_the_setting() -> None:
    assert dtype_of("fp32", CPU) == torch.float32
    assert dtype_of("bf16", CPU) == torch.bfloat16
    assert dtype_of("auto", CPU) in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("setting", ["auto", False])
def test_a_cpu_uses_no_graphs(setting: str | bool) -> None:
    assert not uses_cuda_graph(setting, CPU)


@pytest.mark.parametrize("setting", ["auto", True])
def test_a_cuda_device_uses_graphs_where_they_are_wanted(setting: str | bool) -> None:
    assert uses_cuda_graph(setting, torch.device("cuda"))
    assert not uses_cuda_graph(False, torch.device("cuda"))


def test_graphs_on_a_cpu_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"cuda_graph=true: not possible on device=cpu; allowed: auto, false"):
        uses_cuda_graph(True, CPU)


def test_a_cpu_does_not_limit_the_number_of_runs() -> None:
    assert max_concurrent_runs(CPU) == math.inf
