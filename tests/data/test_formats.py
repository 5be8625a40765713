"""WebP, AVIF and HEIC are read as other images; without pillow-heif, HEIC is unreadable with the command that helps."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from bad_images import pixels
from PIL import Image

from cifar.data.decode import decode
from cifar.data.images import DataError
from cifar.data.listing import image_suffixes
from cifar.data.preprocessing import InputFormat
from cifar.inference.reading import read_image

SIZE = (64, 48)


def picture(name: str, folder: Path, **options: object) -> Path:
    """A smooth image, in the format of its suffix."""
    pillow_heif.register_heif_opener()
    small = Image.fromarray(pixels(4, 3))
    path = folder / name
    small.resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=95, **options)
    return path


@pytest.mark.parametrize("suffix", ["webp", "avif", "heic", "heif"])
def test_formats_of_cameras_and_of_the_web_are_decoded(suffix: str, tmp_path: Path) -> None:
    expected = np.asarray(Image.open(picture("a.png", tmp_path)), int)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    images = [picture(f"a.{suffix}", tmp_path), picture(f"b.{suffix}", tmp_path, exif=exif.tobytes())]
    assert f".{suffix}" in image_suffixes()
    plain, turned = (decode(path, InputFormat(64, "stretch")).pixels.astype(int) for path in images)
    reference = decode(tmp_path / "a.png", InputFormat(64, "stretch")).pixels.astype(int)
    assert np.abs(plain - reference).mean() < 12 and expected.shape == (48, 64, 3)
    assert np.abs(np.rot90(reference, -1) - turned).mean() < 12


def test_heic_without_its_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture("a.heic", tmp_path)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    with pytest.raises(DataError, match=r"a\.heic: HEIC, which needs pillow-heif \(pip install .*\[heic\]'\)$"):
        read_image(path, InputFormat())
