"""What a command line brings along, composed in this process."""

from __future__ import annotations

import sys

import pytest

from cifar import trust
from cifar.options.command_line import without_trust
from cifar.options.option import ConfigError
from cifar.overrides import parse


@pytest.mark.parametrize("line", ["trust=my_net,os", "trust=null", "~trust", "trust={a: b}", "+trust=choice(a,b)"])
def test_trust_is_a_list_of_modules_or_refused(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """a,b is a sweep for Hydra: nothing of it was trusted, and no word said so."""
    monkeypatch.setattr(sys, "argv", ["run.py", line])
    with pytest.raises(ConfigError, match=r"trust.*: allowed: trust=\[my_module\] or trust=\[my_module,another\]"):
        without_trust(parse([line]))
    assert trust.granted()[0] == ()


def test_a_variable_that_names_no_module_is_refused_at_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_granted", ["a b"])
    with pytest.raises(trust.TrustError, match="trust=a b: not the name of a module"):
        without_trust(parse(["epochs=1"]))
