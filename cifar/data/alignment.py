"""How alike two images are after one has been shifted, scaled, mirrored and recoloured to fit the other.

The first guess of shift and scale is the best on a grid of whole pixels at 16 x 16 (normalised cross-correlation);
Gauss-Newton steps refine it to fractions of a pixel (Lucas and Kanade 1981). What counts then is the correlation of the
gradients: smooth areas (sky, a plain background) are alike in different photographs, edges are not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 32
"""Height and width that images are compared at, in pixels."""
COARSE, TEMPLATE = 16, 12
"""Sides of the images and of the middle of one that is searched for in the other, for the first guess."""
ZOOMS = (16, 17, 18, 19, 20)
"""Sides of the other image in that search: up to 1.25 times as large."""
NOISE = 1.0
"""Standard deviation of what recompression changes, of pixels from 0 to 255."""
STRONG = 20.0
"""The gradient beyond which an edge hardly counts more: else a frame or a horizon that two images have is all."""
LEAST_OVERLAP = 0.45
"""The least share of an image that the other must cover."""
SCALES, SHIFTS = (0.7, 1.43), (-0.5, 0.5)
"""What the refinement is kept within; shifts in half widths of the image."""
STEPS = 8
CHANGED, MIRRORED = 0.3, 0.1
"""What a change of scale by 1, or a shift by half the width, adds to the distance; and what a mirror image adds."""
WEIGHTS = (0.299, 0.587, 0.114)


def prepared(images: Tensor) -> Tensor:
    """Images uint8 (N, 3, H, W) as they are compared: float32 (N, 3, SIDE, SIDE) from 0 to 255."""
    return resized(images.float(), SIDE)


def resized(images: Tensor, side: int) -> Tensor:
    """Float images (N, C, H, W) at side x side pixels."""
    if images.shape[-2:] == (side, side):
        return images
    return functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def grey(images: Tensor) -> Tensor:
    """Float (N, 3, H, W) as (N, 1, H, W)."""
    return torch.einsum("nchw,c->nhw", images, torch.tensor(WEIGHTS))[:, None]


def gradients(images: Tensor) -> Tensor:
    """Differences of neighbours, horizontal and vertical: (N, C, H, W) as (N, 2 C, H, W), 0 at the border."""
    across = functional.pad((images[..., 2:] - images[..., :-2]) / 2, (1, 1))
    down = functional.pad((images[..., 2:, :] - images[..., :-2, :]) / 2, (0, 0, 1, 1))
    return torch.cat([across, down], dim=1)


def first_guess(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(correlation, map, mirrored) of pairs of float images (P, 3, SIDE, SIDE).

    A map (P, 4) leads from a place in `one` to that in `other`: scale x and y, shift x and y, places from -1 to 1.
    mirrored (P,): whether `other` is to be mirrored first.
    """
    first, second = grey(one), grey(other)
    straight, mirrored = _guess(first, second), _guess(first, second.flip(-1))
    turned = mirrored[0] > straight[0]
    return torch.maximum(straight[0], mirrored[0]), torch.where(turned[:, None], mirrored[1], straight[1]), turned


