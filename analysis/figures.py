"""Figures: from the frames of analysis.frames and analysis.statistics to plotly. Nothing is computed here.

Colours are those of Okabe and Ito (2008, Color universal design) and viridis, which all kinds of sight tell apart.
Texts that come from files are escaped, for plotly reads a part of HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from html import escape
from typing import Any

import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from plotly.colors import sample_colorscale

from .formatting import format_value
from .frames import Frames
from .statistics.scratch import scratch_study

BLUE, ORANGE, GREEN, RED, SKY, PURPLE, GREY = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8C8C8C"),
)
SERIES = (BLUE, GREEN, PURPLE, RED, SKY, ORANGE, GREY)
"""Of the best runs, best first, and of recipes."""
OUTCOMES = {"complete": BLUE, "pruned": ORANGE, "running": GREEN, "failed": RED, "diverged": RED}
"""And GREY of all others."""
WORST_TO_BEST = [ORANGE, "#9FA8A3", SKY, BLUE]
MEASURES = {
    "train_loss": "training loss (nats)",
    "val_loss": "validation loss (nats)",
    "train_accuracy": "training accuracy (share of 1)",
    "val_accuracy": "validation accuracy (share of 1)",
    "gap": "validation minus training loss (nats)",
    "lr": "learning rate",
}
COSTS = {
    "seconds": "time of training (seconds)",
    "parameters": "size of the model (parameters)",
    "flops": "forward pass of an image (FLOP)",
}
LOOK = go.layout.Template(
    layout={
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "#333"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": SERIES,
        "margin": {"l": 12, "r": 12, "t": 8, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "hoverlabel": {
            "bgcolor": "#222",
            "bordercolor": "#222",
            "font": {"color": "#fff", "size": 12},
            "align": "left",
        },
        "hovermode": "closest",
        "height": 340,
        **{
            axis: {
                **{"automargin": True, "gridcolor": "#ddd", "zeroline": False, "ticks": "", "ticklabelstandoff": 4},
                **{
                    "title": {"standoff": 10, "font": {"size": 13}},
                    "tickfont": {"size": 12},
                    "exponentformat": "power",
                },
            }
            for axis in ("xaxis", "yaxis")
        },
    }
)


def measure(frames: Frames) -> str:
    """What a study's scores are, for an axis."""
    if frames.objectives == ("minimize",):
        return "negated value"
    return "validation accuracy" if frames.runs.val_accuracy.notna().any() or not frames.objectives else "value"


def about(trials: pd.DataFrame) -> pd.Series[str]:
    """For each trial what is shown where the mouse points at it: its number, score, settings and folder."""
    keys = [str(column) for column in trials.columns if str(column).startswith("params.")]

    def told(trial: pd.Series[Any]) -> str:
        score = trial.score if pd.notna(trial.score) else trial.last_score
        lines = [f"trial {trial.number}, {trial.outcome}" + (f": {score:.4f}" if pd.notna(score) else "")]
        lines += [
            f"{key.removeprefix('params.')}={format_value(trial[key])}" for key in keys if not pd.isna(trial[key])
        ]
        return "<br>".join(escape(line) for line in (*lines, trial.reason, trial.run) if line)

    return pd.Series([told(trial) for _, trial in trials.iterrows()], trials.index, dtype=object)


def short(key: str) -> str:
    """A hyperparameter's name, without the groups that it stands in."""
    return escape(key.rpartition(".")[2] or key)


def curves(frames: Frames) -> pd.DataFrame:
    """The epochs with number, outcome, about, gap and rank (1: the best run) of their trial or run."""
    if frames.trials.empty:
        runs = frames.runs
        trials = pd.DataFrame({"run": runs.run, "outcome": runs.status.replace("finished", "complete")})
        trials["name"] = [run.rstrip("/").rpartition("/")[2] for run in runs.run]
        trials["rank"] = runs.val_accuracy.rank(ascending=False, method="first")
        trials["about"] = [escape(run) for run in runs.run]
    else:
        trials = frames.trials[["run", "outcome"]].assign(about=about(frames.trials))
        trials["name"] = "trial " + frames.trials.number.astype(str)
        trials["rank"] = frames.trials.score.rank(ascending=False, method="first")
    epochs = frames.epochs.merge(trials[trials.run != ""], on="run")
    return epochs.assign(gap=epochs.val_loss - epochs.train_loss)


