"""A script runs in a fork of the server as in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from forkserver import ForkServer

SCRIPT = """
import atexit, json, os, sys, threading

state = [__name__, __file__, sys.argv, sys.path[0], os.getcwd(), os.environ["CIFAR_CACHE"], threading.active_count()]
state += [sys.stdout.encoding, sys.stdout.write_through, sys.stderr.line_buffering, sys.stdin.read()]
state += [sys.modules["__main__"].__dict__ is globals()]
state += [sorted({name.split(".")[0] for name in sys.modules} & {"cifar", "analysis", "run", "conftest", "forkserver"})]
print(json.dumps(state))
print("érreur", file=sys.stderr)
atexit.register(print, "bye")
if sys.argv[1] == "error":
    raise KeyError("x")
if sys.argv[1] == "killed":
    os.kill(os.getpid(), 9)
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["0", "3", "error", "killed"])
def test_a_script_sees_and_does_what_it_does_in_a_new_process(
    end: str, fork_server: ForkServer, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = fork_server.environment | {"CIFAR_CACHE": "here"}
    assert fork_server.accepts(environment)
    forked = fork_server.run([str(script), end], tmp_path, environment, timeout=60)
    new = subprocess.run(
        [sys.executable, str(script), end],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert forked.returncode == {"0": 0, "3": 3, "error": 1, "killed": -9}[end] and "NameError" not in forked.stderr
    assert (forked.returncode, forked.stdout) == (new.returncode, new.stdout)
    ours, theirs = ([line for line in done.stderr.splitlines() if line[0] != " "] for done in (forked, new))
    assert ours == theirs, "but for the lines of the traceback"


@pytest.mark.slow
def test_scripts_share_nothing_and_a_fork_is_stopped_as_a_process(fork_server: ForkServer, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time, torch\nprint(hasattr(torch, 'mark'))\ntorch.mark = 1\ntime.sleep(float(sys.argv[1]))\n"
    )
    for _ in range(2):
        assert fork_server.run([str(script), "0"], tmp_path, fork_server.environment, timeout=60).stdout == "False\n"
    with pytest.raises(subprocess.TimeoutExpired):
        fork_server.run([str(script), "60"], tmp_path, fork_server.environment, timeout=0.1)
    with Path(os.devnull).open("w") as file:
        nothing = file.fileno()
        two = [
            fork_server.start([str(script), "60"], tmp_path, fork_server.environment, nothing, nothing) for _ in "ab"
        ]
    assert [forked.poll() for forked in two] == [None, None]
    for forked in two:
        forked.kill()
    assert [forked.wait() for forked in two] == [-9, -9]


def test_what_may_change_the_packages_needs_a_new_process(fork_server: ForkServer) -> None:
    usual = fork_server.environment
    assert fork_server.accepts(usual) and fork_server.accepts(usual | {"HYDRA_FULL_ERROR": "1"})
    assert not fork_server.accepts(usual | {"PYTHONPATH": "elsewhere"})
    assert not fork_server.accepts({name: value for name, value in usual.items() if name != "OMP_NUM_THREADS"})
