"""Random views of images, as contrastive methods take them: a part of each, in other colours, grey, blurred, mirrored.

The parameters are those of torchvision's transforms of these names. All is done on the device, for a whole batch, every
image with numbers of its own from the generator given, and nothing is read back.

Differences from those transforms:
- Nothing is rounded to 8 bits on the way.
- The blur is a Gaussian; PIL's is three box blurs that come close to it.
- A part is as large as its image or smaller, and enlarging it needs no filter against aliasing.
"""

from __future__ import annotations

from math import log

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ._colour import turned_hue
from ._precision import full_precision

SCALE, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
"""Share of an image's area that a part has, and its width to its height."""
TRIES = 10
"""Parts that are drawn; the first that fits is taken, and the whole image where none does."""
JITTER, TURN = 0.4, 0.1
"""How far brightness, contrast and saturation go from 1, and the hue in circles."""
JITTERED, GREYED, BLURRED, MIRRORED = 0.8, 0.2, 0.5, 0.5
"""Probabilities."""
RADIUS = (0.1, 2.0)
"""Standard deviation of the blur in pixels."""
REACH = 8
"""Pixels to either side that the blur sees: four standard deviations of the widest."""
LUMA = (0.299, 0.587, 0.114)


@torch.no_grad()
def views(images: Tensor, random: Generator) -> Tensor:
    """Return a view of each image, float [B, 3, S, S] in [0, 1].

    Args:
        images: likewise.
        random: the generator to draw from, on the images' device.
    """
    count, device = len(images), images.device

    def some(share: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=random, device=device) < share

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=random, device=device)

    with full_precision(images):
        made = enlarged(images, windows(count, images.shape[-1], random, device))
        factors = torch.stack([between(1 - JITTER, 1 + JITTER) for _ in range(3)] + [between(-TURN, TURN)])
        order = torch.rand(count, len(factors), generator=random, device=device).argsort(dim=1)
        made = torch.where(some(JITTERED), jittered(made, factors, order), made)
        made = greyed(made, GREYED, random)
        made = torch.where(some(BLURRED), blurred(made, between(*RADIUS)), made)
        return torch.where(some(MIRRORED), made.flip(3), made)


# ------------------------------------------------------------------------------------------------ parts
def windows(count: int, side: int, random: Generator, device: torch.device) -> Tensor:
    """Return top, left, height and width of a part of each image in pixels, float [B, 4] of whole numbers."""
    share, shape, down, right = torch.rand(4, count, TRIES, generator=random, device=device)
    area = side**2 * (SCALE[0] + (SCALE[1] - SCALE[0]) * share)
    ratio = (log(RATIO[0]) + (log(RATIO[1]) - log(RATIO[0])) * shape).exp()
    height, width = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    fits = (height <= side) & (width <= side) & (height > 0) & (width > 0)
    top, left = (down * (side - height + 1)).floor(), (right * (side - width + 1)).floor()
    first = fits.long().argmax(dim=1, keepdim=True)
    # of the whole image, where none does
    instead = ((top, 0.0), (left, 0.0), (height, float(side)), (width, float(side)))
    return torch.stack(
        [torch.where(fits.any(dim=1), one.gather(1, first).squeeze(1), whole) for one, whole in instead], dim=1
    )


def enlarged(images: Tensor, parts: Tensor) -> Tensor:
    """Return parts, float [B, 4] as `windows` gives them, of square images [B, C, S, S] at their size, bilinear."""
    side = images.shape[-1]
    top, left, height, width = parts.unsqueeze(2).unbind(dim=1)
    middle = (torch.arange(side, device=images.device, dtype=images.dtype) + 0.5) / side

    def place(start: Tensor, length: Tensor) -> Tensor:
        # within the part alone; then from pixels' middles to the outer borders at -1 and 1
        within = (middle * length - 0.5).clamp(min=0).minimum(length - 1) + start
        return (2 * within + 1) / side - 1

    down, right = place(top, height), place(left, width)
    grid = torch.stack([right[:, None, :].expand(-1, side, -1), down[:, :, None].expand(-1, -1, side)], dim=3)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


# ------------------------------------------------------------------------------------------------ colours
def grey(images: Tensor) -> Tensor:
    """Return images without colour, [B, 3, S, S]."""
    return sum(weight * images[:, place : place + 1] for place, weight in enumerate(LUMA)).expand_as(images)  # type: ignore[union-attr]


def greyed(images: Tensor, share: float, random: Generator) -> Tensor:
    """Return images [B, 3, S, S], a random share of them without colour."""
    some = torch.rand(len(images), 1, 1, 1, generator=random, device=images.device) < share
    return torch.where(some, grey(images), images)


def jittered(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Change brightness, contrast and saturation by factors and turn the hue, one after the other.

    Args:
        images: float [B, 3, S, S] in [0, 1].
        factors: float [4, B], the last in circles.
        order: int64 [B, 4]: which of the four comes first for each image, second, and so on.
    """
    brightness, contrast, saturation, turn = factors[:, :, None, None, None]
    places = torch.arange(len(images), device=images.device)
    for which in order.unbind(dim=1):
        dull = grey(images)
        made = (
            images * brightness,
            torch.lerp(dull.mean(dim=(1, 2, 3), keepdim=True), images, contrast),
            torch.lerp(dull, images, saturation),
            turned_hue(images, 6 * turn),
        )
        images = torch.stack(made)[which, places].clamp(0, 1)
    return images


# ------------------------------------------------------------------------------------------------ blur
def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Return images [B, C, S, S] under Gaussians of standard deviations [B] in pixels; the border goes on outside."""
    count, channels, side = images.shape[:3]
    reach = torch.arange(-REACH, REACH + 1, device=images.device, dtype=images.dtype)
    kernel = (-0.5 * (reach / sigma.unsqueeze(1)).square()).softmax(dim=1)
    kernel = kernel.repeat_interleave(channels, dim=0)[:, None, None, :]
    lines = F.pad(images.reshape(1, -1, side, side), (REACH,) * 4, mode="replicate")
    lines = F.conv2d(F.conv2d(lines, kernel, groups=len(kernel)), kernel.transpose(2, 3), groups=len(kernel))
    return lines.view(count, channels, side, side)