def learning(epochs: pd.DataFrame, y: str, strong: int = 3) -> go.Figure:
    """One of MEASURES by epoch; `epochs` as `curves` makes them. The best stand out, pruned ones end in a cross."""
    figure = _by_epoch(epochs, MEASURES[y], yaxis_type="log" if y == "lr" else "linear", legend_traceorder="reversed")
    rest = epochs[~(epochs["rank"] <= strong)]
    for name, own in (("others", rest[rest.outcome != "pruned"]), ("pruned", rest[rest.outcome == "pruned"])):
        color = ORANGE if name == "pruned" else GREY
        figure.add_scatter(**_joined(own, y), name=name, mode="lines", line={"color": color, "width": 1}, opacity=0.55)
        if name == "pruned":
            ends = own.groupby("run", sort=False).tail(1)
            figure.add_scatter(x=ends.epoch, y=ends[y], hovertext=ends.about, hoverinfo="text", mode="markers")
            figure.data[-1].update(marker={"color": color, "symbol": "x-thin", "line": {"width": 1.5, "color": color}})
            figure.data[-1].update(showlegend=False, name="pruned here")
    for rank, own in reversed([*epochs[epochs["rank"] <= strong].groupby("rank")]):
        color = SERIES[(int(rank) - 1) % len(SERIES)]
        mode = "lines+markers" if len(own) == 1 else "lines"
        figure.add_scatter(
            **_joined(own, y), name=escape(own.name.iloc[0]), mode=mode, line={"color": color, "width": 2.5}
        )
    figure.update_layout(yaxis_range=_worth_seeing(epochs, y))
    return _finished(figure)


def _by_epoch(epochs: pd.DataFrame, y: str, **layout: Any) -> go.Figure:
    """Labelled at whole epochs only."""
    last = epochs.epoch.max() if len(epochs) else 1
    return _figure("epoch", y, xaxis_dtick=max(1, round(last / 10)), **layout)


def _worth_seeing(epochs: pd.DataFrame, y: str) -> tuple[float, float] | None:
    """The range of the complete runs, where others (a diverged one) would flatten them; None where all can be seen."""
    complete, all_ = (own[y][np.isfinite(own[y])] for own in (epochs[epochs.outcome == "complete"], epochs))
    span = np.ptp(complete) if len(complete) else 0.0
    if y == "lr" or not span or np.ptp(all_) < 3 * span:
        return None
    return complete.min() - 0.1 * span, complete.max() + 0.5 * span


def _joined(epochs: pd.DataFrame, y: str) -> dict[str, Any]:
    """All runs as one line with gaps; the last point of each tells all, the others whose they are."""
    x: list[Any] = []
    values: list[Any] = []
    text: list[str] = []
    for _, own in epochs.groupby("run", sort=False):
        x += [*own.epoch, None]
        values += [*own[y].where(np.isfinite(own[y])), None]
        text += [f"{escape(own.name.iloc[0])}, epoch {e}: {v:.4g}" for e, v in zip(own.epoch, own[y], strict=True)]
        text[-1] += f"<br>{own.about.iloc[0]}"
        text.append("")
    return {"x": x, "y": values, "hovertext": text, "hoverinfo": "text"}


def both(epochs: pd.DataFrame, what: str) -> go.Figure:
    """loss or accuracy of one run by epoch: in training and in validation, the best epoch marked."""
    unit = "nats" if what == "loss" else "share of 1"
    figure = _by_epoch(epochs, f"{what} ({unit})")
    for part, name, color in (("train", "training", ORANGE), ("val", "validation", BLUE)):
        values = epochs[f"{part}_{what}"]
        line = {"color": color, "width": 2.5, "dash": "dot" if part == "train" else "solid"}
        figure.add_scatter(x=epochs.epoch, y=values, name=name, mode="lines+markers", line=line, marker={"size": 5})
        figure.data[-1].hovertemplate = "epoch %{x}: %{y:.4f}"
    if epochs.val_accuracy.notna().any():
        best = epochs.loc[epochs.val_accuracy.idxmax()]
        figure.add_scatter(x=[best.epoch], y=[best[f"val_{what}"]], name="best epoch", mode="markers")
        figure.data[-1].marker = {"symbol": "circle-open", "size": 14, "color": BLUE, "line": {"width": 2}}
    return figure


