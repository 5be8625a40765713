"""The answer of a search in words: lines for a terminal, and what to do next."""

from __future__ import annotations

from typing import Any

from cifar.formatting import count_of, format_count, format_interval, format_value

from .architecture import model_name, model_settings
from .statistics.model import FEWEST

SHOWN = 5
"""Hyperparameters and tied trials that the text names."""


def text(answer: dict[str, Any]) -> str:
    """An answer of `summarize` as at most 30 lines."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in answer["trials"].items()) or "no trials yet"
    lines = [f"study {answer['study']}: {counts}", *_left_out(answer.get("without_score", []))]
    if "best" not in answer:
        reason = f"; the first reason: {answer['reason']}" if answer.get("reason") else ""
        return "\n".join([*lines, f"{answer['problem']}{reason}"])
    lines += [*_winner(answer), "how sure:"]
    lines += [f"  {line}" for line in on_data_of(answer)]
    if "confirmed" in answer:
        lines += _confirmation(answer["confirmed"], _name(answer), answer["direction"])
    if "confirming" in answer:
        lines += [f"  its confirmation has begun: {_runs_are(answer['confirming'])} done"]
    steps = [f"  {step}" for step in advice(answer)]
    return "\n".join([*lines, *_estimates(answer), *(["next:", *steps] if steps else [])])


def _runs_are(count: int) -> str:
    return f"{count_of(count, 'run')} on fresh seeds {'is' if count == 1 else 'are'}"


def _left_out(numbers: list[int]) -> list[str]:
    """The trials whose values no statistic can use."""
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if numbers[5:] else "")
    return [f"left out: trials {shown}, whose values are infinite or beyond 1e100 in size"] if numbers else []


def _winner(answer: dict[str, Any]) -> list[str]:
    best = answer["best"]
    chosen = "best on fresh seeds" if "confirmed" in answer else "best"
    reported = f"{_name(answer)}{best['value']:.4f}"
    lines = [f"{chosen}: trial {best['trial']}, which reported {reported}", *_hyperparameters(answer)]
    if best["architecture"]:
        lines += [f"  model: {_architecture(best['architecture'])}"]
    if "command" in answer:
        lines += [f"  train it: {answer['command']}", *_execution(answer.get("execution") or {})]
    return lines


def _name(answer: dict[str, Any]) -> str:
    """What a value is, before it; empty where that is not known."""
    return "" if answer["objective"] == "value" else f"{answer['objective']} "


def _execution(settings: dict[str, Any]) -> list[str]:
    """What training it takes from the trial beside its settings."""
    lines = []
    if "epochs" in settings:
        lines.append(f"    with epochs={settings['epochs']}, which the time of the trial allowed")
    if "threads" in settings:
        threads = settings["threads"]
        lines.append(
            f"    with threads={threads}, as the trial had: on a CPU, another number gives slightly different figures"
        )
    return lines


def _hyperparameters(answer: dict[str, Any]) -> list[str]:
    """A line each, the most important first: its value, its share of the variance, and where in its range it lies."""
    values = {key: format_value(value) for key, value in answer["best"]["hyperparameters"].items()}
    importance = answer.get("importance", [])
    notes = {row["hyperparameter"]: f"  {_share(row)}{_position(row, answer)}" for row in importance}
    ranked = [key for key in notes if key in values]
    others = [key for key in values if key not in notes]
    shown = [*ranked, *others][: 2 * SHOWN]
    key_width = max((len(key) for key in shown), default=0)
    value_width = max((len(values[key]) for key in shown), default=0)
    return [f"  {key:<{key_width}}  {values[key]:<{value_width}}{notes.get(key, '')}".rstrip() for key in shown]


def _share(row: dict[str, Any]) -> str:
    if row["verdict"] != "matters":
        return str(row["verdict"])
    return f"explains {row['importance']:.0%} ({row['low']:.0%} to {row['high']:.0%}) of the variance"


def _position(row: dict[str, Any], answer: dict[str, Any]) -> str:
    """Where in its range the best values of a hyperparameter lie; empty where that is open."""
    sides = [side for side in answer["boundaries"] if side["hyperparameter"] == row["hyperparameter"]]
    edges = [side["side"] for side in sides if side["verdict"] == "edge"]
    if edges:
        return f"; the best lie at the {edges[0]} end of its range"
    if sides and all(side["verdict"] == "inside" for side in sides):
        return "; best inside its range"
    return ""


def _architecture(model: dict[str, Any]) -> str:
    settings = [f"{key}={value}" for key, value in model_settings(model).items()]
    parts = [" ".join([model_name(model), *settings])]
    if "parameters" in model:
        parts.append(f"{format_count(model['parameters'])} parameters")
    if "flops" in model:
        parts.append(f"{format_count(model['flops'])}FLOP an image")
    return ", ".join(parts)


def _confirmation(confirmed: dict[str, Any], name: str, objective_direction: str) -> list[str]:
    """What fresh seeds and the test set say."""
    too_high = (confirmed["curse"] > 0) == (objective_direction == "maximize")
    direction = "too high" if too_high else "too low"
    seeds = count_of(confirmed["seeds"], "fresh seed")
    candidates = count_of(len(confirmed["candidates"]), "candidate")
    lines = [
        f"  {name}{confirmed['mean']:.4f} on {seeds} ({_between(confirmed)}), the best mean of {candidates};"
        f" the search reported {abs(confirmed['curse']):.4f} {direction}"
    ]
    if confirmed.get("looks"):
        lines += [f"  the test set was evaluated ({confirmed['looks']}), but the runs with the results are missing"]
    if "test" in confirmed:
        lines += [_test_accuracy(confirmed["test"], confirmed["trial"])]
    return lines


def _test_accuracy(test: dict[str, Any], chosen: int) -> str:
    looks = "evaluated once" if test["look"] == 1 else f"evaluated {test['look']:.0f} times, so no longer unseen"
    of_trial = "" if test["number"] == chosen else f" (of trial {test['number']:.0f})"
    images = f"{format_interval(test['wilson_low'], test['wilson_high'])} over {count_of(int(test['images']), 'image')}"
    seeds = f"{_between(test)} over {count_of(int(test['seeds']), 'seed')}"
    if "objective" in test:
        objective = test["objective"]
        seeds = f"{_between(objective)} over {count_of(int(test['seeds']), 'seed')}"
        accuracy = f"test accuracy {test['accuracy']:.4f} ({images})"
        return f"  test {objective['name']} {objective['value']:.4f}{of_trial}: {seeds}; {accuracy}; {looks}"
    return f"  test accuracy {test['accuracy']:.4f}{of_trial}: {images}, {seeds}; {looks}"


def _between(row: dict[str, Any]) -> str:
    return format_interval(row["low"], row["high"], missing="no interval")


def on_data_of(answer: dict[str, Any]) -> list[str]:
    """What `on_data` says of a search and of its confirmation."""
    test: dict[str, Any] = answer.get("confirmed", {}).get("test", {})
    return on_data(answer["best"] | test)


def on_data(copies: dict[str, Any]) -> list[str]:
    """What must be known of the images, by the keys of `data_of` and `leaks_of`: copies in two parts, corrections."""
    lines = _on_fixes(copies) if "fixes" in copies else []
    if "also_in_train" in copies:
        count, images = copies["also_in_train"], copies["val_images"]
        remedy = "remove the copies, or keep them together with data.groups where the source has it"
        lines += [f"{_are_copies(count, images, 'validation')}: {remedy}"]
    if "test_also_in_train" in copies:
        count, images = copies["test_also_in_train"], copies["test_images"]
        lines += [f"{_are_copies(count, images, 'test')}: remove the copies"]
    return lines + _without_leaks(copies)


def _without_leaks(facts: dict[str, Any]) -> list[str]:
    """The accuracies on images that are no training images, where others are."""
    return [
        f"{name} accuracy {facts[f'{part}_accuracy_without']:.4f} without the {facts[f'{part}_duplicates']:,} {name}"
        " images that are training images too (data.check_duplicates)"
        for part, name in (("val", "validation"), ("test", "test"))
        if facts.get(f"{part}_duplicates")
    ]


def _on_fixes(facts: dict[str, Any]) -> list[str]:
    """What data.fixes changed, and the test accuracy without it where it changes test images."""
    counts = ", ".join(f"{count} {name}" for name, count in facts["fixes"].items())
    line = f"data.fixes corrects the data ({counts})"
    without = facts.get("test_accuracy_without_fixes")
    return [line if without is None else f"{line}; test accuracy on the test images as they are: {without:.4f}"]


def _are_copies(count: int, images: int, part: str) -> str:
    return (
        f"{count:,} of {images:,} {part} images are also training images (identical pixels at the input size), so"
        f" {part} values are too good"
    )


def _estimates(answer: dict[str, Any]) -> list[str]:
    """What the search itself says."""
    lines = [f"  {line}" for line in not_known(answer)]
    if lines:
        return lines
    if "confirmed" not in answer:
        true = answer["truly"]
        lines += [
            f"  {_name(answer)}probably about {true['mean']:.4f} ({_between(true)}): the best of many trials is"
            " partly luck"
        ]
    source = "estimated from the search and its fresh seeds" if "confirmed" in answer else "estimated from this search"
    lines += [f"  one trial varies by {answer['noise']:.4f} (s.d.) from seed to seed, {source}"]
    tied = answer["tied"]
    if len(tied) > 1:
        likeliest = ", ".join(f"{trial['number']} ({trial['best']:.0%})" for trial in tied[:SHOWN])
        trials = f"{len(tied)} trials{of_branch(answer)}, the best included,"
        lines += [f"  {trials} are statistically tied; most likely the best: {likeliest}"]
    return lines


def not_known(answer: dict[str, Any]) -> list[str]:
    """That too few trials are complete for more, or whatever the reason is; empty where more is known."""
    if "unknown" not in answer:
        return []
    return [f"what else the trials{of_branch(answer)} say is not known yet: {answer['unknown']}"]


def of_branch(answer: dict[str, Any]) -> str:
    """Which trials the statistics are of, where options decided what else was searched; else empty."""
    branch = answer["best"]["branch"]
    return f" with {branch}" if branch else ""


def advice(answer: dict[str, Any]) -> list[str]:
    """What to do next, a sentence each, at most six."""
    lines = _of_the_statistics(answer) if "unknown" not in answer else _on_more_trials(answer)
    if "confirm" in answer and "confirmed" not in answer:
        lines += [f"confirm it: {answer['confirm']}"]
    if "export" in answer:
        lines += [f"use it: {answer['export']}"]
    return lines


def _on_more_trials(answer: dict[str, Any]) -> list[str]:
    """How to run more of them, where a search of this program has too few."""
    is_small = "confirm" in answer and answer["trials"].get("complete", 0) < FEWEST
    return ["run more trials: the command of the search with a greater hydra.sweeper.n_trials"] if is_small else []


def _of_the_statistics(answer: dict[str, Any]) -> list[str]:
    """What the trials say of the search."""
    lines = [*_ranges_to_widen(answer)[:2], *_what_to_fix(answer["importance"])]
    learned = answer["learned"]
    if learned.get("improving"):
        lines += [f"the best run still improved at its end, in epoch {learned['best_epoch']}: train for longer"]
    return [*lines, _whether_more_trials(answer)]


def _ranges_to_widen(answer: dict[str, Any]) -> list[str]:
    lines = []
    for side in answer["boundaries"]:
        if side["verdict"] == "edge" and side["wider"]:
            wider = f"{side['low']:.10g} to {side['high']:.10g}"
            lines.append(f"widen {side['hyperparameter']}: {wider} (hydra.sweeper.study_name=ANOTHER)")
    return lines


def _what_to_fix(importance: list[dict[str, Any]]) -> list[str]:
    idle = [row["hyperparameter"] for row in importance if row["verdict"] != "matters"]
    if not idle:
        return []
    if len(idle) == len(importance):
        return ["no hyperparameter is shown to matter: to learn which do, take more trials or wider ranges"]
    return [f"{', '.join(idle[:SHOWN])}: not shown to matter; may be fixed"]


def _whether_more_trials(answer: dict[str, Any]) -> str:
    enough, used = answer["enough_trials"], answer["used_trials"]
    more = "more will hardly find a better one" if enough <= used / 2 else "more may still find a better one"
    of_all = f"{enough} of {used} trials{of_branch(answer)}"
    return f"{of_all} would have been enough to come within the noise of the best: {more}"
