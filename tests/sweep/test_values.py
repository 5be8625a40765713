"""What was written is what a study holds and what a trial is given."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution

from cifar.overrides import canonical, from_text, parse_line, to_text
from cifar.sweep.space import SpaceError, from_json, overrides_of, parse, same_values, to_json

TEXTS = ["a b", "c (1)", "ü", "a=b", "a,b", "a:b", "null", "true", "1e-3", "1", "nan", "", " x", "it's", '"x"', "x\\"]
TEXTS += ["\\'", "[1,2]", "{a:1}", "choice(1,2)", "${oc.env:HOME}", "%#!;", "two\nlines", "resnet18", "a/b-c_d.e"]


@pytest.mark.parametrize(
    "value", [*TEXTS, 1, 1e-3, 1e-05, 1e22, True, None, [1, "1", ["null", None]], {"a": {"b": "1"}}]
)
def test_hydra_reads_a_written_value_as_the_same_value_and_type(value: Any) -> None:
    read = from_text(to_text(value))
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize("value", ["resnet18", "a b", "a/b.pt", "${model.name}"])
def test_a_text_without_another_meaning_is_not_quoted(value: str) -> None:
    assert to_text(value) == value


@pytest.mark.parametrize(
    "override, values",
    [
        ("k=choice('a b','null',\"true\",'1e-3')", ["a b", "null", "true", "1e-3"]),
        ("k='a b',null,'1',1,false", ["a b", None, "1", 1, False]),
        ("+k=choice([1,'2'],{a:'null'},[])", [[1, "2"], {"a": "null"}, []]),
        ("++k=shuffle('ü','x, y')", ["ü", "x, y"]),
        ("k=sort(choice('b','a'))", ["a", "b"]),
        ("k=float(range(1,3))", [1.0, 2.0]),
    ],
)
def test_each_choice_reaches_the_trial_as_it_was_written(override: str, values: list[Any]) -> None:
    space = parse([override])
    ((key, distribution),) = space.distributions.items()
    assert isinstance(distribution, CategoricalDistribution)
    trained = [parse_line(overrides_of(space, {key: choice})[0]).value() for choice in distribution.choices]
    assert trained == values and list(map(type, trained)) == list(map(type, values))
    restored = from_json(to_json(space))
    assert [overrides_of(restored, {key: choice}) for choice in distribution.choices] == [
        overrides_of(space, {key: choice}) for choice in distribution.choices
    ]


def test_a_study_holds_texts_as_they_are() -> None:
    assert parse(["k='a b',\"null\""]).distributions["k"] == CategoricalDistribution(["a b", "null"])


@pytest.mark.parametrize(
    "sweep", ["choice(1,true)", "choice(1,1.0)", "null,'null'", "choice([1],'[1]')", "choice(0,false)"]
)
def test_choices_that_a_study_cannot_tell_apart_are_refused(sweep: str) -> None:
    with pytest.raises(SpaceError, match=r"k=.* cannot tell .* leave one of them out"):
        parse([f"k={sweep}"])


def test_a_shuffled_choice_is_the_same_space_at_every_start() -> None:
    spaces = [to_json(parse(["k=shuffle(1,2,3,4,5,6,7,8)", "r=shuffle(range(0,9))"])) for _ in range(3)]
    assert spaces[0] == spaces[1] == spaces[2]


def test_a_space_of_an_earlier_version_is_read_as_it_was_trained() -> None:
    def stored(*choices: Any) -> dict[str, Any]:
        plain = to_json(parse(["k=choice(x)"]))
        del plain["literals"]
        plain["distributions"]["k"] = to_json(_space_of(choices))["distributions"]["k"]
        return plain

    assert same_values(stored("'a b'", "null", "[1,2]", "plain", 1), to_json(parse(["k='a b',null,[1,2],plain,1"])))
    assert same_values(stored("null"), to_json(parse(["k=choice('null')"]))) is False  # it was trained as null
    assert overrides_of(from_json(stored("null", "'a b'")), {"k": "null"}) == ["k=null"]


def _space_of(choices: tuple[Any, ...]) -> Any:
    space = parse(["k=choice(x)"])
    space.distributions["k"] = CategoricalDistribution(choices)
    return space


@pytest.mark.parametrize("key", ["a.b", "+a.b", "++a.b", "~a.b", "a[b]", "+a[b]"])
def test_spellings_of_a_key_name_the_same_place(key: str) -> None:
    assert canonical(key) == "a.b"
