"""Look at the images of a data set: copies, leaks, wrong labels, and files that are unreadable, dark or blurred.

python -m cifar.inspection data=image_folder data.root=DIR           # the keys of run.py
python -m cifar.inspection data=image_folder data.root=DIR --labels  # labels that may be wrong, too
python -m cifar.inspection data=csv data.root=FILE --fail-on leak,unreadable

It writes inspection/index.html, a page with thumbnails on which you mark what is to be fixed, and findings.csv. With
transfer=frozen and its keys, features of the backbone find more near copies, and judge labels better. No file of the
data is changed.
"""

from __future__ import annotations

from cifar import endings

if __name__ == "__main__":
    endings.prepare()

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cifar import trust
from cifar.commands import argument, as_started, command, module_command
from cifar.errors import UserError
from cifar.files import write_atomically
from cifar.packages import require

if TYPE_CHECKING:  # imported where they are needed, as torch takes seconds: --help and refusals appear at once
    from cifar.inspection.report import Sheet
    from cifar.options.config import Config

OUT = "inspection"
PAGE, TABLE, FIXES = "index.html", "findings.csv", "fixes.csv"


class InspectionError(UserError):
    """Options that are not allowed, or findings that --fail-on names."""


def main(argv: list[str]) -> None:
    options = parser().parse_intermixed_args(argv)
    require(module_command("cifar.inspection"), "inspect", "jinja2")
    trust.grant(options.trust)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what it says of damaged files: they are findings
    from cifar.compose import composed_of_keys
    from cifar.inspection.kinds import NAMES

    fatal = _kinds(options.fail_on, NAMES)
    if "label" in fatal and not options.labels:
        raise InspectionError("--fail-on label: nobody looks for them; allowed: with --labels, or without label")
    if not options.out:
        raise InspectionError("--out '': allowed: a folder, which is made where it is missing")
    config = composed_of_keys(options.keys)
    out = Path(options.out).expanduser()
    _check_out(out, config)
    with _silent("cifar.data"):  # what it warns of are findings
        sheet = inspect(config, options.labels)
    _write(sheet, out, config, options.keys)
    failed = [f"{sheet.count(name):,} {name}" for name in fatal if sheet.count(name)]
    if failed:
        raise InspectionError(f"--fail-on: {', '.join(failed)}; they are in {out / TABLE}")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=module_command("cifar.inspection"),
        description=as_started(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("keys", metavar="KEY=VALUE", nargs="*", help="the keys of run.py, as data=image_folder")
    parser.add_argument("--out", metavar="DIR", default=OUT, help=f"where it is written ({OUT}); not inside data.root")
    parser.add_argument("--labels", action="store_true", help="look for wrong labels: trains on folds of the images")
    fail_on = "exit with code 1 where there are findings of these kinds, as leak,unreadable"
    parser.add_argument("--fail-on", metavar="KINDS", default="", help=fail_on)
    of_yours = "a module of yours that the model is built with (model=own); can be repeated"
    parser.add_argument("--trust", metavar="MODULE", action="append", default=[], help=of_yours)
    return parser


def inspect(config: Config, labels: bool = False, bar: bool = True) -> Sheet:
    """Look at the images that `config` names. Raises DataError where there are none."""
    from cifar.data.images import DataError
    from cifar.inspection import learned
    from cifar.inspection.copies import with_near_duplicates
    from cifar.inspection.kinds import find_all
    from cifar.inspection.report import Sheet
    from cifar.inspection.split import as_used
    from cifar.inspection.survey import survey
    from cifar.options.splits import SKIP
    from cifar.resources import Resources

    resources = Resources()
    config = replace(config, data=replace(config.data, unreadable=SKIP))  # they are findings
    sheet = as_used(survey(config, resources, bar), config, resources)
    features = None
    try:
        features = learned.features(config, sheet, resources)
    except DataError as error:
        sheet = replace(sheet, notes=(*sheet.notes, f"near copies are found without features: {error}"))
    sheet = with_near_duplicates(sheet, features, bar)
    if labels:
        try:
            sheet = learned.with_suspicions(config, sheet, resources)
        except DataError as error:
            sheet = replace(sheet, notes=(*sheet.notes, f"labels were not judged: {error}"))
    return Sheet(sheet, *find_all(sheet))


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Within the block, a module logs no warnings."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _kinds(text: str, allowed: Sequence[str]) -> list[str]:
    """The kinds of --fail-on. Raises InspectionError for one that there is not."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise InspectionError(f"--fail-on {','.join(unknown)}: no such kind; allowed: {', '.join(allowed)}")
    return names


def _check_out(out: Path, config: Config) -> None:
    """Raises ConfigError where the results would be among the data, InspectionError where they cannot be written."""
    from cifar.options.outside import check_outside

    check_outside(config.data.root, {"--out": out, "cache.dir": config.cache.dir})
    if (out / PAGE).exists() and not (out / TABLE).exists():
        raise InspectionError(f"--out {out}: its {PAGE} is not of this command; allowed: another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InspectionError(f"--out {out}: cannot be written ({error.strerror}); allowed: a folder") from None


def _write(sheet: Sheet, out: Path, config: Config, keys: Sequence[str]) -> None:
    """Write the page and the table, and print what was found."""
    from cifar.inspection.page import page
    from cifar.inspection.report import summary, table

    others = [key for key in keys if key.lstrip("+").partition("=")[0] != "data.fixes"]
    next_run = command(*others, argument("data.fixes", FIXES)) if config.data.knows_content else ""
    title = config.data.root or config.data.title
    write_atomically(out / TABLE, table(sheet))
    write_atomically(out / PAGE, page(sheet, title, next_run).encode("utf-8", "backslashreplace"))
    for line in summary(sheet):
        print(line)
    print(f"the page: {out / PAGE} · the table: {out / TABLE}")
    if sheet.findings and next_run:
        print(f"mark what is to be fixed on the page, save it as {FIXES}, then: {next_run}")


if __name__ == "__main__":
    endings.run(main)
