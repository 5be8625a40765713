"""What a run was trained on, by content: its images, their split, its pretrained weights. Imports no torch.

result.json holds it, a study remembers it, and whoever resumes one of them compares.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cifar.errors import UserError
from cifar.results import ResultsError, read_result

log = logging.getLogger(__name__)
Content = dict[str, dict[str, Any]]
"""By part: "images" before they are split; "data", these and how they are split; "weights", their name and SHA-256;
"from_run", the same of the weights that a run began with; "code", the SHA-256 of the file of each of the user's
modules that makes a model, an optimizer or a scheduler."""
IMAGES = ("source", "image_size", "fit", "classes", "images", "fingerprint", "files")
FORMER = {"image_size": 32, "fit": "crop"}
"""What results that do not say it were."""
FORMER_SPLIT = {"val_from": "training_part", "split": "random", "calibration_size": 0}
"""What the split of results that do not say it was."""
DATA = (*IMAGES, "split", "train", "val", "calibration", "fixes")
DECODED_DIFFERENTLY = (
    "the image files are the same, but decoded to other pixels, by another version of this program or of Pillow"
)
PARTS = {"train": "to train on", "val": "to validate on", "calibration": "for calibration"}
"""The parts of a split; that for calibration may be missing."""


class ContentError(UserError):
    """A run would continue on other images or weights than those that it began with."""


def content_of(result: Mapping[str, Any]) -> Content:
    """The content in a result.json; a part that it lacks is left out."""
    content: Content = {}
    data = result.get("data") or {}
    if data:
        content["data"] = {key: data[key] for key in DATA if key in data}
    if data.get("fingerprint"):
        content["images"] = {key: (FORMER | data)[key] for key in IMAGES}
    transfer = result.get("transfer") or {}
    if "weights_sha256" in transfer:
        content["weights"] = {"name": transfer.get("weights"), "sha256": transfer["weights_sha256"]}
    if "sha256" in (result.get("from_run") or {}):
        content["from_run"] = {key: result["from_run"][key] for key in ("path", "sha256")}
    if result.get("code"):
        content["code"] = dict(result["code"])
    return content


def recorded_content(run: Path) -> Content:
    """The content of the run in a directory; empty where it recorded none."""
    try:
        return content_of(read_result(run))
    except (ResultsError, OSError):
        return {}


def check_resumed(run: Path, content: Content, details: Callable[[], str]) -> None:
    """Raises ContentError where the run in a directory had other content; logs where only the user's code differs.

    `details`: says more of the images, where these differ; "" where it cannot.
    """
    before = recorded_content(run)
    for note in code_changes(before, content):
        log.warning("resume=%s: %s", run, note)
    changes = content_differences(before, content)
    if changes:
        fingerprints = [(each.get("data") or {}).get("fingerprint") for each in (before, content)]
        changes += filter(None, [details()] if fingerprints[0] != fingerprints[1] else [])
        raise ContentError(
            f"resume={run}: {'; '.join(changes)}; a run resumes on what it began with: give it that, or start another"
            " run without resume="
        )


def content_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, in words; parts that one of them lacks do not count."""
    changes = []
    if "data" in before and "data" in now:
        changes += _data_differences(before["data"], now["data"])
    if "images" in before and "images" in now and not changes:
        changes += _images_differences(before["images"], now["images"])
    if "weights" in before and "weights" in now:
        changes += _weights_differences(before["weights"], now["weights"])
    if "from_run" in before and "from_run" in now:
        changes += _initial_differences(before["from_run"], now["from_run"])
    return changes


def code_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Which of the user's modules have changed, in words. The code is theirs, so it is said and not refused."""
    earlier, later = before.get("code", {}), now.get("code", {})
    changed = [module for module, digest in later.items() if earlier.get(module, digest) != digest]
    return [f"the file of module {module} has changed since it was begun" for module in changed]


