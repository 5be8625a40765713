"""List or clear what runs have cached: decoded images and features.

python -m cifar.cache                  # every entry, its size and what it is of
python -m cifar.cache clear            # remove all
python -m cifar.cache clear KEY ...    # remove those whose names begin so
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock


@dataclass(frozen=True)
class Entry:
    """A cache file, and the folder of an extraction that is under way or was interrupted."""

    path: Path

    @property
    def parts(self) -> Path:
        return self.path.with_suffix(".parts")

    def size(self) -> int:
        """Bytes on disk."""
        files = [self.path, *(self.parts.iterdir() if self.parts.exists() else ())]
        return sum(file.stat().st_size for file in files if file.exists())

    def what(self) -> str:
        """What it holds, in words."""
        if not self.path.exists():
            return "unfinished: goes on with the next run that needs it"
        metadata = _metadata(self.path)
        if metadata is None:
            return "damaged: made again by the next run that needs it"
        if "parts" not in metadata:
            return f"images in {len(json.loads(metadata['classes']))} classes"
        of = json.loads(metadata["parts"])
        seconds = float(metadata["seconds"])
        crop = of["preprocess"]["crop"]
        return f"features of {of['images']} images, {of['backbone']}, {crop} pixels, {of['precision']}, {seconds:.0f} s"

    def remove(self) -> None:
        """Under the lock of those who make it."""
        lock = Path(f"{self.path}.lock")
        with FileLock(lock):
            self.path.unlink(missing_ok=True)
            shutil.rmtree(self.parts, ignore_errors=True)
        lock.unlink(missing_ok=True)


def _metadata(path: Path) -> dict[str, Any] | None:
    """The metadata of a safetensors file: a length of 8 bytes, then a JSON header. None where it is damaged."""
    try:
        with path.open("rb") as file:
            header = file.read(min(int.from_bytes(file.read(8), "little"), 10**6))
        metadata = json.loads(header)["__metadata__"]
        return metadata if {"classes", "parts"} & metadata.keys() else None
    except (ValueError, KeyError, OSError):
        return None


def entries(folder: Path) -> list[Entry]:
    """All entries below a cache folder."""
    found = {
        path.with_suffix(".safetensors") for suffix in ("safetensors", "parts") for path in folder.glob(f"*/*.{suffix}")
    }
    return [Entry(path) for path in sorted(found)]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cifar.cache", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", nargs="?", choices=("list", "clear"), default="list")
    parser.add_argument("keys", nargs="*", help="beginnings of names; none: all")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("CIFAR_CACHE", "~/.cache/cifar")))
    options = parser.parse_args(argv)
    folder = options.dir.expanduser()
    found = [e for e in entries(folder) if not options.keys or e.path.name.startswith(tuple(options.keys))]
    for entry in found:
        newest = entry.path if entry.path.exists() else entry.parts
        when = datetime.fromtimestamp(newest.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        print(f"{entry.path.parent.name}/{entry.path.stem}  {entry.size() / 1e6:8.1f} MB  {when}  {entry.what()}")
        if options.action == "clear":
            entry.remove()
    done = "removed from" if options.action == "clear" else "in"
    print(f"{len(found)} entries {done} {folder}")


if __name__ == "__main__":
    main(sys.argv[1:])
