"""The formats of exported models by name, with how a file's name ends. Imports no torch."""

from __future__ import annotations

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
"""The formats themselves are in cifar.exporting.formats.FORMATS, by the same names."""
