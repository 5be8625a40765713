"""Archives are read as the folders that they were made of; those that are not allowed are refused by name."""

from __future__ import annotations

import io
import pkgutil
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bad_images import encoded
from PIL import Image

from cifar.data import archive, folder
from cifar.data.images import DataError, Images
from cifar.data.open_archive import RecentArchives
from cifar.data.request import Request
from cifar.options.data import ImageFolder

MakeFolder = Callable[..., Path]
PNG = encoded(image=Image.new("RGB", (8, 8), "red"))
CLASSES = (("cat/1.png", PNG), ("dog/1.png", PNG))
Link = tuple[str, str]


def read(root: Path, part: str = "train", unreadable: str = "error") -> Images:
    option = ImageFolder(root=str(root), unreadable=unreadable)
    return folder.image_folder(option, Request(part, root.parent / "cache"))


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
@pytest.mark.parametrize("inner", ["images", "."])
def test_an_archive_gives_what_its_folder_gives(kind: str, inner: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(parts=("train", "valid"), each=3)
    file = Path(shutil.make_archive(str(tmp_path / "packed"), kind, root if inner == "." else tmp_path, inner))
    option = ImageFolder(root=str(file))
    for part in ("train", "val"):
        one, other = read(root, part), read(file, part)
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        assert one.digests is not None and other.digests is not None and torch.equal(one.digests, other.digests)
        facts = [(images.fingerprint, images.files, images.names, images.classes) for images in (one, other)]
        assert facts[0] == facts[1]
    assert folder.has_val(option) and folder.has_parts(option)
    assert folder.common_size(option, Request("train", tmp_path / "cache")) == 32
    assert folder.reader(option, tmp_path)("train/cat/0.png") == (root / "train" / "cat" / "0.png").read_bytes()
    kept = {path.name for path in (tmp_path / "cache").iterdir()}
    assert kept <= {"images", "sizes", "archives"}  # nothing decompressed stays


def zipped(file: Path, *members: tuple[str, bytes | str], kind: int = 0) -> Path:
    """A .zip file; a text is the target of a link, `kind` the type of the last member."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for number, (name, content) in enumerate(members):
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED
            mode = stat.S_IFLNK if isinstance(content, str) else stat.S_IFREG
            info.external_attr = ((kind if kind and number == len(members) - 1 else mode) | 0o644) << 16
            out.writestr(info, content)
    return file


def tarred(file: Path, *members: tuple[str, bytes | str], kind: int = 0) -> Path:
    """As zipped, a .tar.gz file."""
    with tarfile.open(file, "w:gz") as out:
        for number, (name, content) in enumerate(members):
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            elif kind and number == len(members) - 1:
                info.type = tarfile.FIFOTYPE
            else:
                info.size = len(content)
            out.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return file


PACKERS = pytest.mark.parametrize("pack", [zipped, tarred])


@PACKERS
@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("/etc/x.png", PNG, "an absolute path"),
        ("C:/x.png", PNG, "an absolute path"),
        ("cat/../../x.png", PNG, "outside of the archive"),
        ("./cat/1.png", PNG, "there twice"),
        ("cat/1.png/x.png", PNG, "a file and a folder"),
        ("cat/x.png", "../../x.png", "a link out of the archive"),
        ("cat/x.png", "/etc/passwd", "a link out of the archive"),
        ("cat/more", "../dog", "a link to a folder"),
        ("a/" * 80 + "x.png", PNG, "in 80 folders"),
    ],
)
def test_members_that_are_not_allowed_are_named(
    name: str, content: bytes | str, problem: str, pack: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"packed: member \S+: {problem}.*allowed: "):
        read(pack(tmp_path / "packed", *CLASSES, (name, content)))


@PACKERS
def test_what_is_neither_a_file_nor_a_folder_is_refused(pack: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="member dog/x: neither a file nor a folder"):
        read(pack(tmp_path / "packed", *CLASSES, ("dog/x", b""), kind=stat.S_IFIFO))


@PACKERS
def test_links_to_files_are_followed_and_to_nothing_are_unreadable(pack: Callable[..., Path], tmp_path: Path) -> None:
    file = pack(tmp_path / "packed", *CLASSES, ("cat/2.png", "../dog/1.png"), ("cat/3.png", "nowhere.png"))
    with pytest.raises(DataError, match=r"packed/cat/3\.png: a link to nothing \(cat/nowhere\.png\)"):
        read(file)
    images = read(file, unreadable="skip")
    assert images.names == ("cat/1.png", "cat/2.png", "dog/1.png") and list(images.unreadable) == ["cat/3.png"]


@PACKERS
def test_what_becomes_far_larger_is_refused_before_it_is_read(
    pack: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "ANY_GROWTH", 10**6)
    with pytest.raises(DataError, match=r"member dog/x\.png: with it, 3\.00 MB would be read"):
        read(pack(tmp_path / "packed", *CLASSES, ("dog/x.png", bytes(3 * 10**6))))


def test_headers_that_fill_the_memory_are_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("cat/1.png")
    info.pax_headers = {"comment": "x" * (70 * 2**20)}
    with tarfile.open(tmp_path / "packed", "w:gz", compresslevel=1) as out:
        out.addfile(info)
    with pytest.raises(DataError, match="more than 67 MB that are in no member"):
        read(tmp_path / "packed")


def patched(file: Path, offset: int, value: bytes) -> Path:
    """With other bytes in the last entry of a .zip file's directory."""
    content = bytearray(file.read_bytes())
    place = content.rindex(b"PK\x01\x02") + offset
    content[place : place + len(value)] = value
    file.write_bytes(content)
    return file


def test_a_member_with_a_password_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"member dog/1\.png: encrypted; allowed: members that need no password"):
        read(patched(zipped(tmp_path / "packed", *CLASSES), 8, b"\x01"))


