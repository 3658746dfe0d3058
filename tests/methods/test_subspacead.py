from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden_values import bent, waves
from sklearn.decomposition import PCA
from torch import Tensor

from bench.api import Batch, EncoderInfo
from bench.encoders import catalog
from bench.errors import UsageError
from bench.methods._maps import box_gaussian, resized, top_mean
from bench.methods._rotation import rotated
from bench.methods.subspacead import Config, Moments, Subspace, SubspaceAD, principal
from bench.run.complexity import complexity

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def info(dim: int = 12, prefix: int = 5, side: int = 3, size: int = 30) -> EncoderInfo:
    return EncoderInfo("fake", "vit", dim, 12, 2, size // side, prefix, (side, side), size, ZERO, ONE)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(train: Tensor, **config: Any) -> tuple[SubspaceAD, Subspace]:
    method = SubspaceAD(Config(**config))
    module = method.build(info(train.shape[-1]))
    method.fit(module, (Batch({"patches": part}) for part in train.split(2)))
    return method, module


def test_the_reference_values() -> None:
    """Of the official class, to the digits that are known."""
    method, module = fitted(bent(waves(60, 12))[None])
    assert module.basis.shape == (12, 3)
    covariance = np.cov(bent(waves(60, 12)).double().numpy().T)
    held = np.linalg.eigvalsh(covariance)[::-1].cumsum() / np.trace(covariance)
    assert held[1:3].tolist() == pytest.approx([0.934768, 0.991043], abs=5e-7)
    test = bent(waves(2, 9, 12, shift=0.4))
    distances = module.distances(test).unflatten(1, (3, 3))
    assert [float(distances[0, 0, 0]), float(distances[1, 2, 2])] == pytest.approx([0.103059, 0.062390], abs=1e-6)
    assert float(distances.sum()) == pytest.approx(1.365066, abs=3e-6)
    found = method.anomaly(module, Batch({"patches": test}), info(), 30)
    assert found.maps is not None
    assert [float(found.maps[0, 0, 0]), float(found.maps[1, 29, 29])] == pytest.approx([0.103059, 0.062390], abs=1e-6)
    assert found.scores.tolist() == pytest.approx([0.172470, 0.164521], abs=1e-6)


@pytest.mark.parametrize("variance", [0.5, 0.9, 0.99])
def test_the_subspace_against_scikit_learn(variance: float) -> None:
    train, test = seeded(7, 20, 6) * torch.arange(1, 7) + 50, seeded(3, 9, 6, seed=1) + 50
    _, module = fitted(train, variance=variance)
    flat = train.reshape(-1, 6).double().numpy()
    pca = PCA(variance, svd_solver="full").fit(flat)
    assert module.basis.shape == (6, pca.n_components_)
    points = test.double().numpy().reshape(-1, 6)
    apart = ((points - pca.inverse_transform(pca.transform(points))) ** 2).sum(1)
    torch.testing.assert_close(module.distances(test).flatten().double(), torch.from_numpy(apart), rtol=1e-4, atol=1e-4)


def test_moments_are_those_of_all_points_at_once() -> None:
    train = seeded(5, 8, 4) + 1000
    moments = Moments(4, torch.device("cpu"))
    for part in train.split(3):
        moments.add(part)
    mean, covariance = moments.mean_and_covariance()
    flat = train.reshape(-1, 4).double().numpy()
    np.testing.assert_allclose(mean.numpy(), flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance.numpy(), np.cov(flat.T), atol=1e-8)


def test_normal_images_that_are_all_alike_have_one_direction() -> None:
    assert principal(torch.zeros(4, 4, dtype=torch.float64), 0.99).shape == (4, 1)
    _, module = fitted(torch.full((2, 9, 4), 3.0))
    assert float(module.distances(torch.full((1, 9, 4), 3.0)).abs().max()) == 0.0


@pytest.mark.parametrize(
    ("encoder", "layers", "size"),
    [
        ("vit_giant_patch14_reg4_dinov2.lvd142m", tuple(range(22, 29)), 672),
        ("vit_large_patch14_dinov2.lvd142m", (13, 14, 15, 16, 17), 672),
        ("vit_base_patch14_dinov2.lvd142m", (7, 8), 672),
        ("vit_small_patch14_dinov2.lvd142m", (7, 8), 672),
    ],
)
def test_the_papers_layers_of_each_trunk(encoder: str, layers: tuple[int, ...], size: int) -> None:
    request = SubspaceAD(Config(encoder=encoder)).encoder()
    assert (request.blocks, request.input_size, request.position) == (layers, size, "timm")


def test_published_recipe_and_cost() -> None:
    request = SubspaceAD(Config()).encoder()
    described = catalog.requested(request)
    assert (described.grid, described.dim, described.prefix, described.heads) == ((48, 48), 1536, 5, 24)
    assert SubspaceAD.paper.eval_size == request.input_size == 672 and SubspaceAD.paper.crop == 1.0
    assert complexity(SubspaceAD(Config())).params_total == 1_136_483_840 + 2 * 1536  # with what timm's layout folds
    counted = [
        complexity(SubspaceAD(Config(encoder=encoder, input_size=392, layers=(11,))))
        for encoder in ("vit_base_patch14_reg4_dinov2.lvd142m", "vit_small_patch14_reg4_dinov2.lvd142m")
    ]
    assert {one.params_trainable for one in counted} == {0} and counted[0].params_total == 86_583_552
    # 67.4 G, and 11.5 G of attention's products; the projection is counted at its bound of 2 x 784 x 768 x 768
    assert counted[0].macs == pytest.approx(67.4e9, rel=0.01)
    assert counted[0].macs_with_products - counted[0].macs == pytest.approx(11.5e9 + 2 * 784 * 768 * 768, rel=0.01)
    assert counted[1].macs < counted[0].macs / 3


def test_features_are_means_of_patch_tokens() -> None:
    blocks = {4: seeded(3, 14, 12), 6: seeded(3, 14, 12, seed=1)}
    plain = SubspaceAD(Config()).features(blocks, info())["patches"]
    torch.testing.assert_close(plain, (blocks[4] + blocks[6])[:, 5:] / 2)
    unit = SubspaceAD(Config(unit_length=True)).features(blocks, info())["patches"]
    scaled = [block[:, 5:] / block[:, 5:].norm(dim=-1, keepdim=True) for block in blocks.values()]
    torch.testing.assert_close(unit, (scaled[0] + scaled[1]) / 2)


def test_few_images_are_rotated_and_all_are_not() -> None:
    assert Config().rotations == 0
    assert {name: values["rotations"] for name, values in SubspaceAD.overrides.items()} == {
        "few-shot": 30,
        "few-shot-single": 30,
    }


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_each_image_is_fitted_with_its_own_rotations_whatever_the_batch(batch: int) -> None:
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def encode(shown: Tensor) -> dict[str, Tensor]:
        return {"patches": shown.flatten(2).transpose(1, 2)}

    method = SubspaceAD(Config(rotations=3, variance=0.9))
    module = method.build(info(3))
    torch.manual_seed(5)
    method.fit(module, (Batch(encode(part), part, encode=encode) for part in images.split(batch)))
    torch.manual_seed(5)
    angles = torch.cat([torch.rand(3) for _ in images]) * 345
    turned = rotated(images.repeat_interleave(3, dim=0), angles, "zeros")
    everything = torch.cat([images, turned]).permute(0, 2, 3, 1).reshape(-1, 3)
    torch.testing.assert_close(module.mean, everything.mean(0), rtol=1e-5, atol=1e-6)
    pca = PCA(0.9, svd_solver="full").fit(everything.double().numpy())
    components = torch.from_numpy(pca.components_).float()
    torch.testing.assert_close(module.basis @ module.basis.T, components.T @ components, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("border", ["zeros", "reflection"])
def test_rotations_against_a_slow_computation(border: str) -> None:
    image = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    degrees = [30.0, 200.0]
    found = rotated(image, torch.tensor(degrees), border)  # type: ignore[arg-type]
    values = np.zeros((2, 2, 6, 6))

    def value(picture: Any, row: int, column: int) -> Any:
        if border == "zeros":
            return picture[:, row, column] if 0 <= row < 6 and 0 <= column < 6 else np.zeros(2)
        row, column = (5 - abs(5 - abs(place) % 10) for place in (row, column))
        return picture[:, row, column]

    for which, angle in enumerate(np.deg2rad(degrees)):
        for row, column in np.ndindex(6, 6):
            x = np.cos(angle) * (column - 3) - np.sin(angle) * (row - 3) + 3
            y = np.sin(angle) * (column - 3) + np.cos(angle) * (row - 3) + 3
            left, up = int(np.floor(x)), int(np.floor(y))
            for dy, dx in np.ndindex(2, 2):
                weight = (1 - abs(x - left - dx)) * (1 - abs(y - up - dy))
                values[which, :, row, column] += weight * value(image[which].numpy(), up + dy, left + dx)
    np.testing.assert_allclose(found.numpy(), values, atol=2e-6)
    assert torch.allclose(rotated(image, torch.zeros(2), border), image, atol=1e-6)  # type: ignore[arg-type]


def test_a_quarter_turn_goes_counter_clockwise() -> None:
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 4] = 1  # right of the middle
    turned = rotated(image, torch.tensor([90.0]), "zeros")[0, 0]
    row, column = divmod(int(turned.argmax()), 5)
    assert row <= 1 and column in (2, 3), turned


def test_the_window_makes_of_the_gaussian_nearly_a_mean() -> None:
    maps = seeded(2, 7, 7)
    found = box_gaussian(maps, 4.0, 3)
    weights = np.array([0.329843, 0.340314, 0.329843])
    around = np.pad(maps.numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    wanted = sum(weights[dy] * weights[dx] * around[:, dy : dy + 7, dx : dx + 7] for dy, dx in np.ndindex(3, 3))
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)
    assert torch.equal(box_gaussian(maps, 4.0, 1), maps)


def test_maps_are_made_at_the_inputs_size_and_scores_do_not_depend_on_the_evaluations() -> None:
    method, module = fitted(seeded(4, 9, 6))
    batch = Batch({"patches": seeded(2, 9, 6, seed=3) * 2})
    small, large = (method.anomaly(module, batch, info(6), size) for size in (15, 30))
    assert torch.equal(small.scores, large.scores)
    assert small.maps is not None and large.maps is not None
    torch.testing.assert_close(small.maps, resized(large.maps, 15))
    assert top_mean(torch.arange(900.0).view(1, 30, 30), 0.01).tolist() == [895.0]
    assert top_mean(torch.arange(9.0).view(1, 3, 3), 0.01).tolist() == [8.0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"encoder": "mobilenetv2_100"}, "needs a ViT, encoder 'mobilenetv2_100' is a CNN"),
        ({"layers": ()}, "layers is empty"),
        ({"smoothing_window": 4}, "smoothing_window is 4, expected an odd number"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SubspaceAD(Config(**values)).encoder()
