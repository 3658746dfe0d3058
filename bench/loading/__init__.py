"""From files to pixels: image and mask reading, content hashes, the decode-once pixel cache."""

from __future__ import annotations

import os
from pathlib import Path

from bench.errors import UsageError
from bench.home import expanded


def cache_dir() -> Path:
    """Return the user's cache folder of bench: BENCH_CACHE, else XDG_CACHE_HOME/bench, else ~/.cache/bench.

    Raises:
        UsageError: none of them is known.
    """
    if chosen := os.environ.get("BENCH_CACHE"):
        return expanded(chosen)
    try:
        return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "bench"
    except UsageError as error:
        raise UsageError(
            "no folder for what bench keeps: this user has no home. Set BENCH_CACHE to a folder, or HOME"
        ) from error
