"""One file of a trained model: what it computes, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import networks
import pytest
import torch
from backbones import TRANSFER

from cifar import export
from cifar.data.images import DataError
from cifar.errors import UserError
from cifar.exporting.agreement import Reference
from cifar.exporting.formats import FORMATS, Compute, Safetensors, Subject
from cifar.exporting.source import ExportError, read_source
from cifar.exporting.suffixes import SUFFIXES
from cifar.exporting.weights import load_safetensors
from cifar.inference.model import load_model
from cifar.training.checkpoint import CheckpointError

Train = Callable[..., Path]
ENLARGED = ("transfer=frozen", *TRANSFER, "transfer.image_size=48")


def random(count: int, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ENLARGED,
        ("transfer=finetune", *TRANSFER, "transfer.image_size=24"),
        ("model=torchvision", "model.name=squeezenet1_1"),
        ("model=resnet9", "model.width=4"),
    ],
    ids=["scratch", "frozen", "finetune", "torchvision", "resnet9"],
)
def test_onnx_computes_what_the_model_computes(
    overrides: tuple[str, ...], train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = train(*overrides), tmp_path / "model.onnx"
    export.main([str(run), "--format", "onnx", "--out", str(out)])
    assert "same classes as PyTorch on 24 validation images" in capsys.readouterr().out
    exported, model = load_model(out), load_model(run, "cpu")
    assert exported.classes == model.classes and exported.format == model.format
    for count in (1, 2, 7):
        images = random(count)
        assert torch.allclose(exported.probabilities(images), model.probabilities(images), atol=1e-5)
    assert list(tmp_path.iterdir()) == [out] and b"/site-packages/" not in out.read_bytes()


@pytest.mark.parametrize("name", ["torch_export", "safetensors"])
def test_other_formats_compute_the_same(name: str, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / f"model{SUFFIXES[name]}"
    for _ in range(2):  # an earlier export is replaced
        export.main([str(trained), "--format", name, "--out", str(out)])
    images = random(5)
    expected = load_model(trained, "cpu").probabilities(images)
    assert torch.allclose(FORMATS[name].compute(out)(images), expected, atol=1e-5)
    assert FORMATS[name].program_of(out).startswith("cifar-search")


def test_safetensors_hold_the_backbone_too(train: Train, tmp_path: Path) -> None:
    run, out = train(*ENLARGED), tmp_path / "model.safetensors"
    export.main([str(run), "--format", "safetensors", "--out", str(out)])
    images = random(3)
    assert load_safetensors(out).predict(images) == load_model(run, "cpu").predict(images)
    out.write_bytes(out.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="not a model that this program exported"):
        load_safetensors(out)


class OneOtherWeight(Safetensors):
    def compute(self, path: Path) -> Compute:
        classifier = load_safetensors(path)
        bias = classifier.network.get_parameter("model.fc.bias")
        bias.data[0] += 0.1
        return classifier.probabilities


def test_a_difference_is_an_error_and_leaves_nothing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "safetensors", OneOtherWeight())
    with pytest.raises(UserError, match=r"differs from PyTorch on 24 validation images: .* by \d.\de-\d\d at most"):
        export.main([str(trained), "--format", "safetensors", "--out", str(tmp_path / "model.safetensors")])
    assert not list(tmp_path.iterdir())


def test_distances_that_are_no_numbers_are_a_difference(trained: Path) -> None:
    reference = Reference(read_source(str(trained)))
    with pytest.raises(ExportError, match="its distances to training images differ from PyTorch by inf"):
        reference.check_distances("onnx", lambda batch: torch.full((len(batch),), torch.nan))


@pytest.mark.parametrize(
    ("damage", "reason"), [("settings", "No such file"), ("images", "the images are others"), ("result", "")]
)
def test_without_its_images_a_model_is_checked_on_random_ones(
    damage: str, reason: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    if damage == "settings":
        shutil.rmtree(run / ".hydra")
    elif damage == "images":
        result = json.loads((run / "result.json").read_text())
        result["data"]["fingerprint"] = result["data"]["val"]["fingerprint"] = "0" * 64
        (run / "result.json").write_text(json.dumps(result))
    else:
        shutil.rmtree(run / ".hydra")
        (run / "result.json").unlink()
    export.main([str(run), "--format", "safetensors", "--out", str(tmp_path / "model.safetensors")])
    printed = capsys.readouterr().out
    assert "64 random and grey images, as the validation images are not at hand" in printed and reason in printed


def test_an_error_names_the_operator(trained: Path, tmp_path: Path) -> None:
    source = read_source(str(trained))
    network = source.model.classifier.network
    network.register_forward_hook(lambda module, inputs, logits: networks.without_onnx(logits))
    with pytest.raises(UserError, match=r"ONNX cannot express this model \(prims.bessel_i1\).*--format torch_export"):
        FORMATS["onnx"].write(Subject(source), tmp_path / "model.onnx")
    network.register_forward_hook(lambda module, inputs, logits: logits * float(logits.max()))
    with pytest.raises(UserError, match=r"torch.export cannot make a graph of this model.*--format safetensors"):
        FORMATS["torch_export"].write(Subject(source), tmp_path / "model.pt2")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("model.pt2", "ends in .safetensors"),
        ("absent/model.safetensors", "there is no folder"),
        ("other.safetensors", "no export of this program"),
    ],
)
def test_a_place_is_refused_before_work_starts(out: str, message: str, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"mine")
    with pytest.raises(UserError, match=re.escape(message)):
        export.main([str(tmp_path / "no run"), "--format", "safetensors", "--out", str(tmp_path / out)])
    assert other.read_bytes() == b"mine"


@pytest.mark.parametrize("name", FORMATS)
def test_files_of_others_are_recognised(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"model{SUFFIXES[name]}"
    file.write_bytes(b"PK")
    assert FORMATS[name].program_of(file) == ""


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"--format onnx: onnxscript is not installed; do: pip install .*\[export\]"):
        export.main([str(tmp_path), "--format", "onnx"])


def test_images_that_would_be_downloaded_are_not_at_hand(trained: Path, tmp_path: Path) -> None:
    from cifar.compose import recorded_splits

    run = shutil.copytree(trained, tmp_path / "run")
    file = run / ".hydra" / "config.yaml"
    text = file.read_text().replace("source: digits", "source: cifar10").replace("root: null", f"root: {tmp_path}")
    file.write_text(text)
    with pytest.raises(DataError, match="the images are not there"):
        recorded_splits(run)
