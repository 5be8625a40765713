"""What is searched: distributions by Hydra key, and those that only an option of a config group adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from cifar.errors import UserError
from cifar.sweep.optuna_private import distribution_of


class SpaceError(UserError):
    """A space that cannot be searched; raised before any worker starts."""


@dataclass
class Space:
    """Distributions and fixed overrides by key; `options[group][option]` is what drawing that option adds.

    A group is in `options` only where drawing it decides what else is searched.
    """

    distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)
    options: dict[str, dict[str, Space]] = field(default_factory=dict)


LoadEntries = Callable[[str], Mapping[str, Any]]
"""Returns the entries of conf/search/<option>.yaml, none where there is no such file."""
GroupOptions = Callable[[str], list[str]]
"""Returns the options of a config group, none where the key is not a group."""


def parse(overrides: list[str]) -> Space:
    """The space of Hydra overrides: sweeps (choice, range, interval, tag) are searched, the others fixed."""
    space = Space()
    for override in OverridesParser.create().parse_overrides(overrides):
        assert override.input_line is not None
        if override.is_delete():
            space.fixed[override.input_line] = override.input_line
            continue
        key = override.get_key_element()
        try:
            value = distribution_of(override)
        except (ValueError, AssertionError, NotImplementedError) as error:
            raise SpaceError(f"{override.input_line}: cannot be searched ({error})") from error
        if isinstance(value, BaseDistribution):
            space.fixed.pop(key, None)
            space.distributions[key] = value
        else:
            space.distributions.pop(key, None)
            space.fixed[key] = override.input_line
    return space


def build(
    explicit: Space,
    choices: Mapping[str, str],
    group_options: GroupOptions,
    load: LoadEntries,
    taken: frozenset[str] = frozenset(),
) -> Space:
    """The whole space: `explicit` wins over the files of the options in `choices` and of those that may be drawn.

    Keys in `taken` are already decided. Raises SpaceError for a sweep that is not allowed.
    """
    space = Space(dict(explicit.distributions), dict(explicit.fixed))
    taken |= {key.lstrip("+~") for key in (*explicit.distributions, *explicit.fixed)}
    for group, option in choices.items():
        if group not in space.distributions:
            added = _from_file(option, load)
            space.distributions |= {key: d for key, d in added.distributions.items() if key not in taken}
            space.fixed |= {key: line for key, line in added.fixed.items() if key not in taken}
            taken |= {*added.distributions, *added.fixed}
    for key in filter(group_options, space.distributions):
        drawn = _options(key, space.distributions[key], group_options(key))
        below = {option: build(Space(), {"": option}, group_options, load, taken) for option in drawn}
        if any(option.distributions or option.fixed for option in below.values()):
            space.options[key] = below
    return space


def _from_file(option: str, load: LoadEntries) -> Space:
    try:
        return parse([f"{key}={value}" for key, value in load(option).items()])
    except SpaceError as error:
        raise SpaceError(f"conf/search/{option}.yaml: {error}") from error


def _options(group: str, distribution: BaseDistribution, allowed: list[str]) -> list[str]:
    """The options that may be drawn. Raises SpaceError where the group has no such option."""
    if not isinstance(distribution, CategoricalDistribution):
        raise SpaceError(f"{group}: a config group; allowed: choice(...) of {', '.join(allowed)}")
    drawn = [str(choice) for choice in distribution.choices]
    unknown = [option for option in drawn if option not in allowed]
    if unknown:
        raise SpaceError(f"{group}={unknown[0]}: no such option; allowed: {', '.join(allowed)}")
    return drawn


def active(space: Space, draw: Callable[[str, BaseDistribution], Any]) -> Space:
    """The space that is left once `draw` has chosen the options, and in turn those of the options that it chose."""
    distributions = {key: d for key, d in space.distributions.items() if key not in space.options}
    fixed = dict(space.fixed)
    for group, options in space.options.items():
        option = str(draw(group, space.distributions[group]))
        below = active(options[option], draw)
        fixed = {**below.fixed, **fixed}
        distributions = {**below.distributions, **distributions}
    return Space(distributions, fixed)


def branches(space: Space, drawn: dict[str, str] | None = None) -> Iterator[tuple[dict[str, str], Space]]:
    """Every option that can be drawn: the options that lead to it, and the space that it adds."""
    drawn = drawn or {}
    yield drawn, space
    for group, options in space.options.items():
        for option, below in options.items():
            yield from branches(below, {**drawn, group: option})


def drawn_options(space: Space, group_options: GroupOptions) -> Iterator[tuple[dict[str, str], Space]]:
    """Every option that can be drawn, as `branches` gives them, and those that add nothing to the space."""
    for options, branch in branches(space):
        if options:
            yield options, branch
        for key, distribution in branch.distributions.items():
            if key not in branch.options and isinstance(distribution, CategoricalDistribution) and group_options(key):
                for option in distribution.choices:
                    yield {**options, key: str(option)}, Space()


def ends(space: Space) -> list[str]:
    """The overrides to check a space by: both ends of each range, each choice; the options of a group are branches."""
    overrides = []
    for key, distribution in space.distributions.items():
        if key not in space.options:
            overrides += [f"{key}={value}" for value in _end_values(distribution)]
    return overrides


def _end_values(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    return distribution.low, distribution.high


def overrides_of(space: Space, params: Mapping[str, Any]) -> list[str]:
    """The command line of a trial that drew these parameters."""
    fixed = active(space, lambda key, distribution: params[key]).fixed
    return [*fixed.values(), *(f"{key}={value}" for key, value in params.items())]


def to_json(space: Space) -> dict[str, Any]:
    """The space in plain types, equal for equal spaces."""
    options = {group: _options_to_json(branches) for group, branches in sorted(space.options.items())}
    return {
        "distributions": {key: distribution_to_json(d) for key, d in sorted(space.distributions.items())},
        "fixed": dict(sorted(space.fixed.items())),
        "options": options,
    }


def _options_to_json(branches: Mapping[str, Space]) -> dict[str, Any]:
    return {option: to_json(below) for option, below in sorted(branches.items())}


def from_json(plain: Mapping[str, Any]) -> Space:
    """The space that to_json turned into `plain`."""
    distributions = {key: json_to_distribution(text) for key, text in plain["distributions"].items()}
    options = {group: _options_from_json(branches) for group, branches in plain["options"].items()}
    return Space(distributions, dict(plain["fixed"]), options)


def _options_from_json(branches: Mapping[str, Any]) -> dict[str, Space]:
    return {option: from_json(below) for option, below in branches.items()}
