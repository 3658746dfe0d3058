"""Cache of facts that follow from bench's source: to count a network's parameters takes seconds of torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bench
from bench import regular
from bench.cache import cache_dir
from bench.errors import StoreError
from bench.files import atomic
from bench.registry import METHODS

FOLDER = "facts"
"""Of the cache folder."""
DECIDE = ("torch", "timm", "pydantic")
"""Packages that facts depend on."""


def kept(method: str, asked: object, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `make` returns, as JSON gives it back; from the cache where it was made of the same source.

    Args:
        method: by name; facts of one that is not bench's own are made anew each time.
        asked: what else they depend on, as JSON can hold it.
        make: counts.
    """
    if not METHODS.targets[method].startswith("bench.methods."):
        return _plain(make())
    path = cache_dir() / FOLDER / f"{_key(method, asked)}.json"
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(regular.read_text(path))
        return found
    facts = _plain(make())
    # what cannot be kept is made again
    with suppress(OSError, StoreError), atomic(path, durable=False) as file:
        file.write(json.dumps(facts).encode())
    return facts


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return plain


def _key(method: str, asked: object) -> str:
    """Return 16 hex digits over all of bench's source, its methods and the packages that decide."""
    digest = hashlib.sha256(json.dumps([method, asked, [version(name) for name in DECIDE]]).encode())
    for folder in (Path(bench.__file__).parent, METHODS.origin(method).parent):
        for file in sorted(folder.rglob("*.py")):
            digest.update(regular.read_bytes(file))
    return digest.hexdigest()[:16]
