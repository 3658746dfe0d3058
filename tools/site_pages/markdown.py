"""Markdown's tables and escapes for the generated pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def cell(value: object) -> str:
    """Return a value as a table's cell: bars and line ends would end it."""
    text = "–" if value in (None, "") else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table, or nothing where it has no row."""
    lines = [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines, ""]) if lines else ""


def code(value: object) -> str:
    """Return a value as code, or a dash where there is none."""
    return "–" if value in (None, "") else f"`{value}`"


def as_markdown(docstring: str) -> str:
    """Return a docstring's text as Markdown, in which a list stands apart from what leads to it."""
    return re.sub(r"(?m)^((?!- |  ).+)\n(?=- )", r"\1\n\n", docstring.strip())
