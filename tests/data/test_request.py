"""Input formats: what images of any size and shape are brought to."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from cifar.data.preprocessing import InputFormat

WIDE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 200, 3), np.uint8))
TALL = WIDE.transpose(Image.Transpose.ROTATE_90)


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("image", [WIDE, TALL], ids=["wide", "tall"])
def test_the_default_is_what_it_always_was(image: Image.Image) -> None:
    assert same(InputFormat().apply(image), ImageOps.fit(image, (32, 32), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_an_image_that_fits_is_not_changed(fit: str) -> None:
    image = WIDE.crop((0, 0, 60, 60))
    assert InputFormat(60, fit).apply(image) is image


@pytest.mark.parametrize("image", [WIDE, TALL], ids=["wide", "tall"])
def test_stretching_keeps_everything_and_padding_keeps_the_shape(image: Image.Image) -> None:
    assert same(InputFormat(40, "stretch").apply(image), image.resize((40, 40), Image.Resampling.BILINEAR))
    padded = np.asarray(InputFormat(40, "pad").apply(image))
    rows, columns = padded.any((1, 2)), padded.any((0, 2))
    assert sorted((int(rows.sum()), int(columns.sum()))) == [12, 40]
    assert np.array_equal(np.flatnonzero(rows if image is WIDE else columns), np.arange(14, 26))


def test_a_crop_after_resizing_is_that_of_a_backbone() -> None:
    """Shorter side to 40, then the 30 pixels in the centre: a part of 45 x 45 of the 60 x 200 pixels."""
    expected = WIDE.resize((30, 30), Image.Resampling.BICUBIC, (77.5, 7.5, 122.5, 52.5))
    assert same(InputFormat(30, "crop", 40, "bicubic").apply(WIDE), expected)


def test_arrays_are_brought_to_the_format_as_files_are() -> None:
    pixels = np.stack([np.asarray(WIDE.crop((left, 0, left + 60, 60))) for left in (0, 60)])
    for format in (InputFormat(60), InputFormat(60, "crop", 80), InputFormat(30)):
        expected = [np.asarray(format.apply(Image.fromarray(image))) for image in pixels]
        assert np.array_equal(format.apply_to_all(pixels), expected)


@pytest.mark.parametrize(
    "format, scale",
    [
        (InputFormat(30), 0.5),
        (InputFormat(30, resize=60), 1),
        (InputFormat(50, "pad"), 0.25),
        (InputFormat(30, "stretch"), 0.5),
    ],
)
def test_the_scale_is_that_of_the_side_that_is_scaled_least(format: InputFormat, scale: float) -> None:
    assert format.scale(WIDE.size) == format.scale(TALL.size) == scale


def test_padding_is_that_of_pillow_and_leaves_something_of_a_thin_image() -> None:
    for width, height in ((200, 60), (61, 200), (33, 32), (63, 1)):
        image = WIDE.resize((width, height))
        padded = ImageOps.pad(image, (32, 32), Image.Resampling.BILINEAR, color=(0, 0, 0))
        assert same(InputFormat(32, "pad").apply(image), padded)
    thin = Image.new("RGB", (600, 2), "white")
    for image in (thin, thin.transpose(Image.Transpose.ROTATE_90)):
        assert np.asarray(InputFormat(32, "pad").apply(image)).sum() == 32 * 3 * 255
