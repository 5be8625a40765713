"""Static quantisation: convolutions and linear layers of an ONNX file compute with integers of 8 bits.

onnxruntime does it: activations become uint8 by their lowest and highest value on some images, weights int8 by a scale
for each output channel, and QuantizeLinear and DequantizeLinear stand around each operator (QDQ). (Jacob et al.,
Quantization and training of neural networks for efficient integer-arithmetic-only inference, 2018, arXiv:1712.05877.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cifar.exporting.agreement import batches
from cifar.exporting.formats import Subject, explained, quiet
from cifar.exporting.source import ExportError
from cifar.metadata import PROGRAM

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
OPERATORS = (
    *WEIGHTED,
    *("Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat"),
    *("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Pad"),
)
"""Of ONNX, in integers: what has weights, and what lies between and can pass integers on."""
METHOD = "static, QDQ; uint8 activations, from their lowest to their highest value; int8 weights, a scale a channel"
OTHERS = "the same without --int8"


class Int8Error(ExportError):
    """A model that cannot be computed in int8, or not without losing accuracy."""


class Reader:
    """What onnxruntime reads images from, one batch after another; None at the end."""

    def __init__(self, images: Tensor) -> None:
        self._batches = batches(images)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch.numpy()}


def quantise(subject: Subject, fp32: Path, images: Tensor, path: Path) -> str:
    """Write the int8 model of the model in the file `fp32`, and say how many operators have integer weights.

    `images`: uint8 (N, 3, size, size), on which ranges are measured. Raises Int8Error where there is no such operator.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with quiet(), explained("onnxruntime cannot quantise this model", OTHERS):
        quantize_static(
            str(fp32),
            str(path),
            Reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=network_nodes(subject),
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},  # logits keep all their digits
        )
    counts = integer_operators(path, network_nodes(subject))
    if not any(integers for integers, _ in counts.values()):
        raise Int8Error(
            "--int8: the network has no convolution or linear layer that onnxruntime computes in int8; allowed:"
            f" {OTHERS}; nothing was written"
        )
    return ", ".join(f"{integers} of {total} {name}" for name, (integers, total) in counts.items())


def network_nodes(subject: Subject) -> list[str]:
    """The nodes of the network itself: not those that normalise images before it, or make probabilities after it."""
    network = subject.source.model.classifier.network
    with_weights = {
        f"network.{name}" for name, child in network.named_children() if any(True for _ in child.parameters())
    }
    return [name for name, modules in subject.onnx.modules.items() if with_weights.intersection(modules)]


def integer_operators(path: Path, names: Collection[str] | None = None) -> dict[str, tuple[int, int]]:
    """Of each operator with weights: how many have integer weights and inputs, and how many there are.

    `names`: of the nodes that count; None: all.
    """
    import onnx

    graph = onnx.load(str(path)).graph
    integers = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    nodes = [node for node in graph.node if node.op_type in WEIGHTED and (names is None or node.name in names)]
    of_integers = Counter(node.op_type for node in nodes if integers.issuperset(node.input[:2]))
    return {name: (of_integers[name], total) for name, total in Counter(node.op_type for node in nodes).items()}


def add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Replace what the metadata of an ONNX file hold."""
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name, model.producer_version = PROGRAM, ""
    onnx.save(model, str(path))
