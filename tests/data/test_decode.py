"""Images of every mode become 8 bits, opaque and upright, by rules that depend on the image alone."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cifar.data.decode import decode
from cifar.data.images import DataError

Array = NDArray[Any]
GREY = np.arange(1024, dtype=np.float64).reshape(32, 32) % 256
"""Values from 0 to 255."""


def decoded(path: Path) -> Array:
    return decode(path)[0]


def grey_of(path: Path) -> Array:
    """The one channel of a grey image."""
    pixels = decoded(path)
    assert np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])
    return pixels[..., 0]


@pytest.mark.parametrize(
    "suffix, dtype", [("png", "<u2"), ("tif", "<u2"), ("tif", ">u2"), ("pgm", "<u2"), ("jp2", "<u2")]
)
def test_16_bits_are_divided_by_257(suffix: str, dtype: str, tmp_path: Path) -> None:
    Image.fromarray((GREY * 257).astype(dtype)).save(tmp_path / f"x.{suffix}")
    assert np.array_equal(grey_of(tmp_path / f"x.{suffix}"), GREY)


def test_16_bits_do_not_depend_on_the_largest_value(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32), 257 * 7 + 100, np.uint16)).save(tmp_path / "x.png")
    assert (decoded(tmp_path / "x.png") == 7).all()


def test_16_bits_of_which_zero_is_white_are_no_negative(tmp_path: Path) -> None:
    Image.fromarray((GREY * 257).astype("<u2")).save(tmp_path / "x.tif", tiffinfo={262: 0})
    assert np.array_equal(grey_of(tmp_path / "x.tif"), 255 - GREY)


def tiff(path: Path, pixels: bytes, bits: int, sample_format: int | None) -> None:
    """A grey TIFF of 32x32 pixels, with the tags that Pillow does not write."""
    tags = [(256, 32), (257, 32), (258, bits), (259, 1), (262, 1), (273, 0), (277, 1), (278, 32), (279, len(pixels))]
    tags += [(339, sample_format)] if sample_format else []
    start = 8 + 2 + 12 * len(tags) + 4
    entries = [struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags]
    head = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)
    path.write_bytes(head + pixels)


def test_12_bits_are_scaled_by_their_own_range(tmp_path: Path) -> None:
    values = np.repeat([0, 4095, 2048, 1024], 256)
    pairs = values.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
    tiff(tmp_path / "x.tif", packed.astype(np.uint8).tobytes(), 12, 1)
    assert np.unique(grey_of(tmp_path / "x.tif")).tolist() == [0, 64, 128, 255]


@pytest.mark.parametrize("sample_format", [1, None])
def test_unsigned_integers_of_32_bits_are_no_negative_ones(sample_format: int | None, tmp_path: Path) -> None:
    values = (GREY * (2**32 // 256)).astype("<u4")
    tiff(tmp_path / "x.tif", values.tobytes(), 32, sample_format)
    assert np.array_equal(grey_of(tmp_path / "x.tif"), np.rint(GREY * 255 / GREY.max()))


def test_integers_of_32_bits_are_as_16_bits_where_they_fit(tmp_path: Path) -> None:
    Image.fromarray((GREY * 257).astype(np.int32)).save(tmp_path / "x.tif")
    assert np.array_equal(grey_of(tmp_path / "x.tif"), GREY)


@pytest.mark.parametrize("low, high", [(0, 65536), (-100, 100), (-(2**31), 2**31 - 1), (10**6, 2 * 10**6)])
def test_larger_integers_are_scaled_from_their_range(low: int, high: int, tmp_path: Path) -> None:
    values = np.rint(low + GREY / 255 * (high - low)).astype(np.int32)
    Image.fromarray(values).save(tmp_path / "x.tif")
    assert np.abs(grey_of(tmp_path / "x.tif") - GREY).max() <= 1


def test_a_constant_of_large_integers_is_decoded(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32), 10**6, np.int32)).save(tmp_path / "x.tif")
    assert (grey_of(tmp_path / "x.tif") == 0).all()


@pytest.mark.parametrize("suffix", ["tif", "pfm"])
def test_floats_from_0_to_1_are_multiplied_by_255(suffix: str, tmp_path: Path) -> None:
    Image.fromarray((GREY / 255).astype(np.float32)).save(tmp_path / f"x.{suffix}")
    assert np.array_equal(grey_of(tmp_path / f"x.{suffix}"), GREY)


@pytest.mark.parametrize(
    "low, high, named", [(0, 255, "0 to 255"), (-1, 1, "-1 to 1"), (0, 1.5, "0 to 1.5"), (np.nan, 1, "nan")]
)
def test_other_floats_are_refused(low: float, high: float, named: str, tmp_path: Path) -> None:
    values = np.full((32, 32), low, np.float32)
    values[0, 0] = high
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=rf"{tmp_path}/x\.tif: it has floats from {named}.*allowed: floats in \[0, 1\]"):
        decode(tmp_path / "x.tif")


HIDDEN = (200, 30, 60)
"""The colour of pixels that are transparent."""


def palette_with_transparency(path: Path) -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, *HIDDEN])
    image.paste(0, (0, 0, 16, 32))
    image.save(path, transparency=1)


def grey_with_alpha(path: Path) -> None:
    image = Image.new("LA", (32, 32), (77, 0))
    image.paste((0, 255), (0, 0, 16, 32))
    image.save(path)


def colour_with_alpha(path: Path) -> None:
    image = Image.new("RGBA", (32, 32), (*HIDDEN, 0))
    image.paste((0, 0, 0, 255), (0, 0, 16, 32))
    image.save(path, **({"lossless": True} if path.suffix == ".webp" else {}))


def one_transparent_colour(path: Path) -> None:
    image = Image.new("RGB", (32, 32), HIDDEN)
    image.paste((0, 0, 0), (0, 0, 16, 32))
    image.save(path, transparency=HIDDEN)


def one_transparent_grey(path: Path) -> None:
    image = Image.new("L", (32, 32), 77)
    image.paste(0, (0, 0, 16, 32))
    image.save(path, transparency=77)


def one_transparent_grey_of_16_bits(path: Path) -> None:
    values = np.full((32, 32), 30000, np.uint16)
    values[:, :16] = 0
    Image.fromarray(values).save(path, transparency=30000)


def palette_and_alpha(path: Path) -> None:
    image = Image.new("PA", (32, 32), (1, 0))
    image.putpalette([0, 0, 0, *HIDDEN])
    image.paste((0, 255), (0, 0, 16, 32))
    image.save(path)


@pytest.mark.parametrize(
    "save, suffix",
    [
        *((palette_with_transparency, suffix) for suffix in ("png", "gif")),
        *((colour_with_alpha, suffix) for suffix in ("png", "webp", "tif", "tga")),
        *((grey_with_alpha, suffix) for suffix in ("png", "tif")),
        *((save, "png") for save in (one_transparent_colour, one_transparent_grey, one_transparent_grey_of_16_bits)),
        (palette_and_alpha, "tif"),
    ],
)
def test_what_is_transparent_becomes_white(save: Any, suffix: str, tmp_path: Path) -> None:
    save(tmp_path / f"x.{suffix}")
    pixels = decoded(tmp_path / f"x.{suffix}")
    assert (pixels[:, :16] <= 3).all() and (pixels[:, 16:] == 255).all()


def test_what_is_half_transparent_is_mixed_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (0, 100, 255, 128)).save(tmp_path / "x.png")
    assert np.abs(decoded(tmp_path / "x.png").astype(int) - [127, 177, 255]).max() <= 1


def test_hidden_colours_are_gone_before_the_image_is_resized(tmp_path: Path) -> None:
    image = Image.new("RGBA", (64, 64), (*HIDDEN, 0))
    image.save(tmp_path / "x.png")
    assert (decoded(tmp_path / "x.png") == 255).all()


def test_opaque_alpha_changes_no_bit(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    image.convert("RGBA").save(tmp_path / "x.png")
    pixels, changes, _ = decode(tmp_path / "x.png")
    assert np.array_equal(pixels, np.asarray(image)) and not any("transparent pixels" in change for change in changes)


@pytest.mark.parametrize(
    "mode, suffix", [("CMYK", "tif"), ("CMYK", "jpg"), ("YCbCr", "tif"), ("LAB", "tif"), ("RGB", "webp")]
)
def test_colours_of_other_modes_are_those_of_rgb(mode: str, suffix: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32), HIDDEN)
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
        assert converted is not None
    else:
        converted = image.convert(mode)
    converted.save(tmp_path / f"x.{suffix}")
    assert np.abs(decoded(tmp_path / f"x.{suffix}").astype(int) - HIDDEN).max() <= 4


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(
    "mode, suffix",
    [
        *((mode, suffix) for mode in ("RGB", "L", "I;16", "RGBA") for suffix in ("png", "tif")),
        *(("RGB", "jpg"), ("L", "jpg"), ("RGB", "webp"), ("RGBA", "webp")),
    ],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_of_every_size_are_turned_upright(
    orientation: int, mode: str, suffix: str, size: int, tmp_path: Path
) -> None:
    """The upper left quarter of the upright image is white."""
    upright = np.zeros((size, size), np.uint8)
    upright[: size // 2, : size // 2] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x112] = orientation
    image = Image.fromarray(stored.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(stored).convert(mode)
    image.save(tmp_path / f"x.{suffix}", exif=exif)
    pixels = decoded(tmp_path / f"x.{suffix}").astype(int)
    quarters = [pixels[row : row + 12, column : column + 12].mean() for row in (2, 18) for column in (2, 18)]
    assert quarters[0] > 240 and max(quarters[1:]) < 15


def test_damaged_exif_data_do_not_make_an_image_unreadable(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), HIDDEN).save(tmp_path / "x.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert (decoded(tmp_path / "x.png") == HIDDEN).all()


def test_what_was_done_is_said(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), 1000, np.uint16)).save(tmp_path / "x.png", transparency=1000)
    _, changes, _ = decode(tmp_path / "x.png")
    words = ("converted to RGB", "divided by 257", "put on white", "resized to 32x32")
    assert [any(word in change for change in changes) for word in words] == [True] * 4


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "gif", "tif", "webp", "bmp", "ppm", "tga", "jp2", "psd", "ico", "pcx"]
)
@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"text, not pixels"])
def test_a_damaged_file_of_any_format_is_named(content: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"x.{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.{suffix}: not an image that can be decoded"):
        decode(tmp_path / f"x.{suffix}")
