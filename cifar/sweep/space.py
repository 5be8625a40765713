"""What is searched: distributions by Hydra key, and those that only an option of a config group adds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import Override
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)

from cifar.errors import UserError
from cifar.overrides import canonical, from_text, keys_of, parse_line, to_text
from cifar.overrides import parse as parse_overrides
from cifar.sweep.values import GroupOptions, Literals, distribution_of


class SpaceError(UserError):
    """A space that cannot be searched; raised before any worker starts."""


@dataclass
class Space:
    """Distributions and fixed overrides by key; `options[group][option]` is what drawing that option adds.

    Keys are as they were written, with + or ++. A group is in `options` only where drawing it decides what else is
    searched. `literals` are, by key, the choices that the study holds as other texts than Hydra reads for them.
    """

    distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)
    options: dict[str, dict[str, Space]] = field(default_factory=dict)
    literals: dict[str, Literals] = field(default_factory=dict)

    @property
    def searched(self) -> set[str]:
        """The places in the config that are searched whatever is drawn."""
        return {canonical(key) for key in self.distributions}

    @property
    def decided(self) -> set[str]:
        """The places in the config that are searched or fixed."""
        return self.searched.union(*(keys_of(parse_line(line)) for line in self.fixed.values()))

    def override(self, key: str, value: Any) -> str:
        """The override that gives a trial the value that it drew."""
        literal = self.literals.get(key, {}).get(value) if isinstance(value, str) else None
        return f"{key}={to_text(value) if literal is None else literal}"

    def without(self, keys: Collection[str]) -> Space:
        """Without what would decide these places in the config again."""
        distributions = {key: d for key, d in self.distributions.items() if canonical(key) not in keys}
        fixed = {key: line for key, line in self.fixed.items() if canonical(key) not in keys}
        literals = {key: texts for key, texts in self.literals.items() if key in distributions}
        return Space(distributions, fixed, literals=literals)

    def joined(self, other: Space) -> Space:
        """Both, without options; the other decides where both do."""
        mine = self.without(other.decided)
        distributions = mine.distributions | other.distributions
        return Space(distributions, mine.fixed | other.fixed, literals=mine.literals | other.literals)


LoadEntries = Callable[[str], Mapping[str, Any]]
"""Returns the entries of conf/search/<option>.yaml as texts, none where there is no such file."""


def no_options(group: str) -> list[str]:
    """The group options of an app without config groups."""
    return []


def parse(overrides: list[str], group_options: GroupOptions = no_options) -> Space:
    """The space of Hydra overrides: sweeps (choice, range, interval, glob, tag) are searched, the others fixed.

    Of several overrides of one place in the config the last decides, as in Hydra.
    """
    space = Space()
    for override in parse_overrides(overrides):
        assert override.input_line is not None
        if override.is_sweep_override() and not override.is_delete():
            _search(space, override, group_options)
        else:
            _fix(space, override)
    return space


def _search(space: Space, override: Override, group_options: GroupOptions) -> None:
    key, place = override.get_key_element(), canonical(override.get_key_element())
    try:
        distribution, literals = distribution_of(override, group_options)
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise SpaceError(f"{override.input_line}: cannot be searched ({error})") from error
    _forget(space, {place})
    for fixed in [fixed for fixed in space.fixed if fixed[0] not in "+~" and canonical(fixed) == place]:
        del space.fixed[fixed]  # but not what adds or deletes the key: Hydra needs that before another override
    space.distributions[key] = distribution
    if literals:
        space.literals[key] = literals


def _forget(space: Space, places: Collection[str]) -> None:
    """Do not search these places in the config any more."""
    for key in [key for key in space.distributions if canonical(key) in places]:
        del space.distributions[key]
        space.literals.pop(key, None)


def _fix(space: Space, override: Override) -> None:
    key, places = override.get_key_element(), keys_of(override)
    assert override.input_line is not None
    if override.is_list_extend() and canonical(key) in map(canonical, space.fixed):
        raise SpaceError(f"{override.input_line}: {key} is given twice; give the whole list once, as {key}=[1,2]")
    _forget(space, places)
    if space.literals.get(key):  # a choice of dicts; an option of a config group stays when its keys are set
        _forget(space, {canonical(key)})
    space.fixed.pop(key, None)
    space.fixed[key] = override.input_line  # at the end: the last decides


def build(
    explicit: Space,
    choices: Mapping[str, str],
    group_options: GroupOptions,
    load: LoadEntries,
    taken: frozenset[str] = frozenset(),
) -> Space:
    """The whole space: `explicit` wins over the files of the options in `choices` and of those that may be drawn.

    Of two such files that decide a key, that of the later option wins, as in a defaults list. Keys in `taken` are
    already decided. Raises SpaceError for a sweep that is not allowed.
    """
    taken |= explicit.decided
    files = Space()
    for group, option in choices.items():
        if group not in explicit.searched:
            added = _from_file(option, load).without(taken)
            files = added.joined(files.without(added.decided))  # in front: the order is that of the sampler's draws
    space = files.joined(explicit)
    taken |= space.decided
    for key in filter(group_options, space.distributions):
        drawn = _options(key, space.distributions[key], group_options(key))
        below = {option: build(Space(), {"": option}, group_options, load, taken) for option in drawn}
        if any(option.distributions or option.fixed for option in below.values()):
            space.options[key] = below
    return space


def _from_file(option: str, load: LoadEntries) -> Space:
    try:
        return parse([f"{key}={text}" for key, text in load(option).items()])
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
    left = Space(distributions, dict(space.fixed), literals=dict(space.literals))
    for group, options in space.options.items():
        option = str(draw(group, space.distributions[group]))
        if option in options:  # else it is of a trial that another program made
            below = active(options[option], draw)
            left.fixed = {**below.fixed, **left.fixed}
            left.distributions = {**below.distributions, **left.distributions}
            left.literals = {**below.literals, **left.literals}
    return left


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


def everywhere(space: Space) -> set[str]:
    """The places in the config that are searched in any branch."""
    return set().union(*(branch.searched for _, branch in branches(space)))


def firsts(space: Space, chosen: Mapping[str, str]) -> tuple[Space, dict[str, Any]]:
    """What is left of a space once these options are chosen, and the first options of other groups.

    Also a value for every parameter: an option, an end of a range, or the first choice.
    """
    params: dict[str, Any] = {}

    def draw(group: str, distribution: BaseDistribution) -> str:
        params[group] = chosen.get(group, _end_values(distribution)[0])
        return str(params[group])

    left = active(space, draw)
    return left, params | {key: _end_values(d)[0] for key, d in left.distributions.items()}


def check_kinds(space: Space) -> None:
    """Raises SpaceError where branches search the same key in ways that one study cannot hold."""
    kinds: dict[str, BaseDistribution] = {}
    for _, branch in branches(space):
        for key, distribution in branch.distributions.items():
            try:
                check_distribution_compatibility(kinds.setdefault(key, distribution), distribution)
            except ValueError:
                raise SpaceError(
                    f"{key}: searched as {kinds[key]} with one option and as {distribution} with another; a study holds"
                    " a key as one kind (whole or not, linear or log) and with one list of choices; give it one of"
                    f" these for all, as {key}=choice(...)"
                ) from None


def ends(space: Space) -> list[tuple[str, Any]]:
    """The values to check a space by: both ends of each range, each choice; the options of a group are branches."""
    return [
        (key, value)
        for key, distribution in space.distributions.items()
        if key not in space.options
        for value in _end_values(distribution)
    ]


def _end_values(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    return distribution.low, distribution.high


def overrides_of(space: Space, params: Mapping[str, Any]) -> list[str]:
    """The command line of a trial that drew these parameters."""
    return drawn(active(space, lambda key, distribution: params.get(key)), params)


def drawn(left: Space, params: Mapping[str, Any]) -> list[str]:
    """The command line of a trial that drew these parameters, of which `left` is the space that was left.

    Raises SpaceError where a parameter decides what is fixed, or what another parameter decides.
    """
    extra = params.keys() - left.distributions.keys()
    fixed = Space(fixed=left.fixed).decided if extra else set()
    keys: dict[str, str] = {}
    for key in params:
        other = "a fixed setting" if key in extra and canonical(key) in fixed else keys.setdefault(canonical(key), key)
        if other != key:
            raise SpaceError(f"{key}: given twice, as a parameter of the search and as {other}; give it once")
    return [*left.fixed.values(), *(left.override(key, value) for key, value in params.items())]


def to_json(space: Space) -> dict[str, Any]:
    """The space in plain types, equal for equal spaces."""
    options = {group: _options_to_json(branches) for group, branches in sorted(space.options.items())}
    return {
        "distributions": {key: distribution_to_json(d) for key, d in sorted(space.distributions.items())},
        "fixed": dict(sorted(space.fixed.items())),
        "options": options,
        "literals": {key: dict(space.literals[key]) for key in sorted(space.literals) if space.literals[key]},
    }


def _options_to_json(branches: Mapping[str, Space]) -> dict[str, Any]:
    return {option: to_json(below) for option, below in sorted(branches.items())}


def from_json(plain: Mapping[str, Any]) -> Space:
    """The space that to_json turned into `plain`. Earlier versions had no literals: each choice was read by Hydra."""
    distributions = {key: json_to_distribution(text) for key, text in plain["distributions"].items()}
    options = {group: _options_from_json(branches) for group, branches in plain["options"].items()}
    literals = plain.get("literals")
    if literals is None:
        literals = {key: {text: text for text in _texts(d)} for key, d in distributions.items()}
    return Space(distributions, dict(plain["fixed"]), options, {key: d for key, d in literals.items() if d})


def _options_from_json(branches: Mapping[str, Any]) -> dict[str, Space]:
    return {option: from_json(below) for option, below in branches.items()}


def _texts(distribution: BaseDistribution) -> list[str]:
    choices = distribution.choices if isinstance(distribution, CategoricalDistribution) else ()
    return [choice for choice in choices if isinstance(choice, str)]


def same_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two spaces in plain types give trials the same values, however a study holds these."""
    return _values(from_json(one)) == _values(from_json(other))


def _values(space: Space) -> dict[str, Any]:
    values: dict[str, Any] = {"": dict(space.fixed)}
    for key, distribution in space.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            texts = [space.override(key, choice).removeprefix(f"{key}=") for choice in distribution.choices]
            values[key] = [repr(from_text(text)) for text in texts]
        else:
            values[key] = distribution_to_json(distribution)
    options = {group: {name: _values(below) for name, below in o.items()} for group, o in space.options.items()}
    return {"values": values, "options": options}
