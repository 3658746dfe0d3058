"""Faults 3 and 4: full disks and read-only folders, for results and for the cache."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def refused(done: Any, *words: str) -> None:
    assert done.code == 2 and "Traceback" not in done.text, done.text
    for word in ("error: ", *words):
        assert word in done.text, done.text


def fill(folder: Path, leave: int) -> Path:
    """Fill a small file system but for some bytes."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(max(free - leave, 0)))
    return ballast


def test_a_full_results_disk_stops_the_sweep_and_loses_no_record(
    warm: Any, sweep: Callable, undisturbed: Callable, outcome: Callable, mounted: Callable, tmp_path: Path
) -> None:
    want = undisturbed(seeds="0,1,2")
    with mounted(tmp_path / "small", "size=1m") as disk:
        results = disk / "results"
        assert warm.run(*sweep(results)).code == 0
        first = {path: path.read_bytes() for path in results.rglob("s0*")}
        # room for a lock, not for a checkpoint; then for a checkpoint and the image scores, not for the record
        for leave in (0, 4096, 24576):
            ballast = fill(disk, leave)
            done = warm.run(*sweep(results, seeds="0,1,2"))
            ballast.unlink()
            refused(done, "no space left for", "Free some, then run the same command again")
            assert "seed 2" not in done.text.partition("to do")[2], "went on to the next cell on a full disk"
            assert {path: path.read_bytes() for path in results.rglob("s0*")} == first
            assert not list(results.rglob("*.part"))
        done = warm.run(*sweep(results, seeds="0,1,2"))
        assert done.code == 0 and outcome(results) == want


def test_a_limit_on_file_size_stops_the_sweep_and_loses_no_record(
    warm: Any, sweep: Callable, undisturbed: Callable, outcome: Callable, tmp_path: Path
) -> None:
    want = undisturbed(seeds="0,1")
    results = tmp_path / "results"
    assert warm.run(*sweep(results)).code == 0
    # enough for what is printed and for a record, not for a checkpoint
    done = warm.run(*sweep(results, seeds="0,1"), file_size=16384)
    refused(done, "cannot write", "File too large", "Choose another folder")
    assert not list(results.rglob("*.part"))
    done = warm.run(*sweep(results, seeds="0,1"))
    assert done.code == 0 and outcome(results) == want


@pytest.mark.parametrize("options", ["size=64k", "ro"])
def test_a_cache_that_cannot_be_written_costs_time_only(
    warm: Any,
    sweep: Callable,
    undisturbed: Callable,
    outcome: Callable,
    mounted: Callable,
    tmp_path: Path,
    options: str,
) -> None:
    want = undisturbed()
    with mounted(tmp_path / "cache", options) as disk:
        if options != "ro":
            fill(disk, 8192)
        done = warm.run(*sweep(tmp_path / "results"), BENCH_CACHE=str(disk))
        assert done.code == 0 and "Traceback" not in done.text, done.text
        assert done.text.count("decoded images are not kept") == 1 and str(disk) in done.text
        assert outcome(tmp_path / "results") == want
        assert not list(disk.rglob("*.part"))
        # features are wanted in a file there
        done = warm.run(*sweep(tmp_path / "other"), "--store", "file", BENCH_CACHE=str(disk))
        assert done.code == 2 and "BENCH_CACHE" in done.text and "Traceback" not in done.text, done.text


def test_a_read_only_results_folder_is_refused_before_any_work(
    warm: Any, sweep: Callable, mounted: Callable, tmp_path: Path
) -> None:
    with mounted(tmp_path / "locked", "size=1m") as disk:
        assert warm.run(*sweep(disk / "results")).code == 0
        remount(disk, "ro")
        before = {path: path.read_bytes() for path in disk.rglob("s0*")}
        done = warm.run(*sweep(disk / "results", seeds="1"))
        refused(done, str(disk), "Read-only file system", "Choose another folder")
        assert "decode" not in done.text
        # what is there can still be looked at
        done = warm.run(*sweep(disk / "results"))
        assert done.code == 0 and "0 to do, 1 done" in done.text and "mean of 2" in done.text, done.text
        assert {path: path.read_bytes() for path in disk.rglob("s0*")} == before


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)
