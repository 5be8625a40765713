"""The arguments that the commands for a trained model share. Imports no torch."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

TRAINED = ("a run directory", "a folder sweeps/NAME (its confirmed trial, else its best one)", "a best.pt")
EXPORTED = ("a bundle", "an exported model (.onnx)")


def add_place(parser: argparse.ArgumentParser, *kinds: str) -> None:
    """PLACE; `kinds`: of what it may be the place."""
    parser.add_argument("place", metavar="PLACE", help=f"{', '.join(kinds[:-1])} or {kinds[-1]}")


def add_device(parser: argparse.ArgumentParser) -> None:
    help = "auto, cpu, cuda or cuda:N; an exported model runs on the CPU (default auto: a GPU, if any)"
    parser.add_argument("--device", metavar="DEVICE", default="auto", help=help)


def add_trust(parser: argparse.ArgumentParser) -> None:
    help = "a module of yours that the model is built with (model=own); can be repeated"
    parser.add_argument("--trust", metavar="MODULE", action="append", default=[], help=help)


def whole(low: int, high: int = 10**9) -> Callable[[str], int]:
    """The type of an argument that is an integer in a range."""

    def integer(text: str) -> int:
        if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text}; allowed: an integer from {low} to {high}")
        return int(text)

    return integer


positive = whole(1)


def add_max_error(parser: argparse.ArgumentParser) -> None:
    help = (
        "mark predictions as unsure so that of the others at most this share is wrong, with 95%% confidence, set on the"
        " run's calibration images, or estimated on its validation images (default 0.05)"
    )
    parser.add_argument("--max-error", metavar="SHARE", type=share, help=help)


def share(text: str) -> float:
    """The type of an argument that is a share, neither none nor all."""
    return number(text, lambda value: 0 < value < 1, "a number above 0 and below 1, as 0.05")


def fraction(text: str) -> float:
    """The type of an argument that is a fraction of 1, which may be none or all."""
    return number(text, lambda value: 0 <= value <= 1, "a fraction from 0 to 1, as 0.01")


def number(text: str, is_allowed: Callable[[float], bool], allowed: str) -> float:
    """A number that `is_allowed`. Raises ArgumentTypeError for another one, and for a text that is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not is_allowed(value):
        raise argparse.ArgumentTypeError(f"{text}; allowed: {allowed}")
    return value
