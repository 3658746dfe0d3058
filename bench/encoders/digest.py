"""The digest of a file of weights, by which a record names it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench import regular
from bench.errors import WeightsError


def fingerprint(path: Path) -> str:
    """Return the file's sha256, 64 hex digits. Raises WeightsError where it cannot be read."""
    try:
        with regular.opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read weights {path}: {error.strerror}. Expected a safetensors file") from error
