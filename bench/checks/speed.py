"""Speed checks: saved runs of pytest-benchmark, in units of a calibration kernel timed in the same run.

A time by itself says more about the machine than about the code. Each run therefore times a fixed piece of work
(tests/perf/test_calibration.py), and a benchmark counts by how many times longer it takes. The minimum over the rounds
is used: noise of a busy machine only ever adds.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import regular
from bench.checks.verdicts import Checked, Comparison, Verdict
from bench.errors import StoreError
from bench.files import atomic
from bench.store.record import MOST_BYTES

CALIBRATION = "test_calibration"
"""Name of the benchmark that all others are measured by."""
TOLERANCE = 0.5
"""A share. Two runs of the same code on a machine that others use at the same time differed by up to 37 percent."""
BASELINE = Path("speed") / "benchmarks.json"
"""Where the recorded run lies in the baselines folder."""

SHORTEST, LONGEST = 1e-12, 1e9
"""Seconds; what no clock gives would only make ratios overflow."""

_HOW = "Make one with: pytest tests/perf --benchmark-enable --benchmark-json=FILE"


def read(path: Path) -> dict[str, float]:
    """Return each benchmark's time in units of the calibration kernel's, by full name.

    Raises:
        StoreError: no saved run of pytest-benchmark, or one without the calibration kernel.
    """
    seconds = {name: _seconds(path, entry) for name, entry in _entries(path).items()}
    kernels = [name for name in seconds if name.rpartition("::")[2] == CALIBRATION]
    if len(kernels) != 1:
        raise StoreError(f"{path}: {len(kernels)} benchmarks named {CALIBRATION}, expected one. {_HOW}")
    unit = seconds.pop(kernels[0])
    return {name: value / unit for name, value in seconds.items()}


def check(baseline: Path, current: Path, tolerance: float = TOLERANCE) -> Checked:
    """Compare two saved runs; raises as `read`.

    Args:
        baseline: the recorded run.
        current: the run of now.
        tolerance: share by which a benchmark may be slower; faster by as much is said, too.
    """
    findings = compare(read(baseline), read(current), tolerance)
    title = "speed, in units of the calibration kernel"
    return Checked(title, f"{current} against {baseline}", tuple(findings))


def compare(before: Mapping[str, float], after: Mapping[str, float], tolerance: float) -> list[Comparison]:
    """Compare times of now with recorded ones, both by name in units of the calibration kernel; as `check`."""
    findings = []
    for name, was in before.items():
        now = after.get(name)
        if now is None:
            findings.append(Comparison(name, "speed", "missing", was, reason="not timed"))
            continue
        ratio = now / was
        verdict: Verdict = "worse" if ratio > 1 + tolerance else "better" if ratio < 1 / (1 + tolerance) else "same"
        findings.append(Comparison(name, "speed", verdict, was, now, tolerance, f"{ratio:.2f} times the recorded time"))
    return findings


def write(current: Path, folder: Path) -> Path:
    """Keep a saved run as the baseline, without its single timings; raises as `read`."""
    read(current)
    path = folder / BASELINE
    kept = {
        "machine_info": _load(current).get("machine_info"),
        "benchmarks": [
            {"fullname": name, "stats": {"min": _seconds(current, entry)}} for name, entry in _entries(current).items()
        ],
    }
    with atomic(path) as file:
        file.write((json.dumps(kept, indent=1) + "\n").encode())
    return path


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(regular.read_bytes(path, MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} is no readable run of pytest-benchmark: {error}. {_HOW}") from error
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        raise StoreError(f"{path} is no run of pytest-benchmark: no list 'benchmarks'. {_HOW}")
    return data


def _entries(path: Path) -> dict[str, Any]:
    entries = {}
    for entry in _load(path)["benchmarks"]:
        name = entry.get("fullname") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise StoreError(f"{path}: a benchmark without 'fullname'. {_HOW}")
        entries[name] = entry
    return entries


def _seconds(path: Path, entry: dict[str, Any]) -> float:
    stats = entry.get("stats")
    value = stats.get("min") if isinstance(stats, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not SHORTEST <= value <= LONGEST:
        found = reprlib.repr(value)
        raise StoreError(f"{path}: {entry['fullname']} has minimum {found}, expected seconds above 0. {_HOW}")
    return float(value)
