"""Augmentation: equal to torchvision's transforms.v2 on single images, for equal draws."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones import CPU, backbone, new_cache, some_images
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from cifar.data.augment.crop_flip import crop_and_flip, crop_windows, draw_crops_and_flips
from cifar.data.augment.draws import epoch_generator
from cifar.data.augment.erase import Erase
from cifar.data.augment.mix import Mix, boxes_of
from cifar.data.augment.operations import OPERATIONS, Operation
from cifar.data.augment.pieces import Augmentation, Pieces, build_augmentation
from cifar.data.augment.policies import RandomOperations, randaugment, trivial
from cifar.data.augment.views import augmented
from cifar.data.images import Images
from cifar.data.loader import FeatureLoader, ImageLoader
from cifar.data.pixels import OnDisk
from cifar.data.resident import padded

NAMES = [
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"),
    *("Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
]
"""Those of OPERATIONS in torchvision."""
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")


def photographs(count: int, height: int, width: int) -> Tensor:
    """uint8, channels_last: noise, some of it grey, some dark, some of one colour."""
    pixels = torch.randint(256, (count, 3, height, width), generator=torch.Generator().manual_seed(0))
    pixels[::5] = pixels[::5].float().mean(1, keepdim=True).long()
    pixels[::7] //= 3
    pixels[::11] = 7
    return pixels.to(torch.uint8).contiguous(memory_format=torch.channels_last)


def by_torchvision(name: str, image: Tensor, amount: float) -> Tensor:
    policy: Any = v2.TrivialAugmentWide()
    nearest = InterpolationMode.NEAREST
    changed: Tensor = policy._apply_image_or_video_transform(image, name, amount, nearest, policy._fill)
    return changed


@pytest.mark.parametrize("size", [(32, 32), (20, 28)], ids=str)
@pytest.mark.parametrize("name, operation", list(zip(NAMES, OPERATIONS, strict=True)), ids=NAMES)
def test_an_operation_is_that_of_torchvision(name: str, operation: Operation, size: tuple[int, int]) -> None:
    for levels in (operation.wide(*size), operation.rand(*size)):
        amounts = torch.cat([levels, -levels if operation.signed else levels]).double()
        images = photographs(len(amounts), *size)
        changed = operation.apply(images.clone(), amounts)
        expected = torch.stack(
            [by_torchvision(name, image, float(x)) for image, x in zip(images, amounts, strict=True)]
        )
        if name in GEOMETRIC:
            assert ((changed.int() - expected.int()).abs() <= 1).double().mean() >= 0.99
        else:
            assert torch.equal(changed, expected)


@pytest.mark.parametrize(
    "ours, theirs", [(trivial(40, 36), v2.TrivialAugmentWide()), (randaugment(40, 36, 2, 9), v2.RandAugment())]
)
def test_the_amounts_are_those_of_torchvision(ours: RandomOperations, theirs: Any) -> None:
    space = theirs._AUGMENTATION_SPACE
    assert list(space) == NAMES
    for levels, operation, (make, signed) in zip(ours.levels, OPERATIONS, space.values(), strict=True):
        expected = make(31, 40, 36)
        assert torch.equal(levels, torch.zeros(31).double() if expected is None else expected.double())
        assert operation.signed == signed


def test_translations_shrink_with_images_below_32_pixels() -> None:
    across, down = trivial(8, 28).levels[3:5].amax(1).tolist()
    assert (across, down) == (28, 8)


def test_a_policy_draws_all_operations_and_both_signs_alike() -> None:
    draws = trivial(32, 32).draw(14_000, 32, 32, torch.Generator().manual_seed(0))
    numbers = draws[:, 0, 0].long()
    assert all(850 < count < 1150 for count in torch.bincount(numbers).tolist())
    signs = draws[numbers == 5, 0, 1].sign()
    assert abs(float(signs.mean())) < 0.1
    two = randaugment(32, 32, 2, 9).draw(1000, 32, 32, torch.Generator().manual_seed(0))
    assert two.shape == (1000, 2, 2) and not torch.equal(two[:, 0], two[:, 1])
    assert set(two[..., 1][two[..., 0] == 5].tolist()) == {9.0, -9.0}


def test_each_image_goes_through_its_own_operations() -> None:
    images = photographs(60, 16, 16)
    policy = randaugment(16, 16, 2, 20)
    draws = policy.draw(60, 16, 16, torch.Generator().manual_seed(3))
    together = policy.apply(images.clone(), draws)
    for number in range(60):
        expected = images[number]
        for operation, amount in draws[number].tolist():
            expected = by_torchvision(NAMES[int(operation)], expected, amount)
        assert torch.equal(together[number], expected)


def test_erased_rectangles_have_the_areas_and_shapes_of_torchvision() -> None:
    erase = Erase(0.25)
    boxes = erase.draw(4000, 32, 24, torch.Generator().manual_seed(0))
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    drawn = heights > 0
    assert 0.22 < drawn.double().mean() < 0.28
    areas = (heights * widths)[drawn] / (32 * 24)
    assert areas.min() > 0.01 and areas.max() < 0.36 and 0.15 < areas.mean() < 0.19
    assert boxes.min() == 0 and boxes[:, 2].max() == 32 and boxes[:, 3].max() == 24
    images = torch.randn(4000, 3, 32, 24)
    changed = erase.apply(images, boxes)
    for number in (*drawn.nonzero()[:20, 0].tolist(), 0):
        top, left, bottom, right = boxes[number].tolist()
        expected = v2.functional.erase(images[number], top, left, bottom - top, right - left, torch.zeros(3, 1, 1))
        assert torch.equal(changed[number], expected)


@pytest.mark.parametrize("kind", [v2.MixUp, v2.CutMix])
def test_mixed_images_and_labels_are_those_of_torchvision(kind: Any) -> None:
    images, labels = torch.randn(11, 3, 16, 12), torch.arange(11) % 3
    mix = Mix(float(kind is v2.MixUp), float(kind is v2.CutMix), classes=3)
    draws = mix.draw(11, 16, 12, torch.Generator().manual_seed(0))
    mixed, shares = mix.apply(images, labels, 4, draws)
    for rows in torch.split(torch.arange(11), 4):
        for place, row in enumerate(rows.tolist()):
            theirs = kind(num_classes=3)
            share, *box = draws[row].tolist()
            top, left, bottom, right = map(int, box)
            parameters = {"lam": share, "lam_adjusted": share, "box": (left, top, right, bottom)}
            theirs.make_params = lambda inputs, parameters=parameters: parameters
            expected, labels_expected = theirs(images[rows], labels[rows])
            assert torch.equal(mixed[row], expected[place]) and torch.equal(shares[row], labels_expected[place])


def test_the_share_of_a_label_is_the_share_of_the_pixels_with_cutmix() -> None:
    shares = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    centres = torch.tensor([[0.5, 0.9, 0.5], [0.5, 0.0, 0.5]], dtype=torch.float64)
    assert boxes_of(shares, centres, 16, 12).tolist() == [[0, 0, 16, 12], [8, 0, 16, 5], [8, 6, 8, 6]]
    both = Mix(0.4, 1.0, classes=3).draw(2000, 16, 12, torch.Generator().manual_seed(0))
    cut = both[:, 3] > both[:, 1]
    assert 0.4 < cut.double().mean() < 0.55
    areas = (both[:, 3] - both[:, 1]) * (both[:, 4] - both[:, 2]) / (16 * 12)
    assert torch.allclose(both[cut, 0], 1 - areas[cut])


def everything(classes: int) -> Pieces:
    return Pieces((trivial(32, 32), randaugment(32, 32, 1, 9)), (Erase(0.5),), Mix(0.4, 1.0, classes))


def test_an_epoch_is_a_function_of_seed_and_number_and_of_no_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = photographs(50, 32, 32), torch.arange(50) % 3

    def epoch(number: int) -> list[tuple[Tensor, Tensor]]:
        batches = ImageLoader(images, labels, 16, CPU, crop=4, flip=True, seed=5, pieces=everything(3))
        return list(batches.epoch(number))

    before = torch.get_rng_state()
    first, copy = epoch(2), images.clone()
    monkeypatch.setattr("cifar.data.loader.WITH_PIECES", 0)
    for (x, y), (other_x, other_y) in zip(first, epoch(2), strict=True):
        assert torch.equal(x, other_x) and torch.equal(y, other_y)
        assert x.dtype == y.dtype == torch.float32 and y.shape == (len(x), 3)
        assert torch.allclose(y.sum(1), torch.ones(len(x)))
        assert x.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(first[0][0], epoch(3)[0][0])
    assert torch.equal(images, copy) and torch.equal(torch.get_rng_state(), before)


def test_pieces_leave_order_crops_and_flips_as_they_are() -> None:
    images, labels = photographs(50, 32, 32), torch.arange(50) % 3
    plain, other = (
        ImageLoader(images, labels, 16, CPU, crop=4, flip=True, seed=5, pieces=pieces).draw(3)
        for pieces in (Pieces(), everything(3))
    )
    assert len(plain) == 4 and len(other) == 8
    assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=False))
    in_order = ImageLoader(images, labels, 16, CPU, pieces=everything(3))
    assert torch.equal(torch.cat([y for _, y in in_order.epoch(1)]), labels), "without a seed nothing is changed"


def build(policy: str, **settings: Any) -> Augmentation:
    values = {"policy": "", "crop": 0, "flip": False, "erase": 0.0, "mixup": 0.0, "cutmix": 0.0} | settings
    return build_augmentation(values, policy, some_images())


def test_views_differ_and_are_drawn_among() -> None:
    images, mean = some_images(), [0.5, 0.25, 0.0]
    crop_flip = build("", crop=4, flip=True)
    views = [augmented(images, crop_flip, mean, view) for view in range(3)]
    assert len({view.fingerprint for view in (images, *views)}) == 4
    assert not torch.equal(views[0].images[:], views[1].images[:])
    assert torch.equal(views[1].images[:], augmented(images, crop_flip, mean, 1).images[:])
    former = hashlib.sha256(f"{images.fingerprint} crop 4 flip True view 1".encode()).hexdigest()
    assert views[1].fingerprint == former, "features that are cached would be computed again"
    kept = augmented(images, build(""), mean, 0)
    assert torch.equal(kept.images[:], images.images), "without crop and flip every image is in its place"
    rows = torch.arange(3.0).view(3, 1, 1).expand(3, 64, 2)
    drawn = torch.cat([x for x, _ in FeatureLoader(rows, images.labels, 8, CPU, seed=0).epoch(1)])
    assert set(drawn[:, 0].tolist()) == {0.0, 1.0, 2.0}


def test_views_go_through_policies_and_erasing() -> None:
    images, mean = some_images(), [0.5, 0.25, 0.0]
    strong = build("cifar.data.augment.policies.trivial", erase=1.0)
    view = augmented(images, strong, mean, 4)
    assert view.fingerprint != augmented(images, build(""), mean, 4).fingerprint
    assert view.fingerprint != augmented(images, strong, [0.5, 0.25, 0.1], 4).fingerprint, "another colour is filled in"
    generator = epoch_generator(4, 1)
    torch.randint(1, (2, len(images)), generator=generator)
    torch.randperm(len(images), generator=generator)
    torch.rand(len(images), generator=generator)
    changed = trivial(32, 32)
    expected = changed.apply(images.images.clone(), changed.draw(len(images), 32, 32, generator))
    erase = Erase(1.0, torch.tensor([128, 64, 0], dtype=torch.uint8).view(3, 1, 1))
    pixels = view.images[:]
    assert torch.equal(pixels, erase.apply(expected, erase.draw(len(images), 32, 32, generator)))
    assert pixels.dtype == torch.uint8


def whole_version(images: Images, augmentation: Augmentation, erase: Erase, view: int) -> Tensor:
    """All pixels of a version at once, in the order of `images`."""
    generator, pixels = epoch_generator(view, 1), torch.empty_like(images.images[:])
    windows = crop_windows(padded(images.images[:], augmentation.crop, CPU), augmentation.crop)
    order, *amounts = draw_crops_and_flips(len(images), augmentation.crop, augmentation.flip, generator)
    pixels[order] = crop_and_flip(windows, augmentation.flip, order, *amounts)
    for piece in (*augmentation.pieces.pixels, erase):
        pixels = piece.apply(pixels, piece.draw(len(images), 32, 32, generator))
    return pixels


class CountedReads(OnDisk):
    """Images in a file; `reads` has how many were read at once."""

    def __init__(self, path: Path, pixels: Tensor) -> None:
        path.write_bytes(pixels.numpy().tobytes())
        super().__init__(path, 0, tuple(pixels.shape))
        self.reads: list[int] = []

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        pixels = super().__getitem__(index)
        self.reads.append(len(pixels))
        return pixels


@pytest.mark.parametrize("policy", ["trivial", "randaugment"])
def test_a_version_is_made_in_parts_and_not_at_all_where_its_features_are_cached(policy: str, tmp_path: Path) -> None:
    images, mean = some_images(70), [0.5, 0.25, 0.0]
    options = {"num_ops": 2, "magnitude": 9} if policy == "randaugment" else {}
    everything = build(f"cifar.data.augment.policies.{policy}", crop=4, flip=True, erase=0.5, **options)
    erase = Erase(0.5, torch.tensor([128, 64, 0], dtype=torch.uint8).view(3, 1, 1))
    whole = whole_version(images, everything, erase, 2)
    version = augmented(images, everything, mean, 2).images
    in_parts = torch.cat([version[first : first + 17] for first in range(0, 70, 17)])
    assert torch.equal(in_parts, whole)
    stored = CountedReads(tmp_path / "pixels", images.images[:])
    network, reads = backbone(), []
    for _ in range(2):
        on_disk = augmented(dataclasses.replace(images, images=stored), everything, mean, 2)
        features = new_cache(tmp_path, batch_size=16).get(network, on_disk).features
        reads.append(list(stored.reads))
    assert reads == [[16, 16, 16, 16, 6]] * 2
    expected = dataclasses.replace(images, images=whole, fingerprint="of the whole")
    assert torch.equal(features, new_cache(tmp_path, batch_size=16).get(network, expected).features)
