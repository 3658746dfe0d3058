"""Image scores from anomaly maps. The choice moves image metrics more than any bug does, so it has a name.

Each rule takes NumPy arrays and torch tensors and gives the same kind back; tensors stay on their device.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.metrics.inputs import refuse_masked


def highest(maps: Any) -> Any:
    """Return each map's highest pixel, [N] in the maps' dtype (RD4AD, RD++, SimpleNet, most papers before 2023).

    Args:
        maps: array or tensor [N, H, W], any real dtype.
    """
    maps = _checked(maps)
    return maps.max(axis=(1, 2)) if isinstance(maps, np.ndarray) else maps.amax(dim=(1, 2))


def top_mean(maps: Any, share: float = 0.01) -> Any:
    """Return the mean of each map's highest pixels, float64 [N] (Dinomaly, the preprint's appendix A.2).

    Args:
        maps: array or tensor [N, H, W], any real dtype.
        share: share of the pixels that is averaged, in (0, 1]; their number is rounded down, but is at least 1.

    Raises:
        UsageError: maps of another shape, or `share` outside (0, 1].
    """
    maps = _checked(maps)
    if not 0 < share <= 1:
        raise UsageError(f"share is {share}, expected a number in (0, 1], such as 0.01 for the highest percent")
    count = max(1, int(maps.shape[1] * maps.shape[2] * share))
    if not isinstance(maps, np.ndarray):
        return maps.flatten(1).topk(count, dim=1).values.double().mean(dim=1)
    means = [np.partition(one, one.size - count, axis=None)[-count:].mean(dtype=np.float64) for one in maps]
    return np.array(means, dtype=np.float64)


def pooled_max(maps: Any, window: int = 16) -> Any:
    """Return the highest mean of any window x window square of each map, float64 [N] (UniAD, ADer: 16).

    Squares lie wholly inside the map and move by one pixel: an average pool of stride 1 without padding, then the
    maximum.

    Args:
        maps: array or tensor [N, H, W], any real dtype.
        window: side of the square in pixels.

    Raises:
        UsageError: maps of another shape, or smaller than the window.
    """
    maps = _checked(maps)
    if not 1 <= window <= min(maps.shape[1:]):
        raise UsageError(f"window is {window}, expected 1 to the maps' shorter side; maps are {list(maps.shape)}")
    if not isinstance(maps, np.ndarray):
        import torch

        pooled: Any = torch.nn.functional.avg_pool2d(maps.double()[:, None], window, stride=1)
        return pooled.flatten(1).amax(1)
    return np.array([_window_sums(one, window).max() / window**2 for one in maps], dtype=np.float64)


IMAGE_SCORES: Mapping[str, Callable[[Any], Any]] = {"max": highest, "top1%": top_mean, "pool16-max": pooled_max}
"""Name that a table prints beside image metrics -> the rule."""


def _window_sums(image: npt.NDArray[Any], window: int) -> npt.NDArray[np.float64]:
    """Sum over all window x window squares of [H, W]; plainly, since running sums would let one outlier leak."""
    height, width = (side - window + 1 for side in image.shape)
    rows = np.zeros((height, image.shape[1]), dtype=np.float64)
    for start in range(window):
        rows += image[start : start + height]
    sums = np.zeros((height, width), dtype=np.float64)
    for start in range(window):
        sums += rows[:, start : start + width]
    return sums


def _checked(maps: Any) -> Any:
    torch: Any = sys.modules.get("torch")
    tensor = torch is not None and isinstance(maps, torch.Tensor)
    if not isinstance(maps, np.ndarray) and not tensor:
        raise UsageError(f"maps are a {type(maps).__name__}, expected a NumPy array or a torch tensor [N, H, W]")
    refuse_masked("maps", maps)
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise UsageError(f"maps are {list(maps.shape)}, expected [N, H, W] with H, W >= 1")
    if tensor:
        return maps.to(torch.uint8) if maps.dtype == torch.bool else maps
    maps = np.asarray(maps)  # a masked array that hides nothing is one like any other
    return maps.view(np.uint8) if maps.dtype == np.bool_ else maps
