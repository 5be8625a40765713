"""Validation accuracy of the default recipe on all of CIFAR-10; takes hours on a CPU, and resumes where it stopped.

python -m benchmarks recipe --data DIR --run outputs/recipe        # DIR/train/<class>/*
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.common import save
from cifar.results import read_metrics, read_result

RUN = Path(__file__).parent.parent / "run.py"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks recipe", description=__doc__)
    parser.add_argument("--data", required=True, help="a directory with train/<class>/*")
    parser.add_argument("--run", type=Path, default=Path("outputs/recipe"), help="the run's directory")
    parser.add_argument("--as-it-is", action="store_true", help="do not train: report the epochs that are done")
    options = parser.parse_args(argv)
    if not options.as_it_is:
        new = ["data=image_folder", f"data.root={options.data}", f"hydra.run.dir={options.run}"]
        arguments = [f"resume={options.run}"] if (options.run / "checkpoint.pt").exists() else new
        subprocess.run([sys.executable, str(RUN), *arguments], check=True)
    result, history = read_result(options.run), read_metrics(options.run / "metrics.csv")
    best = max(history, key=lambda metrics: metrics.val_accuracy)
    report = {
        "what": f"the default recipe (resnet14, batch 32, lr {history[0].lr:g}) on all of CIFAR-10, as JPEG files;"
        f" {len(history)} of {result['epochs']} epochs",
        "images": {part: result["data"][part]["images"] for part in ("train", "val")},
        "figure": f"validation accuracy {best.val_accuracy:.4f} (epoch {best.epoch})",
        "trained at commit": result["git"],
        "val_accuracy": [metrics.val_accuracy for metrics in history],
        "train_accuracy": [metrics.train_accuracy for metrics in history],
    }
    save("recipe", "python -m benchmarks recipe --data DIR", report)
