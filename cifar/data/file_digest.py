"""A digest of image files as they lie on the disk: it tells changed files from files that are decoded differently."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cifar.cores import available_cores
from cifar.data.storage import DISK, Storage


def digest_of_files(name: Callable[[Path], str], files: Iterable[Path], storage: Storage = DISK) -> str:
    """SHA-256 of the names that `name` gives, and the contents of files, in their order."""

    def line(path: Path) -> bytes:
        content = hashlib.sha256(storage.read(path)).digest()
        return os.fsencode(name(path)) + b"\0" + content

    with ThreadPoolExecutor(available_cores()) as pool:
        return hashlib.sha256(b"\n".join(pool.map(line, files))).hexdigest()
