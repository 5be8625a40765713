"""Findings as a table, and in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cifar.data.cells import safe_cell
from cifar.data.images import on_one_line
from cifar.files import csv_bytes
from cifar.inspection.findings import Finding, Kind
from cifar.inspection.survey import PARTS_BY_PRIORITY, Survey

COLUMNS = ("file", "part", "class", "kind", "value", "related", "advice", "action", "label")
FIXED = "fixed"
"""The kind of the rows that data.fixes has already, so that findings.csv can take its place."""
MOST_LINES = 24
"""Lines of the summary, so that with what the command adds there are at most 30."""
EXAMPLES = 3
"""Examples of a kind in the terminal, where there is space."""
WIDTH = 118
"""Characters of a line in the terminal; longer ones are cut."""


@dataclass(frozen=True)
class Sheet:
    """A survey, its findings by kind, and what is to be said of the images as a whole.

    `common`: how many findings there are of each kind, by name, that holds for so many images that a sentence says it.
    """

    survey: Survey
    findings: Mapping[Kind, Sequence[Finding]]
    sentences: Sequence[str]
    common: Mapping[str, int]

    def count(self, name: str) -> int:
        return self.common.get(name, 0) + sum(len(rows) for kind, rows in self.findings.items() if kind.name == name)

    def label_of_fix(self, kind: Kind, finding: Finding) -> str:
        """What the column label holds: the class for a kind that is relabelled, else the other image, to group it."""
        if kind.action == "relabel":
            return finding.suggested or self.survey.samples[finding.indices[-1]].label
        return finding.related


def table(sheet: Sheet) -> bytes:
    """findings.csv: filled in, its column `action` makes it a file for data.fixes."""
    lines: list[Iterable[str]] = [COLUMNS]
    for kind, rows in sheet.findings.items():
        for row in rows:
            label = sheet.label_of_fix(kind, row)
            cells = (row.file, row.part, row.label, row.kind, row.value, row.related, kind.advice, "", label)
            lines.append(map(safe_cell, cells))
    for fix in sheet.survey.fixes:
        cells = (fix.file, "", "", FIXED, "", "", "in data.fixes already", fix.action, fix.label)
        lines.append(map(safe_cell, cells))
    return csv_bytes(lines, "backslashreplace")


def summary(sheet: Sheet) -> list[str]:
    """At most MOST_LINES lines: how many images there are, and the findings by kind with the worst examples."""
    lines = [heading(sheet.survey), *sheet.sentences]
    kinds = len(sheet.findings)
    if not kinds:
        return [*map(_cut, lines), "nothing was found"]
    shown = max(0, min(EXAMPLES, (MOST_LINES - len(lines)) // kinds - 1))
    for kind, rows in sheet.findings.items():
        lines.append(f"{len(rows):>7,}  {kind.name:<19} {kind.advice}")
        lines += (f"{'':9}  {example(row)}" for row in rows[:shown])
    return [_cut(line) for line in lines]


def heading(survey: Survey) -> str:
    """How many images there are in each part, and how many classes."""
    counts = Counter(sample.part for sample in survey.samples)
    parts = ", ".join(f"{counts[part]:,} {part}" for part in PARTS_BY_PRIORITY if counts[part])
    return f"{len(survey.samples):,} images ({parts}) in {len(survey.classes)} classes"


def example(finding: Finding) -> str:
    """A finding on one line."""
    other = f" = {finding.related}" if finding.related else ""
    suggested = f" -> {finding.suggested}" if finding.suggested else ""
    place = finding.file + other if finding.file else finding.label
    label = f" [{finding.label}{suggested}]" if suggested else ""
    return on_one_line(f"{place}{label}: {finding.value}")


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."
