"""What memory may be counted on is the machine's, or less where a control group caps it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.machine import control_groups, host_memory

GIB = 2**30
FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"),
    2: ("memory.max", "memory.current", "inactive_file", "active_file"),
}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """A machine with 16 GiB available and this process in the given groups."""

    def make(*memberships: str) -> Callable[..., None]:
        monkeypatch.setattr(host_memory, "MACHINE", tmp_path / "MACHINE")
        for name in ("MOUNTED", "MEMBERSHIPS"):
            monkeypatch.setattr(control_groups, name, tmp_path / name)
        (tmp_path / "MACHINE").write_text(f"MemTotal: 1 kB\nMemAvailable:   {16 * 2**20} kB\nHugePages_Total: 0\n")
        (tmp_path / "MEMBERSHIPS").write_text("".join(f"{line}\n" for line in memberships))

        def group(path: str, version: int, limit: str | int, used: int = 0, cached: int = 0) -> None:
            folder = tmp_path / "MOUNTED" / path
            folder.mkdir(parents=True, exist_ok=True)
            limit_file, used_file, inactive, active = FILES[version]
            (folder / limit_file).write_text(f"{limit}\n")
            (folder / used_file).write_text(f"{used}\n")
            (folder / "memory.stat").write_text(f"anon 7\n{inactive} {cached - 10}\n{active} 10\n")

        return group

    return make


def test_without_a_limit_it_is_the_machines(machine: Callable) -> None:
    group = machine("0::/user.slice/job", "3:cpu:/other")
    assert host_memory.available() == 16 * GIB
    group("user.slice/job", 2, "max", used=5 * GIB)
    assert host_memory.available() == 16 * GIB


def test_a_job_has_what_its_limit_leaves_and_gets_its_page_cache_back(machine: Callable) -> None:
    group = machine("0::/slurm/job_7/step_0")
    group("slurm/job_7/step_0", 2, "max")
    group("slurm/job_7", 2, 8 * GIB, used=5 * GIB, cached=2 * GIB)
    assert host_memory.available() == 5 * GIB
    group("slurm", 2, 20 * GIB, used=19 * GIB)
    assert host_memory.available() == GIB, "the tightest group counts, however high it stands"
    group("slurm", 2, 20 * GIB, used=21 * GIB)
    assert host_memory.available() == 0


def test_the_older_version_has_a_place_and_names_of_its_own(machine: Callable) -> None:
    group = machine("5:cpuset:/job", "4:memory,hugetlb:/job", "0::/")
    group("memory/job", 1, 4 * GIB, used=3 * GIB, cached=GIB)
    group("memory", 1, 9223372036854771712, used=15 * GIB)
    group("cpuset/job", 1, 0)
    assert host_memory.available() == 2 * GIB


def test_a_container_sees_its_own_group_at_the_root(machine: Callable) -> None:
    group = machine("0::/kubepods/pod1/0123abcd")
    group("", 2, 3 * GIB, used=GIB)
    assert host_memory.available() == 2 * GIB


def test_what_cannot_be_read_limits_nothing(machine: Callable, tmp_path: Path) -> None:
    group = machine("0::/job")
    group("job", 2, "much")
    assert host_memory.available() == 16 * GIB
    (tmp_path / "MEMBERSHIPS").unlink()
    assert host_memory.available() == 16 * GIB
    (tmp_path / "MACHINE").unlink()
    assert host_memory.available() is None


def test_this_machine_says_something() -> None:
    available = host_memory.available()
    assert available is None or 0 < available < 2**50
