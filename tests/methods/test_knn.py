from __future__ import annotations

from typing import Any

import pytest
import torch
from golden_values import waves
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from bench.api import EncoderInfo
from bench.encoders import catalog
from bench.errors import UsageError
from bench.methods import _memory
from bench.methods._memory import Bank
from bench.methods.knn import KNN, Config
from bench.run.complexity import complexity


def info() -> EncoderInfo:
    return EncoderInfo("fake", "vit", 6, 4, 2, 8, 5, (2, 2), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(train: Tensor, **config: Any) -> tuple[KNN, Bank]:
    method = KNN(Config(**config))
    module = method.build(info())
    assert isinstance(module, Bank)
    method.fit(module, ({"token": part} for part in train.split(4)))
    return method, module


def test_default_request_looks_through_dinomalys_encoder() -> None:
    request = KNN(Config()).encoder()
    assert request.name == "vit_base_patch14_reg4_dinov2.lvd142m"
    assert (request.blocks, request.input_size, request.position) == ((12,), 392, "dinov2")
    other = KNN(Config(encoder="vit_small_patch16_224.dino", input_size=224)).encoder()
    assert (other.blocks, other.input_size, other.position) == ((12,), 224, "timm")


@pytest.mark.parametrize(
    ("encoder", "kind"),
    [
        ("mobilenetv2_100", "CNN"),
        ("vit_base_patch16_siglip_224.webli", "ViT without one"),
        # registers alone make a prefix, too
        ("vit_medium_patch16_reg4_gap_256.sbb_in12k", "ViT without one"),
    ],
)
def test_encoders_without_class_token_are_refused_with_what_fits(encoder: str, kind: str) -> None:
    with pytest.raises(UsageError, match=rf"needs a ViT with a class token.*is a {kind}.*vit_small_patch16_224\.dino"):
        KNN(Config(encoder=encoder)).encoder()


def test_features_are_class_tokens_after_the_norm() -> None:
    blocks = {4: seeded(3, 9, 6)}
    raw = KNN(Config(unit_length=False)).features(blocks, info())["token"]
    assert torch.equal(raw, blocks[4][:, 0])
    unit = KNN(Config()).features(blocks, info())["token"]
    torch.testing.assert_close(unit, raw / raw.square().sum(1, keepdim=True).sqrt())


@pytest.mark.parametrize("neighbours", [1, 2, 5])
def test_scores_against_scikit_learn(neighbours: int) -> None:
    train, test = seeded(30, 6), seeded(11, 6, seed=1)
    method, module = fitted(train, neighbours=neighbours)
    assert torch.equal(module.bank, train)
    found = method.anomaly(module, {"token": test}, info(), 64)
    distances, _ = NearestNeighbors(n_neighbors=neighbours).fit(train.numpy()).kneighbors(test.numpy())
    torch.testing.assert_close(found.scores.double(), torch.from_numpy((distances**2).mean(1)), rtol=1e-5, atol=1e-6)
    assert found.maps is None


@pytest.mark.parametrize("neighbours", [1, 2, 5])
def test_distances_to_the_kth_neighbour_against_scikit_learn(neighbours: int) -> None:
    """Sun et al., ICML 2022, on unit features."""
    train, test = (seeded(count, 6, seed=count) for count in (30, 11))
    method, module = fitted(train / train.norm(dim=1, keepdim=True), neighbours=neighbours, aggregate="kth")
    blocks = {4: torch.cat([test[:, None], seeded(11, 8, 6)], dim=1)}
    found = method.anomaly(module, method.features(blocks, info()), info(), 64).scores
    unit = [(part / part.norm(dim=1, keepdim=True)).double().numpy() for part in (train, test)]
    distances, _ = NearestNeighbors(n_neighbors=neighbours).fit(unit[0]).kneighbors(unit[1])
    torch.testing.assert_close(found.double(), torch.from_numpy(distances[:, -1]), rtol=1e-5, atol=1e-6)


def test_the_kth_of_fewer_training_images_is_the_farthest() -> None:
    method, module = fitted(seeded(3, 6), neighbours=50, aggregate="kth")
    test = seeded(4, 6, seed=1)
    wanted = (test[:, None] - module.bank).norm(dim=2).amax(dim=1)
    torch.testing.assert_close(method.anomaly(module, {"token": test}, info(), 64).scores, wanted)


def test_the_reference_values() -> None:
    """PANDA's sum of two squared distances, of raw and of unit rows, and Sun et al.'s squared distance to the fifth."""
    train, test = waves(12, 8), waves(3, 8, shift=0.3)
    unit = [part / part.norm(dim=1, keepdim=True) for part in (train, test)]

    def scores(known: Tensor, shown: Tensor, **config: Any) -> Tensor:
        method, module = fitted(known, **config)
        return method.anomaly(module, {"token": shown}, info(), 64).scores

    torch.testing.assert_close(2 * scores(train, test), torch.tensor([1.909777, 2.538126, 1.157841]), atol=2e-6, rtol=0)
    torch.testing.assert_close(2 * scores(*unit), torch.tensor([0.154036, 0.350125, 0.333693]), atol=2e-6, rtol=0)
    fifth = scores(*unit, variant="ood", neighbours=5).square()
    torch.testing.assert_close(fifth, torch.tensor([0.911553, 1.131193, 1.075379]), atol=2e-6, rtol=0)


def test_the_variant_of_out_of_distribution_detection() -> None:
    config = Config(variant="ood")
    assert (config.aggregate, config.neighbours, config.unit_length) == ("kth", 50, True)
    request = KNN(config).encoder()
    assert (request.blocks, request.input_size, request.position) == ((12,), 384, "timm")
    described = catalog.requested(request)
    assert described.grid == (24, 24) and described.mean == described.std == (0.5, 0.5, 0.5)
    given = Config(variant="ood", neighbours=200, encoder="vit_small_patch16_224.dino", input_size=None)
    assert (given.neighbours, given.aggregate, given.input_size) == (200, "kth", None)


def test_fewer_training_images_than_neighbours() -> None:
    method, module = fitted(seeded(1, 6), neighbours=3)
    test = seeded(2, 6, seed=1)
    wanted = (test - module.bank[0]).square().sum(1)
    torch.testing.assert_close(method.anomaly(module, {"token": test}, info(), 64).scores, wanted)


def test_a_training_image_is_at_distance_zero_even_far_from_the_origin() -> None:
    # expanded squares lose all digits there; the distance is computed once more, directly
    train = seeded(20, 6) + 1000
    method, module = fitted(train, neighbours=1)
    assert torch.equal(method.anomaly(module, {"token": train}, info(), 64).scores, torch.zeros(20))


def test_neighbours_come_in_order_even_far_from_the_origin() -> None:
    # there expanded squares put neighbours in any order
    memory = Bank(1, 6)
    memory.bank = seeded(20, 6) + 3000
    distances, rows = memory.nearest(seeded(9, 6, seed=1) + 3000, 20)
    assert (distances.diff(dim=1) >= 0).all()
    wanted = (seeded(9, 6, seed=1)[:, None] - seeded(20, 6)).norm(dim=2)
    torch.testing.assert_close(distances, wanted.gather(1, rows), rtol=1e-3, atol=1e-3)


def test_queries_of_half_precision_are_searched_in_full() -> None:
    memory = Bank(1, 6)
    memory.bank = seeded(50, 6)
    queries = seeded(8, 6, seed=1).bfloat16()
    distances, _ = memory.nearest(queries, 3)
    assert distances.dtype == torch.float32
    torch.testing.assert_close(distances, memory.nearest(queries.float(), 3)[0])


def test_published_recipe() -> None:
    assert (Config().neighbours, KNN.paper.resize_for(224), KNN.paper.eval_size) == (2, 256, 256)


def test_search_in_pieces_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Bank(1, 6)
    memory.bank = seeded(50, 6)
    queries = seeded(23, 6, seed=1)
    whole = memory.nearest(queries, 4)
    monkeypatch.setattr(_memory, "CHUNK", 120)
    for found, wanted in zip(memory.nearest(queries, 4), whole, strict=True):
        torch.testing.assert_close(found, wanted)
    assert (whole[0].diff(dim=1) >= 0).all()


def test_autocast_does_not_blur_the_search() -> None:
    memory = Bank(1, 6)
    memory.bank = seeded(500, 6)
    queries = seeded(40, 6, seed=1)
    exact = memory.nearest(queries, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        blurred = memory.nearest(queries, 3)
    assert torch.equal(exact[1], blurred[1]) and torch.equal(exact[0], blurred[0])


def test_cost_is_the_encoders() -> None:
    counted = complexity(KNN(Config()))
    assert (counted.params_total, counted.params_trainable) == (86_583_552, 0)
    assert counted.macs_trainable == 0 and counted.macs > 60e9
    assert KNN.paper.metrics == ("image/auroc", "image/ap", "image/f1max")
