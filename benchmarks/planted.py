"""Planted faults in a folder of 500 real images: which of them an inspection finds, and what it says of clean images.

python -m benchmarks planted --photographs DIR --small DIR

DIR of --photographs holds Debian's plasma-workspace-wallpapers and mate-backgrounds, unpacked (dpkg -x); those of
scikit-image and scikit-learn are added. Each photograph is cut into parts that do not overlap, brought to 240 pixels
and more. DIR of --small holds <class>/*, of CIFAR-10. HEIC needs pillow-heif.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from benchmarks.common import save
from benchmarks.typed import BACKBONE
from cifar.compose import composed
from cifar.inspection.__main__ import inspect
from cifar.inspection.report import Sheet

SCENES = {
    "flower": ("FreshFlower", "Garden", "YellowFlower", "TwoWings", "LadyBird", "flower"),
    "plant": ("Blinds", "GreenMeadow", "RainDrops", "OneStandsOut", "Path", "Dune", "FallenLeaf"),
    "water": ("Aqua", "BytheWater", "ColdRipple", "DarkestHour", "EveningGlow", "summer_1am"),
    "distance": ("Storm", "Kite", "rocket", "hubble_deep_field", "china", "moon"),
    "thing": ("ColorfulCups", "Grey", "Wood", "coffee", "chelsea", "astronaut", "motorcycle_left", "coins", "camera"),
}
"""The photographs of each class, by name."""
SMALL = ("airplane", "automobile", "frog", "horse", "ship")
PHOTOGRAPHS, SMALL_EACH = 250, 50
SHORTER = 240
"""Pixels of the shorter side of parts of photographs."""
EACH, EXACT, BLURRED, MISLABELLED = 10, 10, 10, 20
"""How many are planted: of each kind of near copies, exact copies, blurred images and wrong labels."""
FEW = 3
"""Of each kind of odd files."""
EXACT_KINDS = ("truncated", "0 bytes", "16 bits", "RGBA", "exact")
NEAR_KINDS = ("half", "double", "shifted", "brighter", "quality 30")
EXPECTED = {
    **{kind: {"unreadable"} for kind in ("truncated", "0 bytes")},
    **{kind: {"odd_mode"} for kind in ("16 bits", "RGBA")},
    "exact": {"duplicate", "leak"},
    **{kind: {"near_duplicate", "leak"} for kind in NEAR_KINDS},
    "blurred": {"blurred"},
    "mislabelled": {"label"},
}
"""The kinds of findings that each planted kind should have."""
Change = Callable[[Image.Image], Image.Image]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks planted", description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="keep the folder of images here, to look at")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary) / "images"
        clean = make_images(root / "train", options.photographs, options.small)
        planted = Planted(root / "train", clean).plant()
        before = state(root)
        results: dict[str, Any] = {}
        for name, keys in (("pixels", ()), ("features", ("transfer=frozen", *BACKBONE))):
            start = time.perf_counter()
            config = composed(
                *("data=image_folder", f"data.root={root}", f"cache.dir={temporary}/cache", "device=cpu", *keys)
            )
            sheet = inspect(config, labels=name == "features", bar=False)
            results[name] = planted.judge(sheet) | {"seconds": round(time.perf_counter() - start, 1)}
        results["folder untouched"] = state(root) == before
    pixels, features = results["pixels"], results["features"]
    figure = (
        f"exact kinds {pixels['exact kinds']}; near copies {pixels['near copies']} from pixels,"
        f" {features['near copies']} with EfficientNet-Lite0; blurred {pixels['blurred']}; wrong labels"
        f" {features['mislabelled']} with EfficientNet-Lite0; clean images flagged {pixels['clean flagged']}, with"
        f" labels and features {features['clean flagged']}"
    )
    what = "faults planted in 500 real images, of 32 and of 240 pixels and more: found of all"
    save("planted", "python -m benchmarks planted", {"what": what, "figure": figure, "results": results})


def make_images(folder: Path, photographs: Path, small: Path) -> list[Path]:
    """Write the clean images to folder/<class>/*, and return their paths."""
    files = []
    parts = [(scene, part) for scene, names in SCENES.items() for name in names for part in pieces(photographs, name)]
    chosen = np.random.default_rng(0).permutation(len(parts))[:PHOTOGRAPHS]
    if len(chosen) < PHOTOGRAPHS:
        raise SystemExit(f"error: {len(chosen)} parts of photographs; allowed: {PHOTOGRAPHS} or more")
    for number in sorted(chosen.tolist()):
        scene, part = parts[number]
        files.append(folder / scene / f"{number:04}.jpg")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        part.save(files[-1], quality=92)
    for name in SMALL:
        (folder / name).mkdir()
        for source in sorted((small / name).glob("*.jpg"))[:SMALL_EACH]:
            files.append(Path(shutil.copy(source, folder / name / source.name)))
    return files


def pieces(folder: Path, name: str) -> Iterator[Image.Image]:
    """A photograph in 3 x 3 parts, a small one in 2 x 2."""
    image = Image.open(_photograph(folder, name)).convert("RGB")
    count = 3 if min(image.size) >= 3 * SHORTER else 2
    width, height = image.width // count, image.height // count
    scale = max(SHORTER / min(width, height), 1 / 4)
    size = (round(width * scale), round(height * scale))
    for row in range(count):
        for column in range(count):
            box = (column * width, row * height, (column + 1) * width, (row + 1) * height)
            yield image.resize(size, Image.Resampling.LANCZOS, box)


def _photograph(folder: Path, name: str) -> Path:
    import skimage
    import sklearn.datasets

    places = [folder, Path(skimage.__file__).parent / "data", Path(sklearn.datasets.__file__).parent / "images"]
    files = [file for place in places for file in place.rglob(f"{name}.*")]
    files += list(folder.rglob(f"{name}/contents/images/*"))
    files = [
        file
        for file in files
        if file.suffix in (".jpg", ".png") and not file.is_symlink() and file.stat().st_size > 20000
    ]
    return max(files, key=lambda file: file.stat().st_size)


def half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def double(image: Image.Image) -> Image.Image:
    return image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC)


def shifted(image: Image.Image) -> Image.Image:
    """By one pixel; what enters is what was at the border."""
    return Image.fromarray(np.pad(np.asarray(image), ((0, 0), (1, 0), (0, 0)), mode="edge")[:, :-1])


def brighter(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.15)


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(1.5, max(image.size) / 66)))


def grey_of_16_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)


@dataclass
class Planted:
    """Faults in a folder of clean images: each file of one kind, and the files that were copied."""

    folder: Path
    clean: list[Path]
    by_kind: dict[str, set[Path]] = field(default_factory=lambda: defaultdict(set))
    copied: set[Path] = field(default_factory=set)

    def plant(self) -> Planted:
        from pillow_heif import register_heif_opener

        register_heif_opener()
        order = np.random.default_rng(1).permutation(len(self.clean))
        unused = iter([self.clean[index] for index in order])
        for _ in range(FEW):
            self._odd_files(unused)
        for _ in range(EXACT):
            self._copy(next(unused), "exact", lambda source, target: shutil.copy(source, target))
        for change in (half, double, shifted, brighter):
            for _ in range(EACH):
                self._copy(next(unused), change.__name__, _saved(change, 92))
        for _ in range(EACH):
            self._copy(next(unused), "quality 30", _saved(lambda image: image, 30))
        for _ in range(BLURRED):
            self._replace(next(unused), "blurred", lambda path: _saved(blurred, 92)(path, path))
        for _ in range(MISLABELLED):
            self._mislabel(next(unused))
        (self.folder / "frog" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0 no image")
        return self

    def _odd_files(self, unused: Iterator[Path]) -> None:
        image = next(unused)
        self._replace(image, "truncated", lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]))
        self._replace(next(unused), "0 bytes", lambda path: path.write_bytes(b""))
        self._convert(next(unused), "16 bits", ".png", grey_of_16_bits)
        self._convert(next(unused), "RGBA", ".png", lambda image: image.convert("RGBA"))
        self._convert(next(unused), "HEIC", ".heic", lambda image: image)

    def _copy(self, source: Path, kind: str, write: Callable[[Path, Path], object]) -> None:
        target = source.with_name(f"{hashlib.md5(f'{kind}{source}'.encode()).hexdigest()[:8]}.jpg")
        write(source, target)
        self.by_kind[kind].add(target)
        self.copied.add(source)

    def _replace(self, path: Path, kind: str, write: Callable[[Path], object]) -> None:
        write(path)
        self.by_kind[kind].add(path)

    def _convert(self, path: Path, kind: str, suffix: str, change: Change) -> None:
        target = path.with_suffix(suffix)
        with Image.open(path) as image:
            change(image.convert("RGB")).save(target)
        path.unlink()
        self.by_kind[kind].add(target)

    def _mislabel(self, path: Path) -> None:
        """Move an image to another class of about its size."""
        classes = [*SMALL] if path.parent.name in SMALL else [*SCENES]
        other = classes[(classes.index(path.parent.name) + 1) % len(classes)]
        target = path.rename(self.folder / other / f"moved-{path.name}")
        self.by_kind["mislabelled"].add(target)

    def judge(self, sheet: Sheet) -> dict[str, object]:
        """How many of each planted kind the findings have, as FOUND/ALL, and which clean images they flag."""
        flagged: dict[Path, set[str]] = defaultdict(set)
        for row in (row for rows in sheet.findings.values() for row in rows):
            for name in filter(None, (row.file, row.related)):
                flagged[self.folder.parent / name].add(row.kind)
        hits = {
            kind: (sum(bool(names & flagged[path]) for path in self.by_kind[kind]), len(self.by_kind[kind]))
            for kind, names in EXPECTED.items()
        }
        planted = {path for paths in self.by_kind.values() for path in paths} | self.copied
        clean = [path for path in self.clean if path not in planted and path.exists()]
        wrong = {str(path.relative_to(self.folder)): sorted(flagged[path]) for path in clean if flagged[path]}
        readable = sum("unreadable" not in flagged[path] for path in self.by_kind["HEIC"])
        return {
            "exact kinds": _share([hits[kind] for kind in EXACT_KINDS]),
            "near copies": _share([hits[kind] for kind in NEAR_KINDS]),
            **{kind: _share([pair]) for kind, pair in hits.items()},
            "HEIC read": f"{readable}/{FEW}",
            "clean flagged": f"{len(wrong)}/{len(clean)}",
            "flagged": Counter(kind for kinds in wrong.values() for kind in kinds),
        }


def _saved(change: Change, quality: int) -> Callable[[Path, Path], object]:
    def write(source: Path, target: Path) -> None:
        with Image.open(source) as image:
            changed = change(image.convert("RGB"))
        changed.save(target, quality=quality)

    return write


def _share(hits: list[tuple[int, int]]) -> str:
    return f"{sum(count for count, _ in hits)}/{sum(total for _, total in hits)}"


def state(folder: Path) -> list[tuple[str, int, str]]:
    """The names, times and contents of all files."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        (str(path.relative_to(folder)), path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
    ]
