from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_values import waves
from scipy import ndimage
from torch import Tensor

from bench.api import Batch, EncoderInfo
from bench.config import configure
from bench.encoders import catalog
from bench.errors import UsageError
from bench.machine import feature_places
from bench.methods import rad
from bench.methods.rad import RAD, Config, Library, highest_cosine, looked_up, most_alike, windows
from bench.run.complexity import complexity

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def info(dim: int = 8, grid: tuple[int, int] = (4, 4), prefix: int = 5, depth: int = 4) -> EncoderInfo:
    return EncoderInfo("fake", "vit", dim, depth, 2, 16, prefix, grid, 16 * grid[0], ZERO, ONE)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def looks(token: Tensor, *patches: Tensor) -> Batch:
    """A batch of class tokens [B, dim] and of each layer's patches [B, h*w, dim], through the method's own features."""
    blocks = {
        number: torch.cat([token[:, None].expand(-1, 5, -1), layer], dim=1) for number, layer in enumerate(patches)
    }
    return Batch(RAD(Config()).features(blocks, info(token.shape[1])))


def fitted(known: Batch, batch: int = 2, **config: Any) -> tuple[RAD, Library]:
    method = RAD(Config(**config))
    module = method.build(info(known["token"].shape[1]))
    parts = zip(known["token"].split(batch), known["patches"].split(batch), strict=True)
    method.fit(module, (Batch({"token": token, "patches": patches}) for token, patches in parts))
    return method, module


def distances(method: RAD, module: Library, shown: Batch) -> Tensor:
    """The mean over layers of the cosine distance of each patch."""
    like = most_alike(shown["token"], module.tokens, method.config.images)
    return 1 - method._nearest(module, shown["patches"], like, (4, 4)).mean(dim=1)


@pytest.mark.parametrize(
    ("radius", "first", "total"),
    [(0, [0.010990, 0.065261, 0.041562], 1.315466), (1, [0.004193, 0.025998, 0.005729], 0.710880)],
)
def test_the_reference_values(radius: int, first: list[float], total: float) -> None:
    known = looks(waves(3, 8), waves(3, 16, 8), waves(3, 16, 8, shift=1.0))
    shown = looks(waves(2, 8, shift=0.3), waves(2, 16, 8, shift=0.25), waves(2, 16, 8, shift=1.3))
    method, module = fitted(known, images=2, radius=radius)
    assert most_alike(shown["token"], module.tokens, 2).tolist() == [[0, 2], [1, 0]]
    found = distances(method, module, shown)
    assert found[0, :3].tolist() == pytest.approx(first, abs=1e-6)
    assert float(found.sum()) == pytest.approx(total, abs=2e-6)


def slowly(known: Batch, shown: Batch, images: int, radius: int | None, weights: list[float]) -> np.ndarray:
    """The formula place by place: 1 - the highest cosine within the window, weighted over the layers."""
    side = 4
    found = np.zeros((len(shown["token"]), side * side))
    for number, token in enumerate(shown["token"]):
        order = torch.argsort(torch.cosine_similarity(token[None], known["token"]), descending=True)[:images]
        for layer, weight in enumerate(weights):
            for row, column in np.ndindex(side, side):
                query = shown["patches"][number, layer, row * side + column].double()
                near = [
                    float(torch.cosine_similarity(query, known["patches"][other, layer, r * side + c].double(), dim=0))
                    for other in order
                    for r, c in np.ndindex(side, side)
                    if radius is None or max(abs(r - row), abs(c - column)) <= radius
                ]
                found[number, row * side + column] += weight / sum(weights) * (1 - max(near))
    return found


