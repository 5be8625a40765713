from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from cifar.sweep.plan import entry_text
from cifar.sweep.space import (
    Space,
    SpaceError,
    active,
    branches,
    build,
    check_kinds,
    ends,
    from_json,
    overrides_of,
    parse,
    to_json,
)

GROUPS = {"optimizer": ["sgd", "adam"], "scheduler": ["cosine", "plateau"], "model": ["small", "large"]}
FILES: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer.lr": "tag(log, interval(0.001, 0.1))", "scheduler": "choice(cosine, plateau)"},
    "adam": {"optimizer.lr": "tag(log, interval(0.0001, 0.01))", "optimizer.eps": 0.1},
    "plateau": {"scheduler.patience": "int(interval(1, 5))"},
}


def space_of(*overrides: str, **choices: str) -> Space:
    return build(parse(list(overrides)), choices, lambda key: GROUPS.get(key, []), lambda option: FILES.get(option, {}))


@pytest.mark.parametrize(
    "override, expected",
    [
        ("key=choice(1,2)", CategoricalDistribution([1, 2])),
        ("key=choice(true, false)", CategoricalDistribution([True, False])),
        ("key=choice(sgd, adam)", CategoricalDistribution(["sgd", "adam"])),
        ("key=1,2", CategoricalDistribution([1, 2])),
        ("key=interval(1, 5)", FloatDistribution(1, 5)),
        ("key=tag(log, interval(1, 5))", FloatDistribution(1, 5, log=True)),
        ("key=range(1,3)", IntDistribution(1, 2)),
        ("key=range(1,10,3)", IntDistribution(1, 7, step=3)),
        ("key=range(0.5, 5.5, step=1)", FloatDistribution(0.5, 4.5, step=1)),
        ("key=interval(1.0, 5.0)", FloatDistribution(1, 5)),
        ("key=int(interval(1, 5))", IntDistribution(1, 5)),
        ("key=tag(log, interval(1.0, 5.0))", FloatDistribution(1, 5, log=True)),
        ("key=tag(log, int(interval(1, 5)))", IntDistribution(1, 5, log=True)),
    ],
)
def test_an_override_becomes_the_distribution_of_the_stock_plugin(override: str, expected: BaseDistribution) -> None:
    space = parse([override])
    assert space.distributions == {"key": expected}
    assert space.fixed == {}


def test_a_shuffled_range_becomes_a_choice() -> None:
    distribution = parse(["key=shuffle(range(1,3))"]).distributions["key"]
    assert isinstance(distribution, CategoricalDistribution)
    assert sorted(distribution.choices) == [1, 2]


def test_fixed_overrides_and_deletions_are_kept_as_they_were_written() -> None:
    space = parse(["a=5", "+b='x y'", "~c", "d=range(1,3)"])
    assert space.fixed == {"a": "a=5", "+b": "+b='x y'", "~c": "~c"}
    assert list(space.distributions) == ["d"]


def test_a_later_override_of_a_key_replaces_the_earlier() -> None:
    assert parse(["a=choice(1,2)", "a=3"]).distributions == {}
    assert parse(["a=3", "a=choice(1,2)"]).fixed == {}


def test_a_range_without_values_is_refused_with_its_override() -> None:
    with pytest.raises(SpaceError, match=r"key=range\(3,1\)"):
        parse(["key=range(3,1)"])


def test_the_file_of_a_chosen_option_is_searched() -> None:
    space = space_of(optimizer="adam")
    assert space.distributions == {"optimizer.lr": FloatDistribution(0.0001, 0.01, log=True)}
    assert space.fixed == {"optimizer.eps": "optimizer.eps=0.1"}


def test_of_two_files_that_of_the_later_option_wins() -> None:
    """A key that only the earlier has stays, and one that is given is in neither."""
    space = space_of(optimizer="adam", recipe="sgd")
    assert space.distributions["optimizer.lr"] == FloatDistribution(0.001, 0.1, log=True)
    assert space.fixed == {"optimizer.eps": "optimizer.eps=0.1"}
    assert "optimizer.lr" not in space_of("optimizer.lr=0.5", optimizer="adam", recipe="sgd").distributions


