"""Export a trained model: to one file, or to a folder that others can use without this program.

python -m cifar.export sweeps/NAME --bundle DIR             # ONNX, weights, predict.py, settings and a model card
python -m cifar.export outputs/DATE/TIME --format onnx      # one file, model.onnx, or --out FILE.onnx
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

from cifar import trust
from cifar.commands import as_started, module_command
from cifar.exporting.suffixes import SUFFIXES
from cifar.inference.arguments import TRAINED, add_place, add_trust


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
    add_trust(options)
    return options


def main(argv: list[str]) -> None:
    options = parser().parse_args(argv)
    if options.bundle and options.out:
        parser().error("--out goes with --format; a bundle is written to --bundle DIR")
    trust.grant(options.trust)
    if options.bundle:
        _bundle(options.place, options.bundle)
    else:
        _file(options.place, options.format, options.out or Path(f"model{SUFFIXES[options.format]}"))


def _file(place: str, name: str, out: Path) -> None:
    from cifar.exporting import agreement, files, formats, source  # here, as torch takes seconds

    formats.require_packages(name)
    files.check_file(out, name)
    exported = source.read_source(place)
    exported.check_outside({"--out": out})
    if exported.model.chosen.reason:
        print(exported.model.chosen.reason)
    result = files.export_file(formats.Subject(exported), agreement.Reference(exported), name, out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {name}; {result.line}")


def _bundle(place: str, folder: Path) -> None:
    from cifar.exporting import bundle, formats, source

    formats.require_packages("onnx")
    bundle.check_folder(folder)
    exported = source.read_source(place)
    exported.check_outside({"--bundle": folder})
    if exported.model.chosen.reason:
        print(exported.model.chosen.reason)
    for line in bundle.write(exported, folder):
        print(line)


if __name__ == "__main__":
    endings.run(main)
