"""A record as trackers take it: flat parameters, metrics and tags, of equal names wherever it goes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bench.errors import UsageError
from bench.store.record import Record

_NOT_ALLOWED = re.compile(r"[^\w\-./ ]")
"""What MLflow refuses in a key; the strictest of them."""


@dataclass(frozen=True, slots=True)
class Flat:
    """One record."""

    name: str
    group: str
    """What its seeds share."""
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    """`mean/image/auroc`, `bottle/pixel/aupro_0.3`, `seconds/train`: fractions, seconds, MiB."""
    tags: Mapping[str, str]
    when: datetime


def flat(record: Record) -> Flat:
    """Return a finished record flat. Raises UsageError for one that failed, which has nothing to track."""
    if record.status != "done":
        raise UsageError(f"{record.cell.title}, seed {record.cell.seed} failed. Expected finished records")
    cell, environment = record.cell, record.environment
    facts = {"method": cell.method, "dataset": cell.dataset, "setting": cell.setting, "seed": cell.seed}
    shown = {"part": cell.part, "shots": cell.shots, "encoder": record.encoder.name if record.encoder else None}
    params = (
        facts
        | {key: value for key, value in shown.items() if value}
        | {f"config/{key}": value for key, value in record.config.items()}
    )
    tags = {
        "bench/protocol": f"{record.protocol.name} v{record.protocol.version} {record.protocol.hash}",
        "bench/fingerprint": cell.fingerprint,
        "bench/data": record.dataset.fingerprint,
        "bench/commit": environment.commit or "",
        "bench/device": environment.device,
        "bench/command": " ".join(record.command),
    }
    metrics = {_key(name): value for name, value in _numbers(record)}
    when = datetime.fromisoformat(record.created)
    return Flat(f"{cell.title}, seed {cell.seed}", cell.title, params, metrics, tags, when)


def _numbers(record: Record) -> Iterator[tuple[str, float]]:
    lines = {"mean": record.mean, **{cls: scores.values for cls, scores in record.scores.items()}}
    if record.pooled is not None:
        lines["pooled"] = record.pooled.values
    for line, values in lines.items():
        yield from ((f"{line}/{metric}", value) for metric, value in values.items() if value is not None)
    if record.efficiency is not None:
        yield from ((f"seconds/{phase}", taken) for phase, taken in record.efficiency.seconds.items())
        yield "memory/peak_mib", record.efficiency.peak_memory_mib


def _key(name: str) -> str:
    return _NOT_ALLOWED.sub("_", name)
