"""The model of a run, as its settings and its result describe it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cifar.formatting import as_whole

SETTINGS = "config.model."
SIZES = ("parameters", "flops")


def architecture(runs: pd.DataFrame) -> dict[str, Any]:
    """The model's settings, parameters and flops, of the first of the runs; empty where its run has none of them."""
    run = runs.iloc[0].dropna() if len(runs) else pd.Series()
    keys = [str(key) for key in run.index if str(key).startswith(SETTINGS)]
    settings = {key.removeprefix(SETTINGS): as_whole(run[key]) for key in keys}
    return settings | {key: int(run[key]) for key in SIZES if key in run}


def model_name(model: dict[str, Any]) -> str:
    """The name of the class or function that builds an architecture, without its module; empty where not known."""
    return str(model.get("_target_", "")).rpartition(".")[2]


def model_settings(model: dict[str, Any]) -> dict[str, Any]:
    """An architecture without its name and its sizes."""
    return {key: value for key, value in model.items() if key not in ("_target_", *SIZES)}
