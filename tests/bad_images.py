"""Files that a person may take for images, or that an attacker sends: 100 that are refused, some that are odd but fine.

paths = bad_files(folder)              # every one is refused by cifar.data.decode, with one line
contents = regular(paths)              # those with content, which can be sent to a server
readable = odd_files(other_folder)     # unusual ones that can be decoded
"""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
ODD_NAMES = (
    *("new\nline", "tab\there", "-rf", "--help", "two  spaces ", "quote'and\"", "back\\slash", "$(touch x)", "a;b&c|d"),
    *("%s%n{0}", "[abc]", "star*?", "comma,1", "\u732b\U0001f408", "\x1b[31mred", "\u202egnp", "n" * 240, "byte\udcff"),
)
"""Stems of names; the last one is no UTF-8."""


def pixels(width: int = 40, height: int = 30, channels: int = 3) -> NDArray[np.uint8]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def encoded(format: str = "PNG", image: Image.Image | None = None, **options: Any) -> bytes:
    """An image, by default of noise, as the content of a file."""
    content = io.BytesIO()
    (image or Image.fromarray(pixels())).save(content, format, **options)
    return content.getvalue()


def bad_files(folder: Path) -> list[Path]:
    """Make 100 files that are no images in `folder`; the paths. The last ones are no regular files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in _contents():
        path = folder / name
        path.write_bytes(content)
        paths.append(path)
    return [*paths, *_special(folder)]


def regular(paths: list[Path]) -> list[Path]:
    """Those that are regular files: a FIFO or a device must not be opened to read its content."""
    return [path for path in paths if path.is_file()]


def odd_files(folder: Path) -> list[Path]:
    """Make images that are unusual, by their content or by their name, and can be decoded."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in [*_odd_contents(), *((f"{stem}.png", encoded()) for stem in ODD_NAMES)]:
        path = folder / name
        path.write_bytes(content)
        paths.append(path)
    return paths


def _contents() -> Iterator[tuple[str, bytes]]:
    for format in FORMATS:
        content = encoded(format)
        for share in (0, 1, 4, 8):  # in sixteenths
            yield f"cut at {share} of 16.{format.lower()}", content[: len(content) * share // 16]
    yield from _others()
    yield from _damaged()
    yield from _bombs()
    for stem in ODD_NAMES:
        yield f"{stem}.png", encoded()[:100]


def _others() -> Iterator[tuple[str, bytes]]:
    """Content of another kind."""
    yield "text.png", b"This is a cat.\n" * 100
    yield "page.jpg", b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>"
    yield "vector.png", b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
    yield "entity.png", b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>'
    yield "data.jpg", b'{"image": "cat"}'
    yield "document.png", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj <<>> endobj"
    yield "archive.png", b"PK\x03\x04" + bytes(200)
    yield "gzip.jpg", zlib.compress(bytes(10**6), wbits=31)
    yield "program.png", b"\x7fELF\x02\x01\x01" + bytes(500)
    yield "film.jpg", struct.pack(">I", 24) + b"ftypmp42" + bytes(400)
    yield "pickle.png", b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."
    yield "array.png", b"\x93NUMPY\x01\x00" + bytes(200)
    yield "database.png", b"SQLite format 3\x00" + bytes(1000)
    yield "zeros.png", bytes(10**5)
    yield "ones.jpg", b"\xff" * 10**5
    yield "noise.png", np.random.default_rng(1).bytes(10**5)
    yield "lines.png", b"\n" * 10**5
    yield "utf16.png", "cat".encode("utf-16")
    yield "postscript.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(r) file\n"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes, bits: int = 1, color: int = 0, interlace: int = 0) -> bytes:
    """A PNG of these chunks, with the header before them."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(chunks) + _chunk(b"IEND", b"")


def _damaged() -> Iterator[tuple[str, bytes]]:
    data = _chunk(b"IDAT", zlib.compress(bytes(100)))
    yield "no width.png", png(0, 8, data)
    yield "no data.png", png(8, 8)
    yield "little data.png", png(800, 800, data)
    yield "no zlib.png", png(8, 8, _chunk(b"IDAT", b"cat" * 20))
    yield "unknown color.png", png(8, 8, data, bits=8, color=5)
    yield "huge chunk.png", png(8, 8)[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT" + bytes(50)
    content = encoded()
    yield "header checksum.png", content[:20] + bytes([content[20] ^ 255]) + content[21:]
    yield "data checksum.png", content[:400] + bytes([content[400] ^ 255]) + content[401:]
    yield "no size.gif", b"GIF89a" + bytes(10)
    yield "no size.bmp", encoded("BMP")[:18] + bytes(8) + encoded("BMP")[26:]
    yield "offset.tiff", b"II*\x00" + struct.pack("<I", 2**31)
    yield "loop.tiff", b"II*\x00" + struct.pack("<IHI", 8, 0, 8)
    yield "letters.ppm", b"P6\nforty thirty\n255\n"
    yield "negative.ppm", b"P6\n-4 -4\n255\n" + bytes(48)
    yield "no entries.ico", b"\x00\x00\x01\x00\x00\x00"
    yield "only markers.jpg", b"\xff\xd8\xff\xd9"
    for name, value in (("large", 7.5), ("undefined", np.nan)):
        yield f"{name} floats.tiff", encoded("TIFF", Image.fromarray(np.full((4, 4), value, np.float32)))


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Small files of images that need gigabytes."""
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(2501 * 1000)) for _ in range(20)) + rows.flush()
    yield "bomb.png", png(20000, 20000, _chunk(b"IDAT", packed))
    yield "bomb of 50000.png", png(50000, 50000, _chunk(b"IDAT", zlib.compress(bytes(6251 * 100))))
    yield "bomb.bmp", encoded("BMP")[:18] + struct.pack("<ii", 60000, 60000) + encoded("BMP")[26:]
    yield "bomb.gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + encoded("GIF")[10:]
    yield "bomb.ppm", b"P6\n100000 100000\n255\n"
    text = zlib.compress(bytes(5 * 10**7), 9)
    yield (
        "bomb of text.png",
        png(8, 8, _chunk(b"zTXt", b"Comment\x00\x00" + text), _chunk(b"IDAT", zlib.compress(bytes(16)))),
    )
    profile = _chunk(b"iCCP", b"profile\x00\x00" + text)
    yield "bomb of a profile.png", png(8, 8, profile, _chunk(b"IDAT", zlib.compress(bytes(16))))


