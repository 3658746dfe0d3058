"""Arguments of the Python functions as the commands' options have them, and their warnings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

Names = str | Sequence[str]
"""One name, or several; a comma in a name is part of it."""
Roots = str | Path | Mapping[str, str | Path] | None
"""Folder of the data, or a folder a dataset."""


def names(given: Names) -> tuple[str, ...]:
    """Return names as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)


def data_roots(given: Roots) -> tuple[str, ...]:
    """Return folders as `--data-root` has them."""
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return tuple(f"{name}={folder}" for name, folder in given.items())
    return (str(given),)


def warn(text: str) -> None:
    """Warn the caller."""
    warnings.warn(text, stacklevel=2)
