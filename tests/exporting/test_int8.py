"""Models that are exported in int8: what is in integers, what is measured, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from cifar import export
from cifar.compose import recorded_splits
from cifar.errors import UserError
from cifar.exporting.formats import Subject
from cifar.exporting.int8 import export_int8, probabilities, read_images
from cifar.exporting.quantise import integer_operators
from cifar.exporting.source import read_source
from cifar.inference.model import ExportedModel, load_model
from cifar.serve.model_facts import accuracy
from cifar.training import checkpoint

Train = Callable[..., Path]


@pytest.fixture(scope="module")
def learned(train: Train) -> Path:
    """A run that recognises most digits."""
    return train("data.limit=400", "data.val_size=100", "epochs=6", "optimizer.lr=0.05", "batch_size=16", "test=true")


@pytest.fixture(scope="module")
def exported(learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "model.onnx"
    source = read_source(str(learned))
    export_int8(Subject(source), read_images(source), out, 0.05)
    return out


def spoiled(run: Path, folder: Path) -> Path:
    """A copy of a run with the same answers in fp32: one channel of the features is huge, and weighs as much less."""
    copied = shutil.copytree(run, folder / "run")
    best = checkpoint.load(copied / "best.pt")
    weights = best["model"]
    last = max(name for name in weights if name.endswith("bn3.weight")).removesuffix("bn3.weight")
    for name in ("bn3.weight", "bn3.bias", "downsample.1.weight", "downsample.1.bias"):
        weights[f"{last}{name}"][0] *= 1e5
    weights["fc.weight"][:, 0] /= 1e5
    checkpoint.save(copied / "best.pt", best)
    return copied


def test_the_network_is_in_integers_and_what_surrounds_it_is_not(exported: Path, learned: Path) -> None:
    model = load_model(exported)
    assert isinstance(model, ExportedModel) and model.metadata["precision"] == "int8"
    assert not [key for key in model.metadata if key.startswith("test_")], "that of fp32 is not that of the file"
    assert model.metadata["int8_calibrated_on"] == "256 of 300 training images (seed 0), not augmented"
    counts = integer_operators(exported)
    assert counts.pop("MatMul")[0] == 0, "those of the distances to training images"
    assert set(counts) == {"Conv", "Gemm"} and all(integers == total for integers, total in counts.values())
    graph = onnx.load(str(exported)).graph
    assert [node.op_type for node in graph.node if node.op_type in ("Div", "Sub", "QuantizeLinear")][:4] == [
        *("Div", "Sub", "Div", "QuantizeLinear"),
    ]
    producers = {output: node for node in graph.node for output in node.output}
    last = [producers[graph.output[0].name]]
    while last[0].op_type != "Gemm":
        last.insert(0, producers[last[0].input[0]])
    assert [node.op_type for node in last] == ["Gemm", "Div", "Softmax"]
    weight = next(each for each in graph.initializer if each.name.endswith("conv1.weight_scale"))
    assert len(weight.dims) == 1 and weight.dims[0] > 1, "a scale for each channel"
    assert load_model(learned, "cpu").format == model.format


def test_figures_are_of_the_validation_images(exported: Path, learned: Path, tmp_path: Path) -> None:
    val = recorded_splits(learned).val
    fp32 = load_model(learned, "cpu").probabilities(val.images)
    computed = probabilities(load_model(exported), val.images)
    right = (computed.argmax(1) == val.labels).double().mean()
    assert accuracy(load_model(exported))["validation"] == {"accuracy": pytest.approx(float(right)), "images": 100}
    assert torch.allclose(computed.sum(1), torch.ones(100)) and 1e-5 < float((computed - fp32).abs().max()) < 0.3
    assert float((computed.argmax(1) == fp32.argmax(1)).double().mean()) > 0.9


def test_a_loss_is_refused_and_the_former_export_stays(
    exported: Path, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = spoiled(learned, tmp_path), tmp_path / "out" / "model.onnx"
    out.parent.mkdir()
    shutil.copy(exported, out)
    arguments = [str(run), "--format", "onnx", "--int8", "--out", str(out)]
    with pytest.raises(UserError, match=r"--int8: validation accuracy 0.* in int8, 0.* in fp32: -0\..* \(--max-loss\)"):
        export.main(arguments)
    assert list(out.parent.iterdir()) == [out] and out.read_bytes() == exported.read_bytes()
    export.main([*arguments, "--max-loss", "1"])
    printed = capsys.readouterr().out
    assert "on 100 validation images" in printed and "latency, batch of 32" in printed
    assert out.read_bytes() != exported.read_bytes() and list(out.parent.iterdir()) == [out]


def test_a_bundle_in_int8_says_so_and_is_predicted_with(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    export.main([str(learned), "--bundle", str(folder), "--int8", "--max-loss", "0.1"])
    assert "int8 against fp32: accuracy" in capsys.readouterr().out
    card = (folder / "README.md").read_text()
    for text in ("- int8", "## Int8 against fp32", "Validation accuracy in int8", "256 of 300 training images"):
        assert text in card
    before = card
    with pytest.raises(UserError, match="not at hand"):
        export.main([str(_without_images(learned, tmp_path)), "--bundle", str(folder), "--int8"])
    assert (folder / "README.md").read_text() == before and not list(tmp_path.glob(".*"))


def test_a_network_that_is_not_quantised_is_refused(
    learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unchanged(fp32: str, path: str, *arguments: object, **settings: object) -> None:
        shutil.copy(fp32, path)

    def failing(*arguments: object, **settings: object) -> None:
        raise ValueError("no shape for /layers.0/Conv_output")

    out = tmp_path / "model.onnx"
    for quantize_static, message in (
        (unchanged, "--int8: the network has no convolution or linear layer that onnxruntime computes in int8"),
        (failing, "onnxruntime cannot quantise this model.*: no shape for .*; allowed: the same without --int8"),
    ):
        monkeypatch.setattr("onnxruntime.quantization.quantize_static", quantize_static)
        with pytest.raises(UserError, match=message):
            export.main([str(learned), "--format", "onnx", "--int8", "--out", str(out)])
        assert not list(tmp_path.iterdir())


def _without_images(run: Path, folder: Path) -> Path:
    copied = shutil.copytree(run, folder / "other")
    settings = copied / ".hydra" / "config.yaml"
    settings.write_text(settings.read_text().replace("limit: 400", "limit: 401"))
    return copied


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "safetensors", "--int8"], "--int8 goes with --format onnx and --bundle"),
        (["--format", "onnx", "--max-loss", "0.1"], "--max-loss goes with --int8"),
        (["--format", "onnx", "--int8", "--max-loss", "1.5"], "a fraction from 0 to 1"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        export.main([str(tmp_path), *arguments])
    assert message in capsys.readouterr().err
