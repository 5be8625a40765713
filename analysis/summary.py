"""The answer of a search, in at most 30 lines: what is best, how sure that is, and what to do next.

python -m analysis.summary sweeps/NAME           # or the URL of any Optuna study: sqlite:///FILE, with --study NAME
python -m analysis.summary sweeps/NAME --json    # the same for machines
"""

from __future__ import annotations

from cifar import endings

if __name__ == "__main__":
    endings.prepare()

import argparse
import json
import sys
from typing import Any

import numpy as np

from cifar.commands import as_started, module_command
from cifar.errors import UserError

from .answer import plain, settings_of, summarize
from .evidence import Evidence
from .frames import read
from .wording import advice, text

__all__ = ["Evidence", "advice", "main", "settings_of", "summarize", "text"]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=module_command("analysis.summary"),
        description=as_started(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("place", help="a folder sweeps/NAME, or the URL of an Optuna study")
    parser.add_argument("--study", help="its name, where a storage holds several")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(argv)
    try:
        answer = summarize(read(options.place, options.study))
    except UserError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(_strict(answer), indent=2) if options.json else text(answer))


def _strict(value: Any) -> Any:
    """In the types of JSON, which has no NaN and no infinity."""
    if isinstance(value, dict):
        return {str(key): _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    value = plain(value)
    return None if isinstance(value, float) and not np.isfinite(value) else value


if __name__ == "__main__":
    endings.run(main)
