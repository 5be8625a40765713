"""Label smoothing and class weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar.options.option import ConfigError
from cifar.training.loss import CrossEntropy, WeightedCrossEntropy, build_loss, class_weights
from cifar.training.step import EagerStep, autocast

CLASSES = ("ant", "bee", "cat")
LABELS = torch.tensor([0] * 100 + [1] * 10 + [2])


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(len(LABELS), 3, generator=torch.Generator().manual_seed(0), requires_grad=True)


def gradient_norm(loss: CrossEntropy, targets: Tensor) -> float:
    """The length of the gradient at equal logits, of which each target has the same."""
    logits = torch.zeros(len(targets), 3, requires_grad=True)
    loss(logits, targets).backward()
    assert logits.grad is not None
    return float(logits.grad.norm(dim=1).sum())


def test_without_settings_it_is_pytorchs_cross_entropy_bit_for_bit(logits: Tensor) -> None:
    assert torch.equal(build_loss(0.0, None)(logits, LABELS), F.cross_entropy(logits, LABELS))


def test_equal_weights_change_nothing(logits: Tensor) -> None:
    weighted = WeightedCrossEntropy(0.1, torch.ones(3))
    torch.testing.assert_close(weighted(logits, LABELS), F.cross_entropy(logits, LABELS, label_smoothing=0.1))
    soft = F.one_hot(LABELS, 3).float() * 0.7 + 0.1
    torch.testing.assert_close(weighted(logits, soft), F.cross_entropy(logits, soft, label_smoothing=0.1))


def test_balanced_weights_are_inverse_to_the_images_and_1_on_average() -> None:
    weights = class_weights("balanced", LABELS, CLASSES)
    assert weights is not None and weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([111 / 3 / 100, 111 / 3 / 10, 111 / 3])
    assert float(weights[LABELS].mean()) == pytest.approx(1)


def test_a_list_is_a_ratio_in_the_order_of_the_classes() -> None:
    one, other = class_weights([1, 2, 3], LABELS, CLASSES), class_weights([10, 20, 30], LABELS, CLASSES)
    assert one is not None and other is not None
    torch.testing.assert_close(one, other)
    assert (one / one[0]).tolist() == pytest.approx([1, 2, 3])
    with pytest.raises(ConfigError, match=r"2 weights for 3 classes; allowed: .*ant, bee, cat"):
        class_weights([1, 2], LABELS, CLASSES)


def test_labels_and_their_shares_give_the_same_loss(logits: Tensor) -> None:
    loss = build_loss(0.1, class_weights("balanced", LABELS, CLASSES))
    torch.testing.assert_close(loss(logits, LABELS), loss(logits, F.one_hot(LABELS, 3).float()))


def test_a_mixed_target_has_the_mixture_of_the_losses(logits: Tensor) -> None:
    loss = build_loss(0.1, class_weights("balanced", LABELS, CLASSES))
    others = LABELS.flip(0)
    mixed = 0.3 * F.one_hot(LABELS, 3).float() + 0.7 * F.one_hot(others, 3).float()
    torch.testing.assert_close(loss(logits, mixed), 0.3 * loss(logits, LABELS) + 0.7 * loss(logits, others))


def test_neither_smoothing_nor_mixing_changes_the_scale_of_the_gradient_of_weighted_classes() -> None:
    """At equal logits the gradient of an image is (1 - smoothing) of the plain one; PyTorch's is 3.3 times as long."""
    weights = class_weights("balanced", LABELS, CLASSES)
    assert weights is not None
    plain = gradient_norm(build_loss(0.0, None), LABELS)
    assert gradient_norm(build_loss(0.0, weights), LABELS) == pytest.approx(plain, rel=1e-5)
    assert gradient_norm(build_loss(0.1, weights), LABELS) == pytest.approx(0.9 * plain, rel=1e-5)
    certain = 0.999 * F.one_hot(LABELS, 3) + 0.001 / 3
    assert gradient_norm(build_loss(0.0, weights), certain) == pytest.approx(plain, rel=0.03)


def test_the_step_reports_plain_cross_entropy_whatever_it_minimises() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    images, labels = torch.randn(6, 3, 2, 2), torch.arange(6) % 3
    loss = build_loss(0.2, class_weights([1, 2, 3], labels, CLASSES))
    step = EagerStep(model, [], 0.0, autocast(torch.device("cpu"), torch.float32), loss)
    reported, _ = step(images, labels)
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    logits = model(images)
    torch.testing.assert_close(reported, F.cross_entropy(logits, labels).detach())
    expected = torch.autograd.grad(loss(logits, labels), list(model.parameters()))
    for gradient, p in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, p)
