"""The formats of exported models: each writes a file, knows its files, and computes probabilities with one."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
import zipfile
from abc import ABC, abstractmethod
from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from cifar import packages
from cifar.exporting.source import ExportError, Source, provenance
from cifar.exporting.weights import load_safetensors
from cifar.inference.model import load_model
from cifar.metadata import PROGRAM

LARGEST_ONNX = 2_000_000_000
"""Bytes: the largest file that protobuf, the encoding of ONNX, can hold, is of 2 GiB."""
METADATA = "metadata.json"
MODULES = "pkg.torch.onnx.name_scopes"
"""Of the metadata of a node: the names of its modules, as the text of a list, and last that of the node itself."""
LONGEST_REASON = 300
OPERATOR = re.compile(r"\b(?:aten|prims|torchvision|quantized|torch_scatter|\w+_ops)(?:\.|::)\w+")
PACKAGES = ("onnxscript", "onnx", "onnxruntime")
Compute = Callable[[Tensor], Tensor]
"""images uint8 (B, 3, size, size) -> probabilities (B, classes)."""


class Subject:
    """A model that is exported: its graph is made once, for all formats that need it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.metadata = provenance(source)

    @cached_property
    def program(self) -> ExportedProgram:
        """The graph of the probabilities."""
        return self._program(self.source.network)

    def _program(self, network: nn.Module) -> ExportedProgram:
        """The graph, for any batch size. Raises ExportError where torch.export cannot make one."""
        problem = "torch.export cannot make a graph of this model"
        with quiet(), torch.no_grad(), explained(problem, "--format safetensors"):
            program = torch.export.export(network, (self.source.example(),), dynamic_shapes=({0: Dim("batch", min=1)},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # it has the paths of this machine
        return program

    @cached_property
    def onnx(self) -> OnnxGraph:
        """The graph in ONNX, with the distances where they are known. Raises ExportError for an operator it lacks."""
        program = self._program(self.source.measured)
        with quiet(), explained("ONNX cannot express this model", "--format torch_export, --format safetensors"):
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=["images"],
                output_names=["probabilities", "distance"][: len(program.graph_signature.user_outputs)],
                external_data=False,
                verbose=False,
            )
        modules = {}
        for node in exported.model.graph.all_nodes():  # type: ignore[union-attr]
            modules[str(node.name)] = tuple(literal_eval(node.metadata_props.get(MODULES, "[]")))
            node.metadata_props.clear()  # they have the paths of this machine
        return OnnxGraph(exported, modules)


@dataclass(frozen=True)
class OnnxGraph:
    """A torch.onnx.ONNXProgram, and the modules that each of its nodes is a part of, by the node's name."""

    program: Any
    modules: Mapping[str, tuple[str, ...]]


class Format(ABC):
    @abstractmethod
    def write(self, subject: Subject, path: Path) -> None:
        """Write the model and its metadata. Raises ExportError."""

    @abstractmethod
    def compute(self, path: Path) -> Compute:
        """The function that the file holds."""

    def distances(self, path: Path) -> Compute | None:
        """The function that gives distances to training images (B,), NaN where unknown; None: the format has none."""
        return None

    @abstractmethod
    def program_of(self, path: Path) -> str:
        """The program that wrote the file; empty where that is not known."""


class Onnx(Format):
    def write(self, subject: Subject, path: Path) -> None:
        size = sum(weight.nbytes for weight in subject.source.network.state_dict().values())
        if size > LARGEST_ONNX:
            raise ExportError(
                f"--format onnx: the weights take {size / 1e9:.1f} GB, and a file of ONNX holds 2 GB; allowed:"
                " --format torch_export, --format safetensors"
            )
        exported = subject.onnx.program
        exported.model.metadata_props.clear()
        exported.model.metadata_props.update(subject.metadata)
        exported.model.producer_name = PROGRAM
        exported.save(str(path), external_data=False)

    def compute(self, path: Path) -> Compute:
        return load_model(path).probabilities

    def distances(self, path: Path) -> Compute:
        model = load_model(path)
        return lambda images: model.assess(images).distances

    def program_of(self, path: Path) -> str:
        import onnx

        try:
            model = onnx.load(str(path), load_external_data=False)
        except Exception:  # the errors of protobuf share no base
            return ""
        return next((entry.value for entry in model.metadata_props if entry.key == "program"), "")


class TorchExport(Format):
    def write(self, subject: Subject, path: Path) -> None:
        content = io.BytesIO()  # torch writes into a file of a full disk until the process aborts
        with quiet():
            torch.export.save(subject.program, content, extra_files={METADATA: json.dumps(subject.metadata)})
        path.write_bytes(content.getbuffer())

    def compute(self, path: Path) -> Compute:
        module = torch.export.load(str(path)).module()

        @torch.inference_mode()
        def probabilities(images: Tensor) -> Tensor:
            result: Tensor = module(images)
            return result

        return probabilities

    def program_of(self, path: Path) -> str:
        try:
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.rpartition("/")[2] == METADATA)
                metadata = json.loads(archive.read(name))
            return str(metadata["program"])
        except (OSError, ValueError, KeyError, TypeError, StopIteration, zipfile.BadZipFile):
            return ""


class Safetensors(Format):
    def write(self, subject: Subject, path: Path) -> None:
        weights = subject.source.model.classifier.network.state_dict()
        build = {"build": json.dumps(subject.source.description())}
        path.touch()
        mode = path.stat().st_mode
        save_file(_separate(weights), path, subject.metadata | build)
        path.chmod(mode)  # safetensors 0.8 makes a file that the owner alone may read

    def compute(self, path: Path) -> Compute:
        return load_safetensors(path).probabilities

    def program_of(self, path: Path) -> str:
        try:
            with safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
        except (OSError, SafetensorError):
            return ""
        return str(metadata.get("program", ""))


def _separate(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous weights, of which no two share memory, as the file must hold them; others are copied."""
    storages: set[int] = set()
    separate = {}
    for name, weight in weights.items():
        tensor = weight.contiguous()
        if tensor.untyped_storage().data_ptr() in storages:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor
    return separate


FORMATS: dict[str, Format] = {"onnx": Onnx(), "torch_export": TorchExport(), "safetensors": Safetensors()}


def require_packages(name: str) -> None:
    """Raises PackageError where a package is missing that this format needs."""
    if name == "onnx":
        packages.require("--format onnx", "export", *PACKAGES)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and the graphs that PyTorch prints while it exports; an error says what matters."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def explained(problem: str, others: str) -> Iterator[None]:
    """Turn what the exporter raises into an ExportError that names the operators in question."""
    try:
        yield
    except Exception as error:  # of many types, of PyTorch and of onnxscript
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        operators = list(dict.fromkeys(OPERATOR.findall(f"{root}\n{error}")))[:3]
        named = f" ({', '.join(operators)})" if operators else ""
        lines = [line.strip(" .;") for line in str(root).splitlines() if line.strip()]
        reason = ": ".join(lines[:2])[:LONGEST_REASON] if lines else type(root).__name__
        raise ExportError(f"{problem}{named}: {reason}; allowed: {others}, or a model without that") from error
