"""python -m cifar.cache lists and removes entries."""

from __future__ import annotations

from pathlib import Path

import pytest
from backbones import SMALL, backbone, new_cache, some_images

from cifar import cache as cache_command


def test_the_cache_is_listed_and_cleared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_cache(tmp_path).get(backbone(), some_images())
    cache_command.main(["--dir", str(tmp_path)])
    listed = capsys.readouterr().out
    assert f"features of 64 images, {SMALL}, 16 pixels, torch.float32" in listed and "1 entries in" in listed
    cache_command.main(["--dir", str(tmp_path), "clear", "none-of-this-name"])
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == 1
    cache_command.main(["--dir", str(tmp_path), "clear"])
    assert not list((tmp_path / "features").iterdir())


def test_what_somebody_else_keeps_in_the_folder_stays(tmp_path: Path) -> None:
    entry, unfinished = (f"images/{'0' * 32}.safetensors", f"images/.{'1' * 32}.safetensors.abc.tmp")
    known = f"archives/{'2' * 32}.json"
    others = ["weights/vit.safetensors", "images/mine.safetensors", "archives/photos.zip", "sizes/notes.json"]
    for name in (entry, unfinished, known, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"content")
    assert [each.size() for each in cache_command.entries(tmp_path)] == [7, 7]
    cache_command.main(["--dir", str(tmp_path), "clear"])
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()) == sorted(others)
