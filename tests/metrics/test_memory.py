"""The metric and evaluation path is bounded by a class: Real-IAD's largest, 3,800 maps, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

IMAGES, SIDE = 3_800, 256
LIMIT_GIB = 2.5
MAPS_GIB = IMAGES * SIDE * SIDE * 4 / 2**30

# the way a cell is scored, from packed masks and a method's maps to metrics and per-image rows
SCRIPT = """
import json, sys
from pathlib import Path
from bench.protocol import COMMON
from bench.run import scoring
from bench.machine.progress import Silent
from bench.machine.timing import Stopwatch
from bench.machine import peak
from bench.speed.evaluation import MadeUp, packed
from bench.speed.generated import Files, one_class

def score(images):
    task = Files(Path(), (Path("none"),), Path("none"), {}).task(one_class(0, images))
    predict = MadeUp(COMMON.eval_size, with_maps=True)
    masks = packed(task, COMMON.eval_size)
    return scoring.score(task, COMMON, predict, masks, Stopwatch(), Silent(), keep_maps=None)

score(4)  # what the libraries load or compile when first used is theirs
peak.reset()
before = peak.resident_mib()
scored = score(int(sys.argv[1]))
used = (peak.peak_mib() - before) / 1024
print(json.dumps({"gib": used, "before": before, "scores": dict(scored.scores["generated"])}))
"""


@pytest.mark.slow
def test_a_class_of_real_iad_is_scored_in_bounded_memory() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(IMAGES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if not found["before"]:
        pytest.skip("this system does not tell a process its resident memory (no /proc/self/status)")
    assert all(0 < value <= 1 for value in found["scores"].values())
    # less than the maps themselves would say that the measurement, not the path, is at fault
    assert MAPS_GIB < found["gib"] < LIMIT_GIB
