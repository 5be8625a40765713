"""Python scripts as processes that are forked from one that has imported the packages already.

To import PyTorch, Optuna and the other packages takes most of the time of a short run. A ForkServer imports these once.
Each script then runs as __main__ in a fork of it, with its own arguments, working directory, environment and output,
and ends as an interpreter ends. It shares nothing of the project, whose modules the fork imports, nor anything that
other scripts did. Workers that a script starts are new processes, as ever.

An environment that may change what was imported needs a new process: ForkServer.accepts.

The server is this file as a script. Its requests come through a socket, which is its standard input.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from select import select
from typing import TextIO

PACKAGES = (
    *("PIL.Image", "alembic.command", "filelock", "hydra", "hydra._internal.hydra", "hydra.main", "hydra.utils"),
    *("hydra_plugins.hydra_joblib_launcher.joblib_launcher", "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper"),
    *("joblib", "optuna", "optuna.importance", "optuna.pruners", "optuna.samplers", "optuna.storages", "pandas"),
    *("safetensors.torch", "scipy.stats", "sklearn.datasets", "sklearn.ensemble", "sklearn.model_selection"),
    *("sqlalchemy.dialects.sqlite", "sqlalchemy.orm", "threadpoolctl", "torch", "torch.utils.flop_counter"),
    *("torchvision.models", "torchvision.transforms.v2", "tqdm"),
)
"""Of the packages that run.py imports, those that take time. None is of the project or needs a thread."""
SAFE = ("CIFAR_", "TOY_", "HYDRA_FULL_ERROR", "PYTEST_CURRENT_TEST")
"""Beginnings of the names of variables that scripts read, and not Python or PACKAGES when they are imported."""
IDLE_THREAD = "jemalloc_bg_thd"
"""A thread of pyarrow's allocator, which takes care of it in forks."""
LONGEST_REQUEST = 2**17


class Forked:
    """A running script, as subprocess.Popen."""

    def __init__(self, argv: Sequence[str], answers: socket.socket) -> None:
        self.args = argv
        self.returncode: int | None = None
        self._answers = answers
        self.pid = int(answers.recv(32))

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.returncode is None and select([self._answers], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
            self.returncode = int(self._answers.recv(32))
            self._answers.close()
        return self.returncode

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """A process that has imported PACKAGES in `environment`, and forks for each script."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._requests, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(
            command, stdin=requests.fileno(), stdout=subprocess.DEVNULL, env=self.environment
        )
        requests.close()

    def accepts(self, environment: Mapping[str, str]) -> bool:
        """Whether a script with this environment runs as in a new process."""
        changed = {name for name, _ in environment.items() ^ self.environment.items()}
        return all(name.startswith(SAFE) for name in changed)

    def start(
        self,
        argv: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        out: int,
        errors: int,
        start_new_session: bool = False,
    ) -> Forked:
        """`python ARGV`, the first a script; `out` and `errors` are file descriptors of files or pipes."""
        answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {"argv": argv, "cwd": str(cwd), "environment": dict(environment), "session": start_new_session}
        with theirs:
            socket.send_fds(self._requests, [json.dumps(request).encode()], [out, errors, theirs.fileno()])
        return Forked(argv, answers)

    def run(
        self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As subprocess.run with capture_output=True and text=True. Raises subprocess.TimeoutExpired."""
        (out, written), (errors, written_too) = os.pipe(), os.pipe()
        forked = self.start(argv, cwd, environment, written, written_too)
        os.close(written)
        os.close(written_too)
        with open(out) as first, open(errors) as second, ThreadPoolExecutor(2) as pool:  # noqa: PTH123  (descriptors)
            texts = [pool.submit(pipe.read) for pipe in (first, second)]
            try:
                forked.wait(timeout)
            finally:
                forked.kill()
        return subprocess.CompletedProcess(list(argv), forked.wait(), *(text.result() for text in texts))

    def close(self) -> None:
        self._requests.close()
        self._process.wait()


@cache
def shared() -> ForkServer:
    """The server of this process, with the environment of the first call; it ends with this process."""
    return ForkServer(os.environ)


def serve() -> dict[str, object] | None:
    """Answer requests, until the other end of the socket is closed. In the fork of a script: return its request."""
    for name in PACKAGES:
        importlib.import_module(name)
    threads = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    lost = [name for name in threads[1:] if name != IDLE_THREAD]
    assert not lost, f"a fork has one thread; the packages have started more: {lost}"
    gc.collect()
    gc.freeze()
    requests = socket.socket(fileno=os.dup(0))
    while True:
        content, descriptors, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 3)
        if not content:
            return None
        if os.fork() == 0:
            requests.close()
            return _monitored(json.loads(content), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _reap()


def _reap() -> None:
    """Wait for the monitors that have ended."""
    while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG):
        pass


def _monitored(request: dict[str, object], out: int, errors: int, answers: int) -> dict[str, object]:
    """Fork once more: return in the process of the script; the other sends its process id and its exit code."""
    pid = os.fork()
    if pid == 0:
        os.close(answers)
        _set_up(request, out, errors)
        return request
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.close(out)
    os.close(errors)
    with socket.socket(fileno=answers) as answering:
        answering.send(b"%d" % pid)
        _, status = os.waitpid(pid, 0)
        answering.send(b"%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _set_up(request: dict[str, object], out: int, errors: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((nothing, 0), (out, 1), (errors, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    sys.stdout = sys.__stdout__ = _stream(sys.stdout, 1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(sys.stderr, 2)  # type: ignore[misc]
    if request["session"]:
        os.setsid()
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]


def _stream(stream: TextIO, descriptor: int) -> io.TextIOWrapper:
    """A new stream with the settings of `stream`, which may be of another kind of file; it is no terminal."""
    assert isinstance(stream, io.TextIOWrapper)
    raw = io.FileIO(descriptor, "w", closefd=False)
    buffer = raw if stream.write_through else io.BufferedWriter(raw)  # raw: PYTHONUNBUFFERED
    return io.TextIOWrapper(
        buffer,
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def main_module(argv: Sequence[str]) -> tuple[types.CodeType, dict[str, object]]:
    """The code of a script and its globals, as of __main__ of a new process; `argv` are its arguments."""
    script = argv[0]
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=script, __builtins__=__builtins__, __cached__=None, __annotations__={})
    sys.modules["__main__"] = module
    sys.argv[:] = argv
    sys.path.insert(0, str(Path(script).resolve().parent))
    return compile(Path(script).read_bytes(), script, "exec"), module.__dict__


def end(status: object) -> None:
    """End as an interpreter does after sys.exit(status), without taking all packages apart, for half a second."""
    if not isinstance(status, (int, type(None))):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(status)
    os._exit((status or 0) & 0xFF)


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file: a script has its own
    request = serve()
    if request is not None:
        code, variables = main_module(request["argv"])  # type: ignore[arg-type]
        try:
            exec(code, variables)  # at the top: what the script raises ends the interpreter
            status: object = None
        except SystemExit as ended:
            status = ended.code
        end(status)
