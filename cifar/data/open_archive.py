"""Opens the archive that data.root names, whatever its kind, by its first bytes."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from cifar.data.archive import Archive
from cifar.data.tar_members import open_tar
from cifar.data.zip_members import open_zip

ZIP = b"PK"


class RecentArchives:
    """Remembers the archives that were opened last, with their listings, as long as their files stay as they are."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._archives: dict[tuple[str, int, int], Archive] = {}
        self._lock = Lock()

    def open(self, path: Path, cache_dir: Path | None = None) -> Archive:
        """Raises DataError for a file that is no archive, is damaged or is not allowed; OSError where there is none.

        `cache_dir`: where what is known of it is kept, and where it is decompressed; None: only in this process.
        """
        status = path.stat()
        key = (str(path), status.st_size, status.st_mtime_ns)
        with self._lock:
            archive = self._archives.pop(key, None) or _open(path, cache_dir)
            self._archives[key] = archive
            for oldest in list(self._archives)[: -self._size]:
                self._archives.pop(oldest).close()
        return archive


def _open(path: Path, cache_dir: Path | None) -> Archive:
    with path.open("rb") as file:
        is_zip = file.read(2) == ZIP
    return open_zip(path) if is_zip else open_tar(path, cache_dir)


RECENT = RecentArchives(2)
"""Those of this process: what a data set consists of is asked for several times at a start."""
