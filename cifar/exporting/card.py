"""The model card of a bundle: README.md in the format of model hubs, from what the run and its study recorded."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import yaml

from cifar import formatting, intervals, layout
from cifar.exporting.agreement import Agreement
from cifar.exporting.cost import Cost
from cifar.exporting.history import History
from cifar.exporting.int8 import Int8
from cifar.exporting.public import public_overrides, public_weights, settings_fingerprint
from cifar.exporting.quantise import METHOD
from cifar.exporting.source import ExportError, Source
from cifar.metadata import PROGRAM, augmentation_text, model_name, program_name
from cifar.objective import OBJECTIVES
from cifar.options.config import Config
from cifar.options.transfer import Pretrained
from cifar.unsure import Reliability

if TYPE_CHECKING:
    from analysis import wording
else:
    wording = layout.analysis("wording")

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
)
FEW_IMAGES = 2000
"""Below so many test images, an accuracy is known to no better than 2 points."""
TAGS = ("image-classification", "onnx", "onnxruntime", "safetensors", "pytorch", PROGRAM)
ERRORS_SHOWN = (0.02, 0.05, 0.1)
"""The allowed errors for which the card has thresholds."""
TEST_COPIES = ("test_also_in_train", "test_images", "test_duplicates", "test_accuracy_without")
Row = dict[str, str]


def render(
    source: Source,
    config: Config,
    history: History | None,
    cost: Cost,
    agreement: Agreement,
    name: str,
    int8: Int8 | None = None,
    reliability: Reliability | None = None,
) -> str:
    """The model card. `name`: what the model is called; `int8`: how model.onnx differs from fp32, where it does.

    `reliability`: when predictions of model.onnx are unsure.

    Raises ExportError where a record is damaged.
    """
    data, best = source.result["data"], source.result["best"]
    config = dataclasses.replace(config, epochs=source.result.get("epochs") or config.epochs)  # those of a time
    test = test_of(source.result, history)
    return TEMPLATES.get_template("model_card.md.jinja").render(
        source=source,
        config=config,
        history=history,
        cost=cost,
        agreement=agreement,
        name=name,
        int8=int8,
        int8_method=METHOD,
        when_sure=when_sure(reliability),
        test=test,
        summary=summary(data, best, test, history),
        front_matter=front_matter(name, config, data, best, test, int8),
        objective=OBJECTIVES[source.result.get("objective") or "accuracy"],
        class_rows=class_rows(source.run),
        copies=wording.on_data(copies(source.result, history)),
        test_images=test_images(test, history),
        program=program_name(),
        date=date.today().isoformat(),
        few_images=FEW_IMAGES,
    )


def when_sure(reliability: Reliability | None) -> list[str]:
    """When predictions are unsure, in lines; empty where that is not known."""
    return [] if reliability is None else [reliability.thresholds.in_words(error) for error in ERRORS_SHOWN]


def summary(
    data: Mapping[str, Any], best: Mapping[str, Any], test: Mapping[str, Any] | None, history: History | None
) -> list[Row]:
    """The accuracies that there are, best known last, a row each."""
    images = data["val"]["images"]
    rows = [
        _accuracy_row(
            "validation",
            best["val_accuracy"],
            _of_share(best["val_accuracy"], images),
            formatting.count_of(images, "image") + ", on which it was chosen",
        )
    ]
    if history is not None and history.confirmed and history.frames.metric == "accuracy":
        confirmed = history.confirmed
        rows.append(
            _accuracy_row(
                "validation, mean on fresh seeds",
                confirmed["mean"],
                _interval(confirmed),
                formatting.count_of(confirmed["seeds"], "training"),
            )
        )
    if test is not None:
        rows.append(
            _accuracy_row("test", test["accuracy"], test["interval"], formatting.count_of(test["images"], "image"))
        )
    return rows


def _accuracy_row(what: str, value: float, interval: str, basis: str) -> Row:
    return {"what": what, "value": f"{value:.4f}", "interval": interval, "basis": basis}


def _interval(row: Mapping[str, Any]) -> str:
    return formatting.format_interval(row["low"], row["high"]) if row else ""


def _of_share(share: float, images: int, style: str = ".4f") -> str:
    """The 95% interval of a share of so many images."""
    return formatting.format_interval(*intervals.wilson(share, images), style)


def split_text(data: Mapping[str, Any]) -> str:
    """Where the validation images are from."""
    split = data.get("split") or {}
    if split.get("folds") is not None:
        return f"fold {split['fold']} of {split['folds']} of the training part"
    if split.get("val_from", "training_part") == "training_part":
        return f"set apart from the training part (seed {split.get('val_seed')})"
    return f"data.val_from={split['val_from']}"


def test_images(test: Mapping[str, Any] | None, history: History | None) -> int | None:
    images = test["images"] if test else (history.test if history else {}).get("images")
    return None if images is None else int(images)


def copies(result: Mapping[str, Any], history: History | None) -> dict[str, Any]:
    """Validation and test images that are also training images, and what data.fixes did, by the keys of the answer."""
    val = result["data"]["val"]
    counts: dict[str, Any] = {}
    if "fixes" in result["data"]:
        names = {"drop": "dropped", "relabel": "relabelled", "group": "grouped"}
        counts["fixes"] = {name: result["data"]["fixes"][action] for action, name in names.items()}
    if val.get("also_in_train"):
        counts |= {"also_in_train": val["also_in_train"], "val_images": val["images"]}
    test = result.get("test") or {}
    if test.get("also_in_train"):
        counts |= {"test_also_in_train": test["also_in_train"], "test_images": test["images"]}
    for part, leaks in result.get("without_leaks", {}).items():
        if leaks["without"]:
            counts |= {
                f"{part}_duplicates": leaks["duplicates"],
                f"{part}_accuracy_without": leaks["without"]["accuracy"],
            }
    confirmed = history.test if history else {}
    return counts | {key: confirmed[key] for key in TEST_COPIES if key in confirmed}


def weakest(rows: Sequence[Row]) -> str:
    """The class with the lowest recall, and that; empty where none is known."""
    known = [row for row in rows if row["recall"] != "not defined"]
    row = min(known, key=lambda row: float(row["recall"].rstrip("%")), default=None)
    return f"{row['class']} ({row['recall']} of {row['images']} validation images)" if row else ""


def test_of(result: Mapping[str, Any], history: History | None) -> dict[str, Any] | None:
    """accuracy, images, interval of the exported weights on the test set; None where these were not evaluated."""
    if history is not None and history.test_row is not None:
        accuracy, images = float(history.test_row.accuracy), int(history.test_row.images)
    elif "test" in result:
        accuracy, images = result["test"]["accuracy"], result["test"]["images"]
    else:
        return None
    return {
        "accuracy": accuracy,
        "images": images,
        "interval": _of_share(accuracy, images),
    }


def front_matter(
    name: str,
    config: Config,
    data: Mapping[str, Any],
    best: Mapping[str, Any],
    test: Mapping[str, Any] | None,
    int8: Int8 | None,
) -> str:
    """The metadata that model hubs read, as YAML."""
    parts = [("validation", "Validation accuracy", best["val_accuracy"])]
    if test is not None:
        parts.append(("test", "Test accuracy", test["accuracy"]))
    if int8 is not None:
        parts = [(part, f"{label} in fp32", value) for part, label, value in parts]
        parts.append(("validation", "Validation accuracy in int8", int8.after.accuracy))
    results = [
        {
            "task": {"type": "image-classification", "name": "Image classification"},
            "dataset": {"name": data_name(config), "type": data["source"], "split": part},
            "metrics": [{"type": "accuracy", "name": label, "value": round(float(value), 4)}],
        }
        for part, label, value in parts
    ]
    content = {
        "license": "other",
        "license_name": "unknown",
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": [*(["int8"] if int8 else []), *TAGS],
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": results}],
    }
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return text


def data_name(config: Config) -> str:
    """The name of the data: of the data set, or of its folder or file."""
    dataset = getattr(config.data, "dataset", None)
    if dataset:
        return str(dataset)
    if getattr(config.data, "downloads", "") or config.data.root is None:
        return config.data.title
    return Path(config.data.root).name


def model_text(config: Config) -> str:
    """The model in a few words, with no path of this machine."""
    transfer = config.transfer
    if not isinstance(transfer, Pretrained):
        return f"{type(config.model).__name__} {model_name(config)}"
    return model_name(config).replace(str(transfer.weights), public_weights(transfer.weights))


def pretrained_weights(result: Mapping[str, Any]) -> dict[str, str] | None:
    """Their name and their SHA-256; None where the model was trained from random weights."""
    transfer = result.get("transfer") or {}
    if "weights_sha256" not in transfer:
        return None
    return {"weights": public_weights(transfer["weights"]), "weights_sha256": transfer["weights_sha256"]}


def recipe(config: Config) -> list[Row]:
    """The settings that matter most, by full key."""
    optimizer, scheduler = config.optimizer, config.scheduler
    shown: dict[str, Any] = {
        "seed": str(config.seed),
        "epochs": config.epochs,
        "time": config.time,
        "batch_size": config.batch_size,
        "optimizer": type(optimizer).__name__.lower(),
        **{f"optimizer.{key}": value for key, value in dataclasses.asdict(optimizer).items() if key != optimizer.key},
        "scheduler": type(scheduler).__name__.lower(),
        "objective": config.objective,
        "loss.l2": config.loss.l2,
        "loss.label_smoothing": config.loss.label_smoothing,
        "loss.class_weights": config.loss.class_weights,
        "ema.decay": config.ema.decay,
        "early_stopping.patience": config.early_stopping.patience,
    }
    return [
        {"key": key, "value": f"{value:.6g}" if isinstance(value, float) else str(value)}
        for key, value in shown.items()
        if value not in (None, 0.0)
    ]


def class_rows(run: Path) -> list[Row]:
    """Images, recall with its interval, precision and F1 of each class; empty in runs of earlier versions.

    Raises ExportError where they are recorded but cannot be read.
    """
    path = run / "classes.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_class_row(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ExportError(
            f"{path}: cannot be read ({error!r}); restore it, or remove it for a card without figures by class"
        ) from error


def _class_row(row: Mapping[str, str]) -> Row:
    images = int(row["images"])
    interval = _of_share(float(row["recall"]), images, ".1%") if row["recall"] else ""
    shares = {key: f"{float(row[key]):.1%}" if row[key] else "not defined" for key in ("recall", "precision", "f1")}
    return {"class": row["class"], "images": str(images), "interval": interval, **shares}


def table(rows: Iterable[Mapping[str, str]], columns: Mapping[str, str]) -> str:
    """A table of Markdown. `columns`: the heading of each key."""
    lines: list[Sequence[str]] = [list(columns.values()), ["---"] * len(columns)]
    lines += [[row[key] for key in columns] for row in rows]
    return "\n".join("| " + " | ".join(map(plain, line)) + " |" for line in lines)


def plain(text: Any) -> str:
    """A text as one line of Markdown in which nothing is emphasised, linked or code: names may hold anything."""
    return re.sub(r"([`*\[\]])", r"\\\1", formatting.cell(text))


TEMPLATES.filters |= {
    "augmentation": augmentation_text,
    "cell": plain,
    "counted": formatting.count_of,
    "count": formatting.format_count,
    "data_name": data_name,
    "duration": formatting.format_time,
    "interval": _interval,
    "interval_of_share": _of_share,
    "model_text": model_text,
    "pretrained_weights": pretrained_weights,
    "public_overrides": public_overrides,
    "recipe": recipe,
    "settings_fingerprint": settings_fingerprint,
    "split_text": split_text,
    "table": table,
    "weakest": weakest,
}
