"""Full precision within a half-precision evaluation: for distances and maps, whose small differences are the point."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> torch.autocast:
    """Return a context in which products of such tensors are not taken in half precision."""
    # autocast knows no meta device
    return torch.autocast("cpu" if tensor.is_meta else tensor.device.type, enabled=False)


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor of half precision as float32, any other as it is."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