@pytest.mark.parametrize("override", ["optimizer.lr=0.5", "+optimizer.lr=0.5"])
def test_a_fixed_override_wins_over_the_file(override: str) -> None:
    space = space_of(override, optimizer="adam")
    assert space.distributions == {}
    assert override in space.fixed.values()


def test_a_searched_override_wins_over_the_file_also_below_a_drawn_option() -> None:
    space = space_of("optimizer=choice(sgd,adam)", "optimizer.lr=interval(0.2,0.3)", optimizer="sgd")
    assert space.distributions["optimizer.lr"] == FloatDistribution(0.2, 0.3)
    assert all("optimizer.lr" not in below.distributions for below in space.options["optimizer"].values())


def test_the_default_option_of_a_searched_group_adds_nothing() -> None:
    assert list(space_of("optimizer=choice(sgd,adam)", optimizer="sgd").distributions) == ["optimizer"]


def test_a_draw_leads_to_the_space_of_the_drawn_option_as_deep_as_groups_go() -> None:
    space = space_of("optimizer=choice(sgd,adam)", optimizer="sgd")
    drawn = active(space, lambda key, distribution: {"optimizer": "sgd", "scheduler": "plateau"}[key])
    assert set(drawn.distributions) == {"optimizer.lr", "scheduler.patience"}
    drawn = active(space, lambda key, distribution: "adam")
    assert set(drawn.distributions) == {"optimizer.lr"}
    assert drawn.fixed == {"optimizer.eps": "optimizer.eps=0.1"}


def test_a_group_whose_options_bring_nothing_is_an_ordinary_choice() -> None:
    space = space_of("model=choice(small,large)")
    assert space.options == {}
    assert list(space.distributions) == ["model"]


def test_an_unknown_option_is_refused_with_those_allowed() -> None:
    with pytest.raises(SpaceError, match=r"optimizer=nope: .*allowed: sgd, adam"):
        space_of("optimizer=choice(sgd,nope)")


def test_a_group_cannot_be_an_interval() -> None:
    with pytest.raises(SpaceError, match="choice"):
        space_of("optimizer=interval(0,1)")


def test_every_branch_is_checked_at_its_ends() -> None:
    space = space_of("optimizer=choice(sgd,adam)", "k=choice(a,b)")
    checked = {tuple(drawn.items()): ends(branch) for drawn, branch in branches(space)}
    assert checked[()] == [("k", "a"), ("k", "b")]
    assert checked[(("optimizer", "adam"),)] == [("optimizer.lr", 0.0001), ("optimizer.lr", 0.01)]
    patience = [("scheduler.patience", 1), ("scheduler.patience", 5)]
    assert checked[(("optimizer", "sgd"), ("scheduler", "plateau"))] == patience


def test_equal_spaces_have_equal_json_whatever_the_order() -> None:
    assert to_json(parse(["a=range(1,3)", "b=choice(1,2)"])) == to_json(parse(["b=choice(1,2)", "a=range(1,3)"]))
    assert to_json(parse(["a=range(1,3)"])) != to_json(parse(["a=range(1,4)"]))


def test_a_space_is_read_back_from_its_json() -> None:
    space = space_of("optimizer=choice(sgd,adam)", "seed=3")
    assert from_json(to_json(space)) == space


def test_the_command_line_of_a_trial_has_the_fixed_overrides_of_what_it_drew() -> None:
    space = space_of("optimizer=choice(sgd,adam)", "seed=3")
    drawn = overrides_of(space, {"optimizer": "adam", "optimizer.lr": 0.01})
    assert sorted(drawn) == ["optimizer.eps=0.1", "optimizer.lr=0.01", "optimizer=adam", "seed=3"]


LR = "optimizer.lr=interval(0.01,0.1)"


@pytest.mark.parametrize(
    "later", ["optimizer.lr=0.3", "++optimizer.lr=0.3", "optimizer[lr]=0.3", "++optimizer={lr:0.3}", "~optimizer.lr"]
)
def test_the_last_of_two_overrides_of_a_key_decides_however_it_is_spelled(later: str) -> None:
    fixed = parse([LR, later])
    assert fixed.distributions == {} and list(fixed.fixed.values()) == [later]
    searched = parse([later, LR])
    assert list(searched.distributions) == ["optimizer.lr"]
    assert overrides_of(searched, {"optimizer.lr": 0.05})[-1] == "optimizer.lr=0.05", "after what is fixed"