@pytest.mark.parametrize("images", [1, 3, 50])
@pytest.mark.parametrize("radius", [0, 1, 2, 3, None])
def test_maps_and_scores_against_loops(radius: int | None, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    known = looks(seeded(5, 8), seeded(5, 16, 8, seed=1), seeded(5, 16, 8, seed=2))
    shown = looks(seeded(3, 8, seed=3), seeded(3, 16, 8, seed=4), seeded(3, 16, 8, seed=5))
    weights = [1.0, 3.0]
    method, module = fitted(known, images=images, radius=radius, layer_weights=tuple(weights), score_share=0.05)
    wanted = slowly(known, shown, images, radius, weights)
    grid = F.interpolate(torch.from_numpy(wanted).view(3, 1, 4, 4), size=(20, 20), mode="bilinear")[:, 0].numpy()
    profile = np.exp(-(np.arange(-2, 3) ** 2) / 2)
    kernel = np.outer(profile, profile) / profile.sum() ** 2
    smooth = np.stack([ndimage.convolve(one, kernel, mode="constant") for one in grid])
    highest = np.sort(smooth.reshape(3, -1))[:, -20:].mean(1)
    for at_once in (rad.AT_ONCE, 1):
        monkeypatch.setattr(rad, "AT_ONCE", at_once)
        found = method.anomaly(module, shown, info(), 20)
        assert found.maps is not None
        np.testing.assert_allclose(found.maps.numpy(), smooth, atol=2e-6)
        np.testing.assert_allclose(found.scores.numpy(), highest, atol=2e-6)


def test_windows_mirror_each_other() -> None:
    near = windows((3, 5), 1)
    assert near.shape == (15, 9) and near[0].tolist() == [-1, -1, -1, -1, 0, 1, -1, 5, 6]
    for place, around in enumerate(near.tolist()):
        for number, other in enumerate(around):
            assert other < 0 or near[other, 8 - number] == place
    assert windows((3, 5), 4).shape == windows((3, 5), None).shape == (15, 0)
    assert windows((3, 5), 3).shape == (15, 49)


def test_images_that_several_look_up_are_brought_once() -> None:
    like = torch.tensor([[4, 1, 2], [2, 7, 4]])
    found = list(looked_up(like, 2))
    assert [rows.tolist() for rows, _ in found] == [[1, 2], [4, 7]]
    assert [[one.tolist() for one in own] for _, own in found] == [[[0, 1], [1]], [[0], [0, 1]]]
    assert highest_cosine(seeded(4, 3), seeded(0, 4, 3), windows((2, 2), 0)).tolist() == [-1.0] * 4


@pytest.mark.parametrize("place", ["memory", "file"])
def test_scores_are_the_same_wherever_the_memory_lies(place: feature_places.Place) -> None:
    known = looks(seeded(5, 8), seeded(5, 16, 8, seed=1), seeded(5, 16, 8, seed=2))
    shown = looks(seeded(3, 8, seed=3), seeded(3, 16, 8, seed=4), seeded(3, 16, 8, seed=5))
    method, module = fitted(known, images=3)
    wanted = method.anomaly(module, shown, info(), 20)
    feature_places.tell(place, None)
    try:
        method, module = fitted(known, images=3, batch=3)
    finally:
        feature_places.tell("auto", None)
    found = method.anomaly(module, shown, info(), 20)
    assert torch.equal(found.scores, wanted.scores) and found.maps is not None and wanted.maps is not None
    assert torch.equal(found.maps, wanted.maps)


def test_half_precision_halves_the_memory_and_moves_scores_little() -> None:
    known = looks(seeded(5, 8), seeded(5, 16, 8, seed=1), seeded(5, 16, 8, seed=2))
    shown = looks(seeded(3, 8, seed=3), seeded(3, 16, 8, seed=4), seeded(3, 16, 8, seed=5))
    (full, whole), (half, small) = fitted(known), fitted(known, precision="fp16")
    assert (small.patches.dtype, small.tokens.dtype) == (torch.float16, torch.float32)
    one, other = (way.anomaly(module, shown, info(), 20).scores for way, module in ((full, whole), (half, small)))
    assert not torch.equal(one, other)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


def test_features_are_directions_of_normed_blocks() -> None:
    blocks = {index: seeded(2, 21, 8, seed=index) for index in (1, 2, 3)}
    found = RAD(Config()).features(blocks, info())
    torch.testing.assert_close(found["token"], blocks[3][:, 0] / blocks[3][:, 0].norm(dim=-1, keepdim=True))
    assert found["patches"].shape == (2, 3, 16, 8)
    patches = blocks[2][:, 5:]
    torch.testing.assert_close(found["patches"][:, 1], patches / patches.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize(
    ("dataset", "images", "radius", "macs"),
    [("mvtec", 150, 1, 3.3e9), ("visa", 900, 2, 54e9), ("realiad", 900, 0, 2.2e9), ("btad", 150, 1, 3.3e9)],
)
def test_published_recipe_and_cost(dataset: str, images: int, radius: int, macs: float) -> None:
    config = configure(RAD, dataset, {}, None, "multi")
    method = RAD(config)  # type: ignore[arg-type]
    assert (method.config.images, method.config.radius) == (images, radius)
    request = method.encoder()
    described = catalog.requested(request)
    assert (request.blocks, request.norm, request.input_size) == ((3, 6, 9, 11), True, 448)
    assert (described.grid, described.prefix, described.dim) == ((28, 28), 5, 768)
    assert RAD.paper.resize_for(448) == 512 and RAD.paper.mask_rule == "dinomaly"
    cost = complexity(method)
    assert cost.params_total == 85_641_216 and cost.params_trainable == 0
    encoder = 78.95e9
    # the search, and which images are alike, counted where as many are known as are looked up
    assert cost.macs_with_products == pytest.approx(encoder + macs, rel=0.01)


def test_dinov2_serves_as_well() -> None:
    request = RAD(Config(encoder="vit_large_patch14_reg4_dinov2.lvd142m")).encoder()
    assert (request.blocks, request.input_size, request.position) == ((6, 12, 18, 23), 392, "dinov2")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"layer_weights": (1.0,)}, "each of the 4 layers"),
        ({"layer_weights": (1.0, -1.0, 1.0, 1.0)}, "at least 0"),
        ({"encoder": "vit_base_patch16_siglip_224.webli"}, "is a ViT without one"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RAD(Config(**values)).encoder()


@pytest.mark.parametrize("batch", [1, 4])
def test_a_limit_keeps_a_uniform_sample_whatever_the_batch(batch: int) -> None:
    tokens = torch.arange(1.0, 13.0).view(12, 1).expand(-1, 8)
    known = Batch({"token": tokens, "patches": tokens.view(12, 1, 1, 8).expand(-1, 2, 16, -1)})
    torch.manual_seed(3)
    ranks = [float(torch.rand(())) for _ in range(12)]
    torch.manual_seed(3)
    _, module = fitted(known, batch, limit=5)
    wanted = sorted(range(12), key=lambda place: ranks[place])[:5]
    assert sorted(module.tokens[:, 0].tolist()) == sorted(float(place + 1) for place in wanted)
    assert torch.equal(module.patches[:, 0, 0], module.tokens)
    _, module = fitted(known, batch, limit=50)
    assert torch.equal(module.tokens, tokens)
