"""How much memory this process may use."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says what a container or a job may use, in bytes or "max"."""


@cache
def total_memory() -> int:
    """Bytes: the machine's memory, or what this process's control group may use of it."""
    amounts = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in LIMITS:
        try:
            amounts.append(int(Path(name).read_text()))
        except (OSError, ValueError):
            continue
    return min(amounts)
