"""The same cell on a GPU; run with: pytest -m cuda."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from bench.api import Method, MethodConfig
from bench.encoders import frozen
from bench.encoders.weights import locate
from bench.loading.pixel_cache import PixelCache
from bench.machine.progress import Silent
from bench.plan.settings import tasks
from bench.plan.task import Task, hashed, index
from bench.registry import METHODS
from bench.run import feature_store
from bench.run.batches import TrainingBatches
from bench.run.device_pixels import DevicePixels
from bench.run.extractor import Extractor
from bench.run.feature_store import StoredFeatures
from bench.run.seeding import BatchOrder, seed_everything
from bench.run.training import Step, Trainer

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CNN = "test_resnet.r160_in1k"
TRAINED = ["dinomaly", "dual_student", "rd4ad", "vitad"]


@pytest.fixture
def gpu() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture
def task(tree: Path) -> Task:
    return tasks(hashed(index("folder", tree, ()), Silent()), "multi")[0]


def run_on(device: str, bench: Callable, small: Callable, tree: Path, *more: str) -> dict:
    command = small(steps=20)
    command[command.index("--device") + 1] = device
    done = bench(*command, "--data-root", str(tree), "--results", f"out-{device}-{'-'.join(more)}", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = Path(f"out-{device}-{'-'.join(more)}").rglob("s*.json")
    return json.loads(path.read_text())


def configured(name: str) -> Method:
    kind = METHODS.load(name)
    values = {"encoder": CNN, "input_size": 64} if name == "rd4ad" else {"input_size": 32}
    config: MethodConfig = kind.Config(
        **{"encoder": "vit_tiny_patch8_128.bench", "steps": 12, "batch_size": 4} | values
    )
    return kind(config)


def extractor(method: Method, task: Task, device: torch.device, folder: Path) -> Extractor:
    if method.name == "rd4ad":
        torch.manual_seed(0)
        save_file(timm.create_model(CNN, num_classes=0).state_dict(), folder / f"{CNN}.safetensors")
    wanted = method.encoder()
    encoder = frozen.build(wanted, locate(wanted.name, folder if method.name == "rd4ad" else None)).to(device)
    return Extractor(
        method, encoder, PixelCache(task.dataset, task.hashes, wanted.input_size, wanted.input_size), device
    )


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


def test_a_compiled_training_has_the_losses_of_the_eager_one(bench: Callable, small: Callable, tree: Path) -> None:
    eager, compiled = (run_on("cuda", bench, small, tree, *more) for more in ((), ("--compile",)))
    assert compiled["training"]["compiled"] and not eager["training"]["compiled"]
    curves = [torch.tensor([loss for _, loss in one["training"]["loss_curve"]]) for one in (eager, compiled)]
    torch.testing.assert_close(*curves, rtol=1e-3, atol=1e-5)


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions whose gradient is the same every time, in full precision: what is left is the place's doing."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.usefixtures("repeatable")
def test_losses_and_features_do_not_depend_on_the_place(
    name: str, gpu: torch.device, task: Task, tmp_path: Path
) -> None:
    method = configured(name)
    extract = extractor(method, task, gpu, tmp_path)
    order = BatchOrder(len(task.train), 4, 0)
    losses, batches = {}, {}
    for place in ("device", "memory", "file", "none"):
        store = feature_store.build(extract, task.train, Silent(), place=place)
        assert store.place == place
        seed_everything(0)
        module = method.build(extract.encoder.info).to(gpu)
        trainer = Trainer(method, 0, gpu, "fp32", tmp_path / f"{place}.ckpt", 1e9, Silent())
        given = TrainingBatches(extract, store, task.train, 0)
        losses[place] = torch.tensor(trainer.train(module, given, task.train).losses)
        batches[place] = store.get(order.at(3))
    for place in ("memory", "file"):
        for feature, kept in batches["device"].items():
            assert kept.device == gpu and torch.equal(kept, batches[place][feature]), (place, feature)
    for place in ("memory", "file", "none"):
        torch.testing.assert_close(losses["device"], losses[place], rtol=1e-3, atol=1e-5, msg=place)


def test_rows_brought_ahead_are_whole_however_busy_the_device_is(gpu: torch.device) -> None:
    # large enough that a copy which nobody waited for would be seen half done, or overwritten by the next
    kept = {"a": torch.randn(64, 1024, 512), "b": torch.arange(64)}
    store = StoredFeatures(kept, "memory", gpu)
    busy = torch.randn(4096, 4096, device=gpu)
    order = BatchOrder(64, 16, 0)
    found = []
    for step in range(24):
        batch = store.get(order.at(step))
        store.expect(order.at(step + 1))
        for _ in range(4):
            busy = busy @ busy / 64
        found.append((batch["a"].sum(dim=(1, 2)), batch["b"].clone(), batch["a"].clone() if step % 8 == 7 else None))
        del batch
    for step, (sums, numbers, whole) in enumerate(found):
        rows = order.at(step)
        assert torch.equal(numbers.cpu(), rows)
        torch.testing.assert_close(sums.cpu(), kept["a"][rows].sum(dim=(1, 2)), rtol=1e-3, atol=1e-1)
        if whole is not None:
            assert torch.equal(whole.cpu(), kept["a"][rows])


def test_pixels_on_the_device_are_the_cache_s(gpu: torch.device, task: Task) -> None:
    cache = PixelCache(task.dataset, task.hashes, 32, 32)
    kept, passing = DevicePixels(cache, gpu), DevicePixels(cache, gpu)
    assert kept.keep(task.train, room=1e9)
    for chosen in ([0, 1, 2], [2, 0], [5, 3], [1, 3]):
        samples = [task.train[index] for index in chosen]
        found = kept.batch(samples)
        assert found.device == gpu and torch.equal(found, passing.batch(samples))
        assert torch.equal(found.cpu(), torch.from_numpy(cache.batch(samples)))


@pytest.fixture
def no_waiting() -> Iterator[Callable[[], None]]:
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("place", ["device", "memory"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", TRAINED)
def test_a_step_waits_for_nothing(
    name: str, precision: str, place: str, gpu: torch.device, task: Task, tmp_path: Path, no_waiting: Callable
) -> None:
    method = configured(name)
    extract = extractor(method, task, gpu, tmp_path)
    store = feature_store.build(extract, task.train, Silent(), place=place)
    module = method.build(extract.encoder.info).to(gpu).train()
    order, batches = BatchOrder(len(task.train), 4, 0), TrainingBatches(extract, store, task.train, 0)
    take = Step(
        *(method, module, method.optimizer(module), lambda step: batches.at(order.at(step), step), gpu, precision)
    )
    for step in range(3):
        # the first steps fill libraries' and allocators' caches, and may look at what they see, once
        take(step)
    torch.cuda.synchronize(gpu)
    no_waiting()
    losses = [take(step) for step in range(3, 8)]
    torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(torch.stack(losses)).all()
