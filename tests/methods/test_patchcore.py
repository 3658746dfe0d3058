from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bench.api import EncoderInfo
from bench.encoders import catalog, frozen
from bench.errors import UsageError
from bench.methods import _coreset, _memory
from bench.methods._memory import Bank
from bench.methods.patchcore import Config, PatchCore
from bench.run.complexity import complexity

DIM = 8


def cnn(*channels: int) -> EncoderInfo:
    return EncoderInfo("fake", "cnn", channels[-1], 5, 0, 16, 0, (4, 4), 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), channels)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fitted(train: Tensor, **config: Any) -> tuple[PatchCore, Bank]:
    """`train`: [images, places, DIM]."""
    torch.manual_seed(0)
    method = PatchCore(Config(**{"dim": DIM, **config}))
    module = method.build(cnn(6, 10))
    assert isinstance(module, Bank)
    method.fit(module, ({"patches": part} for part in train.split(2)))
    return method, module


# ------------------------------------------------------------------------------------------------ what is asked for
@pytest.mark.parametrize(
    ("values", "blocks", "size", "position"),
    [
        ({}, (2, 3), 224, "timm"),
        ({"encoder": "mobilenetv2_100"}, (2, 3), 224, "timm"),
        ({"encoder": "convnext_tiny.in12k"}, (1, 2), 224, "timm"),
        ({"encoder": "vit_base_patch14_reg4_dinov2.lvd142m"}, (5, 8), 392, "dinov2"),
        ({"encoder": "vit_small_patch16_224.dino", "layers": (8, 2, 5), "input_size": 224}, (2, 5, 8), 224, "timm"),
        ({"layers": (1, 2)}, (1, 2), 112, "timm"),
    ],
)
def test_requests(values: dict[str, Any], blocks: tuple[int, ...], size: int, position: str) -> None:
    request = PatchCore(Config(**values)).encoder()
    assert (request.blocks, request.input_size, request.position) == (blocks, size, position)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": ()}, "layers is empty"),
        ({"layers": (2, 7)}, "blocks.*do not fit"),
        ({"neighbourhood": 4}, "neighbourhood is 4, expected an odd number"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PatchCore(Config(**values)).encoder()


def test_missing_strides_are_refused_with_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "strides", lambda name: (2, 4, 32))
    with pytest.raises(UsageError, match=r"stride 8 and 16.*lacks one.*mobilenetv2_100"):
        PatchCore(Config()).encoder()


