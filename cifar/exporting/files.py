"""Files of exported models: each is written beside its place, checked, and then put there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cifar.exporting.agreement import Agreement, Reference
from cifar.exporting.formats import FORMATS, Subject
from cifar.exporting.source import ExportError
from cifar.exporting.suffixes import SUFFIXES
from cifar.files import cannot_write, check_target, temporary_beside
from cifar.metadata import PROGRAM


def check_file(out: Path, name: str) -> None:
    """Raises UserError where an export may not be written to `out`: only exports of this program are replaced."""
    suffix = SUFFIXES[name]
    if out.suffix != suffix:
        raise ExportError(f"--out {out}: allowed: a name that ends in {suffix}, as --format is {name}")
    check_target("--out", out)
    if out.exists() and not FORMATS[name].program_of(out).startswith(PROGRAM):
        raise ExportError(f"--out {out}: already there, and no export of this program; allowed: another name")


def export_file(subject: Subject, reference: Reference, name: str, out: Path) -> Agreement:
    """Write one format to `out`, once it has been compared with the model. Raises ExportError, FileError."""
    format = FORMATS[name]
    with replacing(out) as temporary:
        format.write(subject, temporary)
        reference.check_distances(name, format.distances(temporary))
        return reference.agreement(name, format.compute(temporary))


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A file to write, which is put in the place of `out` at the end of the block. Raises FileError."""
    temporary = temporary_beside(out, out.suffix)
    try:
        yield temporary
        temporary.replace(out)
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        temporary.unlink(missing_ok=True)
