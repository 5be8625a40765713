"""The sources that need no folder of images: digits and CIFAR, which is downloaded once and checked."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import pickle
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets
from damage import flip_a_byte
from processes import both_at_once

from cifar.data import sources
from cifar.data.images import DataError, Images
from cifar.data.request import Request
from cifar.data.sources import Source, cifar10, cifar100
from cifar.options.data import CIFAR10, Data, Digits

# --- digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return sources.digits(Digits(), Request("train", tmp_path_factory.mktemp("cache")))


def test_digits_are_uint8_rgb_of_32x32(digits: Images) -> None:
    assert (digits.images.dtype, digits.images.shape[1:]) == (torch.uint8, (3, 32, 32))
    assert (digits.labels.dtype, digits.labels.shape) == (torch.int64, (len(digits),))
    assert digits.classes == tuple("0123456789")
    assert (digits.images.min(), digits.images.max()) == (0, 255)
    assert torch.equal(digits.images[:, 0], digits.images[:, 2])
    assert len(digits.fingerprint) == 64


def test_digits_have_a_test_part_of_their_own(digits: Images, tmp_path: Path) -> None:
    test = sources.digits(Digits(), Request("test", tmp_path))
    assert len(digits) + len(test) == 1797
    both = torch.cat([digits.images, test.images])[:, 0, ::4, ::4]
    assert len({image.numpy().tobytes() for image in both}) == 1797
    assert len(test.labels.bincount()) == 10 and test.labels.bincount().min() > 10


def test_a_source_is_loaded_by_its_name(digits: Images, tmp_path: Path) -> None:
    assert sources.load(Digits(), Request("train", tmp_path)).fingerprint == digits.fingerprint


# --- CIFAR


def cifar_batch(count: int, classes: int, key: str, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, 3072), dtype=np.uint8)
    return pickle.dumps({"data": pixels, key: [number % classes for number in range(count)]})


@pytest.fixture
def make_cifar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """make_cifar("CIFAR10"): a directory with tiny batches in the official form, which torchvision takes for real."""

    def make(dataset: str) -> Path:
        cls = getattr(torchvision.datasets, dataset)
        directory = tmp_path / "root" / cls.base_folder
        directory.mkdir(parents=True)
        many, key = (10, "labels") if dataset == "CIFAR10" else (100, "fine_labels")
        lists: dict[str, list[list[str]]] = {}
        for name in ("train_list", "test_list"):
            lists[name] = []
            for seed, (file, _) in enumerate(getattr(cls, name)):
                content = cifar_batch(2 * many, many, key, seed + 10 * (name == "test_list"))
                (directory / file).write_bytes(content)
                lists[name].append([file, hashlib.md5(content).hexdigest()])
        names = pickle.dumps({cls.meta["key"]: [f"class {number}" for number in range(many)]})
        (directory / cls.meta["filename"]).write_bytes(names)
        monkeypatch.setattr(cls, "meta", cls.meta | {"md5": hashlib.md5(names).hexdigest()})
        monkeypatch.setattr(cls, "url", f"http://127.0.0.1:9/{cls.filename}")
        for name, files in lists.items():
            monkeypatch.setattr(cls, name, files)
        return tmp_path / "root"

    return make


@pytest.mark.parametrize("source, dataset, classes", [(cifar10, "CIFAR10", 10), (cifar100, "CIFAR100", 100)])
def test_cifar_is_read_from_its_binary_form(
    source: Source, dataset: str, classes: int, make_cifar: Callable[[str], Path], tmp_path: Path
) -> None:
    root = make_cifar(dataset)
    cls = getattr(torchvision.datasets, dataset)
    for part, files in (("train", cls.train_list), ("test", cls.test_list)):
        images = source(Data(root=str(root)), Request(part, tmp_path / "cache"))
        raw = [pickle.loads((root / cls.base_folder / file).read_bytes())["data"] for file, _ in files]
        assert torch.equal(images.images, torch.from_numpy(np.concatenate(raw)).view(-1, 3, 32, 32))
        assert images.labels.tolist() == [number % classes for number in range(2 * classes)] * len(files)
        assert images.classes == tuple(f"class {number}" for number in range(classes))
        assert images.labels.dtype == torch.int64


@pytest.mark.parametrize("source, dataset, batch", [(cifar10, "CIFAR10", "test_batch"), (cifar100, "CIFAR100", "test")])
def test_the_test_batch_is_not_read_for_training(
    source: Source, dataset: str, batch: str, make_cifar: Callable[[str], Path], tmp_path: Path
) -> None:
    root = make_cifar(dataset)
    file = root / getattr(torchvision.datasets, dataset).base_folder / batch
    file.write_bytes(b"garbage")
    assert len(source(Data(root=str(root)), Request("train", tmp_path)))
    with pytest.raises(DataError):
        source(Data(root=str(root)), Request("test", tmp_path))
    file.unlink()
    assert len(source(Data(root=str(root)), Request("train", tmp_path)))


def test_cifar_that_cannot_be_downloaded_says_what_to_do(make_cifar: Callable[[str], Path], tmp_path: Path) -> None:
    make_cifar("CIFAR10")
    directory = tmp_path / "elsewhere"
    with pytest.raises(DataError) as caught:
        cifar10(CIFAR10(root=str(directory)), Request("train", tmp_path))
    message = str(caught.value)
    for part in (
        "CIFAR10",
        "http://127.0.0.1:9/cifar-10-python.tar.gz",
        f"Put cifar-10-python.tar.gz into {directory}",
    ):
        assert part in message
    assert "data=digits" in message and "\n" not in message


def test_a_wrong_md5_is_one_clear_error(make_cifar: Callable[[str], Path], tmp_path: Path) -> None:
    root = make_cifar("CIFAR10")
    file = root / "cifar-10-batches-py" / "data_batch_2"
    file.write_bytes(flip_a_byte(file.read_bytes()))
    with pytest.raises(DataError, match=r"data=digits"):
        cifar10(CIFAR10(root=str(root)), Request("train", tmp_path))


def test_a_damaged_archive_is_named(make_cifar: Callable[[str], Path], tmp_path: Path) -> None:
    make_cifar("CIFAR10")
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    archive = directory / "cifar-10-python.tar.gz"
    archive.write_bytes(b"half of it")
    with pytest.raises(DataError, match=f"{archive} is there but damaged.*remove it"):
        cifar10(CIFAR10(root=str(directory)), Request("train", tmp_path))


def test_a_root_that_is_a_file_is_named(make_cifar: Callable[[str], Path], tmp_path: Path) -> None:
    make_cifar("CIFAR10")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=str(tmp_path / "file")):
        cifar10(CIFAR10(root=str(tmp_path / "file")), Request("train", tmp_path))


@pytest.fixture
def served(make_cifar: Callable[[str], Path]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """CIFAR10 as the archive of a server on this machine: the attributes torchvision needs, and the downloads."""
    root, content, downloads = make_cifar("CIFAR10"), io.BytesIO(), []
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(root / "cifar-10-batches-py", "cifar-10-batches-py")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Method"] != "HEAD":  # torchvision's way to ask where redirects lead
                downloads.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content.getvalue())))
            self.end_headers()
            self.wfile.write(content.getvalue())

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cls = torchvision.datasets.CIFAR10
    md5 = hashlib.md5(content.getvalue()).hexdigest()
    url = f"http://127.0.0.1:{server.server_port}/{cls.filename}"
    yield (
        {"url": url, "tgz_md5": md5} | {name: getattr(cls, name) for name in ("train_list", "test_list", "meta")},
        downloads,
    )
    server.shutdown()


def test_a_folder_of_images_is_not_taken_for_a_place_to_download_to(make_folder: Callable[..., Path]) -> None:
    folder = make_folder()
    for root in (folder / "train", folder):
        before = sorted(root.rglob("*"))
        with pytest.raises(DataError, match=r"not CIFAR10, but folders of images \(.*\); add data=image_folder"):
            sources.cifar10(Data(root=str(root)), Request("train", root))
        assert sorted(root.rglob("*")) == before


def test_two_processes_on_an_empty_directory_download_once(
    served: tuple[dict[str, Any], list[str]], tmp_path: Path
) -> None:
    attributes, downloads = served
    script = """
