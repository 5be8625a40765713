"""What a run says at its end, and where its time went."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from timing import Clock

from cifar import conclusion
from cifar.durations import Durations
from cifar.experiment import run
from cifar.formatting import format_time
from cifar.options.config import Config
from cifar.overrides import parse
from cifar.reporting import NO_REPORTER

if TYPE_CHECKING:
    from cifar.data.images import Images

Settings = Callable[..., Config]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (594, "9 min 54 s"),
        (3900, "1 h 5 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_a_time_is_read_at_a_glance(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


def test_durations_add_up_over_blocks_and_resumptions() -> None:
    clock = Clock()
    durations = Durations(clock)
    for _ in range(2):
        with durations.measuring("saving"):
            clock.now += 3
    with pytest.raises(OSError), durations.measuring("reading"):
        clock.now += 5
        raise OSError
    durations.resume({"training": 10, "saving": 1})
    assert durations.seconds == {"saving": 7, "reading": 5, "training": 10}


LinesOf = Callable[..., list[str]]
CHOICES = "hydra: {runtime: {choices: {optimizer: sgd, transfer: none}}}"


@pytest.fixture
def lines_of(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> LinesOf:
    """Runs, and returns what is said after the line of the best epoch: what is recorded, then what is shown alone."""

    def last_lines(config: Config, place: Path, typed: str, study: str | None = None) -> list[str]:
        place.mkdir(exist_ok=True)
        with caplog.at_level(logging.INFO):
            run(config, str(place), NO_REPORTER, study, settings={"overrides.yaml": typed, "hydra.yaml": CHOICES})
        messages = [record.getMessage() for record in caplog.records]
        best = next(index for index, text in enumerate(messages) if text.startswith("best "))
        shown = capsys.readouterr().out.splitlines()
        assert not [text for text in messages if text.startswith("to ")], "shown, and not recorded"
        return [*messages[best + 1 :], *shown]

    return last_lines


def test_a_run_ends_with_its_accuracy_its_time_and_what_to_do_next(
    settings: Settings, make_folder: Callable[..., Path], tmp_path: Path, lines_of: LinesOf
) -> None:
    root = make_folder(each=10)
    options = ("data=image_folder", f"data.root={root}", "data.limit=null", "epochs=1", "data.test_size=0.2")
    typed = (
        f"- data=image_folder\n- data.root={root}\n- test=true\n- resume=null\n- optimizer.lr=0.2\n- batch_size=16\n"
    )
    accuracy, time, predict, search = lines_of(settings(*options), tmp_path / "run", typed)
    assert accuracy.startswith("accuracy 0.") or accuracy.startswith("accuracy 1.")
    assert "(95% interval 0." in accuracy and accuracy.endswith("validation images, which chose the epoch")
    assert time.startswith("time: ") and "training" in time
    *_, directory, image = shlex.split(predict)
    assert directory == str(tmp_path / "run") and Path(image).is_file()
    words = shlex.split(search.removeprefix("to search for better settings: "))
    assert words[-5:] == ["-m", "hydra/sweeper=optuna", "data=image_folder", f"data.root={root}", "batch_size=16"]
    parse(words[-4:])


def test_the_test_images_say_the_accuracy_where_they_were_evaluated(
    settings: Settings, tmp_path: Path, lines_of: LinesOf
) -> None:
    config = settings("epochs=1", "test=true")
    accuracy, _, predict, _ = lines_of(config, tmp_path, "- data=digits\n")
    assert accuracy.endswith("of the 180 test images")
    assert predict.endswith(f"{tmp_path} IMAGES (IMAGES: files or folders)")


def test_an_image_of_a_table_is_named_from_the_folder_of_the_table(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    for name, expected in (("photos/a.png", str(tmp_path / "photos/a.png")), ("photos/b.png", conclusion.IMAGES)):
        val = cast("Images", SimpleNamespace(names=(name,)))
        config = settings("data=csv", f"data.root={tmp_path / 'table.csv'}", "data.limit=null")
        assert conclusion.example_of(config, val) == expected


def test_a_trial_and_a_run_of_a_grid_say_no_such_thing(settings: Settings, tmp_path: Path, lines_of: LinesOf) -> None:
    assert lines_of(settings("epochs=1"), tmp_path, "- data=digits\n", str(tmp_path)) == []


def test_settings_of_a_search_are_not_searched_again(settings: Settings, tmp_path: Path) -> None:
    config = settings("from_study=sweeps/NAME")
    typed = {"overrides.yaml": "- data=digits\n", "hydra.yaml": CHOICES}
    assert conclusion.search_command(config, tmp_path, typed) is None
    assert conclusion.search_command(settings(), tmp_path, {}) is None


@pytest.mark.parametrize(
    ("typed", "ending"),
    [
        ("- test=true\n- seed=3\n", "seed=3"),
        ("- seed=3\n", "test=false"),
        ("- from_run=r\n- test=true\n", "test=false"),
    ],
)
def test_a_search_does_not_have_the_test_of_a_file_or_of_another_run(
    settings: Settings, tmp_path: Path, typed: str, ending: str
) -> None:
    config = settings("test=true", *(["from_run=r"] if "from_run" in typed else []))
    command = conclusion.search_command(config, tmp_path, {"overrides.yaml": typed, "hydra.yaml": CHOICES})
    assert command is not None and command.endswith(ending)


def test_where_nothing_would_be_searched_no_search_is_named(settings: Settings, tmp_path: Path) -> None:
    typed = {"overrides.yaml": "- optimizer=own\n", "hydra.yaml": CHOICES.replace("sgd", "own")}
    assert conclusion.search_command(settings(), tmp_path, typed) is None
    folder = tmp_path / "mine"
    (folder / "search").mkdir(parents=True)
    (folder / "search" / "own.yaml").write_text(
        "# @package hydra.sweeper.params\noptimizer.kwargs.lr: interval(0, 1)\n"
    )
    (tmp_path / ".hydra").mkdir()
    source = {"provider": "command-line", "path": str(folder)}
    (tmp_path / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"config_sources": [source]}}}))
    command = conclusion.search_command(settings(), tmp_path, typed)
    assert command is not None and command.endswith("optimizer=own")


@pytest.mark.usefixtures("trusted")
def test_a_model_of_a_trusted_module_is_used_with_it(settings: Settings, tmp_path: Path) -> None:
    val = cast("Images", SimpleNamespace(names=("0",)))
    (line,) = conclusion.next_steps(settings(), tmp_path, val, {})
    assert line.endswith("IMAGES --trust my_net (IMAGES: files or folders)")
