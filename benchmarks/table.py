"""The table of figures in docs/benchmarks.md, made from benchmarks/results/.

python -m benchmarks table
"""

from __future__ import annotations

import json
import re

from benchmarks.common import RESULTS

PAGE = RESULTS.parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: python -m benchmarks table -->", "<!-- end of figures -->"


def main(argv: list[str]) -> None:
    text = PAGE.read_text("utf-8")
    table = f"{BEGIN}\n{rows()}\n{END}"
    PAGE.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: table, text, flags=re.S), "utf-8")


def rows() -> str:
    """The table, a row for each result that has a figure."""
    lines = ["| what | figure | command | machine, date |", "|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        if "figure" in result:
            machine = result["machine"]
            where = machine["gpu"] or f"{machine['cores']} cores, {machine['processor']}"
            place = f"{where}, torch {machine['torch']}, {machine['date']}"
            lines.append(f"| {result['what']} | {result['figure']} | `{result['command']}` | {place} |")
    return "\n".join(lines)
