"""Every method on a GPU that is not there, at its published size: where its tensors lie, and what its steps wait for.

tests/run/test_cuda.py is for a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import pytest
import torch
from fake_gpu import GPU, META, Watch, gpu
from torch import Tensor, nn

from bench.api import Batch, Method
from bench.config import configure
from bench.encoders import frozen
from bench.encoders.frozen import FrozenEncoder
from bench.plan import needs
from bench.plan.texture_source import Textures
from bench.registry import DATASETS, METHODS
from bench.run.extractor import Looking
from bench.run.feature_store import StoredFeatures
from bench.run.seeding import BatchOrder
from bench.run.textures import Draw
from bench.run.training import Step, scaled

IMAGES, BATCH = 4, 2
FEWER = {"cflow": {"fibre": 8192}}
"""Of 168 updates in a batch, six tell as much."""
TRAINED = [name for name in METHODS.names() if METHODS.load(name).Config.model_fields["steps"].default != 0]


@lru_cache
def configured(name: str) -> Method:
    kind = METHODS.load(name)
    return kind(configure(kind, "mvtec", FEWER.get(name, {}), None)).settled(3629)


@pytest.fixture(params=METHODS.names())
def method(request: pytest.FixtureRequest) -> Method:
    return configured(request.param)


@pytest.fixture(
    params=[name for name in METHODS.names() if METHODS.load(name).Config.model_fields["steps"].default != 0]
)
def trained(request: pytest.FixtureRequest) -> Method:
    return configured(request.param)


@dataclass
class There:
    """A method with its encoder on a device."""

    method: Method
    encoder: FrozenEncoder
    device: torch.device

    def batch(self, count: int, step: int | None = None, features: dict[str, Tensor] | None = None) -> Batch:
        side = self.encoder.info.input_size
        looking = Looking(self.method, self.encoder, Draw(Textures(), side, self.device))
        images = None
        if looking.needs_pixels(features):
            images = torch.empty(count, 3, side, side, device=self.device)
        return looking.batch(images, ("class",) * count, features, None if step is None else torch.Generator)

    def batches(self) -> Iterator[Batch]:
        for _ in range(IMAGES // BATCH):
            yield self.batch(BATCH, step=0)

    def module(self) -> nn.Module:
        """As a cell has it before its first step."""
        module = needs.build(self.method, self.encoder).to(self.device)
        with torch.no_grad():
            self.method.fit(module, self.batches())
        return module


def there(method: Method, device: torch.device) -> There:
    request = method.encoder()
    return There(method, frozen.skeleton(request, needs.side(method, request), str(device)), device)


def test_everything_lies_on_the_gpu_and_a_step_waits_for_nothing(method: Method) -> None:
    with gpu() as watch:
        one = there(method, GPU)
        module = one.module()
        held = {**dict(module.named_parameters()), **dict(module.named_buffers()), **one.batch(2)}
        if method.config.steps:
            held["loss"], batch = stepped(one, module.train(), watch)
            assert watch.waits == []
            # the rows of the batch, and what is as small
            assert watch.to_device <= 16 * batch + 256 and watch.to_host == 0
            with torch.no_grad():
                method.finish(module.eval(), one.batches())
            held |= dict(module.named_buffers())
        with torch.no_grad():
            found = method.anomaly(module.eval(), one.batch(2), one.encoder.info, 256)
        held |= {"scores": found.scores} | ({"maps": found.maps} if found.maps is not None else {})
        assert found.scores.shape == (2,) and (found.maps is None or found.maps.shape == (2, 256, 256))
        assert {name: str(tensor.device) for name, tensor in held.items() if tensor.device != GPU} == {}


def stepped(one: There, module: nn.Module, watch: Watch) -> tuple[Tensor, int]:
    """The loss of a step on kept features, with nothing else in the watch; and the images of its batch."""
    method = one.method
    kept = {name: feature.new_empty(64, *feature.shape[1:]) for name, feature in one.batch(1).items()}
    store = StoredFeatures(kept, "device", GPU) if kept else None
    order = BatchOrder(64, method.config.batch_size, 0)
    rows = order.at(0)
    watch.waits.clear()
    watch.to_device = watch.to_host = 0
    features = dict(store.get(rows)) if store else None
    return method.loss(module, one.batch(order.batch_size, 1, features), 1), order.batch_size


def test_gradient_and_update_wait_for_nothing(trained: Method) -> None:
    # where nothing is ever computed
    one = there(trained, META)
    with torch.device("meta"), Watch():
        module = one.module().train()
        batch = one.batch(trained.config.batch_size, step=1)
    optimizer = scaled(trained.optimizer(module))
    for group in optimizer.param_groups:
        group["fused"] = False  # which no device without kernels has
    take = Step(trained, module, optimizer, lambda step: batch, META, "fp32")
    with Watch() as watch:
        loss = take(1)
    assert loss.device == META and watch.waits == []
    assert any(param.grad is not None for param in module.parameters())


@pytest.mark.parametrize("name", ["dinomaly", "vitad"])
def test_what_is_kept_of_mvtec_fits_half_a_gpu(name: str) -> None:
    with gpu():
        one = there(configured(name), GPU)
        kept = sum(feature.numel() * feature.element_size() for feature in one.batch(1).values())
    images = sum(counts.train for counts in DATASETS.load("mvtec").card.counts.values())
    assert kept * images < 40e9
