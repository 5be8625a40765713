"""One step: gradients of the loss, what it returns, and the same with static buffers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar.data.augment.erase import Erase
from cifar.data.augment.mix import Mix
from cifar.data.augment.pieces import NO_PIECES, Pieces
from cifar.data.augment.policies import trivial
from cifar.training import schedulers
from cifar.training.cuda_graph import CaptureError, cuda_graph, cuda_graph_or_eager, warm_up
from cifar.training.step import Capture, Compute, EagerScore, EagerStep, Static, StaticStep, autocast, no_capture
from cifar.training.trainer import Trainer, evaluate

CPU = torch.device("cpu")
MIXED = Pieces((trivial(8, 8),), (Erase(0.3),), Mix(0.4, 1.0, 3))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(8, 3, 2, 2), torch.arange(8) % 5


def step_of(model: nn.Module, l2: float = 0.0, dtype: torch.dtype = torch.float32) -> EagerStep:
    return EagerStep(model, list(model.parameters()), l2, autocast(CPU, dtype))


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_gradients_are_those_of_cross_entropy_plus_l2(
    l2: float, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    step_of(model, l2)(*batch)
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    for gradient, p in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, p.grad + l2 * p)


def test_gradients_do_not_add_up(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    step = step_of(model)
    step(*batch)
    first = [p.grad.clone() for p in model.parameters()]
    step(*batch)
    assert all(torch.equal(a, p.grad) for a, p in zip(first, model.parameters(), strict=True))


def test_it_returns_the_cross_entropy_without_l2_and_the_right_predictions(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    loss, right = step_of(model, l2=10.0)(*batch)
    logits = model(batch[0]).detach()
    assert float(loss) == pytest.approx(float(F.cross_entropy(logits, batch[1])), rel=1e-6)
    assert int(right) == int((logits.argmax(1) == batch[1]).sum())
    assert not loss.requires_grad and loss.shape == right.shape == ()


def test_labels_of_mixed_images_are_shares(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    shares = 0.7 * F.one_hot(labels, 5) + 0.3 * F.one_hot((labels + 1) % 5, 5)
    loss, right = step_of(model)(images, shares)
    logits = model(images).detach()
    expected = 0.7 * F.cross_entropy(logits, labels) + 0.3 * F.cross_entropy(logits, (labels + 1) % 5)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert int(right) == int((logits.argmax(1) == labels).sum()), "the class with the larger share is the right one"
    whole, _ = step_of(model)(images, F.one_hot(labels, 5).float())
    assert float(whole) == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-6), "the scale is the same"


def test_bf16_is_for_the_forward_pass_only(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    loss, _ = step_of(model, dtype=torch.bfloat16)(*batch)
    assert (seen, loss.dtype) == ([torch.bfloat16], torch.float32)
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    step_of(model)(*batch)
    assert seen[1] == torch.float32


def imitated_graph(compute: Compute, model: nn.Module) -> Compute:
    """A CPU's imitation of a CUDA graph: the capture changes no state, and a replay writes to the capture's tensors.

    As with a graph, a replay does not depend on what `.grad` holds when it starts, and leaves it in place.
    """
    warm_up(compute, model)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng([]):
        outputs = compute()
    for buffer, before in buffers:
        buffer.copy_(before)
    trained = [p for p in model.parameters() if p.grad is not None]
    written = [p.grad for p in trained]

    def replay() -> tuple[Tensor, Tensor]:
        held = [p.grad for p in trained]
        for buffer, value in zip(outputs, compute(), strict=True):
            buffer.copy_(value)
        for p, gradient, grad in zip(trained, written, held, strict=True):
            if model.training:
                gradient.copy_(p.grad)
            p.grad = grad
        return outputs

    return replay


def make_static(trainer: Trainer, capture: Capture) -> Trainer:
    assert isinstance(trainer.step, EagerStep) and isinstance(trainer.score, EagerScore)
    return dataclasses.replace(trainer, step=StaticStep(trainer.step, capture), score=Static(trainer.score, capture))


@pytest.mark.parametrize("pieces", [NO_PIECES, MIXED], ids=["plain", "mixed"])
@pytest.mark.parametrize("capture", [no_capture, imitated_graph])
def test_static_buffers_change_no_bit_of_a_run(
    capture: Capture,
    pieces: Pieces,
    make_trainer: Callable[..., Trainer],
    timeless: Callable[[Any], dict[str, Any]],
) -> None:
    """With batch norm, dropout, momentum, a learning rate that changes every step, and a ragged last batch."""
    plain, static = (make_trainer(schedulers.cosine, pieces=pieces) for _ in range(2))
    assert plain.train.total % plain.train.batch_size and plain.val.total % plain.val.batch_size
    torch.manual_seed(7)
    expected = [timeless(metrics) for metrics in plain.epochs()]
    torch.manual_seed(7)
    assert [timeless(metrics) for metrics in make_static(static, capture).epochs()] == expected
    state = static.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in plain.model.state_dict().items())
    assert plain.optimizer.state_dict()["state"].keys() == static.optimizer.state_dict()["state"].keys()


def test_a_replay_writes_the_gradients_that_the_optimizer_reads_after_a_ragged_batch_too(
    make_trainer: Callable[..., Trainer],
) -> None:
    trainer = make_static(make_trainer(), imitated_graph)
    seen = []
    next(trainer.epochs(lambda: seen.append([id(p.grad) for p in trainer.model.parameters()])))
    assert len(seen) == 6 and all(ids == seen[0] for ids in seen)


def test_a_warm_up_leaves_no_trace(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer()
    images, labels = next(iter(trainer.train.epoch(1)))
    trainer.step(images, labels)
    gradients = [(p, p.grad, p.grad.clone()) for p in trainer.model.parameters()]
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    random = torch.get_rng_state()
    random_changed = []

    def compute() -> tuple[Tensor, Tensor]:
        random_changed.append(not torch.equal(torch.get_rng_state(), random))
        return trainer.step(images, labels)

    warm_up(compute, trainer.model)
    assert random_changed == [False, True, True], "dropout drew no numbers"
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())
    assert all(p.grad is grad and torch.equal(grad, value) for p, grad, value in gradients)


def test_what_a_static_score_returns_is_that_of_each_batch(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer()
    plain, logits = evaluate(trainer.score, trainer.val)
    replayed, static = evaluate(make_static(trainer, imitated_graph).score, trainer.val)
    assert torch.equal(replayed, plain)
    assert torch.equal(torch.cat(static), torch.cat(logits)), "copies of what the next batch overwrites"
    assert len(torch.cat(static)) == trainer.val.total


@pytest.mark.parametrize(
    "cause", [torch.OutOfMemoryError("all is taken"), RuntimeError("not while capturing")], ids=repr
)
@pytest.mark.parametrize("ends_badly", [False, True])
def test_the_cause_of_a_failed_capture_is_named_even_where_ending_the_capture_fails_too(
    cause: RuntimeError, ends_badly: bool, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stand-ins for the graph of PyTorch, so that it runs on a CPU."""
    capturing = False

    @contextmanager
    def capture(*args: object, **options: object) -> Iterator[None]:
        nonlocal capturing
        capturing = True
        try:
            yield
        finally:
            if ends_badly:
                raise RuntimeError("the capture is invalid")

    def compute() -> tuple[Tensor, Tensor]:
        if capturing:
            raise cause
        return torch.zeros(()), torch.zeros(())

    for name, stand_in in (("CUDAGraph", object), ("current_stream", object), ("graph", capture)):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    out_of_memory = isinstance(cause, torch.OutOfMemoryError)
    with pytest.raises(torch.OutOfMemoryError if out_of_memory else CaptureError, match=str(cause)):
        cuda_graph(compute, model)


def test_with_auto_a_model_that_cannot_be_captured_is_computed_eagerly(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(compute: object, model: nn.Module) -> NoReturn:
        raise CaptureError("RuntimeError: not while capturing")

    monkeypatch.setattr("cifar.training.cuda_graph.cuda_graph", refuse)
    step = StaticStep(step_of(model), cuda_graph_or_eager)
    assert all(torch.equal(a, b) for a, b in zip(step(*batch), step_of(model)(*batch), strict=True))
    assert not step.is_replayed and "not while capturing" in caplog.text and "cuda_graph=auto" in caplog.text
