"""One page of the findings with thumbnails, in one file: index.html."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from cifar.cores import available_cores
from cifar.data import preprocessing
from cifar.data.cells import FORMULA
from cifar.data.decode import one_at_a_time
from cifar.data.preprocessing import ImageError, InputFormat
from cifar.html import STYLE
from cifar.inspection.findings import Finding, Kind
from cifar.inspection.report import Sheet, heading
from cifar.inspection.survey import Sample

FOLDER = Path(__file__).parent
SHOWN = (100, 70, 50, 35, 25, 15, 10, 5)
"""Findings of a kind on the page: the first number with which the thumbnails are small enough."""
THUMBNAIL = 112
"""Pixels of the longer side, at most."""
QUALITY = 70
"""Of thumbnails, as WebP."""
MOST_BYTES = 3_400_000
"""Of all thumbnails; the whole page stays below 5 MB."""
MOST_HIDDEN = 12_000
"""Findings beyond those shown that the page can fix too, about 80 bytes each."""


def page(sheet: Sheet, title: str, command: str) -> str:
    """The page. `command`: what to run with the saved file; empty where images of this source cannot be fixed."""
    import jinja2

    thumbnails = _thumbnails(sheet)
    shown = next((count for count in SHOWN if _size(sheet, thumbnails, count) <= MOST_BYTES), SHOWN[-1])
    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    kinds = [_kind(sheet, kind, shown, bool(kind.action and command)) for kind in sheet.findings]
    used = sorted({index for kind in kinds for card in kind["cards"] for index in card["indices"]})
    return environment.get_template("page.html.jinja").render(
        title=title,
        heading=heading(sheet.survey),
        sentences=sheet.sentences,
        kinds=kinds,
        classes=sheet.survey.classes,
        thumbnails={index: thumbnails[index] for index in used if thumbnails[index]},
        hidden={kind["name"]: kind.pop("hidden") for kind in kinds},
        present=[(fix.file, fix.action, fix.label) for fix in sheet.survey.fixes],
        formula=FORMULA,
        command=command,
        style=STYLE + (FOLDER / "page.css").read_text("utf-8"),
        script=(FOLDER / "page.js").read_text("utf-8"),
    )


def _kind(sheet: Sheet, kind: Kind, shown: int, fixable: bool) -> dict[str, Any]:
    rows = sheet.findings[kind]
    cards = [_card(sheet, kind, row) for row in rows[:shown]]
    others = rows[shown : shown + MOST_HIDDEN] if fixable else []
    return {
        "name": kind.name,
        "title": kind.title,
        "advice": kind.advice,
        "count": len(rows),
        "cards": cards,
        "hidden": [_fix(sheet, kind, row) for row in others],
        "fixable": fixable,
    }


def _card(sheet: Sheet, kind: Kind, row: Finding) -> dict[str, Any]:
    samples = sheet.survey.samples
    file, related, action, label = _fix(sheet, kind, row)
    return {
        "indices": row.indices,
        "file": file,
        "related": related,
        "label_now": row.label,
        "about": " · ".join(filter(None, (row.part if row.file else "", row.label))),
        "about_related": f"{samples[row.indices[-1]].part} · {samples[row.indices[-1]].label}" if related else "",
        "value": row.value,
        "suggested": row.suggested,
        "action": action,
        "label": label,
    }


def _fix(sheet: Sheet, kind: Kind, row: Finding) -> tuple[str, str, str, str]:
    """file, related, action, label: as the page offers to fix a finding."""
    action = kind.action
    if kind.name == "leak" and all(sheet.survey.samples[index].source == "train" for index in row.indices):
        action = "group"  # both are of the part that is split
    return row.file, row.related, action, sheet.label_of_fix(kind, row) if action == "relabel" else ""


def _thumbnails(sheet: Sheet) -> dict[int, str]:
    """Of each sample that the page may show, a URL that holds its thumbnail; "" where it cannot be read."""
    rows = [row for rows in sheet.findings.values() for row in rows[: SHOWN[0]]]
    indices = sorted({index for row in rows for index in row.indices})
    samples = [sheet.survey.samples[index] for index in indices]
    with ThreadPoolExecutor(available_cores()) as pool:
        return dict(zip(indices, pool.map(thumbnail, samples), strict=True))


def _size(sheet: Sheet, thumbnails: dict[int, str], count: int) -> int:
    rows = [row for rows in sheet.findings.values() for row in rows[:count]]
    return sum(len(thumbnails[index]) for index in {index for row in rows for index in row.indices})


def thumbnail(sample: Sample) -> str:
    """A data: URL; "" where the image cannot be read."""
    try:
        content = sample.read()
        with one_at_a_time() as wait:
            if isinstance(content, bytes):
                image, _ = preprocessing.upright(BytesIO(content), InputFormat(THUMBNAIL, "pad"), ready=wait)
            else:
                image = Image.fromarray(content)
            image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    except ImageError:
        return ""
    file = BytesIO()
    image.save(file, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
