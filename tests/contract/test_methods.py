"""What the harness relies on, for every registered method: on generated features, and once through a whole cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.api import Method
from bench.encoders import frozen
from bench.encoders.weights import locate
from bench.registry import METHODS

ENCODER = "vit_tiny_patch8_128.bench"
SETTINGS = {"encoder": ENCODER, "input_size": 32, "steps": 4, "batch_size": 3}


@pytest.fixture(params=METHODS.names())
def method(request: pytest.FixtureRequest) -> Method:
    kind = METHODS.load(request.param)
    return kind(kind.Config(**SETTINGS))


@pytest.fixture
def encoder(method: Method) -> frozen.FrozenEncoder:
    wanted = method.encoder()
    return frozen.build(wanted, locate(wanted.name, None))


def images(count: int, size: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def test_every_setting_has_a_source_and_a_meaning(method: Method) -> None:
    for key, field in type(method.config).model_fields.items():
        assert field.description, key
        assert (field.json_schema_extra or {}).get("source"), key


def test_overrides_name_real_settings(method: Method) -> None:
    for dataset, values in method.overrides.items():
        type(method.config)(**{**SETTINGS, **values}), dataset


def test_features_do_not_depend_on_the_batch(method: Method, encoder: frozen.FrozenEncoder) -> None:
    batch = images(5)
    together = method.features(encoder(batch), encoder.info)
    alone = [method.features(encoder(image[None]), encoder.info) for image in batch]
    assert together
    for name, feature in together.items():
        assert feature.shape[0] == 5
        torch.testing.assert_close(feature, torch.cat([one[name] for one in alone]), rtol=1e-4, atol=1e-4)


def test_every_trainable_tensor_gets_a_gradient_and_a_place_in_the_optimizer(
    method: Method, encoder: frozen.FrozenEncoder
) -> None:
    torch.manual_seed(0)
    module = method.build(encoder.info).train()
    features = method.features(encoder(images(3)), encoder.info)
    loss = method.loss(module, features, step=2)
    assert loss.shape == () and torch.isfinite(loss)
    loss.backward()
    trainable = {name: param for name, param in module.named_parameters() if param.requires_grad}
    assert trainable
    for name, param in trainable.items():
        assert param.grad is not None and torch.isfinite(param.grad).all(), name
    optimized = {id(param) for group in method.optimizer(module).param_groups for param in group["params"]}
    assert optimized == {id(param) for param in trainable.values()}


def test_training_lowers_the_loss(method: Method, encoder: frozen.FrozenEncoder) -> None:
    # ten peak-rate steps on one batch; a sign error in the loss or a wrong optimizer argument shows
    torch.manual_seed(0)
    module = method.build(encoder.info).eval()
    features = method.features(encoder(images(3)), encoder.info)
    optimizer = method.optimizer(module)
    rate = max(method.learning_rate(step) for step in range(method.config.steps))
    losses = []
    for _ in range(10):
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = method.loss(module, features, step=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_predictions_have_the_promised_shape_and_do_not_depend_on_the_batch(
    method: Method, encoder: frozen.FrozenEncoder
) -> None:
    torch.manual_seed(0)
    module = method.build(encoder.info).eval()
    with torch.no_grad():
        features = method.features(encoder(images(5)), encoder.info)
        whole = method.anomaly(module, features, encoder.info, 64)
        parts = [
            method.anomaly(module, {name: f[i : i + 1] for name, f in features.items()}, encoder.info, 64)
            for i in range(5)
        ]
    assert whole.scores.shape == (5,) and torch.isfinite(whole.scores).all()
    torch.testing.assert_close(whole.scores, torch.cat([part.scores for part in parts]), rtol=0, atol=1e-5)
    if whole.maps is not None:
        assert whole.maps.shape == (5, 64, 64) and torch.isfinite(whole.maps).all()
        stacked = torch.cat([part.maps for part in parts if part.maps is not None])
        torch.testing.assert_close(whole.maps, stacked, rtol=0, atol=1e-5)


def test_the_module_goes_through_a_checkpoint(method: Method, encoder: frozen.FrozenEncoder, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = method.build(encoder.info)
    torch.save(module.state_dict(), tmp_path / "state")
    other = method.build(encoder.info)
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_it_builds_without_weights_or_memory(method: Method) -> None:
    with torch.device("meta"):
        module = method.build(frozen.skeleton(method.encoder()).info)
    assert all(param.is_meta for param in module.parameters())


def test_the_paper_protocol_is_named_after_the_method(method: Method) -> None:
    assert method.paper.name == f"paper:{method.name}"
    assert 0 < method.paper.crop <= 1


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("protocol", ["common", "paper"])
def test_a_whole_cell_runs(name: str, protocol: str, bench: Callable, tree: Path, tmp_path: Path) -> None:
    pairs = [part for key, value in SETTINGS.items() if key != "encoder" for part in ("--set", f"{name}.{key}={value}")]
    done = bench(
        *("run", "--methods", name, "--datasets", "folder", "--data-root", str(tree), "--encoder", ENCODER),
        *("--results", "out", "--protocol", protocol, "--device", "cpu", *pairs),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "out").rglob("s*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "done"
    for value in record["mean"].values():
        assert value is None or 0 <= value <= 1
