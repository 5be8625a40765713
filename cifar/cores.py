"""The CPU cores that this process may use. Those of the machine may be more."""

from __future__ import annotations

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""The limit of the control group (of a container, or a job of a cluster): microseconds per period, or "max"."""


def available_cores() -> int:
    """At least 1: those that the kernel lets this process run on, and no more than its control group pays for."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return allowed
