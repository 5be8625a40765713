"""The same promises on a CUDA device, and those of graphs: what they replay is what eager steps compute."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import DROPOUT, WAITING
from test_step import make_static
from timing import assert_equal
from together import Together, assert_apart, assert_equal_runs

from cifar import trust
from cifar.data.augment.erase import Erase
from cifar.data.augment.mix import Mix
from cifar.data.augment.pieces import Pieces
from cifar.data.augment.policies import randaugment, trivial
from cifar.data.loader import ImageLoader
from cifar.experiment import build_trainer, load_splits, run, set_up
from cifar.options.check import check
from cifar.options.config import Config
from cifar.reporting import NO_REPORTER, Pruned, Reporter
from cifar.results import read_metrics, read_result
from cifar.training import checkpoint, schedulers
from cifar.training.cuda_graph import CaptureError, cuda_graph
from cifar.training.device import max_concurrent_runs
from cifar.training.isolation import Isolation
from cifar.training.plan import measure
from cifar.training.step import EagerStep, StaticStep
from cifar.training.trainer import Trainer

pytestmark = pytest.mark.cuda
CUDA = torch.device("cuda")
AUGMENT = ["augment=trivial", "augment.erase=0.2", "augment.mixup=0.2", "augment.cutmix=1"]
KNOBS = [
    *("loss.label_smoothing=0.1", "loss.class_weights=balanced", "optimizer.clip_norm=1", "ema.decay=0.9"),
    *("scheduler=poly", "scheduler.warmup_epochs=0.5", "objective=loss"),
]
EAGER = [["precision=fp32"], ["precision=bf16", "optimizer=adam", "scheduler=onecycle"], ["loss.l2=0.01", *AUGMENT]]
EAGER += [KNOBS, [*KNOBS, *AUGMENT], ["model=resnet9", "model.width=4", *KNOBS]]
OPTIONS = [[*options, f"cuda_graph={graph}"] for options in EAGER for graph in ("false", "true")]


@pytest.fixture(autouse=True)
def deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run, for the tests that build their trainers without one."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/networks.py, for model=own."""
    monkeypatch.setattr(trust, "_granted", ["networks"])
    monkeypatch.setattr(trust, "_directory", str(Path(__file__).parents[1]))


@pytest.fixture
def settings(compose: Any, tiny: list[str]) -> Callable[..., Config]:
    """settings(*overrides): the checked config of a tiny run on the device, of a small ResNet or of another model."""

    def checked(*more: str) -> Config:
        other_model = any(override.startswith("model=") for override in more)
        replaced = ("device=", "model.") if other_model else ("device=",)
        overrides = [override for override in tiny if not override.startswith(replaced)]
        return check(compose(*overrides, "device=cuda", "data.limit=300", "augment.flip=true", *more))

    return checked


class Stop(Reporter):
    def report(self, step: int, metrics: float | Mapping[str, float]) -> None:
        raise Pruned("so far")


