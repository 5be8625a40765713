"""The class and the probability of images, tab-separated: python predict.py IMAGES... [--top K] [--max-error SHARE]

IMAGES are files and folders.

A line ends in "unsure" where the probability is too low, and in "unlike training" where the image is.

Needs onnxruntime, numpy and pillow alone: pip install -r requirements.txt; for HEIC files also pillow-heif
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from preprocessing import HEIF_SUFFIXES, ImageError, InputFormat, decode


def main(argv: list[str], folder: Path) -> int:
    """Print a line for each image; 1 where one could not be read."""
    parser = argparse.ArgumentParser(prog="python predict.py", description=__doc__)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--top", type=int, default=1, metavar="K", help="the K most likely classes")
    help = "of the predictions that are not unsure, at most this share is wrong (default 0.05)"
    parser.add_argument("--max-error", type=share, default=0.05, metavar="SHARE", help=help)
    options = parser.parse_args(argv)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what it says of damaged files: they are named here
    session = open_session(str(folder / "model.onnx"))
    metadata = session.get_modelmeta().custom_metadata_map
    classes, format = json.loads(metadata["classes"]), InputFormat(**json.loads(metadata["input"]))
    threshold, largest = limits(metadata, options.max_error)
    unreadable = 0
    for path in files_of(options.images):
        shown = on_one_line(path)
        try:
            if os.path.isdir(path):  # noqa: PTH112  (Path raises for names that are too long)
                raise ImageError("no images in this folder")
            if not os.path.isfile(path):  # noqa: PTH113  (a FIFO would be waited for)
                raise ImageError("not a regular file" if os.path.exists(path) else "no such file")  # noqa: PTH110
            pixels, _ = decode(path, format)
        except ImageError as error:
            print(f"{shown}: {on_one_line(str(error))}", file=sys.stderr)
            unreadable += 1
            continue
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]  # uint8 (1, 3, size, size)
        (probabilities,), *distances = session.run(None, {"images": batch})
        likeliest = np.argsort(-probabilities, kind="stable")[: max(options.top, 1)]
        words = ["unsure"] if probabilities.max() < threshold else []
        words += ["unlike training"] if distances and distances[0][0] > largest else []
        shares = [f"{classes[index]}\t{probabilities[index]:.6f}" for index in likeliest]
        print(shown, *shares, *([", ".join(words)] if words else []), sep="\t")
    return int(unreadable > 0)


def files_of(arguments: list[str]) -> Iterator[str]:
    """Files as they are, and for a folder the images below it, sorted; a folder without images as it is."""
    extensions = Image.registered_extensions()
    formats = Image.OPEN.keys() - {"BUFR", "GRIB", "HDF5", "MPEG"}  # of which Pillow reads no pixels
    suffixes = {suffix for suffix, format in extensions.items() if format in formats}
    for argument in arguments:
        below: list[str] = []
        for folder, folders, names in os.walk(argument):
            folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
            images = (name for name in names if Path(name).suffix.lower() in suffixes | HEIF_SUFFIXES)
            below += (str(Path(folder, name)) for name in images if not name.startswith("."))
        yield from sorted(below) or [argument]


def share(text: str) -> float:
    """The type of an argument that is a share, neither none nor all."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text}; allowed: a number above 0 and below 1, as 0.05")
    return value


def open_session(file: str) -> onnxruntime.InferenceSession:
    """The model on the CPU; one in int8 exactly, for which CPUs without VNNI need a setting."""
    settings = onnxruntime.SessionOptions()
    try:
        exact = "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        exact = False
    if not exact:
        settings.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])


def limits(metadata: dict[str, str], max_error: float) -> tuple[float, float]:
    """The probability below which a prediction is unsure, and the distance above which an image is unlike training.

    Standard error says what they mean.
    """
    if "unsure" not in metadata:
        return 0.0, math.inf
    unsure, unlike = json.loads(metadata["unsure"]), json.loads(metadata["unlike"])
    images = f"{unsure['images']:,} {unsure['part']} images"
    allowed = [row for row in unsure["thresholds"] if row[0] <= max_error]
    if allowed:
        error, threshold, coverage = allowed[-1]
        promise = f"at most {error:.3g} of the others are wrong, with {unsure['confidence']:.0%} confidence"
        estimate = "" if unsure["part"] == "calibration" else ", an estimate, as these images chose the epoch"
        line = f"unsure: probability below {threshold:.4f}; {promise}; {coverage:.1%} of {images} remain{estimate}"
    else:
        threshold = 0.0
        line = f"unsure: nothing is marked, as an error of at most {max_error:.3g} cannot be promised by {images}"
    print(line, file=sys.stderr)
    return threshold, largest_distance(unlike)


def largest_distance(unlike: dict[str, float | None]) -> float:
    largest = unlike["distance"]
    if largest is None:
        print("unlike training: not known, as there were too few images to set its threshold on", file=sys.stderr)
        return math.inf
    share = f"{unlike['false_alarms']:.0%} of images like those of training are farther"
    print(f"unlike training: distance above {largest:.4f}; {share}", file=sys.stderr)
    return largest


def on_one_line(path: str) -> str:
    r"""A name with control characters (a line break, a tab) as \n, \t, and bytes that are not UTF-8 as \xNN."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for name in ("SIGINT", "SIGPIPE"):  # Ctrl-C and a closed pipe (| head) end it without a traceback
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    sys.exit(main(sys.argv[1:], Path(__file__).parent))
