"""Where features lie never changes them, nor what is expected of the next batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.encoders import frozen
from bench.encoders.weights import locate
from bench.loading.pixel_cache import PixelCache
from bench.machine.progress import Silent
from bench.plan.settings import tasks
from bench.plan.task import Task, hashed, index
from bench.registry import METHODS
from bench.run import feature_store
from bench.run.extractor import Extractor
from bench.run.feature_store import StoredFeatures
from bench.run.seeding import BatchOrder
from bench.speed import generated

CPU = torch.device("cpu")


@pytest.fixture
def task(tree: Path) -> Task:
    return tasks(hashed(index("folder", tree, ()), Silent()), "multi")[0]


@pytest.fixture
def extract(task: Task) -> Extractor:
    kind = METHODS.load("dinomaly")
    method = kind(kind.Config(encoder="vit_tiny_patch8_128.bench", input_size=32))
    encoder = frozen.build(method.encoder(), locate("vit_tiny_patch8_128.bench", None))
    return Extractor(method, encoder, PixelCache(task.dataset, task.hashes, 32, 32), CPU)


def test_every_place_gives_the_same_features(extract: Extractor, task: Task) -> None:
    def build(place: str) -> feature_store.FeatureStore:
        return feature_store.build(extract, task.train, Silent(), place=place, batch_size=3)

    memory, file, none = (build(place) for place in ("memory", "file", "none"))
    order = BatchOrder(len(task.train), 4, seed=0)
    for step in range(5):
        kept, mapped, computed = (store.get(order.at(step)) for store in (memory, file, none))
        assert kept.keys() == mapped.keys() == computed.keys()
        for name, feature in kept.items():
            assert torch.equal(feature, mapped[name])
            torch.testing.assert_close(feature, computed[name], rtol=1e-4, atol=1e-5)


@pytest.fixture
def maps(task: Task, tmp_path: Path) -> Extractor:
    """Extract as RD4AD does, from a CNN of random weights."""
    kind = METHODS.load("rd4ad")
    method = kind(kind.Config(encoder="mobilenetv2_100", input_size=64, fuser_width=16))
    path, _ = generated.weights_file("mobilenetv2_100", None, tmp_path)
    return Extractor(method, frozen.build(method.encoder(), path), PixelCache(task.dataset, task.hashes, 64, 64), CPU)


@pytest.mark.parametrize("place", ["memory", "file", "none"])
@pytest.mark.parametrize("ahead", [False, True])
def test_a_cnn_s_maps_come_channels_last_from_every_place(maps: Extractor, task: Task, place: str, ahead: bool) -> None:
    store = feature_store.build(maps, task.train, Silent(), place=place, batch_size=3)
    if ahead and isinstance(store, StoredFeatures):
        store = StoredFeatures(store._tensors, place, CPU, ahead=True)
    rows = torch.tensor([2, 0, 2])
    store.expect(rows)
    found, computed = store.get(rows), maps([task.train[row] for row in rows.tolist()])
    for name, feature in computed.items():
        assert feature.is_contiguous(memory_format=torch.channels_last) and not feature.is_contiguous()
        assert found[name].shape == feature.shape and found[name].stride() == feature.stride()
        torch.testing.assert_close(found[name], feature, rtol=1e-4, atol=1e-4)


def test_pixels_kept_for_recomputing_give_the_same_features(extract: Extractor, task: Task) -> None:
    store = feature_store.build(extract, task.train, Silent(), place="none")
    batches = [torch.tensor([0, 3]), torch.tensor([3, 1]), torch.tensor([1, 0])]
    before = [store.get(batch) for batch in batches]
    assert extract.pixels.keep(task.train, room=1e9)
    for batch, want in zip(batches, before, strict=True):
        for name, feature in store.get(batch).items():
            assert torch.equal(feature, want[name])


@pytest.mark.parametrize("expected", ["the next", "another", "nothing"])
def test_what_comes_ahead_is_what_would_have_come(expected: str) -> None:
    kept = {"a": torch.randn(9, 3, 2), "b": torch.arange(9)}
    ahead, plain = StoredFeatures(kept, "memory", CPU, ahead=True), StoredFeatures(kept, "memory", CPU)
    order = BatchOrder(9, 4, seed=1)
    for step in range(7):
        found, want = ahead.get(order.at(step)), plain.get(order.at(step))
        for name, feature in want.items():
            assert torch.equal(found[name], feature)
        if expected != "nothing":
            ahead.expect(order.at(step + (1 if expected == "the next" else 2)))


def test_a_batch_stays_what_it_is_while_the_next_ones_come() -> None:
    kept = {"a": torch.arange(12.0).view(6, 2)}
    store = StoredFeatures(kept, "memory", CPU, ahead=True)
    batches = []
    for first in range(5):
        batches.append(store.get(torch.tensor([first, first + 1])))
        store.expect(torch.tensor([first + 1, first + 2]))
    for first, batch in enumerate(batches):
        assert torch.equal(batch["a"], kept["a"][first : first + 2])


def test_an_error_while_bringing_ahead_is_raised_by_the_step_that_needs_it() -> None:
    store = StoredFeatures({"a": torch.zeros(3, 1)}, "memory", CPU, ahead=True)
    store.expect(torch.tensor([7]))
    assert torch.equal(store.get(torch.tensor([1]))["a"], torch.zeros(1, 1))
    store.expect(torch.tensor([7]))
    with pytest.raises(IndexError):
        store.get(torch.tensor([7]))


def test_losses_do_not_depend_on_bringing_ahead(
    extract: Extractor, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.run.batches import TrainingBatches
    from bench.run.seeding import seed_everything
    from bench.run.training import Trainer

    def losses(store: feature_store.FeatureStore) -> list[float]:
        seed_everything(0)
        kind = METHODS.load("dinomaly")
        config = kind.Config(
            encoder="vit_tiny_patch8_128.bench", input_size=32, steps=6, batch_size=4, warmup=2, mlp_ratio=0.5
        )
        module = kind(config).build(extract.encoder.info)
        trainer = Trainer(kind(config), 0, CPU, "fp32", tmp_path / "cell.ckpt", 1e9, Silent())
        return trainer.train(module, TrainingBatches(extract, store, task.train, 0), task.train).losses

    plain = feature_store.build(extract, task.train, Silent(), place="file")
    assert isinstance(plain, StoredFeatures)
    expected: list[list[int]] = []
    real: Callable[[StoredFeatures, torch.Tensor], None] = StoredFeatures.expect
    monkeypatch.setattr(StoredFeatures, "expect", lambda self, rows: expected.append(rows.tolist()) or real(self, rows))
    ahead = StoredFeatures(plain._tensors, "file", CPU, ahead=True)
    assert losses(ahead) == losses(plain)
    order = BatchOrder(len(task.train), 4, 0)
    assert expected == [order.at(step).tolist() for step in range(1, 6)] * 2, "every batch but the first is expected"
