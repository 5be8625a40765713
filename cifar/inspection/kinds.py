"""All kinds of findings, in the order of the report: what stops or misleads first."""

from __future__ import annotations

from cifar.inspection import copies, findings
from cifar.inspection.findings import COMMON, Finding, Kind
from cifar.inspection.survey import Survey
from cifar.options.splits import TEST


class Label(Kind):
    """Of training and validation images alone."""

    name, title = "label", "Labels that may be wrong"
    advice = "look at them, the surest first, and relabel or leave out what is wrong"
    action = "relabel"

    def find(self, survey: Survey) -> list[Finding]:
        rows = [row for row in survey.suspicions if survey.samples[row.index].part != TEST]
        return [
            self.of(survey, row.index, f"{100 * row.score:.0f}% sure", suggested=survey.classes[row.suggested])
            for row in rows
        ]


KINDS: tuple[Kind, ...] = (
    findings.Unreadable(),
    copies.Leak(),
    copies.ConflictingLabels(),
    Label(),
    copies.Duplicate(),
    copies.NearDuplicate(),
    findings.Empty(),
    findings.Dark(),
    findings.Bright(),
    findings.Blurred(),
    findings.OddMode(),
    findings.OddSize(),
    findings.OddAspect(),
    findings.SmallClass(),
    findings.Imbalance(),
)
NAMES = tuple(kind.name for kind in KINDS)


def find_all(survey: Survey) -> tuple[dict[Kind, list[Finding]], list[str], dict[str, int]]:
    """The findings of each kind that has some, a sentence for each kind that holds for more than COMMON, and how many
    there are of these, by name.
    """
    findings: dict[Kind, list[Finding]] = {}
    sentences = list(survey.notes)
    common: dict[str, int] = {}
    count = len(survey.samples)
    for kind in KINDS:
        rows = kind.find(survey)
        if kind.property and len(rows) > COMMON * count:
            common[kind.name] = len(rows)
            sentences.append(
                f"{len(rows):,} of {count:,} images {kind.property}: that is how these images are ({kind.name})"
            )
        elif rows:
            findings[kind] = rows
    return findings, sentences, common
