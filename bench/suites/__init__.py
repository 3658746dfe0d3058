"""Named run definitions, one TOML file a suite. Read here without checks; `bench.config.load_suite` checks them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bench.errors import UsageError

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the names of all suites, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def values(name: str) -> dict[str, Any]:
    """Return what the file of an existing suite says. Raises UsageError when it cannot be read or is no TOML."""
    try:
        return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:  # no TOML, no UTF-8, a thousand brackets, no file
        raise UsageError(f"suite '{name}' is malformed: {error}") from error
