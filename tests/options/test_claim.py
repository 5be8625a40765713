"""The last step before a start: a directory that no other has, and settings that are checked before it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from cifar.errors import UserError
from cifar.layout import CONF
from cifar.options.hydra_private import NO_RECORD, Composition
from cifar.options.start import claim
from cifar.overrides import parse

Start = Callable[..., Composition]
GRID = "seed=1,2"


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """start(*overrides, grid=False): a start as Hydra composes it, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def started(*overrides: str, grid: bool = False, starts: bool = True, data: str = "data=digits") -> Composition:
        lines = [data, *overrides]
        mode = RunMode.MULTIRUN if grid else RunMode.RUN
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        fixed = [line for line in lines if line != GRID]
        config = hydra.config_loader.load_configuration("config", [*fixed, NO_RECORD], mode)
        return Composition(config, parse([*lines, NO_RECORD]), mode, starts, hydra.config_loader)

    with initialize_config_dir(str(CONF)):
        yield started


def contents_of(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


def hold_run(directory: Path) -> None:
    """Make it look like the directory of a run."""
    directory.mkdir(parents=True)
    for name in ("result.json", "metrics.csv"):
        (directory / name).write_text("{}")


def test_runs_of_the_same_moment_have_separate_directories(start: Start, tmp_path: Path) -> None:
    composed = [start("hydra.run.dir=r/${now:%Y}-run") for _ in range(3)]
    for each in composed:
        assert claim(each) is each.overrides
    directories = [str(each.config.hydra.run.dir) for each in composed]
    assert directories == [directories[0], f"{directories[0]}-1", f"{directories[0]}-2"]
    assert contents_of(tmp_path) == {"r", *directories}


def test_grids_of_the_same_moment_have_separate_directories(start: Start, tmp_path: Path) -> None:
    first, second = (start(GRID, "hydra.sweep.dir=g/${now:%Y}-grid", grid=True) for _ in range(2))
    directory = str(first.config.hydra.sweep.dir)
    assert claim(first) is first.overrides
    assert claim(second)[-1].input_line == f"hydra.sweep.dir={directory}-1"
    assert contents_of(tmp_path) == {"g", directory, f"{directory}-1"}


def test_what_is_only_shown_claims_nothing(start: Start, tmp_path: Path) -> None:
    shown = start("epochs=0", "hydra.run.dir=r/${now:%Y}", starts=False)
    assert claim(shown) is shown.overrides and not contents_of(tmp_path)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["epochs=0"], "epochs=0: not allowed"),
        (["hydra.output_subdir=conf"], r"hydra\.output_subdir=conf: not allowed"),
        (["+hydra.run.foo=1"], r"hydra\.run\.foo: no such setting; allowed: dir"),
        (["hydra.run.dir=held"], "held already holds a run"),
    ],
)
def test_a_run_that_is_refused_makes_nothing(start: Start, tmp_path: Path, overrides: list[str], message: str) -> None:
    hold_run(tmp_path / "held")
    before = contents_of(tmp_path)
    with pytest.raises(UserError, match=message):
        claim(start("hydra.run.dir=r/${now:%Y}", *overrides))
    assert contents_of(tmp_path) == before


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["epochs=0"], "epochs=0: not allowed"),
        (["+hydra.sweep.foo=1"], r"hydra\.sweep\.foo: no such setting; allowed: "),
        (["hydra.sweep.dir=grid"], "grid already holds a grid of runs"),
        (["hydra.sweep.dir=held"], "held already holds a run"),
        (["hydra.sweep.dir=grid", "hydra.sweep.subdir=s${seed}"], "s1 already holds a run"),
        (["+hydra.sweeper.params={epochs: '0,1'}"], "epochs=0: not allowed"),
    ],
)
def test_a_grid_that_is_refused_makes_nothing(start: Start, tmp_path: Path, overrides: list[str], message: str) -> None:
    for place in ("held", "grid/0", "grid/s1"):
        hold_run(tmp_path / place)
    before = contents_of(tmp_path)
    with pytest.raises(UserError, match=message):
        claim(start(GRID, "hydra.sweep.dir=g/${now:%Y}", *overrides, grid=True))
    assert contents_of(tmp_path) == before


def test_a_grid_with_other_folders_can_be_extended(start: Start, tmp_path: Path) -> None:
    hold_run(tmp_path / "grid" / "s5")
    extended = start(GRID, "hydra.sweep.dir=grid", "hydra.sweep.subdir=s${seed}", grid=True)
    assert claim(extended) is extended.overrides


def test_a_search_goes_into_its_folder_again(start: Start, tmp_path: Path) -> None:
    hold_run(tmp_path / "study" / "0")
    search = start("hydra/sweeper=optuna", "hydra.sweep.dir=study", grid=True)
    assert claim(search) is search.overrides


def test_a_directory_that_only_the_job_knows_is_left_to_it(start: Start, tmp_path: Path) -> None:
    run = start("hydra.run.dir=r/${hydra.job.num}")
    assert claim(run) is run.overrides and not contents_of(tmp_path)


@pytest.mark.parametrize(
    "place, overrides",
    [
        ("hydra.run.dir=photos/out", ()),
        ("hydra.run.dir=photos/${now:%Y}", ()),
        ("hydra.run.dir=link/out", ()),
        ("hydra.sweep.dir=photos/grid", (GRID,)),
        ("hydra.sweep.dir=photos/study", ("hydra/sweeper=optuna",)),
        ("cache.dir=photos/cache", ()),
        ("tracker.uri=sqlite:///photos/mlflow.db", ("tracker=mlflow",)),
    ],
)
def test_a_folder_of_images_is_never_written_to(
    place: str, overrides: tuple[str, ...], start: Start, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    before = contents_of(tmp_path)
    composed = start(*overrides, place, "data.root=photos", grid="sweep" in place, data="data=image_folder")
    key = place.partition("=")[0]
    with pytest.raises(UserError, match=rf"^{key}=\S*(photos|link)/.*: inside of data\.root=photos.*as {key}=DIR"):
        claim(composed)
    assert contents_of(tmp_path) == before


def test_a_folder_of_images_that_holds_the_working_directory_needs_another_place(start: Start, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root=\. \(it holds this whole directory\).*hydra\.run\.dir=DIR"):
        claim(start("data.root=.", data="data=image_folder"))
    assert not contents_of(tmp_path)


def test_each_folder_of_a_grid_is_never_written_to(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.setitem(globals(), "GRID", "data.root=other,photos")
    composed = start(GRID, "hydra.sweep.dir=photos/grid", grid=True, data="data=image_folder")
    with pytest.raises(UserError, match=r"^hydra\.sweep\.dir=photos/grid: inside of data\.root=photos, "):
        claim(composed)
