"""The training loop and the feature store: same losses wherever features lie, interrupted or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.encoders import frozen
from bench.encoders.weights import locate
from bench.errors import StoreError, TrainingError
from bench.loading.pixel_cache import PixelCache
from bench.machine import compiling, feature_places
from bench.machine.progress import Silent
from bench.plan.settings import tasks
from bench.plan.task import Task, hashed, index
from bench.registry import METHODS
from bench.run import feature_store
from bench.run.batches import TrainingBatches
from bench.run.extractor import Extractor
from bench.run.feature_store import LastStore
from bench.run.seeding import seed_everything
from bench.run.training import Trainer, TrainingLog

CPU = torch.device("cpu")
SETTINGS = {
    "encoder": "vit_tiny_patch8_128.bench",
    "input_size": 32,
    "steps": 8,
    "batch_size": 4,
    "warmup": 2,
    "mlp_ratio": 0.5,
    "hard_mining_steps": 4,
}


class Setup:
    """One small cell's parts, to be trained in several ways."""

    def __init__(self, root: Path, checkpoint: Path, **settings: object) -> None:
        kind = METHODS.load("dinomaly")
        self.method = kind(kind.Config(**{**SETTINGS, **settings}))
        self.task: Task = tasks(hashed(index("folder", root, ()), Silent()), "multi")[0]
        request = self.method.encoder()
        self.encoder = frozen.build(request, locate(request.name, None))
        pixels = PixelCache(self.task.dataset, self.task.hashes, 32, 32)
        self.extract = Extractor(self.method, self.encoder, pixels, CPU)
        self.checkpoint = checkpoint

    def store(self, place: str, **options: float) -> feature_store.FeatureStore:
        return feature_store.build(self.extract, self.task.train, Silent(), place=place, batch_size=3, **options)

    def train(self, store: object, checkpoint_seconds: float = 1e9) -> tuple[TrainingLog, torch.nn.Module]:
        seed_everything(0)
        module = self.method.build(self.encoder.info)
        trainer = Trainer(self.method, 0, CPU, "fp32", self.checkpoint, checkpoint_seconds, Silent())
        return trainer.train(module, self.batches(store), self.task.train), module

    def batches(self, store: object, seed: int = 0) -> TrainingBatches:
        return TrainingBatches(self.extract, store, self.task.train, seed)


@pytest.fixture
def setup(tree: Path, tmp_path: Path) -> Callable[..., Setup]:
    return lambda **settings: Setup(tree, tmp_path / "cell.ckpt", **settings)


@pytest.mark.parametrize("place", ["memory", "file"])
def test_cached_and_uncached_training_give_the_same_losses(setup: Callable, place: str) -> None:
    parts = setup()
    cached, module = parts.train(parts.store(place))
    uncached, other = parts.train(parts.store("none"))
    assert len(cached.losses) == 8
    assert cached.losses == pytest.approx(uncached.losses, rel=1e-5)
    for (name, a), b in zip(module.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)


def test_memory_and_file_give_identical_losses(setup: Callable) -> None:
    parts = setup()
    assert parts.train(parts.store("memory"))[0].losses == parts.train(parts.store("file"))[0].losses


