"""Groups of rows that a reader compares: published ones of one paper, ours of one protocol and data.

Best and second best are marked within a group alone, where all that stand in it compare and are three or more: of two
numbers anyone sees the better one, and a mark among rows that do not compare would be read as a claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace

from bench.report.tables.line import Line, Origin
from bench.report.tables.table import Column, TableCell, ranked

FEWEST = 3
"""Numbers of a group, of which the best is marked."""
APART = "Ours, of different protocols or data: not compared"
RECIPES = "Ours, each by its own paper's recipe: not compared"


def grouped(lines: Sequence[Line], dataset: str = "") -> list[tuple[str, list[int]]]:
    """Return the headings of the groups that lines fall into, published ones first, with the places of their lines.

    Ours that nothing compares with stand in one group; what was not run yet stands with the others of ours. A table of
    one group needs no heading, which is then empty.
    """
    origins = _joined([line.origin(dataset) for line in lines])
    order = sorted(dict.fromkeys(origins), key=lambda origin: origin.source != "published")
    found = [(origin.heading, [place for place, own in enumerate(origins) if own == origin]) for origin in order]
    return found if len(found) > 1 else [("", places) for _, places in found]


def _joined(origins: Sequence[Origin]) -> list[Origin]:
    """Return the origins with those of ours made one that a reader takes together."""
    ours = list(dict.fromkeys(origin for origin in origins if origin.source == "ours" and origin.rules is not None))
    sets = Counter(origin.rules for origin in ours if origin.images)
    home: dict[Origin, Origin] = {}
    for origin in ours:
        # what is incomplete stands with the others of its protocol
        alike = [one for one in ours if one.rules == origin.rules and one.images]
        home[origin] = alike[0] if alike and not origin.images else origin
    counts = Counter(home[origin] for origin in origins if origin in home)
    alone = [origin for origin, count in counts.items() if count == 1]
    recipes = all("paper:" in origin.heading for origin in alone)
    shared = Origin("ours", "apart", RECIPES if recipes else APART)
    named = {
        origin: replace(origin, heading=f"{origin.heading}, data {origin.images}")
        if sets[origin.rules] > 1 and origin.images
        else origin
        for origin in counts
    } | (dict.fromkeys(alone, shared) if len(alone) > 1 else {})
    found = [named[home[origin]] if origin in home else origin for origin in origins]
    run = [origin for origin in found if origin.source == "ours" and origin.rules is not None]
    return [run[-1] if origin.source == "ours" and origin.rules is None and run else origin for origin in found]


def marked(
    cells: Sequence[TableCell],
    comparable: Sequence[Hashable],
    groups: Iterable[Sequence[int]],
    column: Column,
    decimals: int,
) -> list[TableCell]:
    """Return cells with the best and the second best of each group marked, where its numbers compare and are enough.

    Args:
        cells: of one column and block.
        comparable: a key a cell, see Line.comparable.
        groups: places of the cells that a reader compares.
        column: how they are shown, and whether more is better.
        decimals: of percentages.
    """
    found = list(cells)
    for places in groups:
        known = [place for place in places if cells[place].value is not None]
        keys = {comparable[place] for place in known}
        if len(known) >= FEWEST and len(keys) == 1 and None not in keys:
            for place, cell in zip(known, ranked([cells[place] for place in known], column, decimals), strict=True):
                found[place] = cell
    return found
