from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from golden_values import bent, fill, waves
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.errors import UsageError
from bench.methods._gaussian import Gaussian
from bench.methods.transformaly import Block, Config, Student, Transformaly
from bench.run.complexity import complexity

DIM, DEPTH, TOKENS = 16, 3, 5
INFO = EncoderInfo(
    "vit_tiny_patch8_128.bench", "vit", DIM, DEPTH, 2, 8, 1, (2, 2), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ()
)


def built(**config: Any) -> tuple[Transformaly, Student]:
    torch.manual_seed(0)
    method = Transformaly(Config(**{"first_block": 1, **config}))
    return method, method.build(INFO).eval()


def seeded(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(count: int, seed: int = 1) -> dict[str, Tensor]:
    found = {f"sequence{n}": seeded(count, TOKENS, DIM, seed=seed + n) for n in range(DEPTH + 1)}
    return {**found, "token": seeded(count, DIM, seed=seed + 50) * torch.linspace(3, 0.1, DIM)}


def batches(features: dict[str, Tensor], size: int) -> Iterator[Batch]:
    count = len(features["token"])
    for start in range(0, count, size):
        yield Batch({name: value[start : start + size] for name, value in features.items()})


def fill_apart(block: Block, phase: float) -> None:
    """Fill a block as if queries, keys and values were layers of their own, of amplitude 0.5."""
    fill(block, lambda name: 0.5, phase)
    with torch.no_grad():
        for param in (block.attention.qkv.weight, block.attention.qkv.bias):
            one = nn.Linear(DIM, DIM)
            fill(one, lambda name: 0.5, phase)
            part = one.weight if param.dim() == 2 else one.bias
            param.copy_(torch.cat([part] * 3))


# ------------------------------------------------------------------------------------------------ size and values
def test_parameters_and_macs_as_published() -> None:
    counted = complexity(Transformaly(Config()))
    # the frozen ViT without its head
    assert counted.params_total - counted.params_trainable == 86_090_496
    assert counted.params_trainable == 12 * 7_087_872 == 85_054_464
    assert counted.macs_trainable / 1e9 == pytest.approx(49.35, rel=0.01)
    assert counted.macs_with_products / 1e9 == pytest.approx(2 * (49.35 + 6.14), rel=0.01)


def test_golden_student() -> None:
    method, module = built()
    sequences = [waves(2, TOKENS, DIM)]
    for block in module.blocks:
        assert isinstance(block, Block)
        fill_apart(block, 0.5)
    with torch.no_grad():
        for block in module.blocks:
            sequences.append(block(sequences[-1]))
    for block in module.blocks:
        assert isinstance(block, Block)
        fill_apart(block, 0.9)
    found = module(sequences)
    wanted = torch.tensor([[0.016117, 0.051538, 0.049589], [0.016971, 0.057835, 0.070031]])
    torch.testing.assert_close(found.detach(), wanted, rtol=0, atol=1e-6)
    loss = method.loss(module, Batch({f"sequence{n}": one for n, one in enumerate(sequences)}), 0)
    assert loss.item() == pytest.approx(0.043680, abs=1e-6)
    loss.backward()
    query = module.blocks[0].attention.qkv.weight.grad[:DIM]  # type: ignore[union-attr, index]
    assert query.abs().sum().item() == pytest.approx(0.556976, abs=2e-6)
    assert module.blocks[2].reduce.weight.grad.abs().sum().item() == pytest.approx(2.049919, abs=5e-6)  # type: ignore[union-attr, operator]


def test_golden_densities() -> None:
    method, module = built()
    module.tokens, module.distances = Gaussian(6), Gaussian(4)
    method.fit(module, [Batch({"token": bent(waves(40, 6))})])
    assert module.tokens.whitening.shape == (6, 1)
    tokens = module.tokens.log_density(bent(waves(3, 6, shift=0.4)))
    assert tokens.tolist() == pytest.approx([-3.974122, -0.950909, -1.295799], abs=3e-6)
    method._distances = lambda module, batch: -(batch["distances"] ** 2)  # type: ignore[method-assign]
    method.finish(module, [Batch({"distances": waves(40, 4)})])
    test = waves(3, 4, shift=0.4)
    distances = module.distances.log_density(-(test**2))
    assert distances.tolist() == pytest.approx([0.922713, 0.939711, 1.447481], abs=3e-6)
    shown = Batch({"distances": test, "token": bent(waves(3, 6, shift=0.4))})
    assert method.anomaly(module, shown, INFO, 8).scores.tolist() == pytest.approx(
        [3.051409, 0.011198, -0.151682], abs=5e-6
    )


# ------------------------------------------------------------------------------------------------------ formulas
def test_a_block_against_torch_s_own() -> None:
    torch.manual_seed(0)
    block = Block(DIM, 2, 40, 0.1).eval()
    other = nn.TransformerEncoderLayer(
        DIM, 2, 40, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).eval()
    pairs = (
        *((other.self_attn.in_proj_weight, block.attention.qkv.weight), (other.linear2.weight, block.reduce.weight)),
        *((other.self_attn.out_proj.weight, block.attention.proj.weight), (other.linear1.weight, block.expand.weight)),
    )
    with torch.no_grad():
        for name, param in other.named_parameters():
            if param.dim() == 1 and "norm" not in name:
                param.zero_()
        for param in block.parameters():
            if param.dim() == 1:
                param.copy_(param.round())  # biases near zero, and norm weights of 1
        for one, two in pairs:
            one.copy_(two)
        x = seeded(2, TOKENS, DIM)
        torch.testing.assert_close(block(x), other(x), rtol=1e-4, atol=1e-5)


def test_blocks_start_as_stated() -> None:
    torch.manual_seed(0)
    block = Block(64, 2, 256, 0.1)
    bound = (6 / 128) ** 0.5
    for part in block.attention.qkv.weight.chunk(3):
        assert 0.9 * bound < part.abs().max() <= bound
    assert block.expand.weight.abs().max() <= (6 / 320) ** 0.5
    for layer in (block.attention.qkv, block.attention.proj, block.expand, block.reduce):
        assert 1e-7 < layer.bias.std() < 3e-6


def test_each_block_is_given_what_the_frozen_one_is_given() -> None:
    _, module = built()
    sequences = list(seen(2).values())[:-1]
    wanted = module(sequences)
    for place in range(1, DEPTH + 1):
        changed = [seeded(2, TOKENS, DIM, seed=99) if n == place else one for n, one in enumerate(sequences)]
        other = (module(changed) != wanted).any(dim=0).tolist()
        # its own target, and the next one's input
        assert other == [n in (place - 1, place) for n in range(DEPTH)]


@pytest.mark.parametrize("count", [30, 7])
def test_both_densities_against_scikit_learn_and_scipy(count: int) -> None:
    method, module = built(variance=0.8)
    known, asked = seen(count), seen(4, seed=20)
    with torch.no_grad():
        method.fit(module, batches(known, 3))
        method.finish(module, batches(known, 3))
        found = method.anomaly(module, Batch(asked), INFO, 8).scores.double().numpy()
        errors = [
            -module([one[f"sequence{n}"] for n in range(DEPTH + 1)])[:, 1:].double().numpy() for one in (known, asked)
        ]
    tokens = [one["token"].double().numpy() for one in (known, asked)]
    pca = PCA(whiten=True, svd_solver="full").fit(tokens[0])
    kept = int(np.argmax(np.cumsum(pca.explained_variance_ratio_) > 0.8))
    assert kept >= 1 and module.tokens.whitening.shape == (DIM, kept)
    white = [pca.transform(one)[:, :kept] for one in tokens]

    def density(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        covariance = np.cov(train.T, bias=True).reshape(train.shape[1], -1) + 1e-6 * np.eye(train.shape[1])
        return np.asarray(multivariate_normal(train.mean(0), covariance).logpdf(test))

    np.testing.assert_allclose(found, -(density(*white) + density(*errors)), rtol=2e-4)


def test_one_component_is_kept_where_it_holds_all() -> None:
    method, module = built()
    method.fit(module, [Batch({"token": seeded(9, 1) * seeded(1, DIM, seed=2)})])
    assert module.tokens.whitening.shape == (DIM, 1)


def test_images_that_are_all_alike_have_finite_scores() -> None:
    method, module = built()
    one = {name: value.expand(4, *value.shape[1:]) for name, value in seen(1).items()}
    with torch.no_grad():
        method.fit(module, [Batch(one)])
        method.finish(module, [Batch(one)])
        scores = method.anomaly(module, Batch(seen(3, seed=9)), INFO, 8).scores
    assert torch.isfinite(scores).all()


# ------------------------------------------------------------------------------------------------------ recipe
def test_dropout_is_of_training_alone_and_of_the_step_s_generator() -> None:
    method, module = built(dropout=0.5)
    features = seen(2)

    def loss(seed: int) -> float:
        batch = Batch(features, random=lambda: torch.Generator().manual_seed(seed))
        return method.loss(module, batch, 0).item()

    assert loss(0) == loss(1)
    module.train()
    assert loss(0) == loss(0) != loss(1)


def test_published_recipe() -> None:
    method, module = built()
    assert method.steps(3629) == 30 * 114
    (group,) = method.optimizer(module).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.9, 0.999), 0)
    assert method.learning_rate(0) == method.learning_rate(9_999) == 1e-4
    request = Transformaly(Config()).encoder()
    assert request.blocks == tuple(range(-1, 13)) and request.input_size == 384


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "resnet18.tv_in1k"}, "needs a ViT with a class token.*is a CNN"),
        ({"encoder": "vit_base_patch16_siglip_224.webli"}, "needs a ViT with a class token.*without one"),
        ({"first_block": 12}, r"first_block is 12.*has 12 blocks \(0 to 11\)"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Transformaly(Config(**values)).encoder()
