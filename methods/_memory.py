"""The bank: vectors of normal images in a module's buffer, searched exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 2**24
"""Distances held at once while searching: 64 MiB of float32."""


class Bank(nn.Module):
    """Vectors of normal images, searched exactly.

    Attributes:
        bank: float32 [M, dim]. Until the method's `fit` replaces them, `rows` rows of zeros stand in for it, so that
            shapes and costs can be known; scores mean nothing then.
    """

    bank: Tensor

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(rows, dim))
        self.register_load_state_dict_pre_hook(_resize)  # type: ignore[no-untyped-call]

    def nearest(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the nearest vectors of the bank, by Euclidean distance.

        Args:
            queries: float [Q, dim].
            count: neighbours wanted; fewer come where the bank holds fewer.

        Returns:
            Distances float32 [Q, k] in ascending order, and rows of the bank int64 [Q, k].
        """
        device = "cpu" if queries.is_meta else queries.device.type  # autocast knows no meta device
        with torch.autocast(device, enabled=False):
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


def _resize(module: Bank, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
    """Let a stored bank of any number of rows in."""
    stored = state.get(f"{prefix}bank")
    if stored is not None:
        module.bank = module.bank.new_empty(stored.shape)
