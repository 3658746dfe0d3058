"""Requirements of a method on images and encoder, checked before any work."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import nn

from bench.api import NEEDS, EncoderInfo, EncoderRequest, Method
from bench.encoders.frozen import FrozenEncoder
from bench.errors import UsageError
from bench.registry import did_you_mean


def has_encoder(kind: type[Method]) -> bool:
    """Return whether a method looks through a frozen encoder that can be chosen."""
    return "encoder" in kind.Config.model_fields


def side(method: Method, encoder: EncoderRequest | None) -> int:
    """Return the side of the images that a method is given, in pixels: as it asks of its encoder, or as configured.

    Raises:
        UsageError: there is neither.
    """
    size = encoder.input_size if encoder is not None else method.config.input_size
    if size is None:
        raise UsageError(f"{method.name} has no encoder whose input size it could take. Set {method.name}.input_size")
    return size


def build(method: Method, encoder: FrozenEncoder) -> nn.Module:
    """Return a method's trainable part, freshly initialised, on the encoder's device if that is the current one."""
    if "trunk" not in method.needs:
        return cast("nn.Module", method.build(encoder.info))
    with_trunk: Callable[[EncoderInfo, nn.Module], nn.Module] = method.build  # type: ignore[assignment]
    return with_trunk(encoder.info, encoder.trunk())


def check(method: Method, encoder: EncoderRequest | None) -> None:
    """Refuse a method whose `needs` cannot be met.

    Raises:
        UsageError: something unknown, features without an encoder, or nothing to look at.
    """
    for need in method.needs:
        if need not in NEEDS:
            raise UsageError(f"{method.name} needs '{need}'.{did_you_mean(need, NEEDS)} Known: {', '.join(NEEDS)}")
    for need in ("features", "trunk"):
        if need in method.needs and encoder is None:
            raise UsageError(f"{method.name} needs {need}, but asks for no encoder. Expected an EncoderRequest")
    if not {"features", "images"} & set(method.needs):
        raise UsageError(f"{method.name} needs neither features nor images. Expected at least one of them")
    side(method, encoder)
