"""Operations on images uint8 (B, 3, H, W), each image with another amount: float64 (B,), on the device.

For equal amounts equal to torchvision's transforms.v2 on single tensors: pixel by pixel for those that change colours;
geometric ones take the nearest pixel, and may take its neighbour where two are equally near.

To add one, write its function and its line in OPERATIONS. Policies draw an operation by its line, so one more changes
what runs of an equal seed draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

BINS = 31
"""Levels of an amount, from weak to strong."""
MAX_TRANSLATION = 32
"""Pixels that TrivialAugment translates by at most, in any image of that size or larger."""

Apply = Callable[[Tensor, Tensor], Tensor]
Levels = Callable[[int, int], Tensor]
"""The amounts of all bins, float32 (BINS,), for images of a height and a width."""


def unchanged(images: Tensor, amounts: Tensor) -> Tensor:
    """As they are."""
    return images


def shear_x(images: Tensor, amounts: Tensor) -> Tensor:
    """Rows move to the left, the lower ones more: by `amount` times the distance from the upper edge."""
    return warp(images, 1, amounts, amounts * images.shape[2] / 2, 0, 1, 0)


def shear_y(images: Tensor, amounts: Tensor) -> Tensor:
    """Columns move up, the right ones more: by `amount` times the distance from the left edge."""
    return warp(images, 1, 0, 0, amounts, 1, amounts * images.shape[3] / 2)


def translate_x(images: Tensor, amounts: Tensor) -> Tensor:
    """To the right by `amount` pixels, rounded towards 0."""
    return warp(images, 1, 0, -amounts.trunc(), 0, 1, 0)


def translate_y(images: Tensor, amounts: Tensor) -> Tensor:
    """Down by `amount` pixels, rounded towards 0."""
    return warp(images, 1, 0, 0, 0, 1, -amounts.trunc())


def rotate(images: Tensor, amounts: Tensor) -> Tensor:
    """By `amount` degrees around the centre, against the clock."""
    cos, sin = amounts.deg2rad().cos(), amounts.deg2rad().sin()
    return warp(images, cos, -sin, 0, sin, cos, 0)


def brightness(images: Tensor, amounts: Tensor) -> Tensor:
    """All pixels times 1 + amount."""
    return to_pixels(images * per_image(1 + amounts).float())


def color(images: Tensor, amounts: Tensor) -> Tensor:
    """Away from grey (amount above 0) or towards it."""
    return blend(images, TF.rgb_to_grayscale(images), 1 + amounts)


def contrast(images: Tensor, amounts: Tensor) -> Tensor:
    """Away from the mean grey of the image (amount above 0) or towards it."""
    mean = TF.rgb_to_grayscale(images).float().mean((1, 2, 3), keepdim=True)
    return blend(images, mean, 1 + amounts)


def sharpness(images: Tensor, amounts: Tensor) -> Tensor:
    """Away from the smoothed image (amount above 0) or towards it; the outermost pixels stay."""
    if min(images.shape[2:]) < 3:
        return images
    pixels = images.float()
    inner = pixels[..., 1:-1, 1:-1]
    rows = pixels[..., :-2, :] + pixels[..., 1:-1, :] + pixels[..., 2:, :]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]  # avg_pool2d takes 5 times as long
    smooth = ((sums + 4 * inner) / 13).round()
    inner.copy_(inner + (smooth - inner).double() * per_image(1 - (1 + amounts)).float())
    return to_pixels(pixels)


def posterize(images: Tensor, amounts: Tensor) -> Tensor:
    """The highest `amount` bits of each value."""
    return images & per_image(256 - 2 ** (8 - amounts)).to(torch.uint8)


def solarize(images: Tensor, amounts: Tensor) -> Tensor:
    """Values from `amount`, a share of 255, upwards are inverted."""
    lowest = (255 * amounts).float().ceil().to(torch.int16)
    return torch.where(images >= per_image(lowest), images.bitwise_not(), images)


def autocontrast(images: Tensor, amounts: Tensor) -> Tensor:
    """Each channel is stretched to the range from 0 to 255."""
    stretched: Tensor = TF.autocontrast(images.contiguous())  # channels_last takes 6 times as long
    return stretched


def equalize(images: Tensor, amounts: Tensor) -> Tensor:
    """The histogram of each channel is made even."""
    equalized: Tensor = TF.equalize(images)
    return equalized


def per_image(values: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def to_pixels(values: Tensor) -> Tensor:
    """float (B, 3, H, W) as uint8: clamped, and rounded down as torchvision does."""
    return values.clamp_(0, 255).to(torch.uint8)


def blend(images: Tensor, others: Tensor, shares: Tensor) -> Tensor:
    """shares * images + (1 - shares) * others; `shares` (B,)."""
    # torchvision rounds once, after a fused multiply-add in float32. float64 holds the product exactly.
    first = images * per_image(shares).float()
    return to_pixels((first + others.double() * per_image(1 - shares).float()).float())


def warp(images: Tensor, *matrix: Tensor | float) -> Tensor:
    """Each output pixel (x, y), from the centre, is the one nearest to (a x + b y + c, d x + e y + f), or black.

    `matrix`: a to f, numbers or (B,).
    """
    count, _, height, width = images.shape
    theta = torch.zeros(count, 6, dtype=torch.float64, device=images.device)
    for column, values in enumerate(matrix):
        theta[:, column] = values
    across, down = theta.float().view(count, 2, 3).unbind(1)
    theta = torch.stack([across / (0.5 * width), down / (0.5 * height)], 2)
    grid = _positions(height, width, images.device).expand(count, -1, -1).bmm(theta)
    warped = F.grid_sample(
        images.float(), grid.view(count, height, width, 2), mode="nearest", padding_mode="zeros", align_corners=False
    )
    return warped.to(torch.uint8)


def _positions(height: int, width: int, device: torch.device) -> Tensor:
    """(1, H * W, 3): the position of each pixel from the centre, x, y, and 1."""
    y = torch.linspace((1 - height) / 2, (height - 1) / 2, height, device=device)
    x = torch.linspace((1 - width) / 2, (width - 1) / 2, width, device=device)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows, torch.ones_like(rows)], 2).view(1, -1, 3)


def up_to(most: float) -> Levels:
    """From 0 to `most`."""
    return lambda height, width: torch.linspace(0, most, BINS)


def pixels_across(height: int, width: int) -> Tensor:
    return torch.linspace(0, min(MAX_TRANSLATION, width), BINS)


def pixels_down(height: int, width: int) -> Tensor:
    return torch.linspace(0, min(MAX_TRANSLATION, height), BINS)


def share_across(height: int, width: int) -> Tensor:
    return torch.linspace(0, 150 / 331 * width, BINS)


def share_down(height: int, width: int) -> Tensor:
    return torch.linspace(0, 150 / 331 * height, BINS)


def bits_less(most: int) -> Levels:
    """8 bits, and up to `most` less."""
    return lambda height, width: (8 - torch.arange(BINS) / ((BINS - 1) / most)).round()


def threshold(height: int, width: int) -> Tensor:
    """From 1 (nothing) down to 0 (all)."""
    return torch.linspace(1, 0, BINS)


def no_amount(height: int, width: int) -> Tensor:
    return torch.zeros(BINS)


@dataclass(frozen=True)
class Operation:
    """An operation, and its amounts in TrivialAugment (`wide`) and in RandAugment; `signed`: either sign, by chance."""

    apply: Apply
    wide: Levels = no_amount
    rand: Levels = no_amount
    signed: bool = False


OPERATIONS = (
    Operation(unchanged),
    Operation(shear_x, up_to(0.99), up_to(0.3), signed=True),
    Operation(shear_y, up_to(0.99), up_to(0.3), signed=True),
    Operation(translate_x, pixels_across, share_across, signed=True),
    Operation(translate_y, pixels_down, share_down, signed=True),
    Operation(rotate, up_to(135), up_to(30), signed=True),
    Operation(brightness, up_to(0.99), up_to(0.9), signed=True),
    Operation(color, up_to(0.99), up_to(0.9), signed=True),
    Operation(contrast, up_to(0.99), up_to(0.9), signed=True),
    Operation(sharpness, up_to(0.99), up_to(0.9), signed=True),
    Operation(posterize, bits_less(6), bits_less(4)),
    Operation(solarize, threshold, threshold),
    Operation(autocontrast),
    Operation(equalize),
)
"""Those of TrivialAugment (Müller and Hutter 2021) and RandAugment (Cubuk et al. 2020), as torchvision has them."""
