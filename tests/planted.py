"""A small folder of images with planted faults, and keys to inspect it with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

CLASSES = ("cat", "dog")
ODD_CLASS = "=<b>&'"


def photograph(number: int, side: int = 64) -> Image.Image:
    """Clouds of random colours with some edges."""
    random = np.random.default_rng(number)
    clouds = Image.fromarray(random.integers(20, 236, (8, 8, 3), dtype=np.uint8))
    blocks = Image.fromarray(random.integers(0, 90, (16, 16, 3), dtype=np.uint8))
    smooth = np.asarray(clouds.resize((side, side), Image.Resampling.BICUBIC), np.int64)
    edges = np.asarray(blocks.resize((side, side), Image.Resampling.NEAREST), np.int64)
    return Image.fromarray(np.clip(smooth + edges, 0, 255).astype(np.uint8))


def plant(root: Path) -> None:
    """81 images in three parts, with faults, in the folder `root`."""
    number = 0
    for part, count in (("train", 24), ("val", 4), ("test", 4)):
        for name in (*CLASSES, ODD_CLASS) if part == "train" else CLASSES:
            (root / part / name).mkdir(parents=True)
            for _ in range(count if name in CLASSES else 4):
                number += 1
                photograph(number).save(root / part / name / f"{number:03}.jpg", quality=95)
    cats, dogs = (root / "train" / name for name in CLASSES)
    content = (cats / "001.jpg").read_bytes()
    (cats / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (cats / "nothing.jpg").write_bytes(b"")
    (cats / "Thumbs.db").write_bytes(b"no image")
    (cats / "copy.jpg").write_bytes((cats / "002.jpg").read_bytes())
    (cats / "new\nline \udcff.jpg").write_bytes((cats / "007.jpg").read_bytes())
    (dogs / "other class.jpg").write_bytes((cats / "003.jpg").read_bytes())
    (root / "test" / "cat" / "leaked.jpg").write_bytes((cats / "004.jpg").read_bytes())
    with Image.open(cats / "005.jpg") as image:
        image.resize((128, 128)).save(cats / "double.jpg", quality=95)
    with Image.open(cats / "006.jpg") as image:
        image.save(root / "val" / "cat" / "quality.jpg", quality=30)
    photograph(500).convert("RGBA").save(cats / "alpha.png")
    photograph(501).filter(ImageFilter.GaussianBlur(6)).save(cats / "blurred.jpg")
    photograph(502).point(lambda value: value // 8).save(cats / "dark.jpg")
    photograph(503).resize((200, 20)).save(cats / "wide.jpg")
    Image.new("RGB", (64, 64), (90, 120, 90)).save(cats / "-empty.jpg")


def keys(folder: Path, out: Path, *more: str) -> list[str]:
    cache = f"cache.dir={out / 'cache'}"
    return ["data=image_folder", f"data.root={folder}", cache, "device=cpu", "--out", str(out), *more]


def state(folder: Path) -> list[tuple[str, int, str]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(str(path), path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
