"""The import graph of a source tree, read without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, order=True)
class Arrow:
    """One module imports another, at the top of a file or anywhere inside of it."""

    importer: str
    imported: str
    types_only: bool = False
    """Whether for the type checker alone, under `if TYPE_CHECKING`."""


def modules() -> dict[str, str]:
    """Return the source of every module of ours by the name that it is imported by; a package ends in a dot."""
    found = {}
    for top, prefix in (("bench", "bench"), ("methods", "bench.methods"), ("datasets", "bench.datasets")):
        for path in sorted((REPO / top).rglob("*.py")):
            parts = path.relative_to(REPO / top).with_suffix("").parts
            name = ".".join([prefix, *parts])
            found[name.removesuffix("__init__")] = path.read_text(encoding="utf-8")
    return found


def arrows(sources: Mapping[str, str]) -> set[Arrow]:
    """Return all imports of modules by each other.

    Args:
        sources: source by module name; the name of a package, whose source is its __init__, ends in a dot.
    """
    known = frozenset(name.rstrip(".") for name in sources)
    return {arrow for name, source in sources.items() for arrow in _of_one(name, source, known)}


@cache
def _of_one(name: str, source: str, known: frozenset[str]) -> frozenset[Arrow]:
    tree = ast.parse(source)
    checked = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for part in block.body
        for node in ast.walk(part)
    }
    own = name.rstrip(".")
    return frozenset(
        Arrow(own, target, id(node) in checked)
        for node in ast.walk(tree)
        for target in _named(node, name, known)
        if target != own
    )


def _named(node: ast.AST, importer: str, known: Collection[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in known)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = importer.rsplit(".", node.level)[0]
            base = f"{package}.{base}" if base else package
        for alias in node.names:
            full = f"{base}.{alias.name}"
            if full in known:
                yield full
            elif base in known:
                yield base


def circles(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of names of which each reaches each other, by Tarjan's algorithm."""
    after: dict[str, set[str]] = {}
    for first, second in pairs:
        after.setdefault(first, set()).add(second)
        after.setdefault(second, set())
    numbers: dict[Hashable, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        numbers[name] = lowest[name] = len(numbers)
        stack.append(name)
        for other in sorted(after[name]):
            if other not in numbers:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], numbers[other])
        if lowest[name] == numbers[name]:
            place = stack.index(name)
            group, stack[place:] = stack[place:], []
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(after):
        if name not in numbers:
            visit(name)
    return found
