"""A folder with all that it takes to run a model elsewhere: ONNX, weights, predict.py, settings and a model card."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from cifar.data import preprocessing
from cifar.exporting import card, cost
from cifar.exporting.agreement import Reference
from cifar.exporting.files import export_file
from cifar.exporting.formats import FORMATS, Subject
from cifar.exporting.history import History, history_of
from cifar.exporting.int8 import export_int8, read_images
from cifar.exporting.public import settings_text
from cifar.exporting.source import ExportError, Source
from cifar.files import cannot_write, check_target, temporary_beside
from cifar.inference.model import load_model
from cifar.metadata import PROGRAM
from cifar.options.config import Config

ONNX, WEIGHTS = "model.onnx", "model.safetensors"
FILES = {
    *(ONNX, WEIGHTS, "classes.txt", "config.yaml", "preprocessing.py", "predict.py", "requirements.txt", "README.md"),
}
REQUIREMENTS = "onnxruntime>=1.18\nnumpy>=1.24\npillow>=11.3\n# pillow-heif>=1.1: for HEIC files\n"
PREDICT = Path(__file__).with_name("bundled_predict.py")
IGNORED = "__pycache__"


def check_folder(folder: Path) -> None:
    """Raises UserError where a bundle may not be written: only an empty folder or a former bundle is replaced."""
    check_target("--bundle", folder, folder=True)
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} - {IGNORED}
    others = sorted(names - FILES)
    if others or (names and not FORMATS["onnx"].program_of(folder / ONNX).startswith(PROGRAM)):
        reason = f"holds {', '.join(others[:3])}" if others else "is no bundle of this program"
        raise ExportError(
            f"--bundle {folder}: already there, and it {reason}; allowed: a new or empty folder, or a bundle, which is"
            " replaced"
        )


def _reason(source: Source) -> str:
    """Why a run cannot be described."""
    if source.config is None or "data" not in source.result:
        return "its result.json or .hydra/config.yaml is missing or cannot be read"
    return f"its result.json names no best epoch (status {source.result.get('status')}): resume it first"


def write(source: Source, folder: Path, max_loss: float | None = None) -> Iterator[str]:
    """Write the bundle, all or nothing, and say what was done. Raises ExportError, FileError.

    `max_loss`: of validation accuracy, for a model.onnx in int8; None: it is in fp32.
    """
    config = source.config
    if config is None or "data" not in source.result or not source.result.get("best"):
        raise ExportError(
            f"{source.run}: a bundle describes the run too, and {_reason(source)}; allowed: the whole directory of a"
            " run that has ended, or --format"
        )
    card.class_rows(source.run)  # raises before the work where they are damaged
    history = _history(source)
    temporary = temporary_beside(folder)
    try:
        temporary.mkdir()
        lines = _fill(source, config, history, temporary, _name(source, config, history), max_loss)
        _replace(temporary, folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    yield from lines
    yield f"{folder}: {', '.join(sorted(FILES))}; to use it: python {folder / 'predict.py'} IMAGES..."


def _history(source: Source) -> History | None:
    study = source.model.chosen.study
    return history_of(study, source.run) if study else None


def _fill(
    source: Source, config: Config, history: History | None, folder: Path, name: str, max_loss: float | None
) -> list[str]:
    """Write all files, and say how well the exported model agrees with PyTorch."""
    subject, int8 = Subject(source), None
    if max_loss is None:
        reference = Reference(source)
        agreement = export_file(subject, reference, "onnx", folder / ONNX)
    else:
        images = read_images(source)
        reference, int8 = images.reference, export_int8(subject, images, folder / ONNX, max_loss)
        agreement = int8.agreement
    export_file(subject, reference, "safetensors", folder / WEIGHTS)
    measured = cost.measure(source, folder / ONNX, int8.after.latencies if int8 else None)
    reliability = load_model(folder / ONNX).reliability
    texts = {
        "classes.txt": "".join(f"{_one_line(label)}\n" for label in source.model.classes),
        "config.yaml": settings_text(config),
        "preprocessing.py": Path(preprocessing.__file__).read_text("utf-8"),
        "predict.py": PREDICT.read_text("utf-8"),
        "requirements.txt": REQUIREMENTS,
        "README.md": card.render(source, config, history, measured, agreement, name, int8, reliability),
    }
    for file, text in texts.items():
        (folder / file).write_text(text, "utf-8")
    return [f"model.onnx: {agreement.line}"] if int8 is None else ["model.onnx: in int8", *int8.lines]


def _replace(temporary: Path, folder: Path) -> None:
    """Put the new folder in the place of the former one."""
    former = temporary_beside(folder, ".former")
    if folder.exists():
        folder.rename(former)
    try:
        temporary.rename(folder)
    except OSError:
        if former.exists():
            former.rename(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _name(source: Source, config: Config, history: History | None) -> str:
    name = history.frames.study if history else f"{card.data_name(config)}-{type(config.model).__name__.lower()}"
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def _one_line(text: str) -> str:
    return " ".join(text.split()) if "\n" in text or "\r" in text else text
