from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence

import pytest
import torch

from bench.errors import ExhaustedError
from bench.machine.exhaustion import Reductions, is_exhausted


class Device:
    """Takes so many items at once; remembers what it was given."""

    def __init__(self, holds: int, error: Exception | None = None) -> None:
        self.holds = holds
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore text")
        self.given: list[int] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.given.append(len(items))
        if len(items) > self.holds:
            raise self.error
        return [item * item for item in items]


@pytest.mark.parametrize("holds", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("count", [0, 1, 5, 8, 21])
def test_every_item_is_worked_on_once_and_in_order_whatever_fits(holds: int, count: int) -> None:
    said: list[str] = []
    reductions, device = Reductions(said.append), Device(holds)
    batches = list(reductions.batches("x", range(count), 8, device))
    assert [item for batch, _ in batches for item in batch] == list(range(count))
    assert [result for _, results in batches for result in results] == [item * item for item in range(count)]
    assert bool(reductions.found) == bool(said) == (min(8, count) > holds)
    assert all(size <= holds for size in reductions.found.values())


def test_a_reduced_size_stays_for_the_rest_of_the_cell_and_for_its_kind_only() -> None:
    reductions, device = Reductions(lambda text: None), Device(2)
    list(reductions.batches("inference", range(6), 8, device))
    device.given.clear()
    list(reductions.batches("inference", range(4), 8, device))
    assert device.given == [1] * 4 and reductions.found == {"inference": 1}
    device.given.clear()
    list(reductions.batches("features", range(2), 8, device))
    assert device.given == [2]


def test_stored_features_leave_the_device_before_the_batch_is_halved() -> None:
    said: list[str] = []
    reductions, tried, stored = Reductions(said.append), [], [True]

    def attempt(size: int) -> str:
        tried.append((size, bool(stored)))
        if size > 4 or stored:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "trained"

    assert reductions.training(16, attempt, lambda: bool(stored and stored.pop())) == "trained"
    assert tried == [(16, True), (16, False), (8, False), (4, False)] and reductions.found == {"train": 4}
    assert "leave the device" in said[0] and "trying 8" in said[1] and "trying 4" in said[2]


def test_one_item_that_does_not_fit_is_an_error_that_says_what_helps() -> None:
    with pytest.raises(ExhaustedError, match=r"single image \(CUDA out of memory. Tried to allocate 2 GiB\). Choose"):
        list(Reductions(lambda text: None).batches("features", range(4), 4, Device(0)))


@pytest.mark.parametrize(
    ("error", "exhausted"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_other_errors_are_not_taken_for_it(error: Exception, exhausted: bool) -> None:
    assert is_exhausted(error) == exhausted
    if not exhausted:
        with pytest.raises(type(error)):
            list(Reductions(lambda text: None).batches("x", range(4), 4, Device(2, error)))


def test_a_real_failure_of_the_cpu_allocator_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_exhausted(caught.value)


def test_what_the_failed_attempt_held_is_free_before_the_next() -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def work(items: Sequence[int]) -> int:
        alive.extend(reference() is not None for reference in held)
        big = torch.zeros(len(items))
        held.append(weakref.ref(big))
        if len(items) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return len(items)

    gc.disable()
    try:
        list(Reductions(lambda text: None).batches("x", range(4), 4, work))
    finally:
        gc.enable()
    assert alive and not any(alive)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_lack_of_device_memory_is_lived_with() -> None:
    def work(items: Sequence[int]) -> int:
        torch.empty(len(items), 1 << 28, dtype=torch.uint8, device="cuda")
        return len(items)

    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((3 << 28) / total)
    try:
        reductions = Reductions(lambda text: None)
        assert sum(size for _, size in reductions.batches("x", range(10), 8, work)) == 10
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert free and 1 <= reductions.found["x"] <= 3