def _guess(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """(correlation, map) of grey images, whichever of the two is the closer view."""
    inside, onto = _search(one, other)
    around, back = _search(other, one)
    inverse = torch.cat([1 / back[:, :2], -back[:, 2:] / back[:, :2]], dim=1)
    return torch.maximum(inside, around), torch.where((around > inside)[:, None], inverse, onto)


def _search(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """(correlation, map) of the middle of `one` with the place in `other` that it fits best, at any of ZOOMS."""
    edge = (COARSE - TEMPLATE) // 2
    middle = _details(one, COARSE)[..., edge:-edge, edge:-edge]
    middle = middle - middle.mean((2, 3), keepdim=True)
    best, guess = torch.full((len(one),), -2.0), torch.zeros(len(one), 4)
    for side in ZOOMS:
        correlation, place = _correlate(middle, _details(other, side))
        scale = torch.full((len(one),), COARSE / side)
        places = side - TEMPLATE + 1
        shift_x, shift_y = (2 * (COARSE // 2 - edge + at) / side - 1 for at in (place % places, place // places))
        better = correlation > best
        best = torch.where(better, correlation, best)
        guess = torch.where(better[:, None], torch.stack([scale, scale, shift_x, shift_y], dim=1), guess)
    return best, guess


def _correlate(template: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The highest normalised cross-correlation of each template (P, 1, T, T) in its image (P, 1, S, S), and its place.

    Raised by NOISE, so that what has no contrast is like nothing.
    """
    pairs, area = len(template), TEMPLATE**2
    products = functional.conv2d(images.transpose(0, 1), template, groups=pairs)[0]
    mean, squares = (_window_means(values, TEMPLATE)[:, 0] for values in (images, images.square()))
    deviation = ((squares - mean.square()).clamp_min(0) * area).sqrt()
    lengths = deviation * template.flatten(1).norm(dim=1)[:, None, None]
    highest, place = (products / (lengths + NOISE**2 * TEMPLATE)).flatten(1).max(1)
    return highest, place


def _details(image: Tensor, side: int) -> Tensor:
    """Grey images at side x side pixels, less their surroundings."""
    small = resized(image, side)
    return small - _window_means(functional.pad(small, (2, 2, 2, 2), mode="replicate"), 5)


def _window_means(images: Tensor, side: int) -> Tensor:
    """Of each window of side x side pixels in (N, C, H, W), from cumulative sums: faster than avg_pool2d."""
    sums = functional.pad(images.cumsum(3).cumsum(2), (1, 0, 1, 0))
    columns = sums[..., side:, :] - sums[..., :-side, :]
    return (columns[..., side:] - columns[..., :-side]) / side**2


def refined(one: Tensor, other: Tensor, guess: Tensor) -> Tensor:
    """The map (P, 4) from `one` to `other`, both (P, 3, SIDE, SIDE), that fits their colours best, from a first guess.

    Each channel has its gain and its offset, by least squares. Of all steps the one with the least residual.
    """
    current = best = guess
    least = torch.full((len(one),), torch.inf)
    for step in range(STEPS + 1):
        residual, change = _step(one, other, current)
        better = residual < least
        least = torch.where(better, residual, least)
        best = torch.where(better[:, None], current, best)
        if step < STEPS:
            moved = current + change
            current = torch.cat([moved[:, :2].clamp(*SCALES), moved[:, 2:].clamp(*SHIFTS)], dim=1)
    return best


def _step(one: Tensor, other: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """The residual (P,) of these maps, relative to the variance of `one`, and the next change of them (P, 4)."""
    seen, covered = warped(other, maps)
    target, values = _centred(one, covered), _centred(seen, covered)
    energy = values.square().sum((2, 3), keepdim=True) + 1e-3
    gain = (target * values).sum((2, 3), keepdim=True) / energy
    difference = target - gain * values
    residual = difference.square().sum((1, 2, 3)) / (target.square().sum((1, 2, 3)) + 1)
    residual = torch.where(covered.mean((1, 2, 3)) < LEAST_OVERLAP, 9.0, residual)
    across, down = gradients(seen).chunk(2, dim=1)
    places = _places()
    slopes = torch.stack([across * places, down * places[:, None], across, down], dim=1) * (SIDE / 2)
    slopes = slopes / maps[:, [0, 1, 0, 1], None, None, None]
    slopes = gain[:, None] * (slopes - _mean(slopes, covered[:, None])) * covered[:, None]
    along = (slopes * values[:, None]).sum((3, 4), keepdim=True) / energy[:, None]
    slopes = (slopes - along * values[:, None]).flatten(2)
    normal = slopes @ slopes.transpose(1, 2)
    diagonal = normal.diagonal(dim1=1, dim2=2)
    damping = 0.01 * (diagonal + diagonal.mean(1, keepdim=True)) + 1e-3
    change = torch.linalg.solve(normal + torch.diag_embed(damping), slopes @ difference.flatten(1)[..., None])
    return residual, change[..., 0].clamp(-0.1, 0.1)


def distances(one: Tensor, other: Tensor, maps: Tensor, mirrored: Tensor) -> Tensor:
    """1 less the correlation (P,) of the gradients of `one` and of `other` seen through the maps, where both are.

    What had to be undone for it is added: by a mirror image (P,) or a large shift more images can be made alike.
    """
    seen, covered = warped(other, maps)
    inner = -functional.max_pool2d(-functional.pad(covered, (1, 1, 1, 1)), 3, 1)  # a gradient has two neighbours
    first, second = (_centred(_limited(gradients(each)), inner) for each in (one, seen))
    noise = inner.sum((2, 3)) * (NOISE / 2) ** 2
    products = (first * second).sum((2, 3)).clamp_min(0).sum(1)
    energies = (first.square().sum((2, 3)) + noise) * (second.square().sum((2, 3)) + noise)
    change = (maps - torch.tensor([1.0, 1.0, 0.0, 0.0])).abs().amax(1)
    return 1 - products / energies.sqrt().sum(1).clamp_min(1e-6) + CHANGED * change + MIRRORED * mirrored


def _limited(slopes: Tensor) -> Tensor:
    """Gradients (N, C, H, W) of at most STRONG in the mean of all channels of a pixel."""
    return slopes / (1 + slopes.square().mean(1, keepdim=True).sqrt() / STRONG)


def smooth(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) without their finest details, which recompression and resampling change."""
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    return functional.conv2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def warped(images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """What `images` (P, C, H, W) show at the places that maps (P, 4) lead to; and (P, 1, H, W): 1 where these exist."""
    across = maps[:, 0:1] * _places() + maps[:, 2:3]
    down = maps[:, 1:2] * _places() + maps[:, 3:4]
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), dim=3)
    seen = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    covered = (grid.abs() <= 1 - 1 / SIDE + 1e-3).all(3)
    return seen, covered[:, None].float()


def _places() -> Tensor:
    """The centres of the pixels of a row, from -1 to 1."""
    return (torch.arange(SIDE) + 0.5) * (2 / SIDE) - 1


def _mean(images: Tensor, covered: Tensor) -> Tensor:
    """Of each channel, over the pixels that are covered."""
    return (images * covered).sum((-2, -1), keepdim=True) / covered.sum((-2, -1), keepdim=True).clamp_min(1)


def _centred(images: Tensor, covered: Tensor) -> Tensor:
    """Less the mean of the pixels that are covered; 0 elsewhere."""
    return (images - _mean(images, covered)) * covered
