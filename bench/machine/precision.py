"""Precision of matrix products and of the trainable part: fp32, TF32 on CUDA, or bfloat16 through autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which the trainable part is evaluated at the chosen precision."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def set_precision(precision: str) -> None:
    """Allow or forbid TF32 matrix products and convolutions on CUDA; fp32 means IEEE single precision throughout."""
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
