from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.api import Sample
from bench.loading.pixel_cache import PixelCache
from bench.machine.progress import Silent
from bench.plan.settings import tasks
from bench.plan.task import hashed, index
from bench.run.device_pixels import DevicePixels

CPU = torch.device("cpu")
IMAGE = 3 * 32 * 32


@pytest.fixture
def parts(tree: Path) -> tuple[tuple[Sample, ...], PixelCache]:
    task = tasks(hashed(index("folder", tree, ()), Silent()), "multi")[0]
    return task.train, PixelCache(task.dataset, task.hashes, 32, 32)


def test_they_are_the_cache_s_pixels(parts: tuple[tuple[Sample, ...], PixelCache]) -> None:
    samples, cache = parts
    pixels = DevicePixels(cache, CPU)
    found = pixels.batch(samples[2:5])
    assert found.dtype == torch.uint8 and found.shape == (3, 32, 32, 3)
    assert np.array_equal(found.numpy(), np.stack([cache.read(sample) for sample in samples[2:5]]))


def test_what_is_kept_is_read_once(
    parts: tuple[tuple[Sample, ...], PixelCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, cache = parts
    want = {sample.id: torch.from_numpy(cache.read(sample).copy()) for sample in samples}
    reads: list[str] = []
    real = cache.read
    monkeypatch.setattr(cache, "read", lambda sample: reads.append(sample.id) or real(sample))
    pixels = DevicePixels(cache, CPU)
    assert pixels.keep(samples[:6], room=6 * IMAGE)
    for chosen in ((0, 3), (3, 1), (1, 0, 3), (2, 4), (5, 2), (0, 1, 2, 3, 4, 5)):
        batch = pixels.batch([samples[place] for place in chosen])
        for place, image in zip(chosen, batch, strict=True):
            assert torch.equal(image, want[samples[place].id])
    # (3, 1) and (5, 2) hold an image that was not there yet, and are read as a whole
    assert len(reads) == 2 + 2 + 2 + 2
    mixed = pixels.batch([samples[0], samples[8]])
    assert torch.equal(mixed[1], want[samples[8].id]) and len(reads) == 10


def test_what_does_not_fit_is_not_kept(parts: tuple[tuple[Sample, ...], PixelCache]) -> None:
    samples, cache = parts
    pixels = DevicePixels(cache, CPU)
    assert not pixels.keep(samples, room=len(samples) * IMAGE - 1)
    assert np.array_equal(pixels.batch(samples[:2])[1].numpy(), cache.read(samples[1]))
