"""Protocol ad2: maps and masks meet at the images' own sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli.main import run
from bench.errors import UsageError
from bench.explain.rules import Rules
from bench.loading.own_size import to_own_size
from bench.metrics import evaluate_class
from bench.plan.task import index
from bench.protocol import AD2, COMMON
from bench.run.class_scores import WHY_NOT, measure_own

PIXEL = ("pixel/auroc", "pixel/ap", "pixel/f1max", "pixel/aupro@0.05")


@pytest.fixture
def made(tree: Path, tmp_path: Path, small: Callable[..., list[str]]) -> tuple[dict, Path]:
    """A record of the protocol with thresholds, and the folder of its maps."""
    command = [*small(steps=2), "--data-root", str(tree), "--results", str(tmp_path / "runs"), "--protocol", "ad2"]
    assert run([*command, "--calibrate", "0.34", "--keep-maps", "-q"]) == 0
    (path,) = (tmp_path / "runs").rglob("s0-*.json")
    return json.loads(path.read_text()), path


def truth_of(tree: Path, cls: str) -> tuple[list[tuple[int, int]], list[np.ndarray]]:
    samples = [sample for sample in index("folder", tree, ()).samples if (sample.cls, sample.split) == (cls, "test")]
    sizes, masks = [], []
    for sample in samples:
        width, height = Image.open(sample.image).size
        drawn = [np.asarray(Image.open(path).convert("L")) > 0 for path in sample.masks]
        sizes.append((width, height))
        masks.append(np.any(drawn, axis=0) if drawn else np.zeros((height, width), bool))
    return sizes, masks


def test_scores_are_those_of_maps_and_masks_at_the_images_own_sizes(made: tuple[dict, Path], tree: Path) -> None:
    record, path = made
    assert record["protocol"]["rules"]["own_size"] is True
    for cls, scores in record["scores"].items():
        kept = np.load(path.with_suffix(".maps") / f"{cls}.npy")
        assert kept.shape[1:] == (AD2.eval_size, AD2.eval_size)
        sizes, masks = truth_of(tree, cls)
        own = [
            np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BILINEAR))
            for one, size in zip(kept, sizes, strict=True)
        ]
        expected = evaluate_class(np.stack(own), np.stack(masks), metrics=PIXEL)
        for metric in PIXEL:
            assert scores["values"][metric] == expected[metric]
        points = record["calibration"]["classes"][cls]
        above = np.stack(own) > points["pixel"]["q0.999"]["threshold"]
        hits = (above & np.stack(masks)).sum()
        f1 = 2 * hits / (above.sum() + np.stack(masks).sum())
        assert points["pixel"]["q0.999"]["f1"] == pytest.approx(f1, abs=1e-12)
    reason = record["pooled"]["undefined"]["pixel/ap"]
    assert "own sizes" in reason and record["pooled"]["values"]["image/auroc"] is not None


def test_images_of_different_sizes_are_one_class(tmp_path: Path, tree: Path) -> None:
    dataset = index("folder", tree, ()).dataset
    samples = [sample for sample in dataset.samples() if (sample.cls, sample.split) == ("dots", "test")]
    first = next(sample for sample in samples if not sample.label)
    Image.open(first.image).resize((70, 31)).save(first.image)
    maps = np.random.default_rng(0).random((len(samples), 16, 16)).astype(np.float32)
    scores = maps.max(axis=(1, 2)).astype(np.float64)
    labels = [int(bool(sample.label)) for sample in samples]
    found = measure_own(dataset, samples, maps, scores, labels, (*PIXEL, "pixel/iou:grid7", "image/auroc"))
    own = [to_own_size(one, Image.open(sample.image).size) for one, sample in zip(maps, samples, strict=True)]
    assert {one.shape for one in own} > {(31, 70)}
    flat = np.concatenate([one.ravel() for one in own])
    marked = np.concatenate([dataset.read_mask(sample).ravel() for sample in samples])
    expected = evaluate_class(flat[None, None], marked[None, None], metrics=["pixel/auroc", "pixel/ap"])
    assert found["pixel/auroc"] == expected["pixel/auroc"] and found["pixel/ap"] == expected["pixel/ap"]
    assert found["pixel/iou:grid7"] is None and found.reasons["pixel/iou:grid7"] == WHY_NOT


def test_older_protocols_keep_their_hashes() -> None:
    assert "own_size" not in COMMON.rules() and COMMON.hash() == "64feccec323e" != AD2.hash()


def test_what_takes_maps_of_one_size_is_refused_or_said(
    made: tuple[dict, Path], tree: Path, tmp_path: Path, small: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*small(steps=2), "--data-root", str(tree), "--protocol", "ad2"]
    assert run([*command, "--metrics", "pixel/aupro@0.3:grid200", "--dry-run"]) == 2
    assert "takes all maps at once" in capsys.readouterr().err
    with pytest.raises(UsageError, match="own sizes"):
        Rules.of(AD2)
    pack = ["pack", str(made[1].parents[3]), "--data-root", str(tree), "--out", str(tmp_path / "pack.zip"), "-q"]
    assert run(pack) == 1
    assert "own sizes" in capsys.readouterr().err
    assert run(["reproduce", str(tmp_path / "pack.zip")]) == 0
    out = ["--out", str(tmp_path / "reports"), "--format", "html,markdown"]
    assert run(["report", "--results", str(made[1].parents[3]), *out]) == 0
    assert "protocol ad2 v1" in (tmp_path / "reports/tables.md").read_text()
