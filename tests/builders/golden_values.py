"""Inputs and parameters of the methods' reference values: waves that any program can make again to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import torch
from torch import Tensor, nn


def waves(*shape: int, shift: float = 0.0) -> Tensor:
    """float32 [shape]: sin(0.31 k + 0.2 + shift) + 0.5 cos(0.07 k) over the flat index k."""
    place = np.arange(prod(shape), dtype=np.float64)
    values = np.sin(0.31 * place + 0.2 + shift) + 0.5 * np.cos(0.07 * place)
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def bent(values: Tensor) -> Tensor:
    """Values plus 0.4 times their squares: waves alone span four dimensions."""
    return values + 0.4 * values**2


def fill(module: nn.Module, amplitude: Callable[[str], float] = lambda name: 0.1, phase: float = 0.5) -> None:
    """Fill parameters in place: matrices a sin(1.7 k + phase), norm weights 1 + 0.1 sin(k), other vectors 0.05 cos(k).

    Args:
        module: whose parameters are filled; k restarts in each.
        amplitude: a of a parameter of two dimensions or more, by its name.
        phase: of these.
    """
    norms = {f"{name}.weight" for name, layer in module.named_modules() if "Norm" in type(layer).__name__}
    with torch.no_grad():
        for name, param in module.named_parameters():
            place = torch.arange(param.numel(), dtype=torch.float64)
            if param.dim() > 1:
                values = amplitude(name) * torch.sin(1.7 * place + phase)
            else:
                values = 1 + 0.1 * torch.sin(place) if name in norms else 0.05 * torch.cos(place)
            param.copy_(values.reshape(param.shape))
