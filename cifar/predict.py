"""Predict the classes of image files with a trained model.

python -m cifar.predict sweeps/NAME photo.jpg photos/ 'more/**/*.png'    # a study: its confirmed or best run
python -m cifar.predict outputs/DATE/TIME photos/ --top 3 --csv predictions.csv
find . -name '*.jpg' | python -m cifar.predict best.pt - --json -
python -m cifar.predict sweeps/NAME test/ --evaluate                     # test/CLASS/*: how many are right
python -m cifar.predict sweeps/NAME photos/ --max-error 0.02             # mark what is unsure, and unlike training
python -m cifar.predict sweeps/NAME photos/ --sort unsure                # what to label next

Files are brought to the size of the model exactly as in training. A file that cannot be read is named on standard
error, the others continue, and the exit code is 1.
"""

from __future__ import annotations

from cifar import endings

if __name__ == "__main__":
    endings.prepare()

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cifar import trust
from cifar.commands import as_started, module_command
from cifar.errors import UserError
from cifar.files import check_target
from cifar.inference.arguments import EXPORTED, TRAINED, add_device, add_max_error, add_place, add_trust, positive

if TYPE_CHECKING:  # imported where they are needed, as torch takes seconds: --help and refusals appear at once
    from cifar.inference.marks import Mark, Marker
    from cifar.inference.model import Model
    from cifar.inference.paths import ImagePaths
    from cifar.inference.reading import Batch

BATCH_SIZE = 32
STDOUT = "-"
BEGINNINGS = {"--csv": (b"file,class,probability", b"true \\ predicted,"), "--json": (b'{\n  "model":',)}
"""How the files begin that this command writes; others are not replaced."""


class PredictError(UserError):
    """Options that contradict each other, or files that could not be read."""