def _special(folder: Path) -> list[Path]:
    """What a name of an image may be besides a file. Nothing of it may be waited for."""
    pipe, bound = folder / "pipe.png", folder / "socket.png"
    os.mkfifo(pipe)
    place = Path.cwd()
    os.chdir(folder)  # the path of a socket is at most 107 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(bound.name)
    finally:
        os.chdir(place)
    links = {
        "zero.png": "/dev/zero",
        "null.png": "/dev/null",
        "random.jpg": "/dev/urandom",
        "nothing.png": "missing.png",
    }
    links |= {"one.png": "other.png", "other.png": "one.png"}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    directory = folder / "directory.jpg"
    directory.mkdir()
    locked = folder / "locked.png"
    locked.write_bytes(b"")  # root may read it
    locked.chmod(0)
    return [locked, directory, pipe, bound, *(folder / name for name in links)]


def _odd_contents() -> Iterator[tuple[str, bytes]]:
    color, grey = Image.fromarray(pixels()), Image.fromarray(pixels(channels=1))
    alpha = Image.fromarray(pixels(channels=4))
    frames = [Image.fromarray(pixels() // step) for step in (1, 2, 3)]
    yield "alpha.png", encoded("PNG", alpha)
    yield "grey alpha.png", encoded("PNG", alpha.convert("LA"))
    yield "grey.png", encoded("PNG", grey)
    yield "black and white.png", encoded("PNG", grey.convert("1"))
    yield "palette.png", encoded("PNG", color.quantize(16), transparency=3)
    yield "16 bits.png", encoded("PNG", Image.fromarray(pixels(channels=1).astype(np.uint16) * 257))
    yield "32 bits.tiff", encoded("TIFF", Image.fromarray(pixels(channels=1).astype(np.int32) * 10**6))
    yield "floats.tiff", encoded("TIFF", Image.fromarray((pixels(channels=1) / 255).astype(np.float32)))
    yield "cmyk.jpg", encoded("JPEG", color.convert("CMYK"))
    yield "progressive.jpeg", encoded("JPEG", color, progressive=True)
    yield "animated.gif", encoded("GIF", frames[0], save_all=True, append_images=frames[1:])
    yield "animated.webp", encoded("WEBP", frames[0], save_all=True, append_images=frames[1:])
    yield "pages.tiff", encoded("TIFF", frames[0], save_all=True, append_images=frames[1:])
    yield "is a jpeg.png", encoded("JPEG")
    yield "CAPITALS.PNG", encoded()
    yield "one pixel.png", encoded("PNG", color.resize((1, 1)))
    yield "narrow.png", encoded("PNG", color.resize((1, 2000)))
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "on its side.jpg", encoded("JPEG", color, exif=exif)
