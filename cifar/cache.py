"""List or clear what runs have cached: decoded images and features.

python -m cifar.cache                  # every entry: its size, its time and its content
python -m cifar.cache clear            # remove all entries
python -m cifar.cache clear KEY ...    # remove the entries whose names begin with a KEY
"""

from __future__ import annotations

from cifar import endings

if __name__ == "__main__":
    endings.prepare()

import argparse
import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from cifar.commands import as_started, module_command

KEY = "[0-9a-f]{32}"
ENTRY = re.compile(rf"({KEY})\.(?:safetensors|parts)|\.({KEY})\.safetensors\.\w+\.tmp")
"""The names of files of an entry: whatever else is in the folder is somebody else's."""


@dataclass(frozen=True)
class Entry:
    """A cache file, and the folder of an extraction that is running or was interrupted."""

    path: Path

    @property
    def blocks(self) -> Path:
        return self.path.with_suffix(".parts")

    def size(self) -> int:
        """Bytes on disk."""
        blocks = self.blocks.iterdir() if self.blocks.exists() else ()
        return sum(file.stat().st_size for file in (self.path, *blocks, *self.unfinished) if file.exists())

    @property
    def unfinished(self) -> list[Path]:
        """The files of processes that write it, or that were killed before they had."""
        return list(self.path.parent.glob(f".{self.path.name}.*.tmp"))

    def modified(self) -> datetime:
        newest = next(file for file in (self.path, self.blocks, *self.unfinished) if file.exists())
        return datetime.fromtimestamp(newest.stat().st_mtime)

    def description(self) -> str:
        """What it holds, in words."""
        if not self.path.exists():
            is_resumed = self.blocks.exists()
            return (
                f"unfinished: {'the next run that needs it resumes it' if is_resumed else 'in work, or left by a kill'}"
            )
        metadata = _metadata(self.path)
        if metadata is None:
            return "damaged: the next run that needs it makes it again"
        if "parts" not in metadata:
            return f"images in {len(json.loads(metadata['classes']))} classes"
        parts = json.loads(metadata["parts"])
        crop = parts["preprocess"]["crop"]
        seconds = float(metadata["seconds"])
        return (
            f"features of {parts['images']} images, {parts['backbone']}, {crop} pixels, {parts['precision']},"
            f" {seconds:.0f} s"
        )

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    def is_named(self, beginning: str) -> bool:
        """Whether its name begins so, with its folder or without."""
        return self.name.startswith(beginning) or self.path.name.startswith(beginning)

    def line(self) -> str:
        megabytes = self.size() / 1e6
        return f"{self.name}  {megabytes:8.1f} MB  {self.modified():%Y-%m-%d %H:%M}  {self.description()}"

    def remove(self) -> None:
        """Remove it under the lock of the processes that make it."""
        lock = Path(f"{self.path}.lock")
        with FileLock(lock):
            self.path.unlink(missing_ok=True)
            for suffix in (".checked", ".sums"):
                self.path.with_suffix(suffix).unlink(missing_ok=True)
            for file in self.unfinished:
                file.unlink(missing_ok=True)
            shutil.rmtree(self.blocks, ignore_errors=True)
        lock.unlink(missing_ok=True)


def _metadata(path: Path) -> dict[str, str] | None:
    """The metadata of a safetensors file: a length of 8 bytes, then a JSON header. None where it is damaged."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(min(length, 10**6))
        metadata: dict[str, str] = json.loads(header)["__metadata__"]
    except (ValueError, KeyError, OSError):
        return None
    return metadata if {"classes", "parts"} & metadata.keys() else None


def entries(folder: Path) -> list[Entry]:
    """All entries below a cache folder, finished or not."""
    files = [*folder.glob("images/*"), *folder.glob("features/*")]
    return [Entry(path) for path in sorted(set(filter(None, map(_entry_of, files))))]


def _entry_of(file: Path) -> Path | None:
    """The cache file that a file is a part of; None where it is none of the cache."""
    name = ENTRY.fullmatch(file.name)
    return file.with_name(f"{name[1] or name[2]}.safetensors") if name else None


def small_files(folder: Path) -> list[Path]:
    """What is known of each folder, table or archive."""
    files = [file for name in ("sizes", "unreadable", "archives") for file in (folder / name).glob("*.json")]
    return [file for file in files if re.fullmatch(KEY, file.stem)]


def main(argv: list[str]) -> None:
    options = _parser().parse_args(argv)
    folder = options.dir.expanduser()
    chosen = entries(folder)
    if options.keys:
        chosen = [entry for entry in chosen if any(map(entry.is_named, options.keys))]
    for entry in chosen:
        print(entry.line())
        if options.action == "clear":
            entry.remove()
    if options.action == "clear" and not options.keys:
        for file in small_files(folder):
            file.unlink(missing_ok=True)
    change = "removed from" if options.action == "clear" else "in"
    print(f"{len(chosen)} entries {change} {folder}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=module_command("cifar.cache"),
        description=as_started(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", nargs="?", choices=("list", "clear"), default="list")
    parser.add_argument("keys", nargs="*", help="beginnings of names; none: all entries")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("CIFAR_CACHE") or "~/.cache/cifar"))
    return parser


if __name__ == "__main__":
    endings.run(main)