@dataclass
class Files:
    """Goes through files with a progress bar. `unreadable`: each path that cannot be read, with the reason."""

    paths: list[Path]
    bar: bool
    unreadable: list[tuple[Path, str]] = field(default_factory=list)

    def batches(self, model: Model, batch_size: int) -> Iterator[Batch]:
        from tqdm import tqdm

        from cifar.inference.reading import batches

        disable = None if self.bar else True  # None: shown where standard error is a terminal
        with tqdm(total=len(self.paths), desc="predicting", unit="image", disable=disable) as bar:

            def report(path: Path, message: str) -> None:
                self.unreadable.append((path, message))
                tqdm.write(message, file=sys.stderr)
                bar.update()

            for batch in batches(self.paths, model.format, batch_size, report):
                yield batch
                bar.update(len(batch.paths))

    def check(self, problems: Sequence[str] = ()) -> None:
        """Raises PredictError where a file could not be read, or an argument named none."""
        reasons = []
        if self.unreadable:
            reasons.append(f"{len(self.unreadable)} of {len(self.paths)} files could not be read")
        if problems:
            reasons.append(f"{len(problems)} argument{'s' if len(problems) > 1 else ''} named no image")
        if reasons:
            raise PredictError(f"{', and '.join(reasons)}; they are named above, the others are done")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=module_command("cifar.predict"),
        description=as_started(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_place(parser, *TRAINED, *EXPORTED)
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        help="image files, folders (with all folders in them), patterns in quotes, or - for a list of files and folders"
        " on standard input, one a line; a name that begins with a dash: ./-name",
    )
    parser.add_argument("--top", metavar="K", type=positive, default=1, help="show the K most likely classes")
    parser.add_argument(
        "--csv",
        metavar="FILE",
        help="write file, class, probability, class_2, probability_2 and so on, unsure, unlike, distance, a row for"
        " each image; with --evaluate the confusion matrix; - is standard output; only an earlier result is replaced",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON; - is standard output")
    parser.add_argument(
        "--batch-size", metavar="N", type=positive, default=BATCH_SIZE, help=f"images at once (default {BATCH_SIZE})"
    )
    add_device(parser)
    parser.add_argument(
        "--tta",
        choices=("none", "flip", "crops"),
        default="none",
        help="test-time augmentation: average over the image and its mirror image, or over 5 crops and their mirror"
        " images; not for classes that a mirror changes, such as digits",
    )
    add_max_error(parser)
    parser.add_argument(
        "--sort",
        choices=("none", "unsure"),
        default="none",
        help="unsure: the least sure predictions first, as a list of what to label next",
    )
    parser.add_argument(
        "--evaluate", action="store_true", help="IMAGES is one folder with a folder for each class: how many are right"
    )
    add_trust(parser)
    return parser


def main(argv: list[str]) -> None:
    options = parser().parse_intermixed_args(argv)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what it says of damaged files: they are named here
    _check(options)
    trust.grant(options.trust)
    evaluate(options) if options.evaluate else predict(options)


def _check(options: argparse.Namespace) -> None:
    """Raises PredictError or FileError where the results cannot be written as asked. Before anything is loaded."""
    if None not in (options.csv, options.json) and Path(options.csv).resolve() == Path(options.json).resolve():
        raise PredictError(f"--csv and --json: both are {options.csv}; allowed: different files")
    for option, target in (("--csv", options.csv), ("--json", options.json)):
        if target not in (None, STDOUT):
            check_target(option, Path(target))
            _check_replaced(option, Path(target))
    if options.evaluate and options.sort != "none":
        raise PredictError("--sort with --evaluate: allowed: one of them, as an evaluation lists no images")
    if options.evaluate and options.top != 1:
        raise PredictError("--top with --evaluate: allowed: one of them, as an evaluation counts the likeliest class")
    if options.evaluate and (len(options.images) != 1 or not Path(options.images[0]).is_dir()):
        raise PredictError(
            f"--evaluate: {' '.join(options.images)}; allowed: one folder that holds a folder of images for each class"
        )


def _check_replaced(option: str, file: Path) -> None:
    """Raises PredictError where a file would be lost: only results are replaced, not an image or a file of a run."""
    if file.exists():
        try:
            with file.open("rb") as existing:
                beginning = existing.read(32)
        except OSError as error:
            raise PredictError(f"{option} {file}: already there, and cannot be read ({error.strerror})") from None
        is_of_a_run = file.name == "confusion.csv" and (file.parent / "result.json").exists()  # it begins alike
        if is_of_a_run or (beginning and not beginning.startswith(BEGINNINGS[option])):
            raise PredictError(
                f"{option} {file}: already there, and not written by this command; allowed: another name"
            )


def predict(options: argparse.Namespace) -> None:
    """Predict what each image is, and print or write it."""
    from cifar.inference import output
    from cifar.inference.paths import image_paths

    images = image_paths(options.images, sys.stdin)
    for problem in images.problems:
        print(problem, file=sys.stderr)
    _print_skipped(images)
    model, marker = _load(options)
    top = min(options.top, len(model.classes))
    files = Files(images.paths, bar=options.csv is not None or options.json is not None or not sys.stdout.isatty())
    with output.writing(options.csv, options.json, images.paths, model.classes, top) as writer:
        rows = (
            row for batch in files.batches(model, options.batch_size) for row in _rows(model, marker, batch, options)
        )
        for row in sorted(rows, key=_surety) if options.sort == "unsure" else rows:
            writer.row(*row)
        writer.end(output.facts(model, options.tta, marker), files.unreadable)
    files.check(images.problems)


Row = tuple["Path", list[str], list[float], "Mark"]
"""A file, its classes with their probabilities, most likely first, and what is to be said of it."""


def _rows(model: Model, marker: Marker, batch: Batch, options: argparse.Namespace) -> Iterator[Row]:
    assessment = model.assess(batch.images, options.tta)
    values, indices = assessment.probabilities.topk(min(options.top, len(model.classes)))
    columns = (batch.paths, indices.tolist(), values.tolist(), marker.marks(assessment))
    for path, numbers, shares, mark in zip(*columns, strict=True):
        yield path, [model.classes[number] for number in numbers], shares, mark


def _surety(row: Row) -> float:
    return row[2][0]


def evaluate(options: argparse.Namespace) -> None:
    """Predict images of known classes, and print or write how many are right."""
    import numpy as np

    from cifar.inference import output
    from cifar.inference.evaluation import Evaluation, count_seen, labelled_images
    from cifar.inference.marks import Tally
    from cifar.inference.paths import ImagePaths

    model, marker = _load(options)
    images = ImagePaths()
    labelled = labelled_images(Path(options.images[0]), model.classes, images.walk)
    _print_skipped(images)
    if labelled.empty:
        print(f"classes without an image: {', '.join(labelled.empty)}", file=sys.stderr)
    label_of = dict(zip(labelled.paths, labelled.labels, strict=True))
    evaluation, tally = Evaluation(model.classes), Tally()
    files = Files(labelled.paths, bar=True)
    for batch in files.batches(model, options.batch_size):
        assessment = model.assess(batch.images, options.tta)
        labels = np.array([label_of[path] for path in batch.paths])
        evaluation.add(assessment.probabilities.numpy(), labels)
        tally.add(list(marker.marks(assessment)), evaluation.right[-1].tolist())
    if not evaluation.images:
        raise PredictError(f"{options.images[0]}: none of its {len(labelled.paths)} images could be read")
    seen = count_seen(model.chosen.file.parent, labelled.paths)
    facts = output.facts(model, options.tta, marker) | {"seen_images": seen} | tally.figures(marker)
    output.write_evaluation(evaluation, facts, files.unreadable, options.csv, options.json, tally.lines(marker))
    if seen:
        print(
            f"{seen:,} of these images are among those that it was trained on, or that chose its epoch: of others,"
            " fewer will be right",
            file=sys.stderr,
        )
    files.check()


def _load(options: argparse.Namespace) -> tuple[Model, Marker]:
    """The model and its marks, and on standard error why it is this one, and how probabilities and marks are made."""
    from cifar.inference.marks import Marker
    from cifar.inference.model import load_model
    from cifar.inference.notice import notice

    model = load_model(options.place, options.device)
    for line in notice(model, options.tta):
        print(line, file=sys.stderr)
    marker = Marker.of(model, options.tta, options.max_error)
    for line in marker.lines:
        print(line, file=sys.stderr)
    return model, marker


def _print_skipped(images: ImagePaths) -> None:
    summary = images.walk.summary().strip(" ()")
    if summary:
        print(summary, file=sys.stderr)


if __name__ == "__main__":
    endings.run(main)
