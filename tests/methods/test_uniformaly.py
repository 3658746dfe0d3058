from __future__ import annotations

from typing import Any

import pytest
import torch
from golden_values import waves
from scipy.ndimage import gaussian_filter, uniform_filter, zoom
from torch import Tensor

from bench.api import Batch, BlockOutputs, EncoderInfo
from bench.config import configure
from bench.errors import UsageError
from bench.methods._memory import Bank
from bench.methods.uniformaly import Config, UniFormaly, foreground
from bench.run.complexity import complexity

GRID = (4, 4)
INFO = EncoderInfo("fake", "vit", 12, 12, 2, 8, 1, GRID, 32, (0.0,) * 3, (1.0,) * 3)


def known() -> BlockOutputs:
    """The reference values' blocks and the rows of their attention."""
    blocks = BlockOutputs({layer: waves(2, 17, 12, shift=0.3 * layer) for layer in range(2)})
    blocks.attention = {
        layer: (2 * waves(2, 2, 17, 17, shift=0.5 * layer)).softmax(dim=-1)[:, :, 0] for layer in range(2)
    }
    return blocks


def looked_at(**config: Any) -> tuple[UniFormaly, dict[str, Tensor]]:
    method = UniFormaly(Config(**{"window": 3, "threshold": 0.6, **config}))
    return method, method.features(known(), INFO)


def fitted(method: UniFormaly, features: dict[str, Tensor], size: int) -> Bank:
    torch.manual_seed(0)
    module = method.build(INFO)
    parts = zip(*(feature.split(size) for feature in features.values()), strict=True)
    method.fit(module, (Batch(dict(zip(features, part, strict=True))) for part in parts))
    return module


# ------------------------------------------------------------------------------------------------ reference values
def test_golden_foreground() -> None:
    rows = torch.stack([row[:, :, 1:].mean(dim=1) for row in known().attention.values()]).mean(dim=0)
    means = torch.stack([torch.from_numpy(uniform_filter(row.view(GRID).numpy(), 3, mode="constant")) for row in rows])
    scaled = means / means.max()
    assert scaled[0, 0, 0].item() == pytest.approx(0.558961, abs=1e-6)
    assert scaled[1, 2, 2].item() == 1 and scaled.min().item() == pytest.approx(0.068943, abs=1e-6)
    found = foreground(rows, GRID, 3, 0.6)
    assert found.sum(dim=1).tolist() == [6, 8]
    own = means / means.amax(dim=(1, 2), keepdim=True)
    assert torch.equal(found.view(2, *GRID) > 0, own > 0.6)


def test_golden_distances_and_score() -> None:
    method, features = looked_at(score_share=0.25, share=1.0)
    module = fitted(method, features, 2)
    assert module.bank.shape == (14, 12)
    query = Batch({"patches": waves(1, 16, 12, shift=0.45), "foreground": features["foreground"][:1]})
    found, _ = module.nearest(query["patches"][0], 1)
    squares = found.flatten().square()
    assert squares[0].item() == pytest.approx(1.511316, abs=1e-5)
    assert squares[15].item() == pytest.approx(3.326313, abs=1e-5)
    assert squares.sum().item() == pytest.approx(22.464153, abs=1e-4)
    prediction = method.anomaly(module, query, INFO, 32)
    assert prediction.scores.item() == pytest.approx(0.654945, abs=1e-5)


def test_parameters_and_macs() -> None:
    counted = complexity(UniFormaly(Config()))
    assert counted.params_total == 85_807_872 and counted.params_trainable == 0
    # all 12 blocks are 66.8 and, with products, 11.4 G more; 10 of them run, whose last rows of attention are read
    share = 10 / 12
    assert counted.macs / 1e9 == pytest.approx(66.8 * share, rel=0.01)


# ------------------------------------------------------------------------------------------------------ formulas
def test_features_are_the_mean_of_the_blocks_without_prefix() -> None:
    _, features = looked_at()
    blocks = known()
    wanted = (blocks[0][:, 1:] + blocks[1][:, 1:]) / 2
    torch.testing.assert_close(features["patches"], wanted)


def test_a_memory_is_of_foreground_alone_and_does_not_depend_on_the_batch() -> None:
    method, features = looked_at(share=0.5)
    one, two = (fitted(method, features, size).bank for size in (1, 2))
    assert torch.equal(one, two) and one.shape == (7, 12)
    inside = features["patches"][features["foreground"] > 0]
    assert all((inside == row).all(dim=1).any() for row in one)
    everywhere, seen = looked_at(threshold=0.0, share=1.0)
    assert fitted(everywhere, seen, 1).bank.shape == (32, 12)


def test_map_against_scipy() -> None:
    method, features = looked_at(share=0.5)
    module = fitted(method, features, 2)
    shown = Batch({"patches": waves(1, 16, 12, shift=0.45), "foreground": torch.zeros(1, 16)})
    prediction = method.anomaly(module, shown, INFO, 32)
    assert prediction.maps is not None and prediction.scores.item() == 0, "maps show the background too"
    squares = torch.cdist(shown["patches"][0].double(), module.bank.double()).amin(dim=1).square().view(GRID)
    enlarged = zoom(squares.numpy(), 8, order=1, mode="nearest", grid_mode=True)
    wanted = torch.from_numpy(gaussian_filter(enlarged, 4.0))
    torch.testing.assert_close(prediction.maps[0].double(), wanted, atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------------------------------ recipe
def test_published_recipe() -> None:
    wanted = UniFormaly(Config()).encoder()
    assert (wanted.blocks, wanted.input_size, wanted.attention) == (tuple(range(2, 10)), 224, True)
    assert configure(UniFormaly, "mvtec", {}, None, "single").share == 0.1  # type: ignore[attr-defined]
    assert configure(UniFormaly, "mvtec", {}, None, "multi").share == 0.05  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "resnet18.tv_in1k"}, "needs a plain ViT with a class token.*is a CNN"),
        ({"encoder": "vit_base_patch16_dinov3.lvd1689m"}, "is a ViT of another kind"),
        ({"layers": ()}, "layers is empty"),
        ({"layers": (3, 12)}, r"layers \[3, 12\] do not fit.*of 12 blocks.*0 to 11"),
        ({"input_size": 16, "window": 5}, "window 5 reaches beyond all of 2 patches"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        UniFormaly(Config(**values)).encoder()


def test_a_window_has_a_middle() -> None:
    with pytest.raises(UsageError, match="window is 4, expected an odd number"):
        UniFormaly(Config(window=4))