def metrics_of(place: Path, timeless: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    return [timeless(metrics) for metrics in read_metrics(place / "metrics.csv")]


def assert_equal_weights(one: Path, other: Path) -> None:
    for name in ("best.pt", "checkpoint.pt"):
        a, b = (checkpoint.load(place / name)["model"] for place in (one, other))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_training_learns_and_writes_its_results(
    options: list[str], settings: Callable[..., Config], tmp_path: Path
) -> None:
    run(settings("epochs=5", "model.width=16", "test=true", *options), str(tmp_path), NO_REPORTER)
    history, result = read_metrics(tmp_path / "metrics.csv"), read_result(tmp_path)
    assert history[-1].train_loss < history[0].train_loss
    assert (result["status"], result["device"]["type"]) == ("finished", "cuda")
    assert result["device"]["name"] == torch.cuda.get_device_name()
    assert "test" in result and result["calibration"]["images"] == result["data"]["val"]["images"]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_equal_seeds_give_equal_runs(
    options: list[str], settings: Callable[..., Config], tmp_path: Path, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        place.mkdir()
        run(settings("epochs=3", *options), str(place), NO_REPORTER)
    assert metrics_of(places[0], timeless) == metrics_of(places[1], timeless)
    assert_equal_weights(*places)


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_a_resumed_run_equals_one_never_interrupted(
    options: list[str], settings: Callable[..., Config], tmp_path: Path, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    for place in (whole, part):
        place.mkdir()
    run(settings("epochs=3", *options), str(whole), NO_REPORTER)
    with pytest.raises(Pruned):
        run(settings("epochs=3", *options), str(part), Stop())
    torch.manual_seed(99)
    run(settings("epochs=3", *options, f"resume={part}"), str(part), NO_REPORTER)
    assert metrics_of(part, timeless) == metrics_of(whole, timeless)
    assert_equal_weights(part, whole)


def test_a_run_with_dropout_resumes_exactly(
    make_trainer: Callable[..., Trainer], tmp_path: Path, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    whole = make_trainer(schedulers.cosine, device="cuda")
    expected = [timeless(metrics) for metrics in whole.epochs()]
    first = make_trainer(schedulers.cosine, device="cuda")
    epochs = first.epochs()
    resumed = [timeless(next(epochs)) for _ in range(2)]
    checkpoint.save(tmp_path / "x.pt", first.state_dict())
    second = make_trainer(schedulers.cosine, device="cuda")
    torch.manual_seed(99)
    second.load_state_dict(checkpoint.load(tmp_path / "x.pt", "cuda"))
    resumed += [timeless(metrics) for metrics in second.epochs()]
    assert resumed == expected


def test_a_checkpoint_resumes_on_the_cpu(settings: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(Pruned):
        run(settings(), str(tmp_path), Stop())
    run(settings("device=cpu", f"resume={tmp_path}"), str(tmp_path), NO_REPORTER)
    assert len(read_metrics(tmp_path / "metrics.csv")) == 2


def test_batches_are_those_of_the_cpu(images_of: Callable[..., Any]) -> None:
    images, labels = images_of(50)
    loaders = [
        ImageLoader(images, labels, 16, torch.device(device), [0.5] * 3, [0.25] * 3, crop=4, flip=True, seed=1)
        for device in ("cpu", "cuda")
    ]
    for (a, y), (b, z) in zip(loaders[0].epoch(2), loaders[1].epoch(2), strict=True):
        assert torch.equal(y, z.cpu()) and b.is_cuda and b.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(a, b.cpu(), rtol=1e-6, atol=1e-6)


def test_augmented_batches_are_those_of_the_cpu(images_of: Callable[..., Any]) -> None:
    images, labels = images_of(50)
    pieces = Pieces((trivial(32, 32), randaugment(32, 32, 2, 9)), (Erase(0.3),), Mix(0.4, 1.0, 3))
    loaders = [
        ImageLoader(images, labels, 16, torch.device(device), crop=4, flip=True, seed=1, pieces=pieces)
        for device in ("cpu", "cuda")
    ]
    for (a, y), (b, z) in zip(loaders[0].epoch(2), loaders[1].epoch(2), strict=True):
        torch.testing.assert_close(y, z.cpu())
        assert ((a - b.cpu()).abs() <= 1 / 255 + 1e-6).double().mean() > 0.99


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever makes the processor wait for the device is an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_waiting_is_noticed() -> None:
    """Guards the test below."""
    with no_waiting(), pytest.raises(RuntimeError, match="synchroniz"):
        torch.ones(1, device=CUDA).item()


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_an_epoch_waits_for_the_device_only_to_read_its_results(
    options: list[str], settings: Callable[..., Config]
) -> None:
    config = settings(*options)
    device = set_up(config)
    with Isolation(device):
        trainer = build_trainer(config, load_splits(config), device)
        next(trainer.epochs())  # captures, and compiles what is compiled once
        assert trainer.train.total % trainer.train.batch_size, "no ragged batch"
        with no_waiting():
            trainer.launch(2)


def test_graphs_are_on_unless_they_are_refused(settings: Callable[..., Config]) -> None:
    for options, kind in (([], StaticStep), (["cuda_graph=true"], StaticStep), (["cuda_graph=false"], EagerStep)):
        config = settings(*options)
        assert type(build_trainer(config, load_splits(config), CUDA).step) is kind


@pytest.mark.parametrize("options", EAGER, ids=" ".join)
@pytest.mark.parametrize("scheduler", ["constant", "cosine"])
def test_a_replay_equals_eager_steps_bit_for_bit(
    options: list[str],
    scheduler: str,
    settings: Callable[..., Config],
    tmp_path: Path,
    timeless: Callable[[Any], dict[str, Any]],
) -> None:
    """With deterministic cuDNN; a learning rate that falls with every step is not part of the graph."""
    places = {"false": tmp_path / "eager", "true": tmp_path / "graph"}
    for graph, place in places.items():
        place.mkdir()
        wanted = [option for option in options if not option.startswith("scheduler=")]
        config = settings("epochs=4", f"scheduler={scheduler}", f"cuda_graph={graph}", *wanted)
        run(config, str(place), NO_REPORTER)
    assert_equal_runs(*places.values(), timeless)
    rates = [metrics.lr for metrics in read_metrics(places["true"] / "metrics.csv")]
    assert (len(set(rates)) == 1) == (scheduler == "constant")


def test_a_replay_draws_the_dropout_of_eager_steps(
    make_trainer: Callable[..., Trainer], timeless: Callable[[Any], dict[str, Any]]
) -> None:
    runs = []
    for capture in (None, cuda_graph):
        with Isolation(CUDA):
            trainer = make_trainer(schedulers.cosine, device="cuda")
            trainer = make_static(trainer, capture) if capture else trainer
            metrics = [timeless(metrics) for metrics in trainer.epochs()]
            runs.append((metrics, [tensor.clone() for tensor in trainer.model.state_dict().values()]))
    (eager, weights), (replayed, others) = runs
    assert eager == replayed
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def test_gradients_stay_where_the_graph_writes_them(make_trainer: Callable[..., Trainer]) -> None:
    seen = []
    with Isolation(CUDA):
        trainer = make_static(make_trainer(device="cuda"), cuda_graph)
        list(trainer.epochs(lambda: seen.append([p.grad.data_ptr() for p in trainer.model.parameters()])))
    assert len(seen) == 24 and all(places == seen[0] for places in seen)


def test_a_compiled_model_can_be_replayed(settings: Callable[..., Config], tmp_path: Path) -> None:
    run(settings("compile=true", "cuda_graph=true"), str(tmp_path), NO_REPORTER)
    result = read_result(tmp_path)
    assert (result["status"], result["epochs_done"], result["device"]["cuda_graph"]) == ("finished", 2, True)


def test_each_run_has_a_private_generator() -> None:
    assert_apart(CUDA)


def test_each_run_has_a_private_stream() -> None:
    streams = [torch.cuda.current_stream()]
    with Isolation(CUDA) as one:
        streams.append(torch.cuda.current_stream())
        with one.paused():
            assert torch.cuda.current_stream() == streams[0]
            with Isolation(CUDA):
                streams.append(torch.cuda.current_stream())
        assert torch.cuda.current_stream() == streams[1]
    assert torch.cuda.current_stream() == streams[0] and len(set(streams)) == 3


RUNS = {
    f"run {seed}": [f"seed={seed}", f"optimizer.lr={0.01 * (1 + seed)}", f"epochs={2 + seed % 3}", *options]
    for seed, options in enumerate([[], ["optimizer=adam"], ["scheduler=cosine"], ["batch_size=24"]] * 2)
}


@pytest.mark.parametrize("graph", ["false", "true"])
@pytest.mark.parametrize("model", [[], DROPOUT], ids=["resnet", "dropout"])
def test_eight_runs_in_turns_equal_their_solo_runs_bit_for_bit(
    graph: str,
    model: list[str],
    settings: Callable[..., Config],
    tmp_path: Path,
    timeless: Callable[[Any], dict[str, Any]],
) -> None:
    configs = {name: settings(*model, *overrides, f"cuda_graph={graph}") for name, overrides in RUNS.items()}
    Together(1, tmp_path / "solo", configs)
    together = Together(8, tmp_path / "turns", configs)
    assert together.ended == dict.fromkeys(configs, "finished")
    for name in configs:
        assert_equal_runs(tmp_path / "solo" / name, tmp_path / "turns" / name, timeless)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A device with 1 GB more than is taken."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**30) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("graph", ["false", "true"])
def test_a_run_out_of_memory_ends_alone(
    graph: str,
    settings: Callable[..., Config],
    tmp_path: Path,
    timeless: Callable[[Any], dict[str, Any]],
    little_memory: None,
) -> None:
    overrides = {
        "x": ["seed=1", "epochs=6"],
        "greedy": ["seed=2", "model.width=512", "batch_size=240"],
        "after": ["seed=3"],
    }
    configs = {name: settings(*more, f"cuda_graph={graph}") for name, more in overrides.items()}
    Together(1, tmp_path / "solo", {"x": configs["x"]})
    together = Together(2, tmp_path / "turns", configs)
    assert together.ended == {"x": "finished", "greedy": "OutOfMemoryError", "after": "finished"}
    assert_equal_runs(tmp_path / "solo" / "x", tmp_path / "turns" / "x", timeless)
    assert read_result(tmp_path / "turns" / "greedy")["status"] == "failed"


def test_as_many_runs_are_allowed_as_fit_into_the_memory() -> None:
    occupied = torch.empty(2**28, dtype=torch.uint8, device=CUDA)
    assert 1 < max_concurrent_runs(CUDA) < 1000
    assert occupied.is_cuda


def test_images_are_on_the_device_once(settings: Callable[..., Config]) -> None:
    one, other = (build_trainer(settings(), load_splits(settings()), CUDA) for _ in range(2))
    assert one.train.windows.data_ptr() == other.train.windows.data_ptr()
    assert one.train.windows.is_cuda


# --- last: torch 2.11 keeps the memory that is free once a capture has failed


def test_a_model_that_cannot_be_captured_is_one_error_and_later_runs_are_not_affected(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    for name, graph in (("captured", "true"), ("eager", "false"), ("either", "auto")):
        (tmp_path / name).mkdir()
        config = settings(*WAITING, f"cuda_graph={graph}")
        if graph == "true":
            with pytest.raises(CaptureError, match="cuda_graph=false"):
                run(config, str(tmp_path / name), NO_REPORTER)
        else:
            run(config, str(tmp_path / name), NO_REPORTER)
    results = [read_result(tmp_path / name) for name in ("captured", "eager", "either")]
    assert [result["status"] for result in results] == ["failed", "finished", "finished"]
    assert not results[2]["device"]["cuda_graph"]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_nothing_changes_by_measuring(options: list[str], settings: Callable[..., Config]) -> None:
    """Graphs too, which are captured while it is measured, and replayed in the run."""
    config = settings(*options)
    states = []
    for measures in (False, True):
        with Isolation(set_up(config)):
            trainer = build_trainer(config, load_splits(config), CUDA)
            if measures:
                pace = measure(trainer, 10.0)
                assert pace.step > 0 and pace.epoch > 0
            list(trainer.epochs())
            states.append(copy.deepcopy(trainer.state_dict()))
    assert_equal(*states)


@pytest.mark.parametrize("graph", ["false", "true"])
def test_a_run_with_a_time_is_planned_corrected_and_recorded(
    graph: str, settings: Callable[..., Config], tmp_path: Path
) -> None:
    run(settings("time=5s", f"cuda_graph={graph}", "scheduler=onecycle"), str(tmp_path), NO_REPORTER)
    result = read_result(tmp_path)
    assert result["plan"]["time"] == "5s" and result["epochs_done"] == result["epochs"]
    assert {"training", "validation", "measuring"} <= result["seconds"].keys()
