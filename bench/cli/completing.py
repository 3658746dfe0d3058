"""Shell completion of names: methods, datasets, suites and the like, also behind a comma."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

import click

Kind = Literal["methods", "datasets", "suites", "protocols", "settings", "metrics", "shown"]
Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def completed(kind: Kind | Collection[str]) -> Completer:
    """Return what click asks for an option's values: names of a kind or those given, also behind `a,b,`."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        before, comma, last = begun.rpartition(",")
        given = before.split(",")
        known = _names(kind) if isinstance(kind, str) else kind
        return [f"{before}{comma}{name}" for name in known if name.startswith(last) and name not in given]

    return complete


def _names(kind: str) -> Sequence[str]:
    from bench import protocol, registry, setting, suites

    found: dict[str, Callable[[], list[str]]] = {
        "methods": registry.METHODS.names,
        "datasets": registry.DATASETS.names,
        "suites": suites.names,
        "protocols": lambda: list(protocol.SUMMARIES),
        "settings": lambda: [*setting.SETTINGS, setting.NOISY],
        "metrics": registry.METRICS.names,
        "shown": lambda: [*registry.METHODS.names(), *registry.DATASETS.names(), *registry.METRICS.names()],
    }
    return found[kind]()
