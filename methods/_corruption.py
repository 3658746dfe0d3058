"""Painted defects, as DRAEM and the methods after it make them: Perlin masks, textures in ten disguises, and a blend.

After DRAEM's code (github.com/VitjanZ/DRAEM at commit 2dbf673), which takes its augmenters from imgaug 0.4. All here is
done on the device, for a whole batch, with nothing read back: every augmenter is computed for every image, and one is
chosen. What is random is drawn from the generator given.

Differences from that code:
- Augmenters go from whole numbers 0 to 255 to whole numbers, as there; within one of them nothing is rounded, where
  OpenCV's colour spaces of 8 bits are. Channels are RGB, the code's are BGR.
- Rotations turn about the middle of the square.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ._colour import SPACES, turned_hue
from ._precision import full_precision

SIZES = 6
"""Cells a side of a mask's noise are 2^0 to 2^5."""


# ------------------------------------------------------------------------------------------------ masks
def perlin(angles: Tensor, cells: Tensor, side: int) -> Tensor:
    """Return gradient noise, float [B, side, side], 0 at the corners of its cells and seldom beyond -1 and 1.

    Args:
        angles: float [B, R, C], radians: where the gradient points at each corner, cosine down and sine to the right.
        cells: int64 [B, 2]: cells from top to bottom, below R, and from left to right, below C.
        side: in pixels.
    """
    place = torch.arange(side, device=angles.device, dtype=angles.dtype) * cells.unsqueeze(2) / side
    within = place - place.floor()
    row, column = place.long().unbind(dim=1)
    down, right = within[:, 0, :, None], within[:, 1, None, :]
    width, slopes = angles.shape[2], (angles.cos().flatten(1), angles.sin().flatten(1))

    def corner(lower: int, further: int) -> Tensor:
        at = ((row + lower).unsqueeze(2) * width + (column + further).unsqueeze(1)).flatten(1)
        downwards, rightwards = (slope.gather(1, at).view(-1, side, side) for slope in slopes)
        return downwards * (down - lower) + rightwards * (right - further)

    faded = within**3 * (within * (6 * within - 15) + 10)
    left, other = (torch.lerp(corner(0, at), corner(1, at), faded[:, 0, :, None]) for at in (0, 1))
    return sqrt(2) * torch.lerp(left, other, faded[:, 1, None, :])


def turned(images: Tensor, degrees: Tensor) -> Tensor:
    """Return square images [B, C, S, S] rotated about their middle by degrees [B], bilinear, 0 from outside."""
    side = images.shape[-1]
    # of pixels' middles, between the outer borders at -1 and 1
    place = (2 * torch.arange(side, device=images.device, dtype=images.dtype) + 1) / side - 1
    down, right = place.unsqueeze(1), place
    cosine, sine = degrees.deg2rad().cos()[:, None, None], degrees.deg2rad().sin()[:, None, None]
    grid = torch.stack([cosine * right - sine * down, sine * right + cosine * down], dim=3)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="zeros", align_corners=False)


def masks(count: int, side: int, threshold: float, random: Generator, device: torch.device) -> Tensor:
    """Return float [count, 1, side, side] of 0 and 1: where Perlin noise, turned by up to 90 degrees, is above."""
    cells = 2 ** torch.randint(SIZES, (count, 2), generator=random, device=device)
    corners = 2 ** (SIZES - 1) + 1
    angles = 2 * pi * torch.rand(count, corners, corners, generator=random, device=device)
    degrees = 180 * torch.rand(count, generator=random, device=device) - 90
    return (turned(perlin(angles, cells, side).unsqueeze(1), degrees) > threshold).float()


# ------------------------------------------------------------------------------------------------ augmenters
# Each takes images, float [B, 3, S, S] of whole numbers 0 to 255, and numbers in [0, 1), float [B, 4], that decide its
# parameters; what it returns is yet to be rounded and clipped.
def gamma(images: Tensor, u: Tensor) -> Tensor:
    """Raise each channel to a power of its own, 0.5 to 2."""
    return 255 * (images / 255) ** (0.5 + 1.5 * u[:, :3, None, None])


def brightness(images: Tensor, u: Tensor) -> Tensor:
    """Multiply the brightness by 0.8 to 1.2 and add -30 to 30 to it, in either order, in one of six colour spaces."""
    factor, added, first = 0.8 + 0.4 * _wide(u[:, 1]), _whole(u[:, 2], -30, 30), _wide(u[:, 3]) < 0.5

    def changed(bright: Tensor) -> Tensor:
        one = (bright * factor).clamp(0, 255) + added
        return torch.where(first, one, (bright + added).clamp(0, 255) * factor).clamp(0, 255)

    made = [space(images, changed) for space in SPACES]
    return _chosen(made, (u[:, 0] * len(SPACES)).long())


def sharpness(images: Tensor, u: Tensor) -> Tensor:
    """Blur (factor 0) to sharpen (2) as PIL does: towards or away from a 3x3 mean in which the middle counts fivefold.

    The outermost pixels stay as they are.
    """
    smooth = (9 * F.avg_pool2d(images, 3, stride=1) + 4 * images[..., 1:-1, 1:-1]) / 13
    blurred = images.clone()
    blurred[..., 1:-1, 1:-1] = smooth.round()
    return torch.lerp(blurred, images, 2 * _wide(u[:, 0]))


def hue(images: Tensor, u: Tensor) -> Tensor:
    """Add two numbers of -50 to 50 to hue and saturation, both of which go to 255; the hue goes round."""
    return turned_hue(images, 6 / 255 * _whole(u[:, 0], -50, 50), _whole(u[:, 1], -50, 50) / 255)


