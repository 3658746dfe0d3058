"""Energy counters: RAPL's files as Linux lays them out, NVML by what it answers."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.machine import energy
from bench.machine.energy import Meter, spent


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two packages and a part of the first, whose energy is in its package's already."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    found = [tmp_path / name for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0")]
    for folder in found:
        folder.mkdir()
        (folder / "max_energy_range_uj").write_text("1000000000\n")
        (folder / "energy_uj").write_text("900000000\n")
    return found


def test_packages_are_added_up_and_may_come_round(packages: list[Path]) -> None:
    meter = Meter(torch.device("cpu"))
    before = meter.joules()
    for folder, value in zip(packages, (950_000_000, 100_000_000, 0), strict=True):
        (folder / "energy_uj").write_text(f"{value}\n")
    # 50 J of the first; 100 J to the end of the second's range and 100 J from its beginning
    assert meter.source == "rapl" and spent(before, meter.joules()) == pytest.approx(250.0)


def test_a_counter_that_may_have_come_round_twice_tells_nothing(
    packages: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    meter = Meter(torch.device("cpu"))
    assert meter.joules() == 0.0
    now = 2.0  # at 1,000 W twice the range of 1,000 J
    assert meter.joules() is None and spent(0.0, meter.joules()) is None


def test_what_may_not_be_read_is_not_known(packages: list[Path]) -> None:
    (packages[1] / "energy_uj").unlink()
    assert Meter(torch.device("cpu")).source is None and Meter(torch.device("cpu")).joules() is None


def test_no_package_is_no_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    assert Meter(torch.device("cpu")).source is None


class Nvml:
    """A driver's library: one GPU, asked for by its UUID, that has taken 5,000 mJ more whenever it is asked."""

    def __init__(self, counts: bool) -> None:
        self.counts, self.total, self.asked = counts, 0, b""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, identity: bytes, handle: Any) -> int:
        self.asked = identity
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, millijoules: Any) -> int:
        if not self.counts:
            return 3  # NVML_ERROR_NOT_SUPPORTED
        self.total += 5000
        millijoules._obj.value = self.total
        return 0


@pytest.mark.parametrize("counts", [True, False])
def test_a_gpu_is_counted_by_its_driver_where_it_can_be(counts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Nvml(counts)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-ab"))
    meter = Meter(torch.device("cuda", 0))
    assert library.asked == b"GPU-12-ab"
    if counts:
        assert meter.source == "nvml" and spent(meter.joules(), meter.joules()) == 5.0
    else:
        assert meter.source is None and meter.joules() is None
