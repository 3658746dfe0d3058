"""What the user asked for, and what of it can be refused before torch is loaded: names, settings, protocol, data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import declared, protocol
from bench.api import Card
from bench.config import Overrides, unknown_setting
from bench.metrics.ids import parse_all
from bench.registry import DATASETS, METHODS
from bench.run import settings
from bench.run.task import Source, data_root, index


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    settings: tuple[str, ...] = ("multi",)
    seeds: tuple[int, ...] = (0,)
    protocol: str = "common"
    classes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    """Half-splits of semantic datasets; empty for all."""
    shots: int | None = None
    """Training images a class in settings few-shot and few-shot-single."""
    encoder: str | None = None
    set: Overrides = field(default_factory=dict)
    variants: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Methods with values under those of `set`, one after another; empty for each of `methods` once."""
    data_roots: tuple[str, ...] = ()
    weights: Path | None = None
    precision: str = "fp32"
    metrics: tuple[str, ...] = ()
    """Measured beside the protocol's own."""

    @property
    def arms(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """Return what is run on each dataset: a method and the values given for it."""
        bare: tuple[tuple[str, Mapping[str, Any]], ...] = tuple((name, {}) for name in self.methods)
        return tuple((name, {**values, **self.set.get(name, {})}) for name, values in self.variants or bare)


def check(request: Request) -> dict[str, Card]:
    """Refuse what names, cards and settings tell by themselves; return the cards of the datasets.

    Raises:
        UsageError: a method or a setting of it, a dataset, setting, split, protocol or metric that does not exist or
            does not go with the rest.
    """
    for name in request.methods:
        METHODS.check(name)
    for name, given in request.arms:
        known = declared.settings(name)
        for key in given:
            if known is not None and key not in known:
                raise unknown_setting(name, key, known)
    cards = {name: DATASETS.load(name).card for name in request.datasets}
    settings.check(cards.values(), request.settings, request.classes, request.splits, request.shots)
    protocol.check(request.protocol)
    parse_all(request.metrics)
    return cards


def sources(request: Request, say: Callable[[str], None] = lambda text: None) -> dict[str, Source]:
    """Look for every dataset and list its images, of which none is opened.

    Args:
        request: as `check` lets it through.
        say: told of each dataset.

    Raises:
        UsageError, DatasetError: as `bench.run.task.index`.
    """
    # all roots first: listing one dataset must not stand before the refusal of another's
    roots = {name: data_root(name, request.data_roots) for name in request.datasets}
    found = {}
    for name, root in roots.items():
        say(f"reading {name}")
        found[name] = index(name, root, request.classes)
    return found
