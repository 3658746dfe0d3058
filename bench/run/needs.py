"""What a method needs of images and encoder, checked before any work."""

from __future__ import annotations

from bench.api import NEEDS, EncoderRequest, Method
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


def check(method: Method, encoder: EncoderRequest | None) -> None:
    """Refuse a method whose `needs` cannot be met.

    Raises:
        UsageError: something unknown, features without an encoder, or nothing to look at.
    """
    for need in method.needs:
        if need not in NEEDS:
            raise UsageError(f"{method.name} needs '{need}'.{did_you_mean(need, NEEDS)} Known: {', '.join(NEEDS)}")
    if "features" in method.needs and encoder is None:
        raise UsageError(f"{method.name} needs features, but asks for no encoder. Expected an EncoderRequest")
    if not {"features", "images"} & set(method.needs):
        raise UsageError(f"{method.name} needs neither features nor images. Expected at least one of them")
    side(method, encoder)
