"""Every private name of Hydra that the command line needs, behind functions.

Its version is pinned: look here first when it is raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cifar.overrides import key_of, keys_of, parse


@dataclass(frozen=True)
class Composition:
    """A config that Hydra composed from `overrides`.

    `starts`: a run or a sweep begins with it; otherwise it is only shown (--cfg, --info).
    """

    config: DictConfig
    overrides: list[Override]
    mode: RunMode
    starts: bool
    loader: ConfigLoader


Step = Callable[[Composition], list[Override]]
"""Returns the overrides to compose with instead, or those of the Composition where it may stay as it is."""


NO_RECORD = "hydra.output_subdir=null"
"""Keeps Hydra from writing .hydra/, which it would do before the job can be refused."""


@contextmanager
def composing(strip: Callable[[list[Override]], list[Override]], steps: Sequence[Step]) -> Iterator[None]:
    """Within the block, Hydra composes the config of its command line in steps, before it makes any directory.

    `strip` takes out the overrides that are no settings. The first step may bring along options of groups. A config is
    composed again only where a step asks for it.
    A job that starts has no .hydra/: it writes record() there.
    """
    original = Hydra.compose_config

    def compose(
        hydra: Hydra,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        parsed_overrides: list[Override] | None = None,
        **options: Any,
    ) -> DictConfig:
        loader: Any = hydra.config_loader

        def composed(parsed: list[Override]) -> Composition:
            lines = [str(override.input_line) for override in parsed]
            config = original(hydra, config_name, lines, run_mode, parsed_overrides=parsed, **options)
            return Composition(config, parsed, run_mode, starts, loader)

        starts = options.get("activate_config_repository", False)
        no_record = parse([NO_RECORD] if starts else [])
        parsed = strip(parsed_overrides or loader.parse_overrides(config_name, overrides))
        is_help = config_name is None or options.get("skip_missing_defaults", False)
        try:
            composition = composed([*parsed, *no_record])
        except HydraException as error:
            if is_help:
                raise
            composition = composed(_extended_draft(composed, [*parsed, *no_record], steps[0], error))
        for step in () if is_help else steps:
            extended = step(composition)
            if extended is not composition.overrides:
                composition = composed(extended)
        return composition.config

    Hydra.compose_config = compose  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Hydra.compose_config = original  # type: ignore[method-assign]


def _extended_draft(
    composed: Callable[[list[Override]], Composition], overrides: list[Override], step: Step, error: HydraException
) -> list[Override]:
    """What a step makes of overrides that cannot be composed; `error` says why, and is raised where it adds nothing.

    A key of a group may be one of the option that the step brings along: the step sees the config without such keys.
    """
    choices = [line for line in overrides if key_of(line).startswith("hydra.") or not _is_below_group(line)]
    try:
        draft = replace(composed(choices), overrides=overrides)
    except HydraException:
        raise error from error.__cause__  # of which the message is made
    extended = step(draft)
    if extended is overrides:
        raise error
    return extended


def _is_below_group(override: Override) -> bool:
    return any("." in key for key in keys_of(override))


def add_config_dir(loader: ConfigLoader, provider: str, folder: Path) -> None:
    """Add a folder of config files, as --config-dir does."""
    search_path = loader.get_search_path()
    search_path.prepend(provider, f"file://{folder}", SearchPathQuery(provider="schema"))
    loader.repository.initialize_sources(search_path)  # type: ignore[attr-defined]


def file_content(
    loader: ConfigLoader, path: str, chosen: Mapping[str, Any]
) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """What a config file, such as experiment/NAME, sets in the whole config, and the options of groups that it chooses.

    `chosen`: the option of each group, for those that the file names by it (for_${transfer}).
    Both are empty where there is no such file, or where it sets only its group.
    """
    repository = getattr(loader, "_active_repository", None) or loader.repository  # type: ignore[attr-defined]
    loaded = repository.load_config(path)
    if loaded is None or loaded.header.get("package") != "_global_":
        return {}, []
    content = OmegaConf.to_container(loaded.config, resolve=False)
    assert isinstance(content, dict)
    choices = []
    for default in loaded.defaults_list or []:
        if isinstance(default, GroupDefault):
            group = str(default.group)
            below = "" if group.startswith("/") else f"{path.rpartition('/')[0]}/"
            choices.append((below + group.lstrip("/"), _resolved(default.value, chosen)))
        elif isinstance(default, ConfigDefault) and default.path != "_self_":
            choices.append((path.rpartition("/")[0], default.path))
    return {str(key): value for key, value in content.items()}, choices


def _resolved(option: Any, chosen: Mapping[str, Any]) -> Any:
    return re.sub(r"\$\{(.+?)}", lambda name: str(chosen.get(name[1])), option) if isinstance(option, str) else option


def record(cfg: DictConfig) -> dict[str, str]:
    """The files of .hydra/ of the job that runs, by name, as Hydra would write them; none where it has written them."""
    if HydraConfig.get().output_subdir is not None:
        return {}
    settings = OmegaConf.create({"hydra": OmegaConf.to_container(HydraConfig.get(), resolve=False)})
    settings.hydra.output_subdir = ".hydra"
    lines = OmegaConf.to_container(settings.hydra.overrides.hydra, resolve=False)
    assert isinstance(lines, list)
    settings.hydra.overrides.hydra = [line for line in lines if line != NO_RECORD]
    texts = {"config.yaml": cfg, "hydra.yaml": settings, "overrides.yaml": HydraConfig.get().overrides.task}
    return {name: OmegaConf.to_yaml(content) for name, content in texts.items()}