def test_the_store_falls_back_from_place_to_place(setup: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = setup()
    room = {"memory": 1e12, "file": 1e12}
    monkeypatch.setattr(feature_places, "free", lambda place, device: room[place])
    assert parts.store("auto").place == "memory"
    room["memory"] = 1000
    assert parts.store("auto").place == "file"
    room["file"] = 1000
    assert parts.store("auto").place == "none"
    with pytest.raises(StoreError, match="--store-budget"):
        parts.store("memory")
    assert parts.store("memory", budget_gib=1.0).place == "memory"


def test_a_mapped_store_leaves_no_file_behind(setup: Callable, private_cache: Path) -> None:
    store = setup().store("file")
    assert list((private_cache / "features").iterdir()) == []
    assert torch.isfinite(store.get(torch.tensor([0, 3]))["group0"]).all()


def test_the_last_store_is_used_again_for_its_own_key_only() -> None:
    built: list[str] = []

    def builder(name: str) -> Callable[[], object]:
        return lambda: built.append(name) or feature_store.StoredFeatures({}, name, CPU)

    last = LastStore()
    assert last.get("a", builder("a")) is last.get("a", builder("a again"))
    assert last.get("b", builder("b")).place == "b"
    assert built == ["a", "b"]


def test_features_are_what_the_encoder_gives_for_the_normalised_image(setup: Callable) -> None:
    parts = setup()
    sample = parts.task.train[2]
    pixels = torch.from_numpy(PixelCache(parts.task.dataset, parts.task.hashes, 32, 32).read(sample).copy())
    mean = torch.tensor([0.485, 0.456, 0.406])
    std = torch.tensor([0.229, 0.224, 0.225])
    image = ((pixels.float() / 255 - mean) / std).permute(2, 0, 1)[None]
    want = parts.method.features(parts.encoder(image), parts.encoder.info)
    got = parts.store("memory").get(torch.tensor([2]))
    for name, feature in want.items():
        torch.testing.assert_close(got[name], feature, rtol=1e-4, atol=1e-5)


class Interrupted(Exception):
    pass


def test_an_interrupted_training_resumes_to_the_same_bits(setup: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = setup()
    store = parts.store("memory")
    undisturbed, module = parts.train(store)

    seen = 0

    def breaks(indices: torch.Tensor) -> object:
        nonlocal seen
        seen += 1
        if seen == 6:
            raise Interrupted
        return type(store).get(store, indices)

    with monkeypatch.context() as patch:
        patch.setattr(store, "get", breaks)
        with pytest.raises(Interrupted):
            parts.train(store, checkpoint_seconds=0)
    resumed, other = parts.train(store)
    assert resumed.resumed_at == [5]
    assert resumed.losses == undisturbed.losses
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_non_finite_loss_stops_at_its_step_and_names_the_images(
    setup: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = setup()
    store = parts.store("memory")
    real = parts.method.loss

    def poisoned(module: torch.nn.Module, features: object, step: int) -> torch.Tensor:
        return real(module, features, step) * (float("nan") if step == 3 else 1.0)

    monkeypatch.setattr(parts.method, "loss", poisoned)
    with pytest.raises(TrainingError) as caught:
        parts.train(store)
    message = str(caught.value)
    assert "nan at step 3" in message and "learning rate" in message and message.count("train/good/") == 4


@pytest.mark.parametrize(
    ("settings", "precision", "advice"),
    [
        ({}, "fp32", "Try --set dinomaly.attention_eps=1e-06 (its authors' advice), or a smaller learning rate"),
        ({"attention_eps": 1e-6}, "fp32", "Try a smaller learning rate"),
        ({"attention": "softmax"}, "bf16", "Try a smaller learning rate, or --precision fp32"),
    ],
)
def test_advice_against_a_non_finite_loss_is_what_was_not_done_yet(
    setup: Callable, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], precision: str, advice: str
) -> None:
    parts = setup(**settings)
    monkeypatch.setattr(
        parts.method, "loss", lambda module, features, step: sum(p.sum() for p in module.parameters()) * float("nan")
    )
    trainer = Trainer(parts.method, 0, CPU, precision, parts.checkpoint, 1e9, Silent())
    with pytest.raises(TrainingError) as caught:
        trainer.train(parts.method.build(parts.encoder.info), parts.batches(parts.store("memory")), parts.task.train)
    assert str(caught.value).endswith(advice)


@pytest.mark.parametrize("own", [{"lr_scale": 20.0}, {"lr": 2e-2}])
def test_every_parameter_group_keeps_its_own_rate_also_when_resumed(
    setup: Callable, monkeypatch: pytest.MonkeyPatch, own: dict[str, float]
) -> None:
    parts = setup()
    store, used = parts.store("memory"), []

    class Recording(torch.optim.SGD):
        def step(self, closure: object = None) -> None:
            used.append([group["lr"] for group in self.param_groups])
            if len(used) == 5:
                raise Interrupted
            super().step()

    def two_groups(module: torch.nn.Module) -> torch.optim.Optimizer:
        first, *others = module.parameters()
        return Recording([{"params": [first], **own}, {"params": others}], lr=1e-3)

    monkeypatch.setattr(parts.method, "optimizer", two_groups)
    monkeypatch.setattr(parts.method, "learning_rate", lambda step: 1e-4 * (step + 1))
    with pytest.raises(Interrupted):
        parts.train(store, checkpoint_seconds=0)
    log, _ = parts.train(store)
    assert log.resumed_at == [4]
    assert used[:4] + used[5:] == [[pytest.approx(rate * scale) for scale in (20.0, 1.0)] for rate in RATES]


RATES = [1e-4 * (step + 1) for step in range(8)]


def test_seeds_change_the_result(setup: Callable) -> None:
    parts = setup()
    store = parts.store("memory")
    first = parts.train(store)[0].losses
    assert parts.train(store)[0].losses == first
    seed_everything(1)
    module = parts.method.build(parts.encoder.info)
    other = Trainer(parts.method, 1, CPU, "fp32", parts.checkpoint, 1e9, Silent()).train(
        module, parts.batches(store, seed=1), parts.task.train
    )
    assert other.losses != first


def test_the_loss_curve_is_thinned_to_means() -> None:
    log = TrainingLog(4, losses=[float(value) for value in range(1000)])
    curve = log.curve()
    assert len(curve) == 200 and curve[0] == (5, 2.0) and curve[-1] == (1000, 997.0)
    assert TrainingLog(4, losses=[1.0, 2.0]).curve() == ((1, 1.0), (2, 2.0))
    assert TrainingLog(4).curve() == ()


def test_a_compiled_training_says_so_and_has_the_same_losses(setup: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    # dropout is on: the trial before the first step must not move its draws
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    parts = setup()
    store = parts.store("memory")
    plain, _ = parts.train(store)
    seed_everything(0)
    module = parts.method.build(parts.encoder.info)
    trainer = Trainer(parts.method, 0, CPU, "fp32", parts.checkpoint, 1e9, Silent(), compile=True)
    compiled = trainer.train(module, parts.batches(store), parts.task.train)
    torch.compiler.reset()
    assert compiled.compiled and not plain.compiled
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-5)
