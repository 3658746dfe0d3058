from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bench.errors import UsageError
from bench.metrics import IMAGE_SCORES
from bench.metrics.image_scores import highest, pooled_max, top_mean

torch = pytest.importorskip("torch")
MAPS = np.random.default_rng(0).gamma(2.0, size=(4, 37, 41)).astype(np.float32)


def test_each_rule_is_its_definition() -> None:
    for place, one in enumerate(MAPS.astype(np.float64)):
        assert highest(MAPS)[place] == one.max()
        assert top_mean(MAPS)[place] == pytest.approx(np.mean(sorted(one.ravel())[-15:]), rel=1e-12)
        windows = [one[y : y + 16, x : x + 16].mean() for y in range(22) for x in range(26)]
        assert pooled_max(MAPS)[place] == pytest.approx(max(windows), rel=1e-12)


@pytest.mark.parametrize("name", IMAGE_SCORES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int32"])
def test_tensors_give_what_arrays_give(name: str, dtype: str) -> None:
    maps = (MAPS * 10).astype(dtype)
    ours, theirs = IMAGE_SCORES[name](maps), IMAGE_SCORES[name](torch.from_numpy(maps))
    assert isinstance(ours, np.ndarray) and isinstance(theirs, torch.Tensor)
    assert ours.dtype == theirs.numpy().dtype == (maps.dtype if name == "max" else np.float64)
    assert theirs.tolist() == pytest.approx(ours.tolist(), rel=1e-12)


def test_the_top_percent_is_what_dinomaly_averages() -> None:
    # 256 x 256 at one percent: 655 pixels, rounded down
    maps = np.zeros((1, 256, 256))
    maps.reshape(-1)[:655] = 1
    assert top_mean(maps) == 1
    maps.reshape(-1)[654] = 0
    assert top_mean(maps) == pytest.approx(654 / 655)
    # 1.69 pixels are one, and never fewer than one
    assert top_mean(np.eye(13)[None] * np.arange(13)) == 12
    assert top_mean(np.array([[[1.0, 3.0]]])) == 3


def test_an_outlier_stays_in_its_windows() -> None:
    maps = np.full((1, 40, 40), 0.1)
    maps[0, 39, 39] = 1e30
    inner = maps[:, :30, :30]
    assert pooled_max(inner)[0] == pytest.approx(0.1, rel=1e-12)
    maps[0, 0, 0] = -1e30
    assert pooled_max(maps)[0] == pytest.approx(1e30 / 256)
    calm = np.where(maps > 1, -1e30, maps)
    assert pooled_max(calm)[0] == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("name", IMAGE_SCORES)
def test_no_images_give_no_scores(name: str) -> None:
    assert IMAGE_SCORES[name](np.zeros((0, 20, 20))).shape == (0,)
    assert tuple(IMAGE_SCORES[name](torch.zeros(0, 20, 20)).shape) == (0,)


def test_misuse_is_refused() -> None:
    with pytest.raises(UsageError, match=r"window is 16, .* maps are \[1, 15, 40\]"):
        pooled_max(np.zeros((1, 15, 40)))
    with pytest.raises(UsageError, match=r"share is 1.5"):
        top_mean(MAPS, share=1.5)
    for rule in IMAGE_SCORES.values():
        with pytest.raises(UsageError, match=r"expected \[N, H, W\]"):
            rule(MAPS[0])
        with pytest.raises(UsageError, match="maps are a list"):
            rule(MAPS.tolist())


def test_arrays_load_no_torch() -> None:
    code = (
        "import sys, numpy as np; from bench.metrics import IMAGE_SCORES\n"
        "for rule in IMAGE_SCORES.values(): rule(np.zeros((1, 20, 20)))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
