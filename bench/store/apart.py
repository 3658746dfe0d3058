"""Distinguishing facts of configurations that would otherwise be called the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def apart(facts: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Return of each configuration the few facts that tell it from the others; none where there is but one.

    Keys are taken in the order in which they first appear, each that tells more of the configurations apart than those
    before it do. A configuration is told by no fact that it does not have.
    """
    keys = dict.fromkeys(key for one in facts for key in one)
    chosen: list[str] = []
    # configurations that are not told apart yet share a number
    places = [0] * len(facts)
    for key in keys:
        values = [_text(one[key]) if key in one else "" for one in facts]
        numbers: dict[tuple[int, str], int] = {}
        finer = [numbers.setdefault(pair, len(numbers)) for pair in zip(places, values, strict=True)]
        if len(numbers) > len(set(places)):
            places = finer
            chosen.append(key)
    return [{key: one[key] for key in chosen if key in one} for one in facts]


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)