def _data_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    fixes = [(data.get("fixes") or {}).get("sha256") for data in (before, now)]
    if fixes[0] != fixes[1]:
        return ["data.fixes says something else than then: what it drops, relabels or groups has changed"]
    if all(_fingerprint(before, part) == _fingerprint(now, part) for part in PARTS):
        return []
    if before.get("source") != now.get("source"):
        return [f"the images are others: data.source was {before.get('source')}, now {now.get('source')}"]
    if _sizes(before) != _sizes(now):
        return [_size_difference(before, now)]
    if before.get("fingerprint") and before.get("fingerprint") == now.get("fingerprint"):
        return [f"the images are the same, but split differently: {_split_difference(before, now)}"]
    if before.get("files") and before.get("files") == now.get("files"):
        return [DECODED_DIFFERENTLY]
    parts = [part for part in PARTS if part in before or part in now]
    return [f"the images are others: {', '.join(_part_difference(part, before, now) for part in parts)}"]


def _images_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if before["fingerprint"] == now["fingerprint"]:
        return []
    if before["source"] == now["source"] and _sizes(before) != _sizes(now):
        return [_size_difference(before, now)]
    if before["source"] == now["source"] and before["files"] and before["files"] == now["files"]:
        return [DECODED_DIFFERENTLY]
    amounts = [f"{data['images']} of {data['source']} in {data['classes']} classes" for data in (before, now)]
    if amounts[0] == amounts[1]:
        return [f"the images are others: {amounts[0]} then and now, but not the same ones"]
    return [f"the images are others: {amounts[0]} then, {amounts[1]} now"]


def _sizes(data: Mapping[str, Any]) -> dict[str, Any]:
    """The size that the images were brought to, and how."""
    return {key: data.get(key, former) for key, former in FORMER.items()}


def _size_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    then, today = _sizes(before), _sizes(now)
    changes = [f"data.{key} was {then[key]}, now {today[key]}" for key in FORMER if then[key] != today[key]]
    return f"the images are brought to another size: {', '.join(changes)}"


def _fingerprint(data: Mapping[str, Any], part: str) -> Any:
    return (data.get(part) or {}).get("fingerprint")


def _split_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    settings_before, settings = FORMER_SPLIT | (before.get("split") or {}), FORMER_SPLIT | (now.get("split") or {})
    if settings_before == settings and settings["val_from"] != FORMER_SPLIT["val_from"]:
        return f"data.val_from={settings['val_from']}: {_part_difference('val', before, now)}"
    changes = [
        f"data.{name} was {settings_before.get(name)}, now {value}"
        for name, value in settings.items()
        if settings_before.get(name) != value
    ]
    return ", ".join(changes) or "by another version of this program or of scikit-learn"


def _part_difference(part: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    counts = [(data.get(part) or {"images": 0})["images"] for data in (before, now)]
    amounts = [f"{count} in {data.get('classes')} classes" for count, data in zip(counts, (before, now), strict=True)]
    if amounts[0] != amounts[1]:
        return f"{amounts[0]} {PARTS[part]} then, {amounts[1]} now"
    same = _fingerprint(before, part) == _fingerprint(now, part)
    return f"{amounts[0]} {PARTS[part]} then and now, {'the same ones' if same else 'but not the same ones'}"


def _weights_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if before["sha256"] == now["sha256"]:
        return []
    digests = f"SHA-256 {before['sha256'][:12]}... then, {now['sha256'][:12]}... now"
    if before.get("name") != now.get("name"):
        return [f"the weights are others: transfer.weights was {before.get('name')}, now {now.get('name')} ({digests})"]
    return [f"the weights are others: transfer.weights={now.get('name')} holds other values than then ({digests})"]


def _initial_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if before["sha256"] == now["sha256"]:
        return []
    digests = f"SHA-256 {before['sha256'][:12]}... then, {now['sha256'][:12]}... now"
    return [f"the weights that it begins with are others: best.pt of from_run={now['path']} ({digests})"]
