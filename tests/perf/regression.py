"""Time the metrics and compare with what was recorded, in units of the calibration kernel: the last step of .ci/run.

    python tests/perf/regression.py             exit code 1 where a benchmark is slower in each of three runs
    python tests/perf/regression.py --record    keep a run as what is compared with
    python tests/perf/regression.py --alarms 20 the same code against itself: how often would that be an alarm?

A busy machine makes a run slow, and a regression all of them, so only a benchmark that is too slow in three runs one
after another is one. Twice the recorded time is too slow: processors differ in the ratio of these kernels to the
calibration's sort, and what this is to find (a kernel that is not used, a copy of all maps) costs more than that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

from bench.checks import speed

HERE = Path(__file__).parent
TIMED = ("test_calibration.py", "test_metrics_speed.py")
BASELINES = HERE.parents[1] / "results" / "baselines"
TRIES, TOLERANCE = 3, 1.0


def timed(out: Path) -> Path:
    """Run the benchmarks and return where pytest-benchmark saved them."""
    files = [str(HERE / name) for name in TIMED]
    command = [sys.executable, "-m", "pytest", "-q", "--benchmark-enable", f"--benchmark-json={out}", *files]
    subprocess.run(command, cwd=HERE.parents[1], check=True, stdout=subprocess.DEVNULL)
    return out


def slower(before: Mapping[str, float], after: Mapping[str, float], tolerance: float) -> dict[str, str]:
    """Return the benchmarks that took too long or were not timed, with what was found."""
    findings = speed.compare(before, after, tolerance)
    return {one.line: one.reason for one in findings if one.verdict in ("worse", "missing")}


def alarms(runs: Sequence[Mapping[str, float]], tolerance: float, tries: int) -> tuple[int, int]:
    """Return how many choices of a recorded run and `tries` others, in order, raise an alarm, and of how many."""
    slow = [[set(slower(before, after, tolerance)) for after in runs] for before in runs]
    choices = list(permutations(range(len(runs)), 1 + tries))
    raised = [set.intersection(*(slow[before][one] for one in after)) for before, *after in choices]
    return sum(map(bool, raised)), len(choices)


def compare(folder: Path) -> int:
    """Run until no benchmark has been too slow in every run; return the exit code."""
    recorded = speed.read(BASELINES / speed.BASELINE)
    left = set(recorded)
    for number in range(TRIES):
        found = slower(recorded, speed.read(timed(folder / f"{number}.json")), TOLERANCE)
        left &= set(found)
        for name in sorted(left):
            print(f"{name}: {found[name]}", flush=True)
        if not left:
            print(f"speed: {len(recorded)} benchmarks within {1 + TOLERANCE:g} times the recorded time")
            return 0
    print(f"slower in each of {TRIES} runs. What changed on purpose: python tests/perf/regression.py --record")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--record", action="store_true", help="keep a run as what is compared with")
    what.add_argument("--alarms", metavar="N", type=int, help="compare N runs of the same code with each other")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.record:
            print(f"recorded {speed.write(timed(Path(folder, 'run.json')), BASELINES)}")
            return 0
        if given.alarms is None:
            return compare(Path(folder))
        runs = [speed.read(timed(Path(folder, f"{number}.json"))) for number in range(given.alarms)]
    for name in runs[0]:
        ratios = sorted(run[name] for run in runs)
        print(f"{name}: slowest {ratios[-1] / ratios[len(ratios) // 2]:.2f} times the median")
    for tolerance in (0.25, 0.5, TOLERANCE):
        for tries in (1, TRIES):
            found, of = alarms(runs, tolerance, tries)
            print(f"tolerance {tolerance:g}, {tries} tries: {found} of {of} false alarms ({100 * found / of:.2f} %)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
