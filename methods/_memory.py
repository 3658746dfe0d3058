"""Memories: what methods keep of normal images in buffers, above all the bank of vectors that is searched exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 2**24
"""Distances held at once while searching: 64 MiB of float32."""


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
            squares = self.bank.square().sum(dim=1)
            found = []
            for part in torch.split(queries, max(1, CHUNK // max(len(self.bank), 1))):
                # |q - m|^2 less |q|^2, which is the same for every m
                found.append(
                    (squares - 2.0 * part @ self.bank.T).topk(min(count, len(self.bank)), largest=False).indices
                )
            rows = torch.cat(found)
            # once more without the cancellation of the expanded square: it depends on the batch, these do not
            distances = torch.stack([(queries - self.bank[column]).norm(dim=1) for column in rows.unbind(dim=1)], dim=1)
            order = distances.argsort(dim=1)
        return distances.gather(1, order), rows.gather(1, order)


def full_precision(tensor: Tensor) -> torch.autocast:
    """Return a context in which products of such tensors are not taken in half precision."""
    # autocast knows no meta device
    return torch.autocast("cpu" if tensor.is_meta else tensor.device.type, enabled=False)


def _resize(module: Known, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
    """Let stored buffers of any shape and type in."""
    for name, held in list(module.named_buffers(recurse=False)):
        stored = state.get(f"{prefix}{name}")
        if stored is not None:
            setattr(module, name, torch.empty(stored.shape, dtype=stored.dtype, device=held.device))
