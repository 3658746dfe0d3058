"""Inputs of the methods' reference values: waves that any program can make again to the last digit."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor


def waves(*shape: int, shift: float = 0.0) -> Tensor:
    """float32 [shape]: sin(0.31 k + 0.2 + shift) + 0.5 cos(0.07 k) over the flat index k."""
    place = np.arange(prod(shape), dtype=np.float64)
    values = np.sin(0.31 * place + 0.2 + shift) + 0.5 * np.cos(0.07 * place)
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def bent(values: Tensor) -> Tensor:
    """Values plus 0.4 times their squares: waves alone span four dimensions."""
    return values + 0.4 * values**2
