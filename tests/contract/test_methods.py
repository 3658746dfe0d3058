"""What the harness relies on, for every registered method: on generated features, and once through a whole cell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow.parquet as parquet
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from bench.api import Batch, Method
from bench.encoders import catalog, frozen
from bench.encoders.weights import locate
from bench.errors import UsageError
from bench.families import FAMILIES
from bench.machine.progress import Silent
from bench.plan import needs
from bench.plan.texture_source import Textures
from bench.protocol import COMMON
from bench.registry import DATASETS, METHODS
from bench.run.batches import TrainingBatches
from bench.run.extractor import Looking
from bench.run.feature_store import StoredFeatures
from bench.run.seeding import BatchOrder, step_generator
from bench.run.textures import Draw
from bench.run.training import Step, Trainer, TrainingLog
from bench.setting import SETTINGS

VIT = "vit_tiny_patch8_128.bench"
CNN = "test_resnet.r160_in1k"
SMALL: dict[str, dict[str, Any]] = {
    "rd4ad": {"encoder": CNN, "input_size": 64, "lr": 5e-3},
    "vitad": {"lr": 1e-4},
    "generalad": {"hidden": 64, "lr": 5e-3},
    "cflow": {"encoder": CNN, "input_size": 64, "lr": 5e-3, "blocks": 2, "condition": 8},
    "rdpp": {"encoder": CNN, "input_size": 64, "lr": 5e-3},
    "recontrast": {"encoder": CNN, "input_size": 64, "lr": 5e-3, "encoder_lr": 0.1},
    "invad": {"encoder": CNN, "input_size": 64, "lr": 4e-3},
    "uniad": {"encoder": CNN, "input_size": 64, "neighbour_mask": 3},
    "simplenet": {"dim": 32, "width": 16, "lr": 1e-2, "discriminator_lr": 2e-2},
    "panda": {"encoder": CNN, "input_size": 64, "clip_norm": 1e3},
    "msc": {"encoder": CNN, "input_size": 64, "lr": 1e-4},
    "transformaly": {"lr": 1e-3},
    "realnet": {
        "encoder": CNN,
        "input_size": 128,
        "kept": [0.5, 0.25, 0.25, 0.1],
        "highest": 8,
        "widest": 8,
        "lr": 1e-2,
    },
    "draem": {"width": 2, "mark_width": 24, "score_pool": 5, "lr": 1e-2},
    "destseg": {
        "encoder": CNN,
        "input_size": 64,
        "student_width": 8,
        "mark_width": 16,
        "student_share": 0.5,
        "lr": 0.1,
    },
    "efficientad": {
        "encoder": CNN,
        "input_size": 64,
        "width": 8,
        "dim": 16,
        "autoencoder_width": 8,
        "distilled_textures": 2,
        "statistics_textures": 8,
        "lr": 1e-2,
    },
    "destseg_lite": {"encoder": CNN, "input_size": 64},
    "draem_lite": {"lr": 1e-2},
}
"""Encoder and input size where a method does not take the embedded ViT at 32 pixels; rates of whole batches."""
TRAINED = [name for name in METHODS.names() if METHODS.load(name).Config.model_fields["steps"].default != 0]
UNTRAINED = [name for name in METHODS.names() if name not in TRAINED]


def settings(name: str) -> dict[str, Any]:
    trains = {"steps": 4, "batch_size": 3} if name in TRAINED else {}
    looks = {"encoder": VIT} if "encoder" in METHODS.load(name).Config.model_fields else {}
    return looks | {"input_size": 32} | SMALL.get(name, {}) | trains


def configured(name: str) -> Method:
    kind = METHODS.load(name)
    return kind(kind.Config(**settings(name)))


@pytest.fixture(params=METHODS.names())
def method(request: pytest.FixtureRequest) -> Method:
    return configured(request.param)


@pytest.fixture(params=TRAINED)
def trained(request: pytest.FixtureRequest) -> Method:
    return configured(request.param)


@pytest.fixture(params=UNTRAINED)
def untrained(request: pytest.FixtureRequest) -> Method:
    return configured(request.param)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights for the CNN; no CNN is embedded."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_file(timm.create_model(CNN, num_classes=0).state_dict(), folder / f"{CNN}.safetensors")
    return folder


@pytest.fixture
def encode(weights: Path) -> Callable[[Method], frozen.FrozenEncoder]:
    def build(method: Method) -> frozen.FrozenEncoder:
        wanted = method.encoder()
        if wanted is None:
            return frozen.absent(method.config.input_size)
        return frozen.build(wanted, locate(wanted.name, weights))

    return build


def images(encoder: frozen.FrozenEncoder, count: int) -> torch.Tensor:
    side = encoder.info.input_size
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count))


def seen(method: Method, encoder: frozen.FrozenEncoder, shown: torch.Tensor, step: int = 0) -> Batch:
    """What a method is handed of images in [0, 1] at a training step."""
    looking = Looking(method, encoder, Draw(Textures(), encoder.info.input_size, torch.device("cpu")))
    return looking.batch(shown, ["dots"] * len(shown), random=lambda: step_generator(0, step, torch.device("cpu")))


def fitted(method: Method, encoder: frozen.FrozenEncoder, batch: int = 3) -> torch.nn.Module:
    """The module as a cell has it before the first step, from seven images."""
    torch.manual_seed(0)
    module = needs.build(method, encoder)
    with torch.no_grad():
        method.fit(module, (seen(method, encoder, part) for part in images(encoder, 7).split(batch)))
    return module


def test_every_setting_has_a_source_and_a_meaning(method: Method) -> None:
    for key, field in type(method.config).model_fields.items():
        assert field.description, key
        assert (field.json_schema_extra or {}).get("source"), key


def test_overrides_name_real_settings(method: Method) -> None:
    for dataset, values in method.overrides.items():
        type(method.config)(**{**settings(method.name), **values}), dataset


def test_overrides_are_of_datasets_and_settings_that_there_are(method: Method) -> None:
    """`bench show` prints each as a place where the paper's values are others."""
    for place in method.overrides:
        first, slash, second = place.partition("/")
        assert first in (DATASETS.targets if slash else {**DATASETS.targets, **SETTINGS}), place
        assert not slash or second in SETTINGS, place


