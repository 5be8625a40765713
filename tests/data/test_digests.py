from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar.data import digests
from cifar.data.decode import decode
from cifar.data.preprocessing import InputFormat

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def digest(path: Path, size: int = 16) -> bytes:
    return decode(path, InputFormat(size)).digest


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = value
    return exif


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_the_digest_is_of_what_the_image_shows_at_its_own_size(tmp_path: Path, suffix: str) -> None:
    one, other, changed = (tmp_path / f"{name}.{suffix}" for name in ("one", "other", "changed"))
    for path in (one, other):
        Image.fromarray(PIXELS).save(path)
    different = PIXELS.copy()
    different[:8, :8] = 0
    Image.fromarray(different).save(changed)
    assert digest(one) == digest(other) == digest(one, size=64)
    assert digest(one) != digest(changed)


def test_metadata_do_not_count_and_the_orientation_does(tmp_path: Path) -> None:
    plain, dated, turned = (tmp_path / f"{name}.jpg" for name in ("plain", "dated", "turned"))
    date = Image.Exif()
    date[0x132] = "2026:01:01 00:00:00"
    Image.fromarray(PIXELS).save(plain)
    Image.fromarray(PIXELS).save(dated, exif=date, comment=b"taken at noon")
    Image.fromarray(PIXELS).save(turned, exif=orientation(6))
    assert digest(plain) == digest(dated) != digest(turned)


def test_an_image_that_exif_turns_equals_one_that_is_upright(tmp_path: Path) -> None:
    upright, turned = tmp_path / "upright.png", tmp_path / "turned.png"
    Image.fromarray(PIXELS).save(upright)
    Image.fromarray(PIXELS).transpose(Image.Transpose.ROTATE_90).save(turned, exif=orientation(6))
    assert digest(upright) == digest(turned)


def test_the_same_pixels_in_two_lossless_formats_are_equal(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    Image.fromarray(PIXELS).save(tmp_path / "x.bmp")
    assert digest(tmp_path / "x.png") == digest(tmp_path / "x.bmp")


def test_what_follows_a_jpeg_does_not_count(tmp_path: Path) -> None:
    for name, progressive, interval in (("baseline", False, 0), ("progressive", True, 0), ("restarts", False, 1)):
        path = tmp_path / f"{name}.jpg"
        Image.fromarray(PIXELS).save(path, progressive=progressive, restart_marker_rows=interval)
        content = path.read_bytes()
        assert content.count(b"\xff\xda") > 1 or not progressive
        plain = digest(path)
        path.write_bytes(content + b"a trailer \xff\xda of a phone" + content)
        assert digest(path) == plain
        data = content.rindex(b"\xff\xda") + 20  # of the last scan
        path.write_bytes(content[:data] + bytes([content[data] ^ 1]) + content[data + 1 :])
        assert digest(path) != plain
    Image.fromarray(PIXELS).save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    Image.fromarray(PIXELS).save(tmp_path / "one.jpg")
    assert digest(tmp_path / "two.jpg") == digest(tmp_path / "one.jpg")


def test_lossy_formats_do_not_depend_on_their_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.webp")
    Image.fromarray(PIXELS).save(tmp_path / "x.avif")
    before = digest(tmp_path / "x.webp"), digest(tmp_path / "x.avif")
    monkeypatch.setattr(digests, "digest_of_pixels", None)
    assert before == (digest(tmp_path / "x.webp"), digest(tmp_path / "x.avif"))
    assert before[0] != before[1]