def slice_of(
    trials: pd.DataFrame, range_: pd.Series[Any], score: str, response: pd.DataFrame | None = None
) -> go.Figure:
    """The scores along one hyperparameter (a row of the spaces); with what is believed of it, if given.

    Pruned trials stand at what they reported last, failed ones, which have no score, below all others.
    """
    key = range_.hyperparameter
    own = trials[trials[f"params.{key}"].notna()]
    number = range_.kind == "number"
    figure = _figure(short(key), score, xaxis_type=("log" if range_.log else "linear") if number else "category")
    if response is not None and len(response):
        figure.add_scatter(x=[*response.value, *response.value[::-1]], y=[*response.high, *response.low[::-1]])
        figure.data[-1].update(fill="toself", fillcolor="rgba(86,180,233,0.25)", line={"width": 0}, mode="lines")
        figure.data[-1].update(hoverinfo="skip", name="95% interval")
        figure.add_scatter(x=response.value, y=response.estimate, mode="lines", line={"color": SKY, "width": 2})
        figure.data[-1].update(name="estimate", hovertemplate="%{x:.4g}: %{y:.4f}")
    known = own.score.fillna(own.last_score)
    low, high = (known.min(), known.max()) if known.notna().any() else (0.0, 1.0)
    bottom = low - 0.08 * ((high - low) or 0.1)
    for name, group, y, symbol in (
        ("complete", own[own.outcome == "complete"], own.score, "circle"),
        ("pruned", own[own.outcome == "pruned"], own.last_score, "triangle-down-open"),
        ("failed", own[own.outcome.isin(["failed", "diverged"])], pd.Series(bottom, own.index), "x"),
    ):
        marker = {"color": OUTCOMES[name], "symbol": symbol, "size": 8}
        values = group[f"params.{key}"]
        figure.add_scatter(x=values if number else values.map(lambda v: escape(str(v))), y=y[group.index], name=name)
        figure.data[-1].update(mode="markers", marker=marker, hovertext=about(group), hoverinfo="text")
    return _finished(figure)


def importance(found: pd.DataFrame) -> go.Figure:
    """statistics.importance: shares of the variance with their intervals, and Optuna's fANOVA beside them."""
    rows = found.iloc[::-1]
    names = rows.hyperparameter.map(short)
    figure = _figure("share of the score's variance", "", height=110 + 44 * len(rows), xaxis_tickformat=".0%")
    for name, matters, color in (("matters", True, BLUE), ("not distinguishable from noise", False, GREY)):
        own = rows[(rows.verdict == "matters") == matters]
        error = {"array": own.high - own.importance, "arrayminus": (own.importance - own.low).clip(lower=0)}
        figure.add_bar(x=own.importance, y=names[own.index], orientation="h", name=name, marker={"color": color})
        figure.data[-1].update(error_x=error | {"type": "data", "symmetric": False, "color": "#555", "thickness": 1.5})
        figure.data[-1].update(width=0.55, hovertemplate="%{y}: %{x:.0%}<extra></extra>")
    figure.add_scatter(x=rows.fanova, y=names, name="fANOVA of the trials alone", mode="markers")
    figure.data[-1].update(marker={"symbol": "diamond-open", "color": ORANGE, "size": 9, "line": {"width": 2}})
    figure.update_layout(yaxis={"categoryorder": "array", "categoryarray": [*names], "showgrid": False})
    return _finished(figure)


def contour(surface: pd.DataFrame, trials: pd.DataFrame, spaces: pd.DataFrame, x: str, y: str, score: str) -> go.Figure:
    """statistics.surface, and the trials on it."""
    log = spaces.set_index("hyperparameter").log
    scales = {"xaxis_type": "log" if log[x] else "linear", "yaxis_type": "log" if log[y] else "linear"}
    figure = _figure(short(x), short(y), height=420, **scales)
    figure.add_contour(x=surface.columns, y=surface.index, z=surface.to_numpy(), colorscale="Viridis", ncontours=14)
    figure.data[-1].update(line={"width": 0.4}, hovertemplate="%{x:.3g}, %{y:.3g}: %{z:.4f}<extra>estimate</extra>")
    figure.data[-1].update(colorbar=_bar(score))
    for name, symbol in (("complete", "circle"), ("pruned", "triangle-down"), ("failed", "x")):
        own = trials[(trials.outcome == name) | ((name == "failed") & (trials.outcome == "diverged"))]
        figure.add_scatter(x=own[f"params.{x}"], y=own[f"params.{y}"], mode="markers", name=name)
        marker = {"symbol": symbol, "size": 8, "color": "#fff", "line": {"color": "#111", "width": 1}}
        figure.data[-1].update(marker=marker, hovertext=about(own), hoverinfo="text")
    return _finished(figure)


