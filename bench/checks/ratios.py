"""Speed-up checks: our rate over the plain way's, now and when it was recorded.

A ratio of two rates of one run says little about the machine, so that it compares where seconds do not.
"""

from __future__ import annotations

from pathlib import Path

from bench import regular
from bench.checks.verdicts import Checked, Comparison, Verdict
from bench.errors import StoreError
from bench.speed.record import MethodSpeed, read
from bench.store.folder import SPEED

TOLERANCE = 0.15
"""A share; blocks of one run differ by up to 10 percent on a machine that others use at the same time."""


def check(baselines: Path, current: Path, tolerance: float = TOLERANCE) -> Checked:
    """Compare a speed record's ratios with those of the recorded one of the same kind of device and workload.

    Args:
        baselines: folder that holds `speed/<device>-<workload>.json`.
        current: the record of now.
        tolerance: share by which a ratio may be lower; higher by as much is said, too.

    Raises:
        StoreError: one of them is no speed record, or there is no baseline.
    """
    now = read(current)
    path = baselines / SPEED / now.file
    if not path.is_file():
        raise StoreError(f"{path}: {regular.why_not(path, 'no such baseline')}. Record one with: bench speed --record")
    before = read(path)
    findings = []
    for name, was in before.methods.items():
        there = _ratios(now.methods[name]) if name in now.methods else {}
        for kind, recorded in _ratios(was).items():
            found = there.get(kind)
            if found is None:
                findings.append(Comparison(f"{name} {kind}", "speed", "missing", recorded, reason=f"not in {current}"))
                continue
            share = found / recorded
            verdict: Verdict = "same"
            if share < 1 - tolerance or share > 1 / (1 - tolerance):
                verdict = "worse" if share < 1 else "better"
            reason = f"{found:.2f} times the plain way, recorded {recorded:.2f}"
            findings.append(Comparison(f"{name} {kind}", "speed", verdict, recorded, found, tolerance, reason))
    return Checked("speed, in units of the plain way's", f"{current} against {path}", tuple(findings))


def _ratios(method: MethodSpeed) -> dict[str, float]:
    learning = {"train": method.train, "fit": method.fit}
    found = {name: one.over_plain.median for name, one in learning.items() if one is not None}
    return {**found, "inference": method.inference.over_plain.median}
