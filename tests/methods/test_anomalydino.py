from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden_values import waves
from scipy import ndimage
from sklearn.decomposition import PCA
from torch import Tensor

from bench.api import Batch, EncoderInfo
from bench.config import configure
from bench.encoders import catalog
from bench.errors import UsageError
from bench.methods._memory import Bank
from bench.methods._rotation import rotated
from bench.methods.anomalydino import AnomalyDINO, Config, first_component, foreground
from bench.run.complexity import complexity

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def info(dim: int = 8, grid: tuple[int, int] = (4, 4), prefix: int = 1) -> EncoderInfo:
    return EncoderInfo("fake", "vit", dim, 12, 2, 14, prefix, grid, 14 * grid[0], ZERO, ONE)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(train: Tensor, **config: Any) -> tuple[AnomalyDINO, Bank]:
    method = AnomalyDINO(Config(**config))
    side = round(train.shape[1] ** 0.5)
    module = method.build(info(train.shape[-1], (side, side)))
    method.fit(module, (Batch({"patches": part}) for part in train.split(2)))
    return method, module


def distances(method: AnomalyDINO, module: Bank, test: Tensor) -> Tensor:
    """Cosine distance of every patch, seen through scores of single patches."""
    flat = test.reshape(-1, 1, test.shape[-1])
    return method.anomaly(module, Batch({"patches": flat}), info(test.shape[-1], (1, 1)), 14).scores.view(
        test.shape[:2]
    )


def test_the_reference_values() -> None:
    method, module = fitted(waves(1, 20, 8))
    test = waves(2, 200, 8, shift=0.25)
    found = distances(method, module, test)
    assert [float(found[0, 0]), float(found[1, 199])] == pytest.approx([0.007421, 0.003965], abs=1e-6)
    assert float(found.sum()) == pytest.approx(8.743402, abs=1e-5)
    scores = method.anomaly(module, Batch({"patches": test}), info(8, (10, 20)), 40).scores
    assert scores.tolist() == pytest.approx([0.101438, 0.104687], abs=1e-6)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_distances_are_one_less_the_cosine(neighbours: int) -> None:
    train, test = seeded(3, 16, 6), seeded(2, 16, 6, seed=1)
    method, module = fitted(train, neighbours=neighbours)
    cosine = torch.cosine_similarity(test.double()[:, :, None], train.double().reshape(1, 1, -1, 6), dim=-1)
    wanted = (1 - cosine.sort(dim=-1, descending=True).values[..., :neighbours]).mean(-1)
    torch.testing.assert_close(distances(method, module, test).double(), wanted, rtol=1e-5, atol=1e-6)


def test_scores_are_of_the_patches_and_maps_smoothed_at_the_inputs_size() -> None:
    method, module = fitted(seeded(4, 16, 8), score_share=0.2)
    test = seeded(2, 16, 8, seed=1)
    each = distances(method, module, test)
    small, large = (method.anomaly(module, Batch({"patches": test}), info(), size) for size in (28, 56))
    torch.testing.assert_close(large.scores, each.topk(3).values.mean(1))
    assert torch.equal(small.scores, large.scores)
    grid = torch.nn.functional.interpolate(each.view(2, 1, 4, 4), size=(56, 56), mode="bilinear")[:, 0]
    assert large.maps is not None and small.maps is not None
    for one, wanted in zip(large.maps, grid, strict=True):
        np.testing.assert_allclose(one.numpy(), ndimage.gaussian_filter(wanted.numpy(), 4), atol=1e-5)
    assert small.maps.shape == (2, 28, 28)


def test_the_component_is_scikit_learns() -> None:
    patches = seeded(40, 6) * torch.tensor([9.0, 3, 2, 1, 1, 1]) + 7
    pca = PCA(1, svd_solver="full").fit(patches.double().numpy())
    wanted = pca.transform(patches.double().numpy())[:, 0]
    wanted *= np.sign(pca.components_[0][np.abs(pca.components_[0]).argmax()])
    np.testing.assert_allclose(first_component(patches).numpy(), wanted, atol=1e-4)


def board(inside: float, outside: float, rows: slice, columns: slice, side: int = 10) -> Tensor:
    """Patches of an image with an object: one direction, and a little of others."""
    strength = torch.full((side, side), outside)
    strength[rows, columns] = inside
    direction = torch.tensor([3.0, 1, 0, 0, 0, 0]) / 10**0.5
    return strength.flatten()[:, None] * direction + 0.01 * seeded(side * side, 6)


@pytest.mark.parametrize("inside", [60.0, -60.0])
def test_an_object_in_the_middle_is_the_foreground_whatever_the_components_sign(inside: float) -> None:
    patches = board(inside, 0, slice(5, 15), slice(5, 15), 20)
    assert (float(first_component(patches).view(20, 20)[10, 10]) > 0) == (inside > 0)
    found = foreground(patches, (20, 20), 10).view(20, 20)
    wanted = np.zeros((20, 20), bool)
    wanted[4:16, 4:16] = True  # grown by a patch
    assert np.array_equal(found.numpy(), wanted)