def test_what_the_list_says_of_it_is_so(method: Method) -> None:
    """`bench ls methods` reads these off the source, where a value that is computed or inherited would not be seen."""
    kind = type(method)
    assert METHODS.stated(method.name, "family") == kind.family
    assert kind.family in FAMILIES or method.name not in METHODS.builtin
    assert (METHODS.stated(method.name, "encoders") or ("vit", "cnn") if kind.encoders else ()) == kind.encoders
    assert set(METHODS.stated(method.name, "needs") or {"features"}) == kind.needs
    wanted = method.encoder()
    assert (wanted is not None) == bool(kind.encoders)
    if wanted is not None:
        assert catalog.describe(wanted.name).family in kind.encoders


def test_features_do_not_depend_on_the_batch(method: Method, encode: Callable) -> None:
    encoder = encode(method)
    shown = images(encoder, 5)
    together = seen(method, encoder, shown)
    alone = [seen(method, encoder, image[None]) for image in shown]
    assert bool(together) == ("features" in method.needs)
    for name, feature in together.items():
        assert feature.shape[0] == 5
        torch.testing.assert_close(feature, torch.cat([one[name] for one in alone]), rtol=1e-4, atol=1e-4)


def test_every_trainable_tensor_gets_a_gradient_and_a_place_in_the_optimizer(trained: Method, encode: Callable) -> None:
    encoder = encode(trained)
    module = fitted(trained, encoder).train()
    # in its first step or in its last: a training may have phases
    for step in (0, trained.config.steps - 1):
        loss = trained.loss(module, seen(trained, encoder, images(encoder, 3)), step=step)
        assert loss.shape == () and torch.isfinite(loss)
        loss.backward()
    trainable = {name: param for name, param in module.named_parameters() if param.requires_grad}
    assert trainable
    for name, param in trainable.items():
        assert param.grad is not None and torch.isfinite(param.grad).all(), name
    optimized = [id(param) for group in trained.optimizer(module).param_groups for param in group["params"]]
    assert sorted(optimized) == sorted(id(param) for param in trainable.values())


def test_training_lowers_the_loss(trained: Method, encode: Callable) -> None:
    # peak-rate steps on one batch, ten for most; a sign error in the loss or a wrong optimizer argument shows
    encoder = encode(trained)
    module = fitted(trained, encoder).eval()
    optimizer = trained.optimizer(module)
    rate = max(trained.learning_rate(step) for step in range(trained.config.steps))
    losses: list[float] = []
    while len(losses) < 200 and not (losses and losses[-1] < 0.9 * losses[0]):
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        loss = trained.loss(module, seen(trained, encoder, images(encoder, 3)), step=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_a_method_without_training_has_nothing_to_train_and_says_so(untrained: Method, encode: Callable) -> None:
    module = fitted(untrained, encode(untrained))
    assert untrained.config.steps == 0 and not list(module.parameters())
    assert any(buffer.numel() for buffer in module.buffers()), "what it knows is in its buffers"
    with pytest.raises(UsageError, match="trains nothing"):
        untrained.loss(module, Batch({}), 0)
    with pytest.raises(UsageError, match="trains nothing"):
        untrained.optimizer(module)
    with pytest.raises(ValidationError, match="steps"):
        type(untrained.config)(**settings(untrained.name), steps=5)


def test_what_is_remembered_does_not_depend_on_the_batch(method: Method, encode: Callable) -> None:
    encoder = encode(method)
    whole, single = fitted(method, encoder, batch=7).state_dict(), fitted(method, encoder, batch=1).state_dict()
    assert whole.keys() == single.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, single[name], rtol=0, atol=1e-5)


