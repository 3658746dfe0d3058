"""The check of methods that look at a ViT's class token: whether an encoder has one."""

from __future__ import annotations

from bench.api import EncoderInfo
from bench.encoders import catalog
from bench.errors import UsageError


def described(method: str, encoder: str, fits: str, attention: bool = False) -> EncoderInfo:
    """Return the shape of an encoder at its native size.

    Args:
        method: by name, for the message.
        encoder: by catalogue name.
        fits: names of encoders that fit, for the message.
        attention: whether the method also looks at what the token attends to.

    Raises:
        UsageError: it is a CNN, or a ViT without such a token.
    """
    native = catalog.describe(encoder)
    if native.family == "vit" and (catalog.gives_attention if attention else catalog.has_class_token)(encoder):
        return native
    wanted, other = ("plain ViT", "ViT of another kind") if attention else ("ViT", "ViT without one")
    kind = "CNN" if native.family == "cnn" else other
    raise UsageError(f"{method} needs a {wanted} with a class token, encoder '{encoder}' is a {kind}. Try {fits}")
