"""How commands end: Ctrl-C at any moment, closed pipes, refused starts."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar import endings
from cifar.endings import NewFolders
from cifar.errors import UserError

RunPy = Callable[..., subprocess.CompletedProcess[str]]


def piped(command: list[str], cwd: Path, lines: int = 1) -> tuple[str, str]:
    """What a command writes to a pipe whose reader leaves after some lines, and to standard error."""
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    text = "".join(process.stdout.readline() for _ in range(lines))
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=300) == 0
    return text, errors


@pytest.mark.parametrize("option", ["--help", "--hydra-help", "--info"])
def test_help_may_be_cut_off_by_head(option: str, command: Callable[..., list[str]], tmp_path: Path) -> None:
    text, errors = piped(command(option), tmp_path)
    assert text.strip() and errors == ""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["benchmarks", "cifar.cache", "analysis.report"])
@pytest.mark.parametrize("lines", [0, 1])
def test_what_prints_may_be_cut_off(module: str, lines: int, root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", module, *(["--help"] if module == "analysis.report" else [])]
    assert piped(command, root, lines)[1] == ""


def test_a_run_whose_reader_has_left_trains_to_its_end(
    command: Callable[..., list[str]], tiny: list[str], tmp_path: Path
) -> None:
    assert piped(command(*tiny, f"hydra.run.dir={tmp_path}"), tmp_path, 0)[1] == ""
    assert '"finished"' in (tmp_path / "result.json").read_text()


def test_a_search_whose_reader_has_left_runs_to_its_end_and_is_summed_up(
    command: Callable[..., list[str]], tiny: list[str], tmp_path: Path, root: Path
) -> None:
    search = ["-m", "hydra/sweeper=optuna", *tiny, "epochs=1", "hydra.sweeper.n_trials=5", "hydra.sweep.dir=s"]
    assert piped(command(*search), tmp_path, 0)[1] == ""
    assert (tmp_path / "s" / "best.yaml").exists()
    for program in ("summary", "report"):
        assert piped([sys.executable, "-m", f"analysis.{program}", str(tmp_path / "s")], root, 0)[1] == ""


POLL_INTERVAL = 0.02
"""Seconds; two presses that follow at once are so far apart."""
Moment = Callable[[str], bool]
"""Whether it is time to press Ctrl-C, from the output so far."""


def stopped(command: list[str], cwd: Path, *presses: Moment, **environment: str) -> tuple[int, str]:
    """Exit code and output of a command after Ctrl-C, which the whole process group gets, as from a terminal.

    It is pressed as soon as each of `presses` in turn is true.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for is_time in presses:
            time.sleep(POLL_INTERVAL)
            while process.poll() is None and not is_time(written(output.fileno())):
                time.sleep(POLL_INTERVAL)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
        return process.wait(timeout=120), written(output.fileno())


def written(file: int) -> str:
    """What a file holds, without moving the position at which another process writes."""
    return os.pread(file, os.fstat(file).st_size, 0).decode()


@pytest.mark.parametrize("moment", ["first output", "first result", "twice"])
def test_ctrl_c_at_any_moment_is_no_traceback(
    moment: str, command: Callable[..., list[str]], tiny: list[str], tmp_path: Path
) -> None:
    def has_result(text: str) -> bool:
        return any(tmp_path.rglob("result.json"))

    presses: dict[str, tuple[Moment, ...]] = {
        "first output": (bool,),
        "first result": (has_result,),
        "twice": (has_result, lambda text: True),
    }
    code, text = stopped(command(*tiny, "epochs=20000"), tmp_path, *presses[moment])
    assert code in (130, -signal.SIGINT), text
    assert "Traceback" not in text and "Exception ignored" not in text and "interrupted" in text
    runs = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not runs or any(path.name == "result.json" for path in runs), (
        "a run that has recorded nothing is left behind"
    )


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_while_workers_start_is_no_traceback(
    presses: int, command: Callable[..., list[str]], tiny: list[str], tmp_path: Path
) -> None:
    def worker_starts(text: str) -> bool:
        return any(tmp_path.rglob(".workers/0"))

    def is_stopping(text: str) -> bool:
        return "Ctrl-C again" in text

    search = ["-m", "hydra/sweeper=optuna", *tiny, "epochs=20000", "hydra.sweeper.n_jobs=2"]
    code, text = stopped(command(*search), tmp_path, *(worker_starts, is_stopping)[:presses])
    assert code in (130, -signal.SIGINT), text
    assert "Traceback" not in text and "Exception ignored" not in text


