"""Configuration of a run: `--set method.key=value`, suites, and the fingerprint that names a cell.

A method's values come from four layers, later ones win: the defaults in its file, what its paper sets for the dataset,
the suite, the command line. Unknown keys are refused with a suggestion; values are checked by the method's own types.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from bench import suites
from bench.errors import UsageError
from bench.registry import METHODS, did_you_mean
from bench.setting import known as setting_of

if TYPE_CHECKING:
    from bench.api import Method, MethodConfig

Overrides = dict[str, dict[str, Any]]
"""Method name -> config key -> raw value."""


class SuiteVariant(BaseModel):
    """A named configuration of a method, a row of an ablation table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    method: str
    set: dict[str, Any] = {}
    published: str | None = None
    """Which published rows are of this configuration, see `bench.published.Score.variant`; None for no row."""


class Suite(BaseModel):
    """A named run definition, read from `bench/suites/<name>.toml`, and how `bench report` tables it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    methods: tuple[str, ...] = ()
    """Each as published; empty where `variants` say what runs."""
    variants: tuple[SuiteVariant, ...] = ()
    datasets: tuple[str, ...]
    settings: tuple[str, ...] = ("multi",)
    seeds: tuple[int, ...] = (0,)
    protocol: str = "common"
    metrics: tuple[str, ...] = ()
    """Measured beside the protocol's own, see bench ls metrics."""
    encoder: str | None = None
    set: dict[str, dict[str, Any]] = {}
    layout: Literal["overview", "classes", "splits", "datasets"] = "overview"
    """Shape of its table, see bench.report.tables.layouts."""
    published: tuple[str, ...] = ()
    """Tables of papers that stand beside: `dinomaly_cvpr2025 1`."""

    @model_validator(mode="after")
    def _runs_something(self) -> Self:
        if bool(self.methods) == bool(self.variants):
            raise ValueError("expected either methods or variants")
        return self

    @property
    def every_method(self) -> tuple[str, ...]:
        """Return the methods, those of variants included."""
        return self.methods or tuple(dict.fromkeys(variant.method for variant in self.variants))


def load_suite(name: str) -> Suite:
    """Read the suite called `name`. Raises UsageError for an unknown name or a malformed file."""
    known = suites.names()
    if name not in known:
        raise UsageError(f"unknown suite '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}")
    values = suites.values(name)
    for key in values:
        if key not in Suite.model_fields:
            raise UsageError(f"suite '{name}' is malformed: no key '{key}'.{did_you_mean(key, Suite.model_fields)}")
    try:
        return Suite(**values)
    except ValidationError as error:
        raise UsageError(f"suite '{name}' is malformed: {_plain(error)}") from error


def parse_set(pairs: Sequence[str], methods: Sequence[str] | None = None) -> Overrides:
    """Parse `--set method.key=value` options. Values are JSON where they parse as such, else plain strings.

    Args:
        pairs: the options' values.
        methods: those asked for, which alone may be named; None for any.

    Raises:
        UsageError: not of that form, or the method is unknown or not asked for.
    """
    parsed: Overrides = {}
    for pair in pairs:
        target, equals, raw = pair.partition("=")
        method, dot, key = target.strip().partition(".")
        if not (equals and dot and method and key):
            raise UsageError(f"--set '{pair}': expected method.key=value, for example dinomaly.dropout=0.4")
        if method not in METHODS.targets:
            raise UsageError(f"--set '{pair}': unknown method '{method}'.{did_you_mean(method, METHODS.targets)}")
        if methods is not None:
            check_asked(method, methods)
        parsed.setdefault(method, {})[key] = _value(raw)
    return parsed


def check_asked(method: str, methods: Sequence[str]) -> None:
    """Refuse values for a method that was not asked for. Raises UsageError."""
    if method in methods:
        return
    for asked in (*methods, method):
        METHODS.check(asked)  # one that is misspelt says so: it may be the one meant here
    raise UsageError(f"--set names '{method}', but only these were asked for: {', '.join(methods)}")


def merge(*layers: Mapping[str, Mapping[str, Any]]) -> Overrides:
    """Lay overrides over one another; later layers win key by key."""
    merged: Overrides = {}
    for layer in layers:
        for method, values in layer.items():
            merged.setdefault(method, {}).update(values)
    return merged


def configure(
    method: type[Method], dataset: str, given: Mapping[str, Any], encoder: str | None, setting: str = "multi"
) -> MethodConfig:
    """Return the method's validated configuration for a dataset in a setting.

    Args:
        method: the method class.
        dataset: dataset name; the paper's values for it are applied under the given ones.
        given: raw values from the suite and the command line.
        encoder: the `--encoder` option; None keeps the method's default. A method without an encoder passes it over.
        setting: one of bench.setting; the paper's values for it are applied under the given ones.

    Raises:
        UsageError: an unknown key or a value of the wrong type or range.
    """
    known = method.Config.model_fields
    for key in given:
        if key not in known:
            raise unknown_setting(method.name, key, known)
    values: dict[str, Any] = {}
    names = setting_of(setting).overrides
    for place in (dataset, *names, *(f"{dataset}/{name}" for name in names)):
        values.update(method.overrides.get(place, {}))
    if encoder is not None and "encoder" in known:
        values["encoder"] = encoder
    values.update(given)
    try:
        return method.Config(**values)
    except ValidationError as error:
        raise UsageError(f"{method.name}: {_plain(error)}. See: bench show {method.name}") from error


def unknown_setting(method: str, key: str, known: Iterable[str]) -> UsageError:
    """Return the error for a setting that a method does not have."""
    return UsageError(f"{method} has no setting '{key}'.{did_you_mean(key, known)} See: bench show {method}")


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Return 12 hex digits over canonical JSON of `parts`; equal inputs give equal names on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _value(raw: str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, thousands of brackets
        return raw


def _plain(error: ValidationError) -> str:
    """Say a pydantic error in one line."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])} = {reprlib.repr(item['input'])}: {item['msg'].lower()}"
        for item in error.errors()
    )