def test_a_mask_is_dilated_and_closed() -> None:
    patches = board(60, 0, slice(3, 8), slice(3, 8)).view(10, 10, 6)
    patches[5, 5] = 0  # a gap, and a spot two patches away from the rest
    patches[0, 0] = patches[4, 4]
    found = foreground(patches.reshape(100, 6), (10, 10), 10).view(10, 10).numpy()
    component = first_component(patches.reshape(100, 6)).view(10, 10).numpy()
    box = component[2:8, 2:8] > 10
    above = -component > 10 if box.mean() <= 0.35 else component > 10
    square = np.ones((3, 3), bool)
    grown = ndimage.binary_dilation(above, square)
    # beyond a border nothing is known, and nothing eroded
    closed = ndimage.binary_erosion(ndimage.binary_dilation(grown, square), square, border_value=1)
    assert np.array_equal(found, closed) and found[5, 5]


def test_masked_patches_are_at_distance_zero_and_still_count() -> None:
    patches = torch.stack([board(60, 0, slice(3, 8), slice(3, 8)), board(60, 0, slice(2, 7), slice(2, 7))])
    options: dict[str, Any] = {"score_share": 0.6}
    plain, module = fitted(seeded(2, 100, 6), **options)
    masked, _ = fitted(patches, masking=True, **options)
    each = distances(plain, module, patches)
    masks = torch.stack([foreground(image, (10, 10), 10) for image in patches])
    assert 0 < masks.float().mean() < 0.7
    found = masked.anomaly(module, Batch({"patches": patches}), info(6, (10, 10)), 20)
    torch.testing.assert_close(found.scores, (each * masks).topk(60).values.mean(1))


def test_the_memory_may_be_masked_too() -> None:
    patches = torch.stack([board(60, 0, slice(3, 8), slice(3, 8)), board(60, 0, slice(2, 7), slice(2, 7))])
    _, module = fitted(patches, masked_memory=True)
    wanted = torch.cat([image[foreground(image, (10, 10), 10)] for image in patches])
    torch.testing.assert_close(module.bank, wanted / wanted.norm(dim=1, keepdim=True))
    for which in ("masking", "masked_memory"):
        with pytest.raises(UsageError, match="mask_threshold = 1000 leaves nothing of any training image"):
            fitted(patches, mask_threshold=1000, **{which: True})


@pytest.mark.parametrize("batch", [1, 3])
def test_copies_are_turned_evenly_and_lie_image_by_image(batch: int) -> None:
    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))

    def encode(shown: Tensor) -> dict[str, Tensor]:
        return {"patches": shown.flatten(2).transpose(1, 2)}

    method = AnomalyDINO(Config(copies=4))
    module = method.build(info(3))
    method.fit(module, (Batch(encode(part), part, encode=encode) for part in images.split(batch)))
    assert module.bank.shape == (3 * 4 * 16, 3)
    looks = [rotated(images, torch.full((3,), angle), "reflection") for angle in (0.0, 90.0, 180.0, 270.0)]
    wanted = torch.stack(looks, dim=1).flatten(0, 1).flatten(2).transpose(1, 2).reshape(-1, 3)
    torch.testing.assert_close(module.bank, wanted / wanted.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_published_recipe_and_cost() -> None:
    request = AnomalyDINO(Config()).encoder()
    described = catalog.requested(request)
    assert (request.blocks, request.input_size, request.position) == ((12,), 448, "dinov2")
    assert (described.grid, described.prefix, described.dim) == ((32, 32), 1, 384)
    cost = complexity(AnomalyDINO(Config()))
    assert cost.params_total == 22_056_192 + 384 and cost.params_trainable == 0  # with the mask token
    assert cost.macs == pytest.approx(22.0e9, rel=0.01)
    # attention, and the search in what one image leaves
    assert cost.macs_with_products - cost.macs == pytest.approx(9.7e9 + 1024 * 1024 * 384, rel=0.01)
    assert complexity(AnomalyDINO(Config(masking=True))).macs == cost.macs
    wanted = {
        ("mvtec", "multi"): (1, False),
        ("mvtec", "few-shot-single"): (8, False),
        ("visa", "single"): (1, True),
        ("visa", "few-shot"): (8, True),
    }
    for (dataset, setting), values in wanted.items():
        config = configure(AnomalyDINO, dataset, {}, None, setting)
        assert (config.copies, config.masking) == values


def test_a_limit_keeps_a_uniform_sample() -> None:
    train = seeded(6, 16, 8)
    torch.manual_seed(0)
    _, module = fitted(train, limit=20)
    directions = train.reshape(-1, 8) / train.reshape(-1, 8).norm(dim=1, keepdim=True)
    torch.manual_seed(0)
    chosen = torch.cat([torch.rand(16) for _ in train]).argsort()[:20].sort().values
    torch.testing.assert_close(module.bank, directions[chosen])