PRESS_DURING_IMPORT = """
import os, signal, sys

def press(event, arguments):
    if event == "import" and arguments[0] == os.environ["PRESS_AT"]:
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.addaudithook(press)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "program, imported, signum",
    [
        (["run.py"], "hydra", signal.SIGINT),
        (["run.py"], "hydra", signal.SIGTERM),
        (["-m", "analysis.summary", "nowhere"], "numpy", signal.SIGINT),
        (["-m", "analysis.report", "nowhere"], "pandas", signal.SIGTERM),
        (["-m", "cifar.cache", "nowhere"], "filelock", signal.SIGINT),
        (["-m", "benchmarks", "frames"], "analysis.frames", signal.SIGINT),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_signal_during_the_imports_is_one_line(
    program: list[str], imported: str, signum: int, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(PRESS_DURING_IMPORT)
    path = str(tmp_path)
    code, text = stopped([sys.executable, *program], root, PYTHONPATH=path, PRESS_AT=imported, SIGNAL=str(int(signum)))
    assert code in (128 + signum, -signum) and text == "interrupted\n", text


GRID = ("-m", "seed=0,1")
SEARCH = ("-m", "hydra/sweeper=optuna")


@pytest.mark.parametrize(
    "arguments, phrase",
    [
        (["optimizer.lr=-1"], "optimizer.lr"),
        (["optimizer=nothere"], "nothere"),
        (["data=image_folder", "data.root=nowhere"], "nowhere"),
        (["data=image_folder", "data.root=nowhere", "hydra.run.dir=a/b/c"], "nowhere"),
        ([*GRID, "optimizer.lr=-1"], "optimizer.lr"),
        ([*GRID, "data=image_folder", "data.root=nowhere"], "nowhere"),
        ([*GRID, "optimizer.lr=-1", "hydra/launcher=joblib"], "optimizer.lr"),
        ([*SEARCH, "epochs=0"], "epochs"),
        ([*SEARCH, "hydra.sweeper.storage=sqlite:////nowhere/x.db"], "/nowhere/x.db"),
        ([*SEARCH, "+hydra.sweeper.sampler.bogus=1"], "hydra.sweeper.sampler"),
        ([*SEARCH, "hydra.sweeper.pruner.n_startup_trials=-1"], "hydra.sweeper.pruner"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_refused_start_is_one_line_and_leaves_no_folder(
    arguments: list[str], phrase: str, run_py: RunPy, tiny: list[str], tmp_path: Path
) -> None:
    answer = run_py(*tiny, "epochs=1", *arguments, cwd=tmp_path)
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: ") and phrase in line
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_before_a_refused_start_is_kept(run_py: RunPy, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "outputs" / "mine").mkdir(parents=True)
    assert run_py(*tiny, "optimizer.lr=-1", cwd=tmp_path).returncode == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "outputs"]


def test_a_grid_of_which_one_run_has_trained_is_kept_with_all_its_logs(
    run_py: RunPy, tiny: list[str], tmp_path: Path
) -> None:
    answer = run_py("-m", *tiny, "epochs=1", "optimizer.lr=0.1,-1", "hydra.sweep.dir=grid", cwd=tmp_path)
    assert [re.sub(":.*", "", line) for line in answer.stderr.splitlines()] == ["error"]
    assert (tmp_path / "grid" / "0" / "result.json").exists() and (tmp_path / "grid" / "1" / "run.log").exists()


def test_the_traceback_of_a_defect_is_shown(run_py: RunPy, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import cifar.options.config as config\n"
        "def broken(*_): raise ZeroDivisionError('a defect')\n"
        "import cifar.options.check as module; module.groups = broken\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    answer = run_py(*tiny, cwd=tmp_path, PYTHONPATH=path)
    assert answer.returncode == 1 and "Traceback" in answer.stderr and "a defect" in answer.stderr


def test_folders_are_removed_only_where_they_are_new_and_hold_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    folders = NewFolders()
    for name in ("new/deep/.hydra", "old/run", "study/.workers/0", "cache"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("new/deep/.hydra/config.yaml", "new/deep/run.log", "old/run/run.log", "study/study.db"):
        (tmp_path / name).write_text("x")
    (tmp_path / "study" / ".workers" / "0" / "run.log").touch()
    folders.remove_unused()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"old", "cache", "study", "study/study.db", "study/.workers", "study/.workers/0"} | {
        "study/.workers/0/run.log"
    }


@pytest.fixture
def pressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C was pressed; the handler of SIGINT and the streams of this process stay as they are."""
    monkeypatch.setattr(endings.CTRL_C, "pressed", True)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)