import json, sys
from pathlib import Path
from torchvision.datasets import CIFAR10
from cifar.data import sources
from cifar.data.request import Request
from cifar.options.data import Data
root, attributes = sys.argv[1:]
for name, value in json.loads(attributes).items():
    setattr(CIFAR10, name, value)
print("ready", flush=True)
input()
print(sources.cifar10(Data(root=root), Request("train", Path(root))).fingerprint)
"""
    answers = both_at_once(script, str(tmp_path / "empty"), json.dumps(attributes))
    assert [answer.returncode for answer in answers] == [0, 0], answers
    fingerprints = {answer.stdout.splitlines()[-1] for answer in answers}
    assert len(fingerprints) == 1 and len(fingerprints.pop()) == 64
    assert len(downloads) == 1


def test_an_archive_put_there_by_hand_is_used(
    served: tuple[dict[str, Any], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attributes, downloads = served
    for name, value in attributes.items():
        monkeypatch.setattr(torchvision.datasets.CIFAR10, name, value)
    directory = tmp_path / "by hand"
    directory.mkdir()
    with tarfile.open(directory / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "root" / "cifar-10-batches-py", "cifar-10-batches-py")
    md5 = hashlib.md5((directory / "cifar-10-python.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5)
    assert len(cifar10(CIFAR10(root=str(directory)), Request("train", tmp_path))) == 100
    assert not downloads
