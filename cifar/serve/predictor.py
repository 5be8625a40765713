"""The model's answers to the contents of files: one at a time, in a thread; the number of waiting ones is bounded."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cifar.data.preprocessing import DAMAGE, ImageError, decode, register_heif
from cifar.inference.marks import Marker
from cifar.inference.model import Model
from cifar.serve.bodies import busy
from cifar.serve.limits import MAX_PIXELS, MAX_WAITING

HEIF = ("HEIF",) if register_heif() else ()
FORMATS = ("AVIF", "BMP", "GIF", *HEIF, "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are decoded. Pillow knows more: some start other programs (EPS), others are rarely tested."""

warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged EXIF data: nothing of it is for who runs the server


class BadImage(Exception):
    """What is no image that the model can be asked about; `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Predictor:
    """Decoding and inference share one thread, so that the memory is that of one image, however many clients ask."""

    def __init__(self, model: Model, max_waiting: int = MAX_WAITING, max_error: float | None = None) -> None:
        self.model = model
        self.marker = Marker.of(model, max_error=max_error)
        self.max_waiting = max_waiting
        self.waiting = 0
        self._thread = ThreadPoolExecutor(1, "inference")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, for one request. Raises HTTPException 503."""
        if self.waiting >= self.max_waiting:
            raise busy(f"{self.waiting} requests are waiting")
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def predict(self, content: bytes, top: int) -> dict[str, Any]:
        """The most likely classes of the image in the content of a file, best first. Raises BadImage."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, content, top)

    def _predict(self, content: bytes, top: int) -> dict[str, Any]:
        start = time.perf_counter()
        pixels, changes = read_image(content, self.model)
        images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
        assessment = self.model.assess(images)
        (mark,) = self.marker.marks(assessment)
        values, indices = assessment.probabilities[0].topk(min(top, len(self.model.classes)))
        rows = zip(values.tolist(), indices.tolist(), strict=True)
        return {
            "predictions": [{"class": self.model.classes[index], "probability": value} for value, index in rows],
            **mark.as_json(),
            "changes": changes,
            "seconds": round(time.perf_counter() - start, 4),
        }

    def warm_up(self) -> None:
        """Ask the model once: the first answer is slow, and a model that cannot answer is seen before the start."""
        size = self.model.format.size
        self.model.probabilities(torch.zeros(1, 3, size, size, dtype=torch.uint8))


def read_image(content: bytes, model: Model) -> tuple[NDArray[np.uint8], list[str]]:
    """The image in the content of a file as the model takes it, and what was changed in it. Raises BadImage."""
    try:
        _check(content)
        return decode(BytesIO(content), model.format, FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImage(413, f"too many pixels ({error}); allowed: {MAX_PIXELS / 1e6:g} million") from None
    except UnidentifiedImageError:
        raise BadImage(400, f"not an image of a format that is read here; allowed: {', '.join(FORMATS)}") from None
    except ImageError as error:
        raise BadImage(400, error.problem) from None
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise BadImage(400, f"not an image that can be decoded ({reason})") from None


def _check(content: bytes) -> None:
    """Raises BadImage by what the header says, before memory is needed for the pixels."""
    if not content:
        raise BadImage(400, "the file is empty (0 bytes)")
    with Image.open(BytesIO(content), formats=FORMATS) as file:
        pixels = file.width * file.height
        if pixels > MAX_PIXELS:
            message = f"{file.width}x{file.height} pixels, {pixels / 1e6:.4g} million; allowed: {MAX_PIXELS / 1e6:g}"
            raise BadImage(413, f"{message} million; make the image smaller")
