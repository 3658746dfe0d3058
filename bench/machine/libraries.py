"""Versions of the libraries of this machine that decide a lossy image's pixels."""

from __future__ import annotations

from functools import cache


@cache
def decoders() -> dict[str, str]:
    """Return the versions of the libraries that decode lossy images; they depend on how Pillow was built."""
    from PIL import features

    names = {"libjpeg-turbo": "libjpeg_turbo", "libtiff": "libtiff", "libwebp": "webp"}
    return {name: str(features.version(feature) or "none") for name, feature in names.items()}
