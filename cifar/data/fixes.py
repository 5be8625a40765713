"""What a user has decided about single images (data.fixes=FILE), applied when the data are loaded: no file is changed.

A CSV file with the columns file, action and label; others are ignored, as are rows without an action, so the
findings.csv of cifar.inspection with a filled column `action` is one. `file` is a name as Images.names has it. People
open these files in spreadsheets: cells are as cifar.data.cells.safe_cell has them, here and in the copy of a run.

drop     the image is not used
relabel  its class is `label`
group    images with the same `label`, and the one that it names, stay on one side of every split
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cifar.data.cells import plain_cell, safe_cell
from cifar.data.groups import group_numbers, joined, numbers_of
from cifar.data.images import DataError, Images, printable
from cifar.data.request import OR_WITHOUT
from cifar.files import csv_bytes
from cifar.options.splits import TRAIN

COLUMNS = ("file", "action", "label")
DROP, RELABEL, GROUP = "drop", "relabel", "group"
ACTIONS = (DROP, RELABEL, GROUP)
FIXES = "fixes.csv"
"""The copy of the fixes in a run directory."""


@dataclass(frozen=True)
class Fix:
    """A row of the file."""

    file: str
    action: str
    label: str


@dataclass(frozen=True)
class Fixes:
    """`path`: the file that they are from; `by_file`: the fixes of each image, by its name."""

    path: Path
    by_file: dict[str, list[Fix]]

    def all(self) -> list[Fix]:
        return [fix for fixes in self.by_file.values() for fix in fixes]

    def content(self) -> bytes:
        """As a CSV file, without the columns and rows that do not count."""
        return csv_bytes([COLUMNS, *(map(safe_cell, astuple(fix)) for fix in self.all())])

    def sha256(self) -> str:
        """Of the fixes in order of the names: the same for every file that says the same."""
        rows = sorted((fix.file, fix.action, fix.label) for fix in self.all())
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    def dropped(self) -> frozenset[str]:
        """The names of the files that are left out."""
        return frozenset(fix.file for fix in self.all() if fix.action == DROP)

    def counts(self, names: Iterable[str] | None = None) -> dict[str, int]:
        """How many fixes there are, by action; of the images with these names only."""
        chosen = self.all() if names is None else self._of(names)
        return {action: Counter(fix.action for fix in chosen)[action] for action in ACTIONS}

    def _of(self, names: Iterable[str]) -> list[Fix]:
        return [fix for name in names for fix in self.by_file.get(name, ())]

    def groups_without_effect(self, parts: Sequence[AbstractSet[str]]) -> list[str]:
        """The labels of groups of which no part, by the names of its images, has two images, and one has one."""
        members: dict[str, set[str]] = {}
        for fix in self.all():
            if fix.action == GROUP:
                members.setdefault(fix.label, {fix.label}).add(fix.file)
        return sorted(label for label, files in members.items() if max(len(files & part) for part in parts) == 1)

    def unused(self, names: Iterable[str]) -> list[str]:
        """The names of files that are none of these."""
        return sorted(self.by_file.keys() - set(names))


def read_fixes(file: str | None) -> Fixes:
    """The fixes in a file; none for None. Raises DataError where it cannot be read, lacks a column or is wrong."""
    if file is None:
        return Fixes(Path(), {})
    path = Path(file).expanduser()
    by_file: dict[str, list[Fix]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            _check_columns(path, reader.fieldnames or ())
            for row in reader:
                place = f"data.fixes={printable(path)}, line {reader.line_num}"
                cells = {name: plain_cell(row.get(name) or "") for name in COLUMNS}
                fix = Fix(cells["file"], cells["action"].strip(), cells["label"])
                if fix.action and fix not in by_file.setdefault(fix.file, []):
                    _check(place, fix, by_file[fix.file])
                    by_file[fix.file].append(fix)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problem = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise DataError(
            f"data.fixes={printable(path)}: {problem}; allowed: a CSV file in UTF-8 with the columns"
            f" {','.join(COLUMNS)}, or null"
        ) from None
    return Fixes(path, {name: fixes for name, fixes in by_file.items() if fixes})


def _check_columns(path: Path, names: Sequence[str]) -> None:
    wrong = [f"no column {name}" for name in COLUMNS[:2] if name not in names]
    wrong += [f"two columns {name}" for name in COLUMNS if list(names).count(name) > 1]
    if wrong:
        separated = " separated by commas" if len(names) == 1 else ""
        raise DataError(
            f"data.fixes={printable(path)}: {' and '.join(wrong)}; allowed: a CSV file in UTF-8 whose first line names"
            f" {','.join(COLUMNS)}{separated}"
        )


def _check(place: str, fix: Fix, others: Sequence[Fix]) -> None:
    if fix.action not in ACTIONS:
        raise DataError(f"{place}: action is {fix.action!r}; allowed: {', '.join(ACTIONS)}, or empty for none")
    if not fix.file:
        raise DataError(f"{place}: file is empty; give its name below data.root, as findings.csv has it")
    if fix.action != DROP and not fix.label:
        of_group = "a name for its group, or the name of the other image"
        needed = {RELABEL: "the class that it is", GROUP: of_group}[fix.action]
        raise DataError(f"{place}: {fix.action} without a label; give {needed}")
    for other in others:
        if other.action == fix.action and fix.action == RELABEL:
            raise DataError(f"{place}: {fix.file} is relabelled as {other.label} before; keep one of them")


def grouped(images: Images, fixes: Fixes) -> Images:
    """The images with the groups that fixes make. Groups that share an image become one.

    An image whose name is the label of a group is in it, so that a row may name the other image alone.
    """
    positions = {name: index for index, name in enumerate(images.names)}
    labels: dict[str, list[int]] = {}
    for fix in fixes.all():
        if fix.action == GROUP and fix.file in positions:
            members = labels.setdefault(fix.label, [positions[fix.label]] if fix.label in positions else [])
            members.append(positions[fix.file])
    if not labels:
        return images
    before = (numbers_of(images) if images.groups is None else images.groups).numpy()
    of_before = np.unique(before, return_inverse=True)[1]
    pairs = [*enumerate(of_before.tolist())]
    for number, members in enumerate(labels.values(), int(of_before.max()) + 1):
        pairs += [(index, number) for index in members]
    component = joined(len(images), *np.array(pairs, np.int64).T)
    names = {component[members[0]]: label for label, members in sorted(labels.items(), reverse=True)}
    numbers = before.copy()
    for each, label in names.items():
        numbers[component == each] = int(group_numbers([f"fixes {label}"])[0])
    return replace(images, groups=torch.from_numpy(numbers))


def corrected(images: Images, fixes: Fixes, part: str) -> Images:
    """The images without those that are dropped, and with the labels that fixes give.

    Raises DataError where the training part would lose a class or have a new one, and another part all images.
    """
    if not fixes.by_file:
        return images
    if part == TRAIN:  # its classes are those of all parts
        _check_classes(images.classes, fixes)
    kept, labels, classes = [], images.labels.tolist(), list(images.classes)
    for index, name in enumerate(images.names):
        actions = {fix.action: fix.label for fix in fixes.by_file.get(name, ())}
        if DROP not in actions:
            kept.append(index)
        if RELABEL in actions:
            label = actions[RELABEL]
            if label not in classes:
                classes.append(label)
            labels[index] = classes.index(label)
    _check_left(part, images, {labels[index] for index in kept}, fixes)
    new = torch.tensor(labels, dtype=torch.int64)
    if torch.equal(new, images.labels) and len(kept) == len(images):
        return images
    fingerprint = hashlib.sha256(images.fingerprint.encode() + new.numpy().tobytes()).hexdigest()
    relabelled = replace(images, labels=new, classes=tuple(classes), fingerprint=fingerprint, files=None)
    return relabelled.take(np.array(kept, np.int64))


def _check_left(part: str, images: Images, left: set[int], fixes: Fixes) -> None:
    """`left`: the labels of the images that are left of a part."""
    lost = [name for name in images.present_classes() if images.classes.index(name) not in left]
    if not lost or (left and part != TRAIN):
        return
    of_classes, remedy = "", OR_WITHOUT[part]
    if part == TRAIN:
        of_classes, remedy = f" of {', '.join(lost)}", ", or remove the class from the data"
    raise DataError(
        f"data.fixes={printable(fixes.path)}: no image{of_classes} is left in part {part}; drop or relabel"
        f" fewer{remedy}"
    )


def _check_classes(classes: tuple[str, ...], fixes: Fixes) -> None:
    for fix in fixes.all():
        if fix.action == RELABEL and fix.label not in classes:
            raise DataError(
                f"data.fixes={printable(fixes.path)}: {fix.file} is relabelled as {fix.label}, which is no class;"
                f" allowed: {', '.join(classes)}"
            )