def test_predictions_have_the_promised_shape_and_do_not_depend_on_the_batch(method: Method, encode: Callable) -> None:
    encoder = encode(method)
    module = fitted(method, encoder).eval()
    with torch.no_grad():
        method.finish(module, (seen(method, encoder, part) for part in images(encoder, 7).split(3)))
        shown = seen(method, encoder, images(encoder, 5))
        whole = method.anomaly(module, shown, encoder.info, 64)
        again = method.anomaly(module, shown, encoder.info, 64)
        alone = [
            Batch(
                {name: feature[place : place + 1] for name, feature in shown.items()},
                None if shown.images is None else shown.images[place : place + 1],
                shown.classes[:1],
                encode=shown.encode,
            )
            for place in range(5)
        ]
        parts = [method.anomaly(module, one, encoder.info, 64) for one in alone]
    assert whole.scores.shape == (5,) and torch.isfinite(whole.scores).all()
    assert whole.scores.dtype == torch.float32 and len(whole.scores.unique()) == 5
    assert torch.equal(whole.scores, again.scores)
    torch.testing.assert_close(whole.scores, torch.cat([part.scores for part in parts]), rtol=1e-6, atol=1e-5)
    if whole.maps is not None:
        assert whole.maps.shape == (5, 64, 64) and torch.isfinite(whole.maps).all()
        assert whole.maps.dtype == torch.float32
        stacked = torch.cat([part.maps for part in parts if part.maps is not None])
        torch.testing.assert_close(whole.maps, stacked, rtol=1e-6, atol=1e-5)


def test_the_module_goes_through_a_checkpoint(method: Method, encode: Callable, tmp_path: Path) -> None:
    encoder = encode(method)
    module = fitted(method, encoder)
    torch.save(module.state_dict(), tmp_path / "state")
    other = needs.build(method, encoder)
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_it_builds_without_weights_or_memory(method: Method) -> None:
    skeleton = frozen.skeleton(method.encoder(), method.config.input_size)
    with torch.device("meta"):
        module = needs.build(method, skeleton)
    assert all(param.is_meta for param in module.parameters())


def test_the_paper_protocol_is_named_after_the_method(method: Method) -> None:
    # without a recipe of its own a method is scored as `common` has it
    assert method.paper.name == f"paper:{method.name}" or method.paper is COMMON
    assert 0 < method.paper.crop <= 1


