"""From files to pixels: image and mask reading, content hashes, the decode-once pixel cache."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the user's cache folder of bench: BENCH_CACHE, else XDG_CACHE_HOME/bench, else ~/.cache/bench."""
    if chosen := os.environ.get("BENCH_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "bench"