def test_the_last_of_two_ranges_of_a_key_decides() -> None:
    assert list(parse([LR, "++optimizer.lr=choice(1,2)"]).distributions) == ["++optimizer.lr"]
    assert parse(["x=choice({a:1},{a:2})", "x={a:3}"]).distributions == {}
    assert list(parse(["+x=null,1", "x=choice('null',b)"]).literals) == []
    assert overrides_of(parse(["x=1", "++x=2", "x=3"]), {}) == ["++x=2", "x=3"]


def test_of_a_group_given_twice_the_last_decides() -> None:
    assert parse(["optimizer=sgd", "optimizer=adam"]).fixed == {"optimizer": "optimizer=adam"}
    assert parse(["optimizer=choice(sgd,adam)", "optimizer=adam"]).distributions == {}
    assert list(parse(["optimizer=adam", "optimizer=choice(sgd,adam)"]).distributions) == ["optimizer"]


@pytest.mark.parametrize(
    "override", ["++optimizer.lr=0.5", "optimizer[lr]=0.5", "++optimizer={lr:0.5}", "~optimizer.lr"]
)
def test_the_command_line_wins_over_the_file_however_the_key_is_spelled(override: str) -> None:
    space = space_of(override, optimizer="adam")
    assert space.distributions == {} and space.fixed == {
        **parse([override]).fixed,
        "optimizer.eps": "optimizer.eps=0.1",
    }
    drawn = space_of("optimizer=choice(sgd,adam)", override)
    assert all("optimizer.lr" not in below.distributions for below in drawn.options["optimizer"].values())


def test_a_list_that_is_extended_twice_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"k=extend_list\(2\): k is given twice"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parse(["k=[1]", "k=extend_list(2)"])


def test_a_parameter_of_a_custom_space_that_decides_a_fixed_setting_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"optimizer\.lr: given twice"):
        overrides_of(parse(["++optimizer.lr=0.3"]), {"optimizer.lr": 0.1})
    with pytest.raises(SpaceError, match=r"optimizer\.lr: given twice"):
        overrides_of(parse(["+optimizer.lr=interval(0,1)"]), {"+optimizer.lr": 0.1, "optimizer.lr": 0.1})


def test_a_glob_is_a_choice_of_the_options_that_it_matches() -> None:
    space = parse(["optimizer=glob(*)", "model=glob([s*,l*],exclude=large)"], lambda key: GROUPS.get(key, []))
    assert space.distributions["optimizer"] == CategoricalDistribution(["sgd", "adam"])
    assert space.distributions["model"] == CategoricalDistribution(["small"])


@pytest.mark.parametrize(
    "override, message", [("optimizer=glob(x*)", "matches none of sgd, adam"), ("k=glob(*)", "not a config group")]
)
def test_a_glob_that_matches_nothing_is_refused(override: str, message: str) -> None:
    with pytest.raises(SpaceError, match=f"{re.escape(override)}: cannot be searched .*{message}"):
        parse([override], lambda key: GROUPS.get(key, []))


def test_branches_that_one_study_cannot_hold_are_refused() -> None:
    files = {"sgd": {"optimizer.lr": "interval(0.1, 1)"}, "adam": {"optimizer.lr": "tag(log, interval(0.1, 1))"}}
    space = build(
        parse(["optimizer=choice(sgd,adam)"]), {}, lambda key: GROUPS.get(key, []), lambda o: files.get(o, {})
    )
    with pytest.raises(SpaceError, match=r"optimizer\.lr: searched as .* linear or log"):
        check_kinds(space)
    check_kinds(space_of("optimizer=choice(sgd,adam)"))


@pytest.mark.parametrize("text", ["interval(0.1", "choice(1,", "[1"])
def test_an_entry_that_cannot_be_read_is_named_with_what_is_allowed(text: str) -> None:
    with pytest.raises(SpaceError, match=r"optimizer\.lr: .*: cannot be read; allowed: choice"):
        entry_text(OmegaConf.create(), "optimizer.lr", text)