# ---------------------------------------------------------------------------------------------------- features
def pooled(values: Tensor, count: int) -> Tensor:
    """Adaptive average pooling of the last axis, bin by bin."""
    length = values.shape[-1]
    bins = [values[..., i * length // count : -(-(i + 1) * length // count)].mean(-1) for i in range(count)]
    return torch.stack(bins, dim=-1)


@pytest.mark.parametrize(("dim", "width"), [(8, 8), (16, 16), (1024, 32)])
def test_features_against_a_direct_computation(dim: int, width: int) -> None:
    blocks = {2: seeded(2, 6, 4, 4), 3: seeded(2, 10, 2, 2, seed=1)}
    found = PatchCore(Config(dim=dim)).features(blocks, cnn(6, 10))["patches"]
    layers = []
    for maps in blocks.values():
        _, channels, side, _ = maps.shape
        padded = F.pad(maps, (1, 1, 1, 1))
        grid = torch.stack(
            [padded[:, :, y : y + 3, x : x + 3].flatten(1) for y in range(side) for x in range(side)], dim=1
        )
        layers.append(pooled(grid, min(dim, 2 * channels)))
    deep = layers[1].reshape(2, 2, 2, -1).permute(0, 3, 1, 2)
    deep = F.interpolate(deep, size=(4, 4), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    joined = torch.cat([layers[0], deep], dim=-1)
    wanted = pooled(joined, min(dim, joined.shape[-1]))
    assert found.shape == (2, 16, width)
    torch.testing.assert_close(found, wanted)


def test_published_width_gives_each_layer_half() -> None:
    method = PatchCore(Config())
    blocks = {2: torch.zeros(1, 512, 4, 4), 3: torch.zeros(1, 1024, 2, 2)}
    blocks[2] += 1
    patches = method.features(blocks, cnn(512, 1024))["patches"]
    assert patches.shape == (1, 16, 1024)
    assert patches[0, 5, :512].eq(1).all() and not patches[0, 5, 512:].any()
    assert method.build(cnn(512, 1024)).bank.shape == (20_000, 1024)


def test_a_vits_blocks_lie_on_its_grid() -> None:
    info = EncoderInfo("fake", "vit", 6, 12, 2, 8, 5, (2, 3), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    tokens = {5: seeded(2, 11, 6), 8: seeded(2, 11, 6, seed=1)}
    maps = {index: value[:, 5:].transpose(1, 2).reshape(2, 6, 2, 3) for index, value in tokens.items()}
    method = PatchCore(Config())
    found = method.features(tokens, info)["patches"]
    assert torch.equal(found, method.features(maps, cnn(6, 6))["patches"])


# ------------------------------------------------------------------------------------------------------ memory
@pytest.mark.parametrize("pool", [1, 3, 7, 40, 4096])
def test_coreset_against_loops(pool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_coreset, "POOL", pool)
    points = seeded(40, 3)
    torch.manual_seed(3)
    found = _coreset.covering(points, 12).tolist()
    chosen = [found[0]]
    while len(chosen) < 12:
        gaps = [min(float((point - points[index]).norm()) for index in chosen) for point in points]
        chosen.append(max(range(40), key=lambda index: gaps[index]))
    assert found == chosen


@pytest.mark.parametrize("pool", [2, 4096])
def test_coreset_never_takes_a_point_twice(pool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_coreset, "POOL", pool)
    points = torch.ones(6, 3)
    points[0] += 1
    assert sorted(_coreset.covering(points, 6).tolist()) == list(range(6))


def test_coreset_covers_rare_patches_that_a_sample_would_miss() -> None:
    points = torch.cat([seeded(990, 3) * 0.1, seeded(10, 3) * 0.1 + 50])
    torch.manual_seed(0)
    assert (_coreset.covering(points, 2) >= 990).any()


@pytest.mark.parametrize("limit", [7, 20, 64, 1000])
def test_sample_is_bounded_uniform_and_independent_of_order_of_cutting(limit: int) -> None:
    images = torch.arange(12 * 16).float().reshape(12, 16, 1)
    torch.manual_seed(5)
    found = _memory.sampled(images, limit).flatten()
    torch.manual_seed(5)
    ranks = torch.cat([torch.rand(16) for _ in range(12)])
    wanted = ranks.argsort()[:limit].sort().values.float()
    assert torch.equal(found, wanted)


def test_memory_is_bounded_by_the_stated_value() -> None:
    train = seeded(20, 16, DIM).float()
    _, module = fitted(train, candidates=100, share=0.25)
    assert module.bank.shape == (25, DIM)
    _, module = fitted(train, candidates=1000, share=0.25)
    assert module.bank.shape == (80, DIM)
    known = {tuple(row) for row in train.flatten(0, 1).tolist()}
    assert all(tuple(row) in known for row in module.bank.tolist()), "features are remembered unprojected"


def test_projection_keeps_distances() -> None:
    points = seeded(60, 400)
    torch.manual_seed(0)
    seen: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_coreset, "covering", lambda points, count: (seen.append(points), torch.arange(count))[1])
        method = PatchCore(Config(dim=400, projection=256))
        method.fit(method.build(cnn(400)), [{"patches": points[None].float()}])
    ratio = torch.pdist(seen[0].double()) / torch.pdist(points)
    assert seen[0].shape == (60, 256)
    assert ratio.mean().item() == pytest.approx(1, abs=0.05) and ratio.std() < 0.1


# ------------------------------------------------------------------------------------------------------- scores
@pytest.mark.parametrize("neighbours", [0, 1, 3, 9, 1000])
def test_map_and_score_against_loops(neighbours: int) -> None:
    train, test = seeded(6, 16, DIM).float(), seeded(3, 16, DIM, seed=1).float()
    method, module = fitted(train, share=0.3, reweight_neighbours=neighbours)
    found = method.anomaly(module, {"patches": test}, cnn(6, 10), 24)
    bank = module.bank.double()
    assert found.maps is not None and found.maps.shape == (3, 24, 24)
    for image in range(3):
        gaps = (test[image].double()[:, None] - bank).square().sum(-1).sqrt()
        grid = gaps.min(dim=1).values.reshape(1, 1, 4, 4)
        wide = F.interpolate(grid, size=(24, 24), mode="bilinear", align_corners=False)[0, 0]
        smooth = torch.from_numpy(gaussian_filter(wide.numpy(), 4.0))
        torch.testing.assert_close(found.maps[image].double(), smooth, rtol=1e-5, atol=1e-6)

        patch = int(gaps.min(dim=1).values.argmax())
        nearest = int(gaps[patch].argmin())
        around = sorted(range(len(bank)), key=lambda row: float((bank[row] - bank[nearest]).norm()))[:neighbours]
        weight = 1.0
        if len(around) > 1:
            weight -= math.exp(gaps[patch, nearest]) / sum(math.exp(gaps[patch, row]) for row in around)
        assert found.scores[image].item() == pytest.approx(weight * float(gaps[patch, nearest]), rel=1e-5)


def test_far_patches_do_not_overflow_the_weight() -> None:
    method, module = fitted(seeded(6, 16, DIM).float(), share=0.3)
    far = seeded(2, 16, DIM, seed=1).float() * 1e4
    found = method.anomaly(module, {"patches": far}, cnn(6, 10), 24)
    assert found.scores.isfinite().all() and (found.scores > 100).all()


def test_finds_a_foreign_patch() -> None:
    train = seeded(1, 16, DIM).float() + 0.1 * seeded(30, 16, DIM, seed=2).float()
    method, module = fitted(train)
    test = seeded(1, 16, DIM).float() + 0.1 * seeded(4, 16, DIM, seed=3).float()
    test[2, 5] += 3
    found = method.anomaly(module, {"patches": test}, cnn(6, 10), 40)
    assert found.scores.argmax() == 2 and found.maps is not None
    row, column = divmod(int(found.maps[2].argmax()), 40)
    assert 10 <= row < 20 and 10 <= column < 20


def test_cost_includes_the_search_at_its_bound() -> None:
    small, large = (complexity(PatchCore(Config(candidates=count))) for count in (1000, 200_000))
    assert small.params_total == large.params_total == 24_862_528
    assert large.params_trainable == 0 and large.macs == small.macs
    # patches x remembered vectors x width, and the search around the nearest one
    assert large.macs_with_products - small.macs_with_products == (28 * 28 + 1) * (20_000 - 100) * 1024


def test_published_recipe() -> None:
    assert PatchCore.paper.resize_for(224) == 256
    assert PatchCore.paper.eval_size == 224
    with torch.device("meta"):
        info = frozen.skeleton(PatchCore(Config()).encoder()).info
    assert info.channels == (512, 1024)
