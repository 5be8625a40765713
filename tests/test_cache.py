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
