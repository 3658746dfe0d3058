"""Metrics of torch tensors on their device: the maps are not copied to the host.

The positives are sorted, the negatives looked up among them piece by piece and counted: what the metrics need of 131
million pixels fits a few arrays of the positives' size (see ranks.py), and only those leave the device. Regions are
found on the host, for which the masks travel as one byte a pixel. torch is imported by whoever made the tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import ScoreError, UsageError
from bench.metrics.arrays import evaluate_arrays
from bench.metrics.ids import parse_all
from bench.metrics.inputs import ClassInputs, check, numbers, refuse_masked
from bench.metrics.metric import Whole
from bench.metrics.ranks import MISSING, Ranks, Undefined, Unit
from bench.metrics.regions import Regions, find_regions
from bench.metrics.scores import Scores, collect, sides
from bench.metrics.spro import Defect

if TYPE_CHECKING:
    from torch import Tensor

_PIECE = 1 << 24
"""Pixels looked up at once: about 0.5 GiB of the device's memory."""


def on_accelerator(given: object) -> bool:
    """Say whether `given` is a torch tensor that lives anywhere but in the host's memory; imports no torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(given, torch.Tensor) and given.device.type != "cpu"


def evaluate_tensors(
    maps: Any,
    masks: Any,
    image_scores: Any = None,
    labels: Any = None,
    *,
    metrics: Iterable[str] | None = None,
    objects: Sequence[Hashable] | None = None,
    defects: Sequence[Defect] | None = None,
) -> Scores:
    """Return what `evaluate_class` returns for the same numbers, with `maps` ranked on their own device.

    `evaluate_class` hands over to this by itself when one of its arguments lies on an accelerator. All but the maps go
    to the host, and so do the maps if a variant is asked for, which needs every score.

    Args:
        maps: tensor [N, H, W] on any device, any real dtype; or as in `evaluate_class`.
        masks: as in `evaluate_class`, as array or as tensor on any device; and so for the rest.
        image_scores: [N].
        labels: [N].
        metrics: as in `evaluate_class`.
        objects: as in `evaluate_class`.
        defects: as in `evaluate_class`.

    Raises:
        UsageError: as in `evaluate_class`, or maps that carry a gradient.
        ScoreError: a score is NaN; the message names the image.
    """
    masks, image_scores, labels = _host(masks), _host(image_scores), _host(labels)
    if not hasattr(maps, "detach"):
        return evaluate_arrays(maps, masks, image_scores, labels, metrics=metrics, objects=objects, defects=defects)
    wanted = parse_all(metrics)
    refuse_masked("maps", maps)
    # of the maps only the shape is checked here, by the rules for arrays
    stand_in = np.broadcast_to(np.uint8(0), tuple(maps.shape))
    given = check(stand_in, masks, image_scores, labels)
    _refuse_nan(maps)
    return collect(wanted, sides(given, objects, _DevicePixels(maps, given, defects)))


class _DevicePixels:
    """The pixel side of a class whose maps lie on a device."""

    def __init__(self, maps: Tensor, given: ClassInputs, defects: Sequence[Defect] | None) -> None:
        self._maps, self._given, self._defects = maps, given, defects

    @cached_property
    def ranks(self) -> Ranks:
        import torch

        positive = torch.from_numpy(self._masks).to(self._maps.device)
        return rank_tensor(self._maps.reshape(-1), positive.reshape(-1), "pixel")

    @cached_property
    def regions(self) -> Regions:
        return find_regions(self._masks)

    @cached_property
    def whole(self) -> Whole:
        masks = self._masks
        assert self._given.labels is not None
        maps = numbers("maps", _host(self._maps), 3, "[N, H, W]")
        return Whole(maps, masks, self._given.labels, self._defects)

    @property
    def _masks(self) -> Any:
        if self._given.masks is None:
            raise Undefined(MISSING["masks"])
        return self._given.masks


def rank_tensor(scores: Tensor, positive: Tensor, unit: Unit) -> Ranks:
    """Return what `ranking.rank` returns for the same numbers, computed on the tensors' device.

    Args:
        scores: real dtype [M] without NaN; compared in it, or in a wider one where torch cannot.
        positive: bool [M], on the same device.
        unit: what an entry is, for messages.

    Raises:
        UsageError: complex scores.
    """
    import torch

    scores = _comparable(scores)
    chosen, order = torch.sort(scores[positive], stable=True)
    count = len(chosen)
    distinct, ties = torch.unique_consecutive(chosen, return_counts=True)
    # negatives by how many of the distinct positive scores they exceed, and how many they reach
    exceeded = torch.zeros(len(distinct) + 1, dtype=torch.int64, device=scores.device)
    reached = torch.zeros_like(exceeded)
    for start in range(0, len(scores), _PIECE):
        negatives = scores[start : start + _PIECE][~positive[start : start + _PIECE]]
        for counts, right in ((exceeded, False), (reached, True)):
            found = torch.searchsorted(distinct, negatives, right=right)
            counts += torch.bincount(found, minlength=len(counts))
    hits = count - (ties.cumsum(0) - ties)
    columns = torch.stack((_from_the_top(exceeded), _from_the_top(reached), hits))
    above, at_least, hits_on_host = columns.repeat_interleave(ties, dim=1).cpu().numpy()
    return Ranks(
        order=order.cpu().numpy(),
        above=above,
        at_least=at_least,
        hits=hits_on_host,
        positives=count,
        negatives=len(scores) - count,
        unit=unit,
    )


def _from_the_top(counts: Tensor) -> Tensor:
    """Return, for the k-th distinct positive score, how many negatives have passed more than k of them."""
    return counts.flip(0).cumsum(0).flip(0)[1:]


def _comparable(scores: Tensor) -> Tensor:
    """Return the scores in a dtype that torch sorts, in the same order."""
    import torch

    if scores.is_complex():
        raise UsageError(f"maps have dtype {scores.dtype}, expected a float, an integer type or bool")
    if scores.dtype == torch.uint64:
        return scores.view(torch.int64) ^ torch.iinfo(torch.int64).min
    if scores.is_floating_point():
        return scores.float() if scores.element_size() < 4 else scores
    wider: dict[Any, Any] = {torch.bool: torch.uint8, torch.uint16: torch.int64, torch.uint32: torch.int64}
    return scores.to(wider.get(scores.dtype, scores.dtype))


def _refuse_nan(maps: Tensor) -> None:
    if maps.requires_grad:
        raise UsageError("maps carry a gradient, expected a tensor that is detached: maps.detach()")
    if not maps.is_floating_point() or maps.numel() == 0:
        return
    bad = maps.amax(dim=(1, 2)).isnan().nonzero().flatten().tolist()  # a maximum is NaN as soon as one value is
    if bad:
        raise ScoreError(
            f"the map of image {bad[0]} holds NaN ({len(bad)} of {len(maps)} images do), expected numbers only: "
            "check the training loss, and reduced precision, of the model that made it",
            image=bad[0],
        )


def _host(given: Any) -> Any:
    return given.detach().cpu() if hasattr(given, "detach") else given
