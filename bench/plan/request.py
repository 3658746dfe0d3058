"""The user's request, and what of it is refused before torch is loaded: names, settings, protocol, data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import combined, own, protocol
from bench.api import Card
from bench.config import Overrides, Suite, load_suite, merge, unknown_setting
from bench.data_roots import data_roots as known_roots
from bench.errors import UsageError
from bench.metrics.accumulate import streams
from bench.metrics.ids import parse, parse_all
from bench.metrics.metric import expanded
from bench.plan import declared, settings
from bench.plan.task import IndexedDataset, index
from bench.registry import DATASETS, METHODS
from bench.setting import NOISY, noisy
from bench.setting import find as find_setting

PRECISIONS = ("fp32", "tf32", "bf16")


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
    calibrate: float | None = None
    """Share of a class's training images that is held back for thresholds; None for no thresholds."""

    @property
    def arms(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """Return what is run on each dataset: a method and the values given for it."""
        bare: tuple[tuple[str, Mapping[str, Any]], ...] = tuple((name, {}) for name in self.methods)
        return tuple((name, {**values, **self.set.get(name, {})}) for name, values in self.variants or bare)


def of(
    suite: str | None = None,
    *,
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    settings: Sequence[str] = (),
    seeds: Sequence[int] = (),
    protocol: str | None = None,
    encoder: str | None = None,
    rate: float | None = None,
    overlap: bool = False,
    given: Callable[[Sequence[str]], Overrides] = lambda methods: {},
    data_roots: Sequence[str] = (),
    metrics: Sequence[str] = (),
    **others: Any,
) -> Request:
    """Return a suite's request with what overrides it, or one without a suite.

    Args:
        suite: name of a suite; None for none.
        methods: in place of the suite's; empty for the suite's.
        datasets: likewise, names or folders of the user's own.
        settings: likewise.
        seeds: likewise.
        protocol: likewise, None for the suite's.
        encoder: likewise, None for the suite's.
        rate: share of anomalous training images, of the setting noisy.
        overlap: whether these are tested, too.
        given: returns values for settings of the methods that are run, over the suite's.
        data_roots: as `bench run --data-root`.
        metrics: beside the suite's and the protocol's.
        others: fields of `Request` that no suite has.

    Raises:
        UsageError: neither suite nor methods and datasets, an unknown suite, a method with values that is not run, a
            seed out of range, or a dataset's folder that does not exist.
    """
    if suite is None and not (methods and datasets):
        raise UsageError("nothing to run: give --methods and --datasets, or --suite. See: bench run --help")
    base = load_suite(suite) if suite else Suite(title="", methods=tuple(methods), datasets=tuple(datasets))
    chosen = tuple(methods) or base.every_method
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**63]:
        raise UsageError(f"--seeds {wrong[0]}: expected numbers from 0 to 2^63 - 1")
    sets, roots = own.resolved(datasets or base.datasets, data_roots)
    known_roots(roots)  # folders of one's own have names from here on
    for name in sets:
        combined.register(name)
    return Request(
        methods=chosen,
        datasets=sets,
        settings=_with_rate(tuple(settings) or base.settings, rate, overlap),
        seeds=tuple(seeds) or base.seeds,
        protocol=protocol or base.protocol,
        # a suite's is for those of its methods that look through one
        encoder=encoder or (base.encoder if any(_takes_encoder(name) for name in chosen) else None),
        set=merge(base.set, given(chosen)),
        variants=tuple((variant.method, variant.set) for variant in base.variants if variant.method in chosen),
        data_roots=roots,
        metrics=(*base.metrics, *metrics),
        **others,
    )


def _takes_encoder(method: str) -> bool:
    """Return whether a method has an encoder to choose, as far as its source tells; else it may have."""
    return method not in METHODS.targets or "encoder" in (declared.settings(method) or {"encoder"})


def _with_rate(names: tuple[str, ...], rate: float | None, overlap: bool) -> tuple[str, ...]:
    """Return the settings, of which `noisy` names its rate and whether its anomalous images are tested, too."""
    if NOISY not in names:
        if rate is not None or overlap:
            option = f"--rate {rate:g}" if rate is not None else "--overlap"
            raise UsageError(f"{option}: setting {', '.join(names)} has none. Expected --setting {NOISY}")
        return names
    if rate is None:
        raise UsageError(f"--setting {NOISY}: what share of the training images? Expected --rate R, for example 0.1")
    if not (0 < rate < 1 and find_setting(noisy(rate, overlap))):
        raise UsageError(f"--rate {rate:g}: expected a share of the training images in (0, 1), such as 0.1")
    return tuple(noisy(rate, overlap) if name == NOISY else name for name in names)


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
    shared = protocol.SHARED.get(request.protocol)
    if shared is not None and shared.own_size:
        for metric in request.metrics:
            if not all(streams(one) for one in expanded([parse(metric)], parse)):
                raise UsageError(
                    f"--metrics {metric}: it takes all maps at once, and protocol {request.protocol} scores images at "
                    "their own sizes, one after another. Expected exact metrics, or --protocol common"
                )
    if request.calibrate is not None and not 0 < request.calibrate < 1:
        raise UsageError(f"--calibrate {request.calibrate:g}: expected a share of the training images in (0, 1)")
    if request.precision not in PRECISIONS:
        raise UsageError(f"--precision '{request.precision}': expected one of {', '.join(PRECISIONS)}")
    return cards


def sources(request: Request, say: Callable[[str], None] = lambda text: None) -> dict[str, IndexedDataset]:
    """Look for every dataset and list its images, of which none is opened.

    Args:
        request: as `check` lets it through.
        say: told of each dataset.

    Raises:
        UsageError, DatasetError: as `bench.plan.task.index`.
    """
    # all roots first: listing one dataset must not stand before the refusal of another's
    roots = {name: combined.roots(name, request.data_roots) for name in request.datasets}
    found = {}
    for name, root in roots.items():
        say(f"reading {name}")
        found[name] = index(name, root, request.classes, validation=request.calibrate is not None)
    return found
