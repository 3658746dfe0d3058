"""Freed memory is kept for the next step, and given back when the next cell looks for room."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.machine import allocator

PROGRAM = """
import resource
import numpy as np
from bench.machine import allocator

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def step():
    before = faults()
    blocks = [np.ones(2**24) for _ in range(2)]
    return faults() - before

if {keep}:
    assert allocator.keep_freed()
step()
again, held = step(), resident()
allocator.give_back()
print(again, held - resident())
"""


def measured(keep: bool) -> tuple[int, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again, returned = done.stdout.split()
    return int(again), int(returned)


@pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")
def test_kept_memory_is_not_asked_for_again_and_can_be_given_back() -> None:
    (faults, returned), (others_faults, others_returned) = measured(keep=True), measured(keep=False)
    # two blocks of 128 MiB: 65,536 pages, or 128 huge ones
    assert others_faults > 10 * max(faults, 10), (faults, others_faults)
    assert returned > 200 * 2**20 > others_returned + 100 * 2**20


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    assert not allocator.keep_freed.__wrapped__()
    allocator.give_back()


def test_a_cell_on_the_cpu_keeps_its_memory(
    bench: Callable, small: Callable, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    monkeypatch.setattr(allocator, "keep_freed", lambda: called.append("kept"))
    monkeypatch.setattr(allocator, "give_back", lambda: called.append("given back"))
    assert bench(*small(steps=1), "--data-root", str(tree), "--results", "out").returncode == 0
    assert called == ["kept", "given back"]
