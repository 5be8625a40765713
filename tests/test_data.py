"""Every source becomes the same thing, is decoded once, and says what is wrong with it."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from cifar.data import folder, images, sources, split
from cifar.data.images import DataError, Images

MakeFolder = Callable[..., Path]


# --- digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return sources.load("digits", None, "train", str(tmp_path_factory.mktemp("cache")))


def test_digits_are_uint8_rgb_of_32x32(digits: Images) -> None:
    assert (digits.images.dtype, digits.images.shape[1:]) == (torch.uint8, (3, 32, 32))
    assert (digits.labels.dtype, digits.labels.shape) == (torch.int64, (len(digits),))
    assert digits.classes == tuple("0123456789")
    assert (digits.images.min(), digits.images.max()) == (0, 255)
    assert torch.equal(digits.images[:, 0], digits.images[:, 2])
    assert len(digits.fingerprint) == 64


def test_digits_have_a_test_part_of_their_own(digits: Images, tmp_path: Path) -> None:
    test = sources.load("digits", None, "test", str(tmp_path))
    assert len(digits) + len(test) == 1797
    both = torch.cat([digits.images, test.images])[:, 0, ::4, ::4]
    assert len({image.numpy().tobytes() for image in both}) == 1797
    assert len(test.labels.bincount()) == 10 and test.labels.bincount().min() > 10


# --- folders


def read_folder(root: Path, cache: Path, part: str = "train") -> Images:
    return folder.image_folder(str(root), part, cache)


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """no_decoding(): from here on, opening an image fails."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("an image was decoded")

    return lambda: monkeypatch.setattr(Image, "open", refuse)


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG"])
def test_folder_is_decoded_as_pil_does(suffix: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(suffix=suffix)
    images = read_folder(root, tmp_path / "cache")
    files = sorted(root.rglob(f"*.{suffix}"))
    expected = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
    assert torch.equal(images.images, torch.from_numpy(expected))
    assert images.labels.tolist() == [0] * 4 + [1] * 4
    assert images.classes == ("cat", "dog")
    assert (images.images.dtype, images.labels.dtype) == (torch.uint8, torch.int64)


def test_a_second_load_decodes_nothing(
    make_folder: MakeFolder, tmp_path: Path, no_decoding: Callable[[], None]
) -> None:
    root = make_folder()
    first = read_folder(root, tmp_path / "cache")
    no_decoding()
    second = read_folder(root, tmp_path / "cache")
    assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    assert (first.classes, first.fingerprint) == (second.classes, second.fingerprint)


def change_content(root: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(root / "train" / "cat" / "0.png")


def change_time_only(root: Path) -> None:
    os.utime(root / "train" / "cat" / "0.png", ns=(1, 1))


def remove_file(root: Path) -> None:
    (root / "train" / "cat" / "0.png").unlink()


def add_file(root: Path) -> None:
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "cat" / "new.png")


@pytest.mark.parametrize("change", [change_content, change_time_only, remove_file, add_file])
def test_changed_files_are_decoded_again(
    change: Callable[[Path], None], make_folder: MakeFolder, tmp_path: Path, no_decoding: Callable[[], None]
) -> None:
    root = make_folder()
    read_folder(root, tmp_path / "cache")
    change(root)
    fresh = read_folder(root, tmp_path / "other cache")
    assert torch.equal(read_folder(root, tmp_path / "cache").images, fresh.images)
    os.utime(root / "train" / "dog" / "0.png", ns=(2, 2))
    no_decoding()
    with pytest.raises(AssertionError, match="was decoded"):
        read_folder(root, tmp_path / "cache")


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def empty(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, empty])
def test_a_damaged_cache_is_decoded_again(
    damage: Callable[[bytes], bytes], make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, cache = make_folder(), tmp_path / "cache"
    expected = read_folder(root, cache).images.clone()
    (entry,) = (cache / "images").glob("*.safetensors")
    content = damage(entry.read_bytes())
    entry.unlink()
    entry.write_bytes(content)
    assert torch.equal(read_folder(root, cache).images, expected)
    assert f"{entry} is damaged" in caplog.text
    caplog.clear()
    read_folder(root, cache)
    assert not caplog.text, "it was not written anew"


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_grey_and_transparent_images_are_converted_and_that_is_said_once(
    mode: str, make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(mode=mode)
    with caplog.at_level(logging.INFO):
        images = read_folder(root, tmp_path / "cache")
    expected = np.asarray(Image.open(root / "train" / "cat" / "0.png").convert("RGB")).transpose(2, 0, 1)
    assert torch.equal(images.images[0], torch.from_numpy(expected.copy()))
    said = [record for record in caplog.records if "converted" in record.getMessage()]
    assert len(said) == 1 and "8 of 8 images" in said[0].getMessage()


@pytest.mark.parametrize("size", [(64, 48), (8, 8), (32, 33)])
def test_images_of_another_size_are_resized_and_that_is_said_once(
    size: tuple[int, int], make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(size=size)
    with caplog.at_level(logging.INFO):
        assert read_folder(root, tmp_path / "cache").images.shape == (8, 3, 32, 32)
    said = [record for record in caplog.records if "resized" in record.getMessage()]
    assert len(said) == 1 and "8 of 8 images" in said[0].getMessage()


def test_nothing_is_said_of_images_that_fit(
    make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        read_folder(make_folder(), tmp_path / "cache")
    assert not [r for r in caplog.records if "converted" in r.getMessage() or "resized" in r.getMessage()]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_named(suffix: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(suffix=suffix)
    damaged = root / "train" / "dog" / f"2.{suffix}"
    damaged.write_bytes(damaged.read_bytes()[:-400])
    with pytest.raises(DataError, match=f"{damaged}.*repair or remove"):
        read_folder(root, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("content", [b"", b"some notes", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_file_that_is_no_image_is_named(content: bytes, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    (root / "train" / "dog" / "notes.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"dog/notes\.txt: not an image"):
        read_folder(root, tmp_path / "cache")


def test_hidden_files_do_not_count(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    (root / "train" / "cat" / ".DS_Store").write_bytes(b"?")
    (root / "train" / ".cache").mkdir()
    assert len(read_folder(root, tmp_path / "cache")) == 8


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/train: no such directory; data\.root must"):
        read_folder(tmp_path / "nowhere", tmp_path / "cache")


def test_an_empty_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"train: no class directories; allowed: at least two"):
        read_folder(tmp_path, tmp_path / "cache")


def test_one_class_is_not_enough(make_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one class \(cat\)"):
        read_folder(make_folder(classes=("cat",)), tmp_path / "cache")


def test_an_empty_class_is_named(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    (root / "train" / "eel").mkdir()
    with pytest.raises(DataError, match=r"train/eel: no images in this class"):
        read_folder(root, tmp_path / "cache")


def test_the_test_part_is_read_only_when_asked_for(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(parts=("train", "test"))
    for file in (root / "test").rglob("*.png"):
        file.write_bytes(b"not an image")
    assert len(read_folder(root, tmp_path / "cache")) == 8
    with pytest.raises(DataError, match=r"test/cat/0\.png: not an image"):
        read_folder(root, tmp_path / "cache", "test")


def both_at_once(script: str, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Two processes that run `script`; neither goes on from input() before both are there."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(folder.__file__).parents[2],
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120) for process in processes]
    return [
        subprocess.CompletedProcess(p.args, p.returncode, *answer) for p, answer in zip(processes, answers, strict=True)
    ]


def test_two_processes_on_an_empty_cache_decode_once(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, decoded = make_folder(each=30), tmp_path / "decoded"
    script = """
import sys, time
from pathlib import Path
from PIL import Image
from cifar.data import folder
from cifar.data import images
from cifar.data import sources
from cifar.data import split
root, cache, decoded = sys.argv[1:]
real = Image.open
def noted(path):
    with open(decoded, "a") as file:
        file.write(f"{path}\\n")
    time.sleep(0.005)
    return real(path)
Image.open = noted
print("ready", flush=True)
input()
print(folder.image_folder(root, "train", Path(cache)).fingerprint)
"""
    answers = both_at_once(script, str(root), str(tmp_path / "cache"), str(decoded))
    assert [answer.returncode for answer in answers] == [0, 0], answers
    assert answers[0].stdout == answers[1].stdout != ""
    assert len(decoded.read_text().splitlines()) == 60


# --- CIFAR


def cifar_batch(count: int, classes: int, key: str, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, 3072), dtype=np.uint8)
    return pickle.dumps({"data": pixels, key: [number % classes for number in range(count)]})


@pytest.fixture
def make_cifar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """make_cifar("CIFAR10"): a directory with tiny batches in the official form, which torchvision takes for real."""

    def made(dataset: str) -> Path:
        cls = getattr(torchvision.datasets, dataset)
        place = tmp_path / "root" / cls.base_folder
        place.mkdir(parents=True)
        many, key = (10, "labels") if dataset == "CIFAR10" else (100, "fine_labels")
        lists: dict[str, list[list[str]]] = {}
        for name in ("train_list", "test_list"):
            lists[name] = []
            for seed, (file, _) in enumerate(getattr(cls, name)):
                content = cifar_batch(2 * many, many, key, seed + 10 * (name == "test_list"))
                (place / file).write_bytes(content)
                lists[name].append([file, hashlib.md5(content).hexdigest()])
        names = pickle.dumps({cls.meta["key"]: [f"class {number}" for number in range(many)]})
        (place / cls.meta["filename"]).write_bytes(names)
        monkeypatch.setattr(cls, "meta", cls.meta | {"md5": hashlib.md5(names).hexdigest()})
        monkeypatch.setattr(cls, "url", f"http://127.0.0.1:9/{cls.filename}")
        for name, files in lists.items():
            monkeypatch.setattr(cls, name, files)
        return tmp_path / "root"

    return made


@pytest.mark.parametrize("source, dataset, classes", [("cifar10", "CIFAR10", 10), ("cifar100", "CIFAR100", 100)])
def test_cifar_is_read_from_its_binary_form(
    source: str, dataset: str, classes: int, make_cifar: Callable[[str], Path], tmp_path: Path
) -> None:
    root = make_cifar(dataset)
    cls = getattr(torchvision.datasets, dataset)
    for part, files in (("train", cls.train_list), ("test", cls.test_list)):
        images = sources.load(source, str(root), part, str(tmp_path / "cache"))
        raw = [pickle.loads((root / cls.base_folder / file).read_bytes())["data"] for file, _ in files]
        assert torch.equal(images.images, torch.from_numpy(np.concatenate(raw)).view(-1, 3, 32, 32))
        assert images.labels.tolist() == [number % classes for number in range(2 * classes)] * len(files)
        assert images.classes == tuple(f"class {number}" for number in range(classes))
        assert images.labels.dtype == torch.int64


@pytest.mark.parametrize(
    "source, dataset, batch", [("cifar10", "CIFAR10", "test_batch"), ("cifar100", "CIFAR100", "test")]
)
def test_the_test_batch_is_not_read_for_training(
    source: str, dataset: str, batch: str, make_cifar: Callable[[str], Path], tmp_path: Path
) -> None:
    root = make_cifar(dataset)
    file = root / getattr(torchvision.datasets, dataset).base_folder / batch
    file.write_bytes(b"garbage")
    assert len(sources.load(source, str(root), "train", str(tmp_path)))
    with pytest.raises(DataError):
        sources.load(source, str(root), "test", str(tmp_path))
    file.unlink()
    sources.load.cache_clear()
    assert len(sources.load(source, str(root), "train", str(tmp_path)))


def test_cifar_that_cannot_be_downloaded_says_what_to_do(make_cifar: Callable[[str], Path], tmp_path: Path) -> None:
    make_cifar("CIFAR10")
    place = tmp_path / "elsewhere"
    with pytest.raises(DataError) as caught:
        sources.load("cifar10", str(place), "train", str(tmp_path))
    message = str(caught.value)
    for part in ("CIFAR10", "http://127.0.0.1:9/cifar-10-python.tar.gz", f"Put cifar-10-python.tar.gz into {place}"):
        assert part in message
    assert "data=digits" in message and "\n" not in message


def test_a_wrong_md5_is_one_clear_error(make_cifar: Callable[[str], Path], tmp_path: Path) -> None:
    root = make_cifar("CIFAR10")
    file = root / "cifar-10-batches-py" / "data_batch_2"
    file.write_bytes(flip_a_byte(file.read_bytes()))
    with pytest.raises(DataError, match=r"data=digits"):
        sources.load("cifar10", str(root), "train", str(tmp_path))


def test_a_damaged_archive_is_named(make_cifar: Callable[[str], Path], tmp_path: Path) -> None:
    make_cifar("CIFAR10")
    place = tmp_path / "elsewhere"
    place.mkdir()
    archive = place / "cifar-10-python.tar.gz"
    archive.write_bytes(b"half of it")
    with pytest.raises(DataError, match=f"{archive} is there but damaged.*remove it"):
        sources.load("cifar10", str(place), "train", str(tmp_path))


def test_a_root_that_is_a_file_is_named(make_cifar: Callable[[str], Path], tmp_path: Path) -> None:
    make_cifar("CIFAR10")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=str(tmp_path / "file")):
        sources.load("cifar10", str(tmp_path / "file"), "train", str(tmp_path))


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


def test_two_processes_on_an_empty_directory_download_once(
    served: tuple[dict[str, Any], list[str]], tmp_path: Path
) -> None:
    attributes, downloads = served
    script = """
import json, sys
from torchvision.datasets import CIFAR10
from cifar.data import folder
from cifar.data import images
from cifar.data import sources
from cifar.data import split
root, attributes = sys.argv[1:]
for name, value in json.loads(attributes).items():
    setattr(CIFAR10, name, value)
print("ready", flush=True)
input()
print(sources.load("cifar10", root, "train", root).fingerprint)
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
    place = tmp_path / "by hand"
    place.mkdir()
    with tarfile.open(place / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "root" / "cifar-10-batches-py", "cifar-10-batches-py")
    own = hashlib.md5((place / "cifar-10-python.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", own)
    assert len(sources.load("cifar10", str(place), "train", str(tmp_path))) == 100
    assert not downloads


# --- splits and statistics


def numbered(counts: list[int]) -> Images:
    """Images that hold their own number, `counts` of each class, in mixed order."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    pixels = np.zeros((len(labels), 32, 32, 3), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.arange(len(labels)) % 256, np.arange(len(labels)) // 256
    return images._images(pixels, labels, tuple(f"c{number}" for number in range(len(counts))))


def numbers(images: Images) -> list[int]:
    return (images.images[:, 0, 0, 0].int() + 256 * images.images[:, 1, 0, 0].int()).tolist()


@pytest.mark.parametrize("size, count", [(0.2, 60), (60, 60), (0.25, 75), (3, 3), (297, 297)])
def test_split_is_disjoint_complete_and_of_the_size_asked_for(size: float, count: int) -> None:
    images = numbered([150, 100, 50])
    rest, part = split.split(images, size, seed=0)
    assert (len(rest), len(part)) == (300 - count, count)
    assert sorted(numbers(rest) + numbers(part)) == list(range(300))
    assert numbers(rest) == sorted(numbers(rest)) and numbers(part) == sorted(numbers(part))
    for side in (rest, part):
        assert [int(images.labels[number]) for number in numbers(side)] == side.labels.tolist()


def test_split_is_stratified() -> None:
    rest, part = split.split(numbered([150, 100, 50]), 0.2, seed=0)
    assert part.labels.bincount().tolist() == [30, 20, 10]
    assert rest.labels.bincount().tolist() == [120, 80, 40]


def test_split_is_a_function_of_its_seed() -> None:
    images = numbered([150, 100, 50])
    one, again, other = (numbers(split.split(images, 0.2, seed=seed)[1]) for seed in (1, 1, 2))
    torch.manual_seed(5)
    np.random.seed(5)
    assert one == again == numbers(split.split(images, 0.2, seed=1)[1]) != other


@pytest.mark.parametrize("size", [300, 301, 5000, 299, 2, 0.001, 0.999])
def test_a_side_without_every_class_is_refused(size: float) -> None:
    with pytest.raises(DataError, match=rf"data\.val_size.*{size:g}.* of 300 images in 3 classes"):
        split.split(numbered([150, 100, 50]), size, seed=0)


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"the smallest has 1"):
        split.split(numbered([20, 1]), 0.5, seed=0)


def test_limit_is_stratified_and_keeps_all_where_there_are_no_more() -> None:
    images = numbered([150, 100, 50])
    assert split.limit(images, 60, seed=0).labels.bincount().tolist() == [30, 20, 10]
    for count in (None, 300, 1000):
        assert split.limit(images, count, seed=0) is images


def test_the_fingerprint_changes_with_content_and_order() -> None:
    images = numbered([20, 20])
    pixels, labels = images.images.clone(), images.labels.clone()
    pixels[7, 2, 31, 31] += 1
    labels[7] = 1 - labels[7]
    order = torch.arange(39, -1, -1)
    seen = [
        images._fingerprint(images.images, images.labels, images.classes),
        images._fingerprint(pixels, images.labels, images.classes),
        images._fingerprint(images.images, labels, images.classes),
        images._fingerprint(images.images[order], images.labels[order], images.classes),
        images._fingerprint(images.images, images.labels, ("a", "b")),
    ]
    assert seen[0] == images.fingerprint == numbered([20, 20]).fingerprint
    assert len(set(seen)) == len(seen)


def test_a_parts_fingerprint_changes_with_what_is_in_it_and_its_order() -> None:
    images = numbered([20, 20])
    chosen = [np.array(indices) for indices in ([1, 2, 3], [3, 2, 1], [1, 2], [1, 2, 4])]
    assert len({images.take(indices).fingerprint for indices in chosen}) == 4
    assert images.take(chosen[0]).fingerprint == images.take(chosen[0].copy()).fingerprint


def test_channel_statistics_are_those_of_the_pixels(images_of: Callable[..., Any]) -> None:
    images = images_of(20)[0] // torch.tensor([1, 2, 3], dtype=torch.uint8).view(1, 3, 1, 1)
    mean, std = images.channel_statistics(images)
    pixels = images.double() / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-9)
    assert std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), rel=1e-9)


def test_a_constant_channel_can_be_divided_by_its_deviation() -> None:
    assert min(images.channel_statistics(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))[1]) > 0
