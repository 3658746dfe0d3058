"""docs/json.md's objects, and whether what a command prints has the same keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from conftest import REPO

DOCUMENT = (REPO / "docs" / "json.md").read_text(encoding="utf-8")
DOCUMENTED = {
    name: json.loads(block)
    for name, block in re.findall(r"^## bench ([a-z ]+)\n(?:(?!^## ).)*?```json\n(.*?)```", DOCUMENT, re.M | re.S)
}
BY_NAME = {"mean", "pooled", "not_ready"}
"""Keys below which metrics and methods stand as keys."""


def keys(value: Any, place: str = "") -> Iterator[str]:
    """Every key with the way to it; of a list that of its first entry."""
    if isinstance(value, list) and value:
        yield from keys(value[0], f"{place}[]")
    elif isinstance(value, dict):
        for key, inner in value.items():
            here = f"{place}.{'CLASS' if place == '.classes' else key}"
            yield here
            if key not in BY_NAME:
                yield from keys(inner, here)


def same(name: str, printed: str) -> Any:
    found = json.loads(printed)
    assert set(keys(found)) == set(keys(DOCUMENTED[name])), name
    return found