def test_a_member_that_gives_more_than_it_says_is_unreadable(tmp_path: Path) -> None:
    file = zipped(tmp_path / "packed", *CLASSES, ("dog/2.png", bytes(100_000)))
    with pytest.raises(DataError, match=r"packed/dog/2\.png: damaged in the archive"):
        read(patched(file, 24, (50).to_bytes(4, "little")))
    assert len(read(file, unreadable="skip")) == 2


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("x.zip", b"PK\x03\x04 cut off", "a damaged .zip file"),
        ("x.zip", b"", "no archive that can be read"),
        ("x.png", PNG, r"an image; allowed: the folder that holds .* archive \(\.zip, \.tar"),
        ("x.7z", b"7z\xbc\xaf\x27\x1c" * 200, "no archive that can be read"),
    ],
)
def test_a_file_that_is_no_archive_is_named(name: str, content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: {problem}"):
        read(tmp_path / name)


@PACKERS
@pytest.mark.parametrize(
    "members, problem",
    [
        ((), "no class directories"),
        (CLASSES[:1], r"one class \(cat\)"),
        ((("a.zip", PNG), ("b.tar.gz", PNG)), r"no class directories.*unpack the \.zip and \.gz files first"),
        ((("train/1.png", PNG), ("dog/1.png", PNG)), "where train is a class"),
    ],
)
def test_an_archive_without_classes_says_so(
    members: tuple[tuple[str, bytes], ...], problem: str, pack: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=problem):
        read(pack(tmp_path / "packed", *members))


@pytest.mark.parametrize("mode, end", [("w", 2048), ("w", 1600), ("w:gz", -20)])
def test_a_tar_file_that_was_cut_off_is_refused(mode: str, end: int, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "packed", mode) as out:  # type: ignore[call-overload]
        for name, content in (*CLASSES, ("dog/2.png", PNG)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    (tmp_path / "packed").write_bytes((tmp_path / "packed").read_bytes()[:end])
    with pytest.raises(DataError, match="packed: no archive that can be read"):
        read(tmp_path / "packed")


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_members_are_read_in_threads_and_after_closing(kind: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(each=20)
    file = Path(shutil.make_archive(str(tmp_path / "packed"), kind, root))
    opened = RecentArchives(1).open(file, tmp_path / "cache")
    paths = [path.relative_to(root) for path in sorted(root.rglob("*.png"))]
    wrong: list[Path] = []

    def read_all() -> None:
        wrong.extend(path for path in paths if opened.read(file / path) != (root / path).read_bytes())

    opened.close()
    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened.close()
    assert not wrong and len(paths) == 40


@pytest.mark.parametrize("kind, broken", [("zip", "zipfile.ZipFile.read"), ("tar", "os.pread")])
def test_an_error_of_the_disk_is_not_remembered_as_damage(
    kind: str, broken: str, make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(shutil.make_archive(str(tmp_path / "packed"), kind, make_folder()))
    original, calls = pkgutil.resolve_name(broken), []

    def read_once(*args: object) -> bytes:
        calls.append(args)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        return bytes(original(*args))

    monkeypatch.setattr(broken, read_once)
    assert len(read(file, unreadable="skip")) == 7
    assert len(read(file, unreadable="skip")) == 8
