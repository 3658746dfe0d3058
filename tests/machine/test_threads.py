"""How many threads a process has and how they wait is bench's choice where the user made none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.machine import control_groups, crowding, threads
from bench.metrics import workers
from bench.store.provenance import environment

NAMES = (threads.POLICY, threads.COUNT, threads.CHOSEN, threads.SPINS, threads.BLOCKTIME, "NUMBA_NUM_THREADS")
OWN = {threads.BLOCKTIME: "1"}


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A machine with 8 cores and this process in the given control groups; the argument is file -> content."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(control_groups, "MOUNTED", tmp_path)
    monkeypatch.setattr(control_groups, "MEMBERSHIPS", tmp_path / "memberships")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)

    def make(membership: str, **files: str) -> None:
        (tmp_path / "memberships").write_text(membership)
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("cpu_", "cpu.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        threads.cpu_quota.cache_clear()

    yield make
    threads.cpu_quota.cache_clear()


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that counts how long threads stand ready."""
    monkeypatch.setattr(threads, "STOOD_READY", Path(__file__))


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which neither the user nor bench has set anything, and torch is not loaded."""
    for name in NAMES:
        # set first, so that what a test leaves is undone
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.parametrize(
    ("most", "expected"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("140000 100000", 1), ("5000 100000", 1)],
)
def test_a_containers_share_of_the_processor_counts_as_its_cores(
    most: str, expected: int, groups: Callable[..., None]
) -> None:
    groups("0::/docker/abc\n", docker__abc__cpu_max=most)
    assert threads.cores() == expected == workers.thread_count() == environment("cpu", "fp32", 1).cores


def test_the_tightest_group_counts(groups: Callable[..., None]) -> None:
    groups("0::/slurm/job_7\n", slurm__job_7__cpu_max="max 100000", slurm__cpu_max="300000 100000")
    assert threads.cores() == 3


def test_the_older_control_groups_have_files_of_their_own(groups: Callable[..., None]) -> None:
    place = "cpu__job__cpu_cfs_"
    groups("4:cpu,cpuacct:/job\n0::/\n", **{f"{place}quota_us": "400000", f"{place}period_us": "100000"})
    assert threads.cpu_quota() == 4
    groups("4:cpu,cpuacct:/job\n", **{f"{place}quota_us": "-1"})
    assert threads.cpu_quota() is None


@pytest.mark.parametrize("content", ["", "much 100000", "100000 0", "1 2 3"])
def test_a_share_that_cannot_be_read_limits_nothing(content: str, groups: Callable[..., None]) -> None:
    groups("0::/job\n", job__cpu_max=content)
    assert threads.cores() == 8


def test_waiting_is_set_and_threads_only_where_there_are_fewer_than_the_runtime_sees(
    fresh: None, groups: Callable[..., None]
) -> None:
    groups("0::/job\n")
    threads.prepare()
    assert threads.waiting() == OWN == threads.chosen()
    groups("0::/job\n", job__cpu_max="200000 100000")
    threads.prepare()
    assert threads.chosen() == {**OWN, threads.COUNT: "2"}
    # a process that this one starts, where there is no limit any more
    groups("0::/elsewhere\n")
    threads.prepare()
    assert threads.COUNT not in os.environ and threads.chosen() == OWN


@pytest.mark.parametrize("name", [threads.POLICY, threads.SPINS, threads.BLOCKTIME, threads.COUNT])
def test_nothing_is_set_against_the_user(
    name: str, fresh: None, groups: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups("0::/job\n", job__cpu_max="200000 100000")
    monkeypatch.setenv(name, "7")
    threads.prepare()
    assert os.environ[name] == "7" == threads.given(name) and name not in threads.chosen()
    # who names the policy has spoken for every runtime
    assert (threads.BLOCKTIME in threads.chosen()) == (name not in (threads.POLICY, threads.BLOCKTIME))
    assert crowding.adapts() == (name not in (threads.POLICY, threads.SPINS))


def test_where_the_system_does_not_count_waiting_is_short_for_good(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "STOOD_READY", tmp_path / "not there")
    threads.prepare()
    assert threads.chosen() == {threads.SPINS: "4000", **OWN} and not crowding.adapts()


def test_what_bench_set_is_not_taken_for_the_users_by_the_next_process(
    fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads.choose({threads.COUNT: "4"})
    assert os.environ[threads.COUNT] == "4" and threads.given(threads.COUNT) is None
    threads.choose({threads.COUNT: "2"})
    assert os.environ[threads.COUNT] == "2", "a worker gets its part of what the whole has"
    monkeypatch.setenv(threads.COUNT, "3")
    assert threads.given(threads.COUNT) == "3"


def test_once_torch_is_loaded_nothing_is_claimed(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    threads.prepare()
    assert not threads.chosen() and not threads.waiting()


def test_importing_bench_sets_it_before_anything_could_load_torch() -> None:
    given = {name: value for name, value in os.environ.items() if name not in NAMES}
    code = "import json, os, sys, bench; print(json.dumps([dict(os.environ), 'torch' in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    found, loaded = json.loads(done.stdout)
    assert not loaded and found[threads.BLOCKTIME] == "1" and "KMP_BLOCKTIME=1" in found[threads.CHOSEN]


def test_a_record_says_how_threads_waited(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.POLICY, "passive")
    assert environment("cpu", "fp32", 1).waiting == {threads.POLICY: "passive"}
