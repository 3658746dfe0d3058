"""Memories: what methods keep of normal images in buffers, above all the bank of vectors that is searched exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.api import Batch, Batches, room

from ._precision import full_precision

CHUNK = 2**24
"""Distances held at once while searching: 64 MiB of float32."""
BLOCK = 2**16
"""Vectors of a bank that are searched at once, and brought to the network's device where they lie elsewhere."""


SLACK = 0.25
"""How far a sample may outgrow its limit before it is cut back."""


class Rows:
    """Rows added part by part to one tensor, which lies where there is room for it.

    Args:
        expected: rows to come; 0 where nobody says, and room is then made as they come.
        device: of the network.
    """

    def __init__(self, expected: int, device: torch.device) -> None:
        self._expected, self._device = expected, device
        self._held: Tensor | None = None
        self._count = 0

    def add(self, part: Tensor, dtype: torch.dtype | None = None) -> None:
        """Add rows [n, ...], kept as `dtype`, or as they are."""
        count = self._count + len(part)
        if self._held is None or count > len(self._held):
            before = self._held
            shape = (max(self._expected, 2 * self._count, count), *part.shape[1:])
            self._held = room(shape, dtype or part.dtype, self._device)
            if before is not None:
                self._held[: self._count].copy_(before[: self._count])
        self._held[self._count : count].copy_(part)
        self._count = count

    def replace(self, place: int, row: Tensor) -> None:
        """Put a row [...] in the place of an earlier one."""
        assert self._held is not None and place < self._count
        self._held[place].copy_(row)

    def all(self) -> Tensor:
        """Return the rows; there is at least one."""
        assert self._held is not None, "every training set has an image"
        return self._held[: self._count]


def images_in(batches: Iterable[Batch]) -> int:
    """Return how many images a pass over the training images has; 0 where it does not say."""
    return batches.images if isinstance(batches, Batches) else 0


def sampled(images: Iterable[Tensor], limit: int) -> Tensor:
    """Return a uniform sample of at most `limit` patches [N, D] from images of patches [n, D] each.

    Every patch draws a random rank and the lowest ranks stay, so that the sample does not depend on how images were
    batched. Ranks come from torch's global generator on the CPU: the same on every device.
    """
    kept: list[Tensor] = []
    ranks: list[Tensor] = []
    held, bar = 0, 1.0
    for patches in images:
        rank = torch.rand(len(patches))
        enters = rank < bar
        kept.append(patches[enters.to(patches.device)])
        ranks.append(rank[enters])
        held += len(ranks[-1])
        if held > limit * (1.0 + SLACK):
            kept, ranks = _cut(kept, ranks, limit)
            held, bar = limit, float(ranks[0].max())
    return _cut(kept, ranks, limit)[0][0]


def _cut(kept: list[Tensor], ranks: list[Tensor], limit: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the patches of the `limit` lowest ranks, in their order, as lists of one tensor."""
    rank = torch.cat(ranks)
    lowest = rank.argsort()[:limit].sort().values
    patches = torch.cat(kept)
    return [patches[lowest.to(patches.device)]], [rank[lowest]]


class Known(nn.Module):
    """What a method knows of normal images, in buffers whose number of rows and columns `fit` decides.

    Until then, as where only shapes and costs are asked for, zeros stand in for it, and scores mean nothing.

    Args:
        buffers: name -> shape of what stands in for it, float32.
    """

    def __init__(self, **buffers: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in buffers.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_load_state_dict_pre_hook(_resize)  # type: ignore[no-untyped-call]


class Bank(Known):
    """Vectors of normal images, searched exactly.

    Attributes:
        bank: float32 [M, dim]; `rows` rows stand in for it.
    """

    bank: Tensor

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__(bank=(rows, dim))

    def nearest(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the nearest vectors of the bank, by Euclidean distance.

        Args:
            queries: float [Q, dim].
            count: neighbours wanted; fewer come where the bank holds fewer.

        Returns:
            Distances float32 [Q, k] in ascending order, and rows of the bank int64 [Q, k].
        """
        with full_precision(queries):
            queries = queries.float()
            rows = self._near(queries, min(count, len(self.bank)))
            # once more without the cancellation of the expanded square: it depends on the batch, these do not
            distances = torch.stack([(queries - self.at(column)).norm(dim=1) for column in rows.unbind(dim=1)], dim=1)
            order = distances.argsort(dim=1)
        return distances.gather(1, order), rows.gather(1, order)

    def _near(self, queries: Tensor, count: int) -> Tensor:
        """Return int64 [Q, count]: rows of the bank that are nearest to queries [Q, dim], up to rounding."""
        found: list[tuple[Tensor, Tensor]] = []
        for start in range(0, len(self.bank), BLOCK):
            block = self.bank[start : start + BLOCK].to(queries.device)
            squares = block.square().sum(dim=1)
            # |q - m|^2 less |q|^2, which is the same for every m
            near = [
                _lowest(squares - 2.0 * part @ block.T, min(count, len(block)))
                for part in torch.split(queries, max(1, CHUNK // len(block)))
            ]
            values, rows = (torch.cat(parts) for parts in zip(*near, strict=True))
            found.append((values, rows + start))
        if len(found) == 1:
            return found[0][1]
        values, rows = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        return rows.gather(1, _lowest(values, count)[1])

    def at(self, places: Tensor) -> Tensor:
        """Return the bank's vectors [..., dim] at places int64 [...], on the device of these."""
        return self.bank[places.to(self.bank.device)].to(places.device)


def _lowest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the lowest values of each row and their columns, [Q, count] twice, in any order."""
    if count == 1:  # several times as fast as a search for some
        least = values.min(dim=1, keepdim=True)
        return least.values, least.indices
    some = values.topk(count, largest=False)
    return some.values, some.indices


def _resize(module: Known, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
    """Let stored buffers of any shape and type in."""
    for name, held in list(module.named_buffers(recurse=False)):
        stored = state.get(f"{prefix}{name}")
        if stored is not None:
            setattr(module, name, room(tuple(stored.shape), stored.dtype, held.device))
