"""Python scripts as processes of the tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def copy_checkout(target: Path, *beginnings: str) -> None:
    """Copy the files of this checkout that git does not ignore, those whose names begin so; all without beginnings."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if name.startswith(beginnings or "") and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def both_at_once(script: str, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Two processes that run `script`, which prints "ready" and calls input(): it returns once both have printed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120) for process in processes]
    return [
        subprocess.CompletedProcess(p.args, p.returncode, *answer) for p, answer in zip(processes, answers, strict=True)
    ]


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    """What a process wrote, that has to have succeeded: its output, then its errors."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
