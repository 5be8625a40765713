"""Threads of the OpenMP team have a core each while a run trains; what a run starts beside it has them all."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, sys, threading, torch
from cifar.training.device import set_up_device
from cifar.training.threads import TASKS, pinned

def cores_of_threads():
    return sorted(sorted(os.sched_getaffinity(int(task.name))) for task in TASKS.iterdir())

def cores_of_a_new_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(sorted(os.sched_getaffinity(0))))
    thread.start()
    thread.join()
    return found[0]

set_up_device("cpu", int(sys.argv[1]), deterministic=False)
with pinned():
    set_up_device("cpu", int(sys.argv[1]), deterministic=False)
    inside = cores_of_threads()
print(json.dumps({"inside": inside, "after": sorted(os.sched_getaffinity(0)), "new": cores_of_a_new_thread()}))
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the kernel binds no threads to cores")
@pytest.mark.slow
@pytest.mark.parametrize("all_of_them", [True, False])
def test_a_run_that_uses_all_cores_has_one_for_each_thread(all_of_them: bool) -> None:
    cores = sorted(os.sched_getaffinity(0))
    threads = len(cores) if all_of_them else 1
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    program = [sys.executable, "-c", PROGRAM, str(threads)]
    result = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    seen = json.loads(result.stdout)
    bound = [thread for thread in seen["inside"] if thread != cores]  # NumPy has threads, too
    assert bound == ([[core] for core in cores] if all_of_them else [])
    assert seen["after"] == seen["new"] == cores
