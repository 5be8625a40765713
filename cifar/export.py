"""Export a trained model: to one file, or to a folder that others can use without this program.

python -m cifar.export sweeps/NAME --bundle DIR             # ONNX, weights, predict.py, settings and a model card
python -m cifar.export outputs/DATE/TIME --format onnx      # one file, model.onnx, or --out FILE.onnx
python -m cifar.export sweeps/NAME --bundle DIR --int8      # in integers of 8 bits: smaller, on most CPUs faster
python -m cifar.export outputs/DATE/TIME --format torch_export
python -m cifar.export outputs/DATE/TIME --format safetensors

An exported model takes uint8 images (B, 3, size, size) and gives probabilities (B, classes); it normalises them itself.
What is written is compared with the model in PyTorch, on the run's validation images where they are at hand.
"""

from __future__ import annotations

from cifar import endings

if __name__ == "__main__":
    endings.prepare()

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cifar import trust
from cifar.commands import as_started, module_command
from cifar.exporting.suffixes import SUFFIXES
from cifar.inference.arguments import TRAINED, add_place, add_trust, fraction

if TYPE_CHECKING:
    from cifar.exporting.source import Source

MAX_LOSS = 0.01
"""Of validation accuracy by int8."""


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog=module_command("cifar.export"),
        description=as_started(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_place(options, *TRAINED)
    what = options.add_mutually_exclusive_group(required=True)
    what.add_argument("--format", choices=tuple(SUFFIXES), help="write one file")
    what.add_argument("--bundle", type=Path, metavar="DIR", help="write a folder with a model card")
    options.add_argument("--out", type=Path, metavar="FILE", help="of --format; default: model and its suffix")
    options.add_argument("--int8", action="store_true", help="onnx and bundle: integers of 8 bits inside the network")
    loss = f"of --int8: the loss of validation accuracy above which nothing is written (default {MAX_LOSS})"
    options.add_argument("--max-loss", type=fraction, metavar="SHARE", help=loss)
    add_trust(options)
    return options


def main(argv: list[str]) -> None:
    options = parser().parse_args(argv)
    _check(options)
    trust.grant(options.trust)
    max_loss = MAX_LOSS if options.max_loss is None else options.max_loss
    loss = max_loss if options.int8 else None
    if options.bundle:
        _bundle(options.place, options.bundle, loss)
    else:
        _file(options.place, options.format, options.out or Path(f"model{SUFFIXES[options.format]}"), loss)


def _check(options: argparse.Namespace) -> None:
    """End with a message where options do not go together."""
    if options.bundle and options.out:
        parser().error("--out goes with --format; a bundle is written to --bundle DIR")
    if options.int8 and options.format not in (None, "onnx"):
        parser().error(f"--int8 goes with --format onnx and --bundle, not with --format {options.format}")
    if options.max_loss is not None and not options.int8:
        parser().error("--max-loss goes with --int8")


def _file(place: str, name: str, out: Path, max_loss: float | None) -> None:
    """Write one file; in int8 where a `max_loss` is given."""
    from cifar.exporting import agreement, files, formats, source  # here, as torch takes seconds

    formats.require_packages(name)
    files.check_file(out, name)
    exported = source.read_source(place)
    exported.check_outside({"--out": out})
    if exported.model.chosen.reason:
        print(exported.model.chosen.reason)
    if max_loss is not None:
        _int8(exported, out, max_loss)
        return
    result = files.export_file(formats.Subject(exported), agreement.Reference(exported), name, out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {name}; {result.line}")


def _int8(exported: Source, out: Path, max_loss: float) -> None:
    from cifar.exporting.formats import Subject
    from cifar.exporting.int8 import export_int8, read_images

    result = export_int8(Subject(exported), read_images(exported), out, max_loss)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, onnx in int8")
    for line in result.lines:
        print(line)


def _bundle(place: str, folder: Path, max_loss: float | None) -> None:
    """Write a bundle; its model in int8 where a `max_loss` is given."""
    from cifar.exporting import bundle, formats, source

    formats.require_packages("onnx")
    bundle.check_folder(folder)
    exported = source.read_source(place)
    exported.check_outside({"--bundle": folder})
    if exported.model.chosen.reason:
        print(exported.model.chosen.reason)
    for line in bundle.write(exported, folder, max_loss):
        print(line)


if __name__ == "__main__":
    endings.run(main)