def test_an_input_size_that_does_not_fit_is_refused_before_any_work(
    method: Method, bench: Callable, tree: Path, weights: Path
) -> None:
    done = _run(bench, method.name, tree, weights, settings(method.name) | {"input_size": 70})
    if method.encoder() is None and done.returncode == 0:
        return  # nothing but an encoder's patches need a multiple
    assert done.returncode == 2
    if method.encoder() is not None:
        assert "input size 70 does not fit" in done.stderr and re.search("(64|128) or", done.stderr)
    assert "input" in done.stderr and "70" in done.stderr


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("protocol", ["common", "paper"])
def test_a_whole_cell_runs(
    name: str, protocol: str, bench: Callable, tree: Path, weights: Path, tmp_path: Path
) -> None:
    done = _run(bench, name, tree, weights, settings(name), "--protocol", protocol)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "out").rglob("s*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "done"
    for value in record["mean"].values():
        assert value is None or 0 <= value <= 1
    assert 0 <= record["mean"]["image/auroc"] <= 1


@pytest.mark.parametrize("name", METHODS.names())
def test_cached_and_uncached_features_give_the_same_losses_and_scores(
    name: str, bench: Callable, tree: Path, weights: Path, tmp_path: Path
) -> None:
    scores, losses = {}, {}
    for store in ("memory", "file", "none"):
        done = _run(bench, name, tree, weights, settings(name), "--store", store, results=store)
        assert done.returncode == 0, done.stdout + done.stderr
        (path,) = (tmp_path / store).rglob("s*.parquet")
        scores[store] = torch.tensor(parquet.read_table(path)["score"].to_pylist())
        training = json.loads(path.with_suffix(".json").read_text())["training"]
        kept = "features" in METHODS.load(name).needs
        assert (training or {"store": store})["store"] == (store if kept else "none")
        losses[store] = torch.tensor([loss for _, loss in (training or {"loss_curve": []})["loss_curve"]])
    assert len(scores["none"]) == 10 and len(losses["none"]) == (4 if name in TRAINED else 0)
    assert torch.equal(scores["memory"], scores["file"]) and torch.equal(losses["memory"], losses["file"])
    torch.testing.assert_close(losses["memory"], losses["none"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scores["memory"], scores["none"], rtol=1e-4, atol=1e-6)


class Killed(Exception):
    pass


class Shown:
    """Batches as the training loop asks for them, of seven images; raises at a step."""

    def __init__(self, looking: Looking, shown: torch.Tensor, breaks_at: int = -1) -> None:
        self.looking, self.shown, self.breaks_at = looking, shown, breaks_at

    def at(self, rows: torch.Tensor, step: int) -> Batch:
        if step == self.breaks_at:
            raise Killed
        return self.looking.batch(
            self.shown[rows], ["dots"] * len(rows), random=lambda: step_generator(0, step, torch.device("cpu"))
        )

    def expect(self, rows: torch.Tensor) -> None:
        pass


def test_a_killed_training_goes_on_to_the_same_bits(trained: Method, encode: Callable, tmp_path: Path) -> None:
    encoder, cpu = encode(trained), torch.device("cpu")
    looking, shown = Looking(trained, encoder, Draw(Textures(), encoder.info.input_size, cpu)), images(encoder, 7)
    samples: Any = [SimpleNamespace(id=str(place)) for place in range(7)]

    def train(name: str, breaks_at: int = -1) -> tuple[TrainingLog, torch.nn.Module]:
        module = fitted(trained, encoder)
        trainer = Trainer(trained, 0, cpu, "fp32", tmp_path / name, 0.0, Silent())
        torch.manual_seed(5)
        return trainer.train(module, cast("TrainingBatches", Shown(looking, shown, breaks_at)), samples), module

    whole, module = train("whole")
    with pytest.raises(Killed):
        train("killed", breaks_at=3)
    resumed, other = train("killed")
    assert resumed.resumed_at == [3]
    assert len(whole.losses) == 4 and resumed.losses == whole.losses
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


class Waiting(TorchDispatchMode):
    """Raises where a number or a shape is read off a tensor: on a GPU the loop would wait there."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "is_nonzero", "bincount")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        masks = [one for one in args[1] if one is not None and one.dtype == torch.bool] if name == "index" else []
        assert name not in self.READS and not masks, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_step_waits_for_no_number(
    precision: str, trained: Method, encode: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encode(trained)
    module = fitted(trained, encoder).train()
    cpu, shown = torch.device("cpu"), images(encoder, 7)
    looking = Looking(trained, encoder, Draw(Textures(), encoder.info.input_size, cpu))
    store = StoredFeatures(dict(seen(trained, encoder, shown)), "memory", cpu) if looking.needs_features else None
    order = BatchOrder(7, 3, 0)

    def batch(step: int) -> Batch:
        rows = order.at(step)
        features = store.get(rows) if store else {}
        return looking.batch(shown[rows], ["dots"] * 3, features, lambda: step_generator(0, step, cpu))

    take = Step(trained, module, trained.optimizer(module), batch, cpu, precision)
    # the first step may look at what it sees, once
    take(0)
    for reader in ("tolist", "numpy", "cpu"):
        # these do not always pass through the dispatcher
        monkeypatch.setattr(torch.Tensor, reader, lambda *_: pytest.fail("reads a tensor"))
    with Waiting():
        for step in range(1, 4):
            loss = take(step)
    assert loss.ndim == 0
    for read in (lambda: loss.item(), lambda: bool(loss > 0), lambda: loss[None][loss[None] > 0]):
        with pytest.raises(AssertionError, match="waits"), Waiting():
            read()


def _run(
    bench: Callable, name: str, tree: Path, weights: Path, values: dict[str, Any], *more: str, results: str = "out"
) -> Any:
    pairs = [part for key, value in values.items() for part in ("--set", f"{name}.{key}={value}")]
    return bench(
        *("run", "--methods", name, "--datasets", "folder", "--data-root", str(tree), "--weights", str(weights)),
        *("--results", results, "--device", "cpu", *pairs, *more),
    )
