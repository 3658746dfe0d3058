"""The same cell on a GPU; run with: pytest -m cuda."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def run_on(device: str, bench: Callable, small: Callable, tree: Path, *more: str) -> dict:
    command = small(steps=20)
    command[command.index("--device") + 1] = device
    done = bench(*command, "--data-root", str(tree), "--results", f"out-{device}-{'-'.join(more)}", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = Path(f"out-{device}-{'-'.join(more)}").rglob("s*.json")
    return json.loads(path.read_text())


def test_cuda_and_cpu_agree(bench: Callable, small: Callable, tree: Path) -> None:
    # fp32 on both; dropout draws differ between devices, so only the untrained start is comparable closely
    cuda, cpu = (run_on(device, bench, small, tree, "--set", "dinomaly.dropout=0") for device in ("cuda", "cpu"))
    assert cuda["training"]["loss_curve"][0][1] == pytest.approx(cpu["training"]["loss_curve"][0][1], rel=1e-2)
    assert cuda["efficiency"]["peak_device_memory_mib"] > 0


@pytest.mark.parametrize("store", ["device", "memory", "file", "none"])
def test_every_store_trains_on_cuda(bench: Callable, small: Callable, tree: Path, store: str) -> None:
    record = run_on("cuda", bench, small, tree, "--store", store)
    assert record["training"]["store"] == store


def test_bf16_trains(bench: Callable, small: Callable, tree: Path) -> None:
    assert run_on("cuda", bench, small, tree, "--precision", "bf16")["status"] == "done"
