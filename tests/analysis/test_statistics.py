"""Each statistic against a case whose answer is known by construction."""

from __future__ import annotations

import itertools

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution

from analysis.frames import Frames, of_study
from analysis.pages.advice import on_guessing
from analysis.statistics.accuracy import accuracy_on_test
from analysis.statistics.boundaries import boundaries, widened
from analysis.statistics.budget import best_of_n, enough_trials
from analysis.statistics.curse import measured_curse, winners_curse
from analysis.statistics.failures import failures
from analysis.statistics.importance import importance
from analysis.statistics.learning import diagnosis
from analysis.statistics.model import LARGEST, StatisticsError, surrogate_of
from analysis.statistics.noise import noise_floor
from analysis.statistics.ranking import top_trials
from analysis.statistics.recipes import improvement, recipes
from analysis.statistics.tunability import tunability
from analysis.surrogate import Surrogate
from cifar.intervals import mean_interval, wilson

NONE = pd.DataFrame(columns=["number", "step", "score"])
NOISE = 0.005


def search(optimum: float, trials: int = 40, seed: int = 0, slope: float = 0.2) -> Frames:
    """A random search of lr (1e-3 to 1e-1, logarithmic; best at the place `optimum` in [0, 1]) and of `nothing`."""
    random = np.random.default_rng(seed)
    study = optuna.create_study(direction="maximize")
    spaces = {"lr": FloatDistribution(1e-3, 1e-1, log=True), "nothing": FloatDistribution(0, 1)}
    places, nothings, noises = random.random(trials), random.random(trials), random.normal(size=trials)
    for place, nothing, noise in zip(places, nothings, noises, strict=True):
        value = 0.9 - slope * (place - optimum) ** 2 + NOISE * noise
        params = {"lr": 10 ** (2 * place - 3), "nothing": nothing}
        study.add_trial(optuna.create_trial(params=params, distributions=spaces, value=value))
    return of_study(study)


def surrogate_for(frames: Frames) -> Surrogate:
    return surrogate_of(frames.trials, frames.spaces, NONE)


@pytest.fixture(scope="module")
def inside() -> tuple[Frames, Surrogate]:
    frames = search(0.5)
    return frames, surrogate_for(frames)


@pytest.mark.parametrize(
    "optimum, low, high", [(0.5, "inside", "inside"), (-0.2, "edge", "inside"), (1.2, "inside", "edge")]
)
def test_a_best_value_at_an_end_of_a_range_gets_a_wider_range(optimum: float, low: str, high: str) -> None:
    frames = search(optimum)
    ends = boundaries(frames.trials, frames.spaces, surrogate_for(frames)).set_index(["hyperparameter", "side"])
    assert (ends.verdict["lr", "low"], ends.verdict["lr", "high"]) == (low, high)
    new = ends.loc[("lr", "low" if low == "edge" else "high")]
    assert (new.low < 1e-3) == (low == "edge") and (new.high > 1e-1) == (high == "edge")


def test_what_matters_is_distinguished_from_what_does_not(inside: tuple[Frames, Surrogate]) -> None:
    frames, surrogate = inside
    shares = importance(frames.trials, frames.spaces, surrogate)
    assert shares.hyperparameter.tolist() == ["lr", "nothing"]
    assert shares.verdict.tolist() == ["matters", "not distinguishable from noise"]
    assert shares.low[0] > shares.high[1]


def test_the_noise_and_the_winners_curse_are_estimated(inside: tuple[Frames, Surrogate]) -> None:
    frames, surrogate = inside
    assert surrogate.noise.mean() == pytest.approx(NOISE, rel=0.4)
    top = top_trials(frames.trials, frames.spaces, surrogate)
    curse = winners_curse(top).iloc[0]
    assert curse.reported == frames.trials.score.max()
    assert curse.low < curse.reported - 0.9 < curse.high, "the winner's truth is about 0.9"
    assert top.tied[0] and not top.tied.iloc[-1]
    assert top.best.sum() == pytest.approx(1)


def test_fresh_seeds_decide_where_the_search_could_not(inside: tuple[Frames, Surrogate]) -> None:
    frames, surrogate = inside
    top = top_trials(frames.trials, frames.spaces, surrogate)
    lucky, other = top.number[0], top.number[1]
    fresh = pd.DataFrame({"number": [lucky] * 5 + [other] * 5, "score": [0.88] * 5 + [0.9] * 5})
    informed = surrogate_of(frames.trials, frames.spaces, NONE, fresh=fresh)
    after = top_trials(frames.trials, frames.spaces, informed, winner=other)
    assert after.number[0] == other and after.score[0] == top.score[1]
    assert after.best[after.number == lucky].iloc[0] < 0.05 < top.best[0]
    assert not after.tied[after.number == lucky].iloc[0]


