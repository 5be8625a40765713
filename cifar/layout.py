"""Where the parts of the program are: conf/ and analysis/ are in the installed package, and beside it in a checkout.

analysis/ has one name in each, so that no process loads it twice: cifar.analysis where it is installed, else analysis.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent
INSTALLED = (PACKAGE / "conf").is_dir()
"""Whether this is an installed package; an editable installation is a checkout."""
CONF = (PACKAGE if INSTALLED else ROOT) / "conf"


def analysis(module: str) -> ModuleType:
    """A module of analysis/, as "summary"; in a checkout it is found from any working directory."""
    if INSTALLED or "cifar.analysis" in sys.modules:  # in an editable installation somebody may have imported that
        return import_module(f"cifar.analysis.{module}")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return import_module(f"analysis.{module}")
