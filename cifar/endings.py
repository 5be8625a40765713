"""How a command ends: in one line and without a traceback, where the user, the reader of a pipe or an input ends it.

A defect of the program keeps its traceback. Imports nothing that takes time, as Ctrl-C may come during the imports.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, TextIO

from cifar.errors import UserError

HYDRA_PREFIX = "Error executing job with overrides: "
"""What Hydra writes before the exception of a job is raised, in one piece."""


class Console(TextIOWrapper):
    """Standard output or error. A pipe whose reader has left (| head) is no error: what follows is discarded.

    The command finishes its work, so that nothing is half-done. Hydra's line before an exception is left out.
    """

    def write(self, text: str, /) -> int:
        if text.startswith(HYDRA_PREFIX):
            return len(text)
        try:
            return super().write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._discard()

    def write_bytes(self, content: bytes) -> None:
        """Write bytes as they are, as of a CSV file whose names of files are not UTF-8."""
        self.flush()
        try:
            self.buffer.write(content)
            self.buffer.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


class CtrlC:
    """The handler of SIGINT and SIGTERM. It remembers the call, as libraries turn KeyboardInterrupt into other errors.

    (OmegaConf does: an AttributeError, where it was interrupted while it copied a config.)
    """

    pressed = False
    signum: int = signal.SIGINT

    def __call__(self, signum: int, frame: FrameType | None) -> NoReturn:
        self.pressed, self.signum = True, signum
        raise KeyboardInterrupt


CTRL_C = CtrlC()


def prepare() -> None:
    """Call it before the imports that take time: from then on Ctrl-C and closed pipes end without a traceback."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, CTRL_C)
    sys.excepthook = _show
    sys.unraisablehook = _show_unraisable
    sys.stdout = _console(sys.stdout)
    sys.stderr = _console(sys.stderr)


def write_to_stdout(content: bytes) -> None:
    """Write bytes to standard output, and discard them where its reader has left."""
    if isinstance(sys.stdout, Console):
        sys.stdout.write_bytes(content)
    else:
        sys.stdout.buffer.write(content)


def _console(stream: TextIO) -> TextIO:
    """The stream as a Console; what cannot be encoded is escaped. Unchanged where it is closed or no file."""
    if not isinstance(stream, TextIOWrapper):
        return stream
    return Console(
        stream.buffer,
        encoding=stream.encoding,
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if CTRL_C.pressed or issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr, flush=True)
        if CTRL_C.signum == signal.SIGTERM:  # Python itself would end as after SIGINT
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
    else:
        sys.__excepthook__(kind, error, traceback)


def _show_unraisable(problem: Any) -> None:
    """Ctrl-C while Python tidies up, in a destructor or at the exit, is not worth a traceback either."""
    if not CTRL_C.pressed:
        sys.__unraisablehook__(problem)


def run(main: Callable[[list[str]], None]) -> None:
    """Call the main function of a command with its arguments; a UserError is one line and exit code 1."""
    try:
        main(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EBADF):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes again at the exit
        sys.exit(f"error: standard output: {error.strerror}")
    except (Exception, KeyboardInterrupt):
        if CTRL_C.pressed:
            exit_interrupted()
        raise


def exit_interrupted(message: object = "interrupted", signum: int | None = None) -> NoReturn:
    """Exit as a shell expects it after `signum`, by default the one that came last; another Ctrl-C changes nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(message, file=sys.stderr)
    sys.exit(128 + (CTRL_C.signum if signum is None else signum))


@contextmanager
def unlogged_refusals(directory: Path) -> Iterator[None]:
    """Within the block, a UserError before a run is begun in `directory` leaves the log of the run there as it was.

    Hydra appends the traceback of every job that fails. A new log is removed with its folder instead.
    """
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)]
    sizes = {handler: Path(handler.baseFilename).stat().st_size for handler in handlers}
    before = _begun(directory)
    try:
        yield
    except UserError:
        for handler, size in sizes.items():
            if size and _begun(directory) == before:
                logging.getLogger().removeHandler(handler)
                handler.close()
                os.truncate(handler.baseFilename, size)
        raise


def _begun(directory: Path) -> int | None:
    """A number that changes when a run is begun or resumed, as metrics.csv is replaced then."""
    try:
        return (directory / "metrics.csv").stat().st_mtime_ns
    except OSError:
        return None


class NewFolders:
    """The folders that this process makes: a start that fails removes those in which nothing was recorded."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        sys.addaudithook(self._record)

    def _record(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.mkdir":
            with suppress(OSError, TypeError, ValueError):
                path = Path(os.fsdecode(arguments[0])).resolve()
                if not path.exists():
                    self.paths.append(path)

    def remove_unused(self) -> None:
        """Remove what holds nothing but settings and logs, and the new folders that only led there.

        A study or a grid is kept as a whole: where one of its runs has recorded something, the logs of all are kept.
        """
        kept: set[Path] = set()
        for path in sorted(set(self.paths), key=lambda path: len(path.parts)):
            if not path.is_dir() or not kept.isdisjoint(path.parents):
                continue
            with suppress(OSError):
                if self._is_unused(path):
                    self._remove(path)
                elif any(entry.is_file() for entry in path.iterdir()):
                    kept.add(path)

    def _is_unused(self, path: Path) -> bool:
        """Whether a folder holds only what every start writes.

        That of a run or a grid has files, and all below is its own. In one above, as outputs/DATE, other processes may
        have begun runs: what is below has to be new.
        """
        below = list(path.rglob("*"))
        files = [entry for entry in below if not entry.is_dir()]
        if not files or not all(map(_is_of_start, files)):
            return False
        is_of_one_start = any(entry.parent == path for entry in files)
        return is_of_one_start or set(below) - set(files) <= set(self.paths)

    def _remove(self, path: Path) -> None:
        """Remove a folder, and the new ones above it that are empty then."""
        shutil.rmtree(path)
        for parent in path.parents:
            if parent not in self.paths:
                return
            parent.rmdir()  # raises OSError where it is not empty


def _is_of_start(file: Path) -> bool:
    return file.parent.name == ".hydra" or file.name in (".lock", "multirun.yaml") or file.suffix == ".log"