def test_tunability_is_what_is_gained_over_the_default(inside: tuple[Frames, Surrogate]) -> None:
    frames, surrogate = inside
    gains = tunability(frames.spaces, surrogate, {"lr": 1e-3}).set_index("hyperparameter")
    assert gains.loc["lr", "low"] < 0.2 * 0.25 < gains.loc["lr", "high"]
    assert gains.loc["lr", "value"] == pytest.approx(0.01, rel=0.6), "the optimum lies in the middle of its logarithm"
    assert gains.loc["nothing", "gain"] < 0.01


def test_the_shares_of_choices_are_those_of_their_levels() -> None:
    random = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> float:
        of_two = 0.03 * (trial.suggest_categorical("two", ["u", "v"]) == "v")
        of_widths = 0.03 * np.log2(trial.suggest_categorical("width", [16, 32, 64]) / 16) / 2
        return of_two + of_widths + 0.03 * trial.suggest_float("x", 0, 1) + 0.0005 * random.normal()

    study.optimize(objective, n_trials=50)
    frames = of_study(study)
    shares = importance(frames.trials, frames.spaces, surrogate_for(frames)).set_index("hyperparameter")
    total = 1 / 4 + 1 / 6 + 1 / 12  # variances of two levels, of three, and of a range, in units of its length
    for name, variance in {"two": 1 / 4, "width": 1 / 6, "x": 1 / 12}.items():
        assert shares.importance[name] == pytest.approx(variance / total, abs=0.03)


@pytest.mark.parametrize("high, wider", [(0.99, 0.995), (0.999, 0.9995), (0.9, 0.95)])
def test_what_is_a_share_of_1_is_widened_towards_1(high: float, wider: float) -> None:
    (row,) = pd.DataFrame([{"low": 0.5, "high": high, "log": False, "whole": False}]).itertuples()
    assert widened(row, "high") == pytest.approx((0.5, wider))


@pytest.mark.parametrize(
    ("side", "low", "high", "log", "whole", "wider"),
    [
        ("low", 0.99, 0.999, False, False, (0.9855, 0.999)),
        ("high", 0.98, 1.02, False, False, (0.98, 1.04)),
        ("high", 0.001, 0.1, True, False, (0.001, 1.0)),
        ("low", 0.0, 0.2, False, False, (0.0, 0.2)),
        ("low", 1, 64, True, True, (1, 64)),
        ("high", 1, 64, True, True, (1, 512)),
        ("low", 5, 19, False, True, (0, 19)),
    ],
)
def test_a_range_is_widened_by_half_of_it_as_far_as_it_can_be(
    side: str, low: float, high: float, log: bool, whole: bool, wider: tuple[float, float]
) -> None:
    (row,) = pd.DataFrame([{"low": low, "high": high, "log": log, "whole": whole}]).itertuples()
    assert widened(row, side) == pytest.approx(wider, rel=1e-3)


def test_a_large_search_is_modelled_by_trials_that_chance_took_and_by_all_fresh_seeds() -> None:
    frames = search(0.5, trials=3 * LARGEST, slope=0.0)
    top = top_trials(frames.trials, frames.spaces, surrogate_for(frames))
    assert len(top) == LARGEST and top.score[0] - 0.9 > 2.5 * NOISE
    assert abs(top.estimate[0] - 0.9) < NOISE, "the best are the luckiest of equal trials"
    fresh = pd.DataFrame({"number": [top.number[0]] * 5, "score": [0.5] * 5})
    informed = surrogate_of(frames.trials, frames.spaces, NONE, fresh=fresh)
    assert len(informed.score) == LARGEST + 5 and informed.score.min() == pytest.approx(0.5 - 0.9, abs=NOISE)


def test_few_trials_say_nothing() -> None:
    with pytest.raises(StatisticsError, match="trials complete: 4; at least 5"):
        surrogate_for(search(0.5, trials=4))


def test_best_of_n_is_the_mean_over_all_samples() -> None:
    scores = [0.1, 0.5, 0.2, 0.9]
    curve = best_of_n(scores)
    for n in (1, 2, 3, 4):
        without = [max(drawn) for drawn in itertools.combinations(scores, n)]
        with_replacement = [max(drawn) for drawn in itertools.product(scores, repeat=n)]
        assert curve.unbiased[n - 1] == pytest.approx(np.mean(without))
        assert curve.expected[n - 1] == pytest.approx(np.mean(with_replacement))
        assert curve.sd[n - 1] == pytest.approx(np.std(with_replacement))
    assert enough_trials(curve, noise=0.0) == 4
    assert enough_trials(curve, noise=1.0) == 1


def test_intervals_are_those_of_the_books() -> None:
    assert wilson(0.9, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)
    assert np.isnan(mean_interval([1.0])[1])
    assert mean_interval([0.1, 0.9], (0, 1)) == (0.5, 0, 1) and np.isnan(mean_interval([1.0], (0, 1))[1])