def solarize(images: Tensor, u: Tensor) -> Tensor:
    """Invert what is as bright as a threshold of 32 to 128, every second time."""
    return torch.where((_wide(u[:, 0]) < 0.5) & (images >= _whole(u[:, 1], 32, 128)), 255 - images, images)


def posterize(images: Tensor, u: Tensor) -> Tensor:
    """Keep 1 to 8 bits; what is left out is replaced by the middle of its range, as imgaug's way is."""
    width = 2 ** (8 - _whole(u[:, 0], 1, 8))
    return (images / width).floor() * width + (width / 2).floor()


def invert(images: Tensor, u: Tensor) -> Tensor:
    """Invert all."""
    return 255 - images


def autocontrast(images: Tensor, u: Tensor) -> Tensor:
    """Stretch each channel over the whole range as PIL does, 0 to 20 % of its pixels left out at either end."""
    counts, _ = _histogram(images)
    upto, total = counts.cumsum(dim=2), images.shape[2] * images.shape[3]
    cut = (total * _whole(u[:, 0], 0, 20).squeeze(3) / 100).floor()
    low = (upto <= cut).sum(dim=2)[..., None, None]
    high = 255 - (total - upto + counts <= cut).sum(dim=2)[..., None, None]
    return torch.where(high > low, ((images - low) * 255 / (high - low).clamp(min=1)).floor(), images)


def equalize(images: Tensor, u: Tensor) -> Tensor:
    """Spread the brightness of each channel evenly, as PIL does."""
    counts, levels = _histogram(images)
    brightest = counts.gather(2, levels.amax(dim=2, keepdim=True))
    step = ((images.shape[2] * images.shape[3] - brightest) / 255).floor()
    table = (((step / 2).floor() + counts.cumsum(dim=2) - counts) / step.clamp(min=1)).floor()
    return torch.where(step.unsqueeze(3) > 0, table.gather(2, levels).view_as(images), images)


def rotate(images: Tensor, u: Tensor) -> Tensor:
    """Rotate by -45 to 45 degrees; what comes from outside is black."""
    return turned(images, 90 * u[:, 0] - 45)


AUGMENTERS = (gamma, brightness, sharpness, hue, solarize, posterize, invert, autocontrast, equalize, rotate)


def augmented(textures: Tensor, count: int, random: Generator) -> Tensor:
    """Return textures, float [B, 3, S, S] in [0, 1], each after `count` different augmenters in random order."""
    images, total = (textures * 255).round(), len(textures)
    order = torch.rand(total, len(AUGMENTERS), generator=random, device=images.device).argsort(dim=1)
    u = torch.rand(count, len(AUGMENTERS), total, 4, generator=random, device=images.device)
    for turn in range(count):
        made = [augment(images, numbers) for augment, numbers in zip(AUGMENTERS, u[turn], strict=True)]
        images = _chosen(made, order[:, turn]).round().clamp(0, 255)
    return images / 255


# ------------------------------------------------------------------------------------------------ blend
def blended(images: Tensor, textures: Tensor, mask: Tensor, kept: Tensor) -> Tensor:
    """Return images [B, 3, S, S] with textures where the mask [B, 1, S, S] is 1, of whose pixels kept [B] stays."""
    return torch.lerp(images, torch.lerp(textures, images, kept[:, None, None, None]), mask)


@torch.no_grad()
def corrupted(
    images: Tensor,
    textures: Tensor,
    random: Generator,
    share: float = 0.5,
    kept: tuple[float, float] = (0.0, 0.8),
    threshold: float = 0.5,
    augmenters: int = 3,
) -> tuple[Tensor, Tensor]:
    """Return images with painted defects and where these are, 0 and 1: float [B, 3, S, S] and [B, 1, S, S].

    Args:
        images: float [B, 3, S, S] in [0, 1].
        textures: likewise, one an image.
        random: the generator to draw from, on the images' device.
        share: probability that an image is painted on; some of its masks are empty none the less.
        kept: range of how much of the image shows through.
        threshold: of the masks' noise.
        augmenters: that each texture goes through, up to ten.
    """
    count, device = len(images), images.device
    with full_precision(images):
        painted, through = torch.rand(2, count, generator=random, device=device)
        mask = masks(count, images.shape[-1], threshold, random, device) * (painted < share)[:, None, None, None]
        textures = augmented(textures, augmenters, random)
        return blended(images, textures, mask, kept[0] + (kept[1] - kept[0]) * through), mask


# ------------------------------------------------------------------------------------------------ shapes
def _wide(numbers: Tensor) -> Tensor:
    """Return [B] as [B, 1, 1, 1]."""
    return numbers[:, None, None, None]


def _whole(u: Tensor, low: int, high: int) -> Tensor:
    """Return whole numbers from low to high, [B, 1, 1, 1], that u in [0, 1), [B], stands for."""
    return low + (_wide(u) * (high - low + 1)).floor()


def _chosen(made: Sequence[Tensor], which: Tensor) -> Tensor:
    """Return each image [B, ...] as that of the versions which its number, int64 [B], names."""
    return torch.stack(tuple(made))[which, torch.arange(len(which), device=which.device)]


def _histogram(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many pixels of a channel have each value, float [B, 3, 256], and the values, int64 [B, 3, S * S]."""
    levels = images.flatten(2).long()
    counts = torch.zeros(*levels.shape[:2], 256, device=images.device)
    return counts.scatter_add_(2, levels, torch.ones_like(levels, dtype=counts.dtype)), levels
