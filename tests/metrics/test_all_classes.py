from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from bench.errors import StoreError
from bench.metrics import all_classes, evaluate_class
from bench.metrics.accumulate import Accumulator
from bench.metrics.all_classes import AllClasses
from bench.protocol import SEVEN

IMAGE = SEVEN[:3]
PIXEL = SEVEN[3:]


def classes(count: int = 3, images: int = 5, side: int = 16) -> list[tuple[Any, Any, Any, list[int]]]:
    """Classes whose scores lie on different levels, so that pooling costs what per-class ranking does not see."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        masks = np.zeros((images, side, side), np.bool_)
        masks[2:, 4:8, 4 : 8 + number] = True
        maps = (rng.normal(size=masks.shape) + masks + 2 * number).astype(np.float32)
        labels = [0, 0, *[1] * (images - 2)]
        made.append((maps, masks, maps.max(axis=(1, 2)).astype(np.float64), labels))
    return made


def filled(given: list[tuple[Any, Any, Any, list[int]]], metrics: Any = SEVEN, **changes: Any) -> AllClasses:
    sizes = {"classes": len(given), "with_masks": len(given), "images": 5 * len(given), "size": 16, **changes}
    pool = AllClasses(metrics, **sizes)
    for one in given:
        pool.add(*one)
    return pool


def test_pooled_is_one_ranking_over_all_classes() -> None:
    given = classes()
    found = filled(given).compute()
    maps, masks, scores, labels = (np.concatenate(part) for part in zip(*given, strict=True))
    assert dict(found) == dict(evaluate_class(maps, masks, scores, labels)) and not found.reasons
    assert found["image/auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found["pixel/ap"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12)
    own = [evaluate_class(*one)["pixel/auroc"] for one in given]
    assert found["pixel/auroc"] < min(value for value in own if value is not None), "levels differ between the classes"


def test_variants_are_left_out() -> None:
    found = filled(classes(), metrics=(*IMAGE, "pixel/auroc", "pixel/aupro@0.3:grid200")).compute()
    assert list(found) == [*IMAGE, "pixel/auroc"] and not found.reasons


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"with_masks": 0}, "no masks"),
        ({"with_masks": 1}, "no masks in 2 classes"),
        ({"size": 16_384}, "GiB, more than"),
    ],
)
def test_pixels_that_cannot_be_pooled_have_a_reason(changes: dict[str, int], reason: str) -> None:
    given = classes()
    found = filled(given, **changes).compute()
    assert {metric for metric, value in found.items() if value is None} == set(PIXEL) == set(found.reasons)
    assert all(reason in text for text in found.reasons.values())
    assert found["image/auroc"] == filled(given).compute()["image/auroc"]


def test_a_method_without_maps_has_image_scores_only() -> None:
    found = filled([(None, *rest) for _, *rest in classes()]).compute()
    assert set(found.reasons.values()) == {"no anomaly maps"} and found["image/ap"] is not None


def test_a_full_disk_costs_the_pooled_pixels_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(self: Accumulator, *given: object) -> None:
        raise StoreError("no room for the scores")

    monkeypatch.setattr(all_classes.Accumulator, "update", full)
    found = filled(classes()).compute()
    assert set(found.reasons) == set(PIXEL) and "no room" in found.reasons["pixel/ap"]
    assert found["image/ap"] is not None