def parallel(trials: pd.DataFrame, spaces: pd.DataFrame, score: str) -> go.Figure:
    """Optuna's parallel coordinates of the complete trials, in colours that dark and light paper bear."""
    kept = trials[trials.score.notna()]
    study, told = _study(kept, spaces.assign(name=_names(spaces.hyperparameter))), about(kept)
    figure = optuna.visualization.plot_parallel_coordinate(study, target_name=score)
    figure.update_layout(template=LOOK, title=None, height=380, plot_bgcolor="rgba(0,0,0,0)", margin_l=44)
    names = [re.sub("[ _]", "<br>", escape(text)) for text in figure.layout.xaxis.ticktext or ()]
    figure.update_xaxes(ticktext=names, tickangle=0 if len(names) <= 5 else None)
    for annotation in figure.layout.annotations:
        annotation.text = escape(annotation.text)
    *lines, scale = figure.data
    for line, trial in zip(lines, study.get_trials(deepcopy=False), strict=True):
        line.update(line={"color": sample_colorscale(WORST_TO_BEST, line.y[0])[0], "width": 1.5}, opacity=0.8)
        line.update(customdata=None, hovertemplate=None, hovertext=told[trial.user_attrs["row"]], hoverinfo="text")
    scale.marker.update(colorscale=WORST_TO_BEST, colorbar=_bar(score))
    return figure


def _names(keys: pd.Series[str]) -> pd.Series[str]:
    """Without their groups, where that leaves them apart."""
    names = keys.str.rpartition(".")[2]
    return names if names.nunique() == keys.nunique() else keys


def _study(trials: pd.DataFrame, spaces: pd.DataFrame) -> optuna.Study:
    """The trials as a study in memory, for Optuna's own figures; those outside the ranges are left out."""
    study = scratch_study()
    for index, trial in trials.iterrows():
        own, params = {}, {}
        for row in spaces[spaces.branch == trial.branch].itertuples():
            own[row.name] = _distribution(row)
            params[row.name] = _value(trial[f"params.{row.hyperparameter}"], own[row.name])
        with suppress(ValueError):
            attributes = {"row": index}
            study.add_trial(
                optuna.create_trial(params=params, distributions=own, value=trial.score, user_attrs=attributes)
            )
    return study


def _distribution(row: Any) -> BaseDistribution:
    if row.kind == "choice":
        return CategoricalDistribution(row.choices)
    kind = IntDistribution if row.whole else FloatDistribution
    return kind(int(row.low) if row.whole else row.low, int(row.high) if row.whole else row.high, log=row.log)


def _value(value: Any, distribution: BaseDistribution) -> Any:
    """As the study had it, before the gaps of other trials made a column of floats of it."""
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if choice == value), value)
    return int(value) if isinstance(distribution, IntDistribution) else float(value)


def best_of_n(curves: Mapping[str, pd.DataFrame], score: str, enough: int | None = None) -> go.Figure:
    """statistics.best_of_n by recipe; `enough` trials are marked."""
    figure = _figure("number of trials", f"expected best {score}")
    for (name, curve), color in zip(curves.items(), SERIES * len(curves), strict=False):
        mode = "lines" if len(curve) > 1 else "markers"
        figure.add_scatter(
            x=curve.n, y=curve.unbiased, name=escape(name), mode=mode, line={"color": color, "width": 2.5}
        )
        figure.data[-1].hovertemplate = "best of %{x}: %{y:.4f}"
    if enough is not None:
        figure.add_vline(x=enough, line={"color": GREY, "dash": "dash", "width": 1.5})
        figure.add_annotation(x=enough, y=0.02, yref="paper", text=f" {enough}: within the noise", showarrow=False)
        figure.layout.annotations[-1].update(xanchor="left", yanchor="bottom")
    figure.update_layout(showlegend=len(curves) > 1)
    return figure


def reached(scores: Mapping[str, Iterable[float]], score: str) -> go.Figure:
    """Optuna's empirical distribution functions: the share of each recipe's trials that stay below a score."""
    studies = []
    for name, values in scores.items():
        studies.append(scratch_study(name))
        studies[-1].add_trials([optuna.create_trial(value=float(value)) for value in values])
    figure = optuna.visualization.plot_edf(studies, target_name=score)
    figure.update_layout(template=LOOK, title=None, xaxis_title=score, yaxis_title="share of trials below")
    for trace, color in zip(figure.data, SERIES * len(studies), strict=False):
        trace.update(name=escape(trace.name), line={"color": color, "width": 2.5}, mode="lines")
    return figure


