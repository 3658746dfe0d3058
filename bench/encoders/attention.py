"""Attention of a frozen ViT's class token, read off a block while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def class_attention(attention: nn.Module) -> Iterator[Callable[[], Tensor]]:
    """Watch a timm attention layer; what comes back gives, after it has run, float [B, heads, tokens].

    Only the first token's row is computed: fused attention keeps no map, and the whole one would be large.
    """
    layer: Any = attention
    kept: dict[str, Tensor] = {}

    # both norms are there in every layer, where nothing is normed as identities
    hooks = [
        layer.q_norm.register_forward_hook(lambda module, given, output: kept.update(q=output)),
        layer.k_norm.register_forward_hook(lambda module, given, output: kept.update(k=output)),
    ]
    try:
        yield lambda: ((kept["q"][:, :, :1] * layer.scale) @ kept["k"].transpose(-2, -1)).softmax(dim=-1).squeeze(2)
    finally:
        for hook in hooks:
            hook.remove()
