"""Differences between two records: those that make scores incomparable, and those that may explain a gap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.store.record import Record
from bench.store.rows import Row


def evaluation(before: Row, after: Row) -> list[str]:
    """Return why the scores of two rows mean different things, each reason with both values; empty where they compare.

    Protocol, metric version and data must agree. Few-shot seeds choose their own training images, which the
    fingerprint covers; there the numbers of images must agree.
    """
    first, second = before.head, after.head
    found = []
    if first.protocol.hash != second.protocol.hash:
        old, new = first.protocol, second.protocol
        changes = _changes(old.rules, new.rules) or [f"hash {old.hash} -> {new.hash}"]
        found.append(f"protocol {_name(first)} -> {_name(second)}: {', '.join(changes)}")
    if first.metric_version != second.metric_version:
        found.append(f"metric version {first.metric_version} -> {second.metric_version}")
    # records of before variants had versions do not say theirs
    shared = first.variant_versions.keys() & second.variant_versions.keys()
    old_versions, new_versions = ({name: r.variant_versions[name] for name in shared} for r in (first, second))
    found += [f"version of {change}" for change in _changes(old_versions, new_versions)]
    if first.cell.setting != second.cell.setting or first.cell.shots != second.cell.shots:
        found.append(f"setting {_setting(first)} -> {_setting(second)}")
    return found + _data(before, after)


def method(first: Record, second: Record) -> list[str]:
    """Return how the methods of two records differ: encoder, precision, configuration.

    A setting that only one of them has is a difference unless it has its published value there, since methods gain
    settings whose default is what was done before.
    """
    found = []
    if first.encoder_id != second.encoder_id:
        (old, old_weights), (new, new_weights) = first.encoder_id, second.encoder_id
        found.append(f"encoder {old} ({old_weights[:12]}) -> {new} ({new_weights[:12]})")
    if first.input_size != second.input_size and first.config.get("input_size") == second.config.get("input_size"):
        found.append(f"input size {first.input_size} -> {second.input_size}")
    found += precision(first, second)
    if first.reduced.get("train") != second.reduced.get("train"):
        batches = [str(r.reduced.get("train", "as configured")) for r in (first, second)]
        found.append(f"training batch, reduced for want of memory: {' -> '.join(batches)}")
    shared = first.config.keys() & second.config.keys()
    own = {key for record in (first, second) for key in record.config.keys() - shared if key in record.changed}
    changes = _changes(
        {key: value for key, value in first.config.items() if key in shared | own},
        {key: value for key, value in second.config.items() if key in shared | own},
    )
    return found + [f"config {change}" for change in changes]


def precision(first: Record, second: Record) -> list[str]:
    """Return how the arithmetic of two records differs: fp32, tf32 or bf16."""
    old, new = first.environment.precision, second.environment.precision
    return [f"precision {old} -> {new}"] if old != new else []


def circumstances(first: Record, second: Record) -> list[str]:
    """Return what else differs: commit, device, packages. No reason not to compare, but perhaps the explanation."""
    old, new = first.environment, second.environment
    found = []
    for key in ("commit", "device", "cpu", "threads", "python"):
        was, now = getattr(old, key), getattr(new, key)
        if was != now:
            found.append(f"{key} {_short(was)} -> {_short(now)}")
    return found + _changes(old.packages, new.packages)


def _data(before: Row, after: Row) -> list[str]:
    old = {record.cell.part: record for record in before.records}
    new = {record.cell.part: record for record in after.records}
    found = []
    for part in old.keys() & new.keys():
        first, second, where = old[part], new[part], f" of {part}" if part else ""
        if first.cell.dataset != second.cell.dataset:
            found.append(f"dataset {first.cell.dataset} -> {second.cell.dataset}")
        elif first.cell.classes != second.cell.classes:
            found.append(f"classes {', '.join(first.cell.classes)} -> {', '.join(second.cell.classes)}")
        elif first.cell.chooses:
            counts = [(r.dataset.train, r.dataset.test_good, r.dataset.test_bad) for r in (first, second)]
            if counts[0] != counts[1]:
                found.append(f"numbers of images{where}: {counts[0]} -> {counts[1]}")
        elif first.dataset.fingerprint != second.dataset.fingerprint:
            found.append(f"dataset fingerprint{where} {first.dataset.fingerprint} -> {second.dataset.fingerprint}")
    return found


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    none = "absent"
    return [
        f"{key} {old.get(key, none)} -> {new.get(key, none)}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key, none) != new.get(key, none)
    ]


def _short(fact: object) -> str:
    """Return a fact as text; of a commit's 40 digits the first twelve and whether files differed from it."""
    digits, dash, rest = str(fact).partition("-")
    return f"{digits[:12]}{dash}{rest}" if len(digits) == 40 else str(fact)


def _name(record: Record) -> str:
    return f"{record.protocol.name} v{record.protocol.version}"


def _setting(record: Record) -> str:
    cell = record.cell
    return f"{cell.setting} ({cell.shots})" if cell.shots else cell.setting