def test_an_interval_of_an_accuracy_over_seeds_ends_at_1() -> None:
    tests = pd.DataFrame({"look": 1, "number": 0, "accuracy": [0.95, 1.0], "images": 100})
    row = accuracy_on_test(tests).iloc[0]
    assert (row.accuracy, row.high) == (pytest.approx(0.975), 1.0) and 0 < row.low < 0.975


def test_the_noise_floor_pools_the_groups() -> None:
    runs = pd.DataFrame({"group": ["a", "a", "b", "b", "c"], "score": [0.1, 0.3, 0.5, 0.7, 0.9]})
    (floor,) = noise_floor(runs).to_dict("records")
    assert floor["sd"] == pytest.approx(0.02**0.5) and floor["df"] == 2
    assert floor["low"] < floor["sd"] < floor["high"]
    assert noise_floor(runs[runs.group == "c"]).empty


def test_the_measured_curse_is_reported_minus_the_mean_on_fresh_seeds() -> None:
    fresh = pd.DataFrame({"number": [3, 3, 3], "reported": [0.9] * 3, "score": [0.86, 0.87, 0.88]})
    (row,) = measured_curse(fresh).to_dict("records")
    assert row["curse"] == pytest.approx(0.03) and row["low"] < 0.03 < row["high"] and row["seeds"] == 3


def epochs(accuracy: list[float], train: list[float], val: list[float], lr: list[float]) -> pd.DataFrame:
    numbers = range(1, len(accuracy) + 1)
    return pd.DataFrame(
        {"run": "r", "epoch": numbers, "val_accuracy": accuracy, "train_loss": train, "val_loss": val, "lr": lr}
    )


def test_runs_are_diagnosed() -> None:
    falling, flat = np.linspace(2, 0.5, 10), np.full(10, 0.1)
    rising = np.linspace(0.1, 0.9, 10)
    (good,) = diagnosis(epochs(rising, falling, falling, flat)).to_dict("records")
    assert good["improving"] and not good["overfitting"] and not good["diverged"] and good["best_epoch"] == 10
    over = epochs([*rising[:5], *[0.4] * 5], falling, [*falling[:5], *np.linspace(1.3, 3, 5)], [0.1] * 6 + [0.01] * 4)
    (over,) = diagnosis(over).to_dict("records")
    assert over["overfitting"] and not over["improving"] and over["lr_drops"] == 1 and over["best_epoch"] == 5
    (gone,) = diagnosis(epochs(rising, [*falling[:9], np.nan], falling, flat)).to_dict("records")
    assert gone["diverged"]
    (idle,) = diagnosis(epochs(flat, np.linspace(1.8, 1.82, 10), flat, flat)).to_dict("records")
    assert not idle["diverged"]


def test_a_run_that_has_learned_nothing_is_advised_so() -> None:
    majority = pd.DataFrame({"class": ["a", "b"], "images": [20, 60], "recall": [0.1, 0.95]})
    (advice,) = on_guessing(majority)
    assert "balanced accuracy 0.5250" in advice and "that of a guess (0.5000)" in advice
    assert on_guessing(majority.assign(recall=[0.7, 0.8])) == []
    assert on_guessing(None) == []


def test_failures_are_counted_by_decade() -> None:
    trials = pd.DataFrame(
        {"outcome": ["complete", "failed", "diverged", "lost"], "params.lr": [0.005, 0.05, 0.02, 0.05]}
    )
    of_another_program = trials.assign(**{"params.lr": ["5e-3", "null", "0.02", "0.05"]})
    assert failures(of_another_program, "lr").failed.tolist() == [0, 1]
    counts = failures(trials, "lr").set_index("decade")
    assert counts.share.to_dict() == pytest.approx({0.001: 0.0, 0.01: 1.0})
    assert counts.trials.to_dict() == pytest.approx({0.001: 1, 0.01: 2})


def test_recipes_are_compared_at_the_budget_of_the_smallest() -> None:
    scores = pd.DataFrame({"recipe": ["a"] * 3 + ["b"] + ["c"], "score": [0.1, 0.2, 0.9, 0.6, 0.3]})
    scores["parameters"], scores["flops"], scores["seconds"] = [1, 1, 1, 2, 3], 1.0, 1.0
    compared = recipes(scores).set_index("recipe")
    assert compared.expected.to_dict() == pytest.approx({"a": 0.4, "b": 0.6, "c": 0.3})
    assert compared.pareto.to_dict() == {"a": True, "b": True, "c": False}


def test_the_probability_of_improvement_counts_ties_half() -> None:
    (row,) = improvement([1, 2], [1, 0]).to_dict("records")
    assert row["probability"] == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert row["low"] <= row["probability"] <= row["high"]