def timeline(trials: pd.DataFrame) -> go.Figure:
    """What each worker did when; running trials until now."""
    own = trials[trials.started.notna()]
    workers = own.worker.where(own.worker != "", "worker").map(escape)
    names = {name: f"worker {i}" for i, name in enumerate(sorted(workers.unique()))}
    now = max(pd.Timestamp.now(), own.started.max()) if len(own) else None
    begun = (own.started - own.started.min()).dt.total_seconds() / 60
    lasted = (own.ended.fillna(now) - own.started).dt.total_seconds() / 60
    figure = _figure("time since the start (minutes)", "", height=130 + 44 * len(names), barmode="overlay")
    for name in own.outcome.unique():
        mine = own[own.outcome == name]
        color = OUTCOMES.get(name, GREY)
        figure.add_bar(
            x=lasted[mine.index], base=begun[mine.index], y=workers[mine.index].map(names), name=escape(name)
        )
        figure.data[-1].update(orientation="h", marker={"color": color, "line": {"color": "#fff", "width": 0.6}})
        figure.data[-1].update(hovertext=about(mine), hoverinfo="text", width=0.6)
    figure.update_layout(yaxis={"showgrid": False, "categoryorder": "category descending"})
    return figure


def pareto(points: pd.DataFrame, score: str, cost: str) -> go.Figure:
    """Scores against a cost; `points` has score, cost, front (nothing better for less), about and, if any, name."""
    figure = _figure(COSTS[cost], score)
    front = points[points.front].sort_values("cost")
    figure.add_scatter(x=front.cost, y=front.score, mode="lines", name="best for its cost")
    figure.data[-1].update(line={"color": ORANGE, "width": 2, "shape": "hv"}, hoverinfo="skip")
    named = "name" in points
    for name, own in points.groupby("name", sort=False) if named else [("complete", points)]:
        color = SERIES[(len(figure.data) - 1) % len(SERIES)]
        figure.add_scatter(x=own.cost, y=own.score, mode="markers", name=escape(str(name)))
        figure.data[-1].update(marker={"color": color, "size": 8}, hovertext=own.about, hoverinfo="text")
    return figure


def confusion(counts: pd.DataFrame) -> go.Figure:
    """Images by true class (rows) and predicted class: shares of the true class as colour, counts as text."""
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    names = [escape(str(name)) for name in counts.index]
    told = len(counts) <= 20
    title = "predicted class; colour: share of the true class" if told else "predicted class"
    figure = _figure(title, "true class", height=max(360, 150 + 30 * len(counts)))
    figure.add_heatmap(x=names, y=names, z=shares.to_numpy(), colorscale="Viridis", zmin=0, zmax=1, xgap=1, ygap=1)
    figure.data[-1].update(text=counts.to_numpy(), texttemplate="%{text}" if told else None, showscale=not told)
    figure.data[-1].hovertemplate = "%{y} taken for %{x}: %{text} images, %{z:.1%}<extra></extra>"
    figure.data[-1].colorbar = _bar("share of the true class") | {"tickformat": ".0%"}
    figure.update_layout(xaxis={"type": "category", "showgrid": False, "side": "bottom"})
    figure.update_layout(yaxis={"type": "category", "autorange": "reversed", "showgrid": False})
    return figure


def _figure(x: str, y: str, **layout: Any) -> go.Figure:
    return go.Figure(layout={"template": LOOK, "xaxis_title_text": x, "yaxis_title_text": y} | layout)


def _bar(title: str) -> dict[str, Any]:
    """Of colours."""
    text = {"text": title, "side": "right", "font": {"size": 13}}
    return {"title": text, "thickness": 12, "outlinewidth": 0, "tickfont": {"size": 12}}


def _finished(figure: go.Figure) -> go.Figure:
    """Without empty traces; logarithmic axes of at least a decade, with few labels."""
    figure.data = [trace for trace in figure.data if trace.x is not None and len(trace.x)]
    for name in ("x", "y"):
        axis = figure.layout[f"{name}axis"]
        values = np.array(
            [v for t in figure.data for v in t[name] if v is not None and v > 0] if axis.type == "log" else []
        )
        if len(values):
            low, high = np.log10(values.min()), np.log10(values.max())
            space = max(0.5 - (high - low) / 2, 0.04 * (high - low))
            axis.update(range=(low - space, high + space), dtick=1 if high - low > 1.5 else "D2")
    return figure