def test_a_console_whose_reader_has_left_discards_what_follows() -> None:
    reader, writer = os.pipe()
    with endings.Console(os.fdopen(writer, "wb"), encoding="utf-8") as console:
        text = f"{endings.HYDRA_PREFIX}[]\n"
        assert console.write("one\n") == 4 and console.write(text) == len(text)
        console.flush()
        assert os.read(reader, 100) == b"one\n"
        os.close(reader)
        for _ in range(2):
            console.write_bytes(b"two")
            assert console.write("two\n") == 4
            console.flush()


def test_a_command_is_prepared_before_its_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    handlers: list[object] = []
    monkeypatch.setattr(signal, "signal", lambda signum, handler: handlers.append(handler))
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, None)
    with (tmp_path / "out").open("w", encoding="ascii") as file:
        monkeypatch.setattr(sys, "stdout", file)
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        endings.prepare()
        assert handlers == [endings.CTRL_C] * 2 and callable(sys.excepthook) and callable(sys.unraisablehook)
        assert isinstance(sys.stderr, io.StringIO) and isinstance(sys.stdout, endings.Console)
        sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert sys.stderr.getvalue() == "interrupted\n"
        print("ü", file=sys.stdout, flush=True)
    assert (tmp_path / "out").read_text() == "\\xfc\n"


@pytest.mark.usefixtures("pressed")
def test_what_an_interrupt_became_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def turned_into_another_error(arguments: list[str]) -> None:
        raise AttributeError

    with pytest.raises(SystemExit) as ended:
        endings.run(turned_into_another_error)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_defect_keeps_its_traceback_and_an_input_error_is_one_line() -> None:
    def fail(error: Exception) -> Callable[[list[str]], None]:
        def main(arguments: list[str]) -> None:
            raise error

        return main

    with pytest.raises(ZeroDivisionError):
        endings.run(fail(ZeroDivisionError()))
    with pytest.raises(SystemExit, match=r"^error: allowed: another$"):
        endings.run(fail(UserError("allowed: another")))


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_refusal_takes_back_what_it_logged_unless_the_run_has_begun(is_begun: bool, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("of the run\n")
    handler = logging.FileHandler(log)
    logging.getLogger().addHandler(handler)
    try:
        with pytest.raises(UserError), endings.unlogged_refusals(tmp_path):
            if is_begun:
                (tmp_path / "metrics.csv").touch()
            logging.getLogger().error("refused")
            raise UserError("refused")
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert log.read_text() == ("of the run\nrefused\n" if is_begun else "of the run\n")
