"""Scoring class by class: the same beside prediction as after it, and never more than its classes in memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.api import Sample
from bench.errors import ScoreError
from bench.machine.progress import Advance, Silent
from bench.machine.timing import Stopwatch
from bench.metrics import evaluate_class
from bench.plan.settings import tasks
from bench.plan.task import Task, hashed, index
from bench.protocol import COMMON
from bench.run import recording, scoring
from bench.run.scoring import Predicted, Scored


class Guess:
    """Predicts at random, the same each time; watches how many classes' maps are alive while it does."""

    def __init__(self, spoilt: str = "") -> None:
        self.spoilt = spoilt
        self.asked: list[str] = []
        self.alive: list[weakref.ref[np.ndarray]] = []
        self.most = 0

    def __call__(self, samples: Sequence[Sample], map_wanted: bool, advance: Advance) -> Predicted:
        cls = samples[0].cls
        self.asked.append(cls)
        rng = np.random.default_rng(len(cls))
        maps = rng.random((len(samples), 256, 256), dtype=np.float32)
        self.alive.append(weakref.ref(maps))
        self.most = max(self.most, sum(one() is not None for one in self.alive))
        scores = maps.max(axis=(1, 2)).astype(np.float64)
        if cls == self.spoilt:
            scores[0] = np.nan
        advance(len(samples), cls)
        return (maps if map_wanted else None), scores


@pytest.fixture
def task(tmp_path: Path, write_tree: Callable[..., Path]) -> Task:
    root = write_tree(tmp_path / "tree", ("dots", "hatching", "lines", "waves"))
    return tasks(hashed(index("folder", root, ()), Silent()), "multi")[0]


def scored(task: Task, guess: Guess, overlap: bool, keep: Path | None = None) -> tuple[Scored, Stopwatch]:
    watch = Stopwatch()
    masks = scoring.read_masks(task, COMMON, 256)
    found = scoring.score(task, COMMON, guess, masks, watch, Silent(), keep_maps=keep, overlap=overlap)
    return found, watch


def test_measuring_beside_prediction_changes_nothing(task: Task, tmp_path: Path) -> None:
    behind, watch = scored(task, Guess(), True, tmp_path / "behind")
    after, _ = scored(task, Guess(), False, tmp_path / "after")
    assert behind == after
    assert list(behind.scores) == list(task.classes) and behind.pooled is not None
    assert set(watch.seconds) == {"inference", "metrics"}
    names = sorted(path.name for path in (tmp_path / "after").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "behind").iterdir()) and len(names) == 4
    for name in names:
        assert (tmp_path / "behind" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()


@pytest.mark.parametrize(("overlap", "most"), [(False, 1), (True, 2)])
def test_maps_of_one_class_are_in_memory_or_of_two(task: Task, overlap: bool, most: int) -> None:
    guess = Guess()
    scored(task, guess, overlap)
    assert len(guess.asked) == 4 and guess.most <= most


@pytest.mark.parametrize("overlap", [False, True])
def test_an_error_of_the_metrics_ends_the_scoring(task: Task, overlap: bool) -> None:
    guess = Guess(spoilt="dots")
    with pytest.raises(ScoreError):
        scored(task, guess, overlap)
    assert "waves" not in guess.asked


@pytest.mark.parametrize(("rule", "anomalous"), [("dataset", 3), ("mask", 2)])
def test_by_the_mask_rule_an_image_whose_mask_vanishes_is_normal(
    rule: str, anomalous: int, tmp_path: Path, write_tree: Callable[..., Path]
) -> None:
    root = write_tree(tmp_path / "large", classes=("dots",), size=600)
    speck = np.zeros((600, 600), np.uint8)
    speck[300, 300] = 255
    Image.fromarray(speck).save(root / "dots" / "ground_truth" / "square" / "001_mask.png")
    (found,) = tasks(hashed(index("folder", root, ()), Silent()), "multi")
    protocol = replace(COMMON, mask_rule="ader", label_rule=rule)
    masks = scoring.read_masks(found, protocol, 256)
    made = scoring.score(found, protocol, Guess(), masks, Stopwatch(), Silent(), keep_maps=None)
    assert made.rows["label"].count(1) == anomalous and made.rows["defect"].count("square") == 3
    images = dict(zip(made.rows["id"], made.rows["label"], strict=True))
    assert images["dots/test/square/001"] == int(rule == "dataset")
    want = evaluate_class(None, None, made.rows["score"], made.rows["label"], metrics=["image/auroc"])
    assert made.scores["dots"]["image/auroc"] == want["image/auroc"]
    facts = recording.dataset(found, scoring.vanished(found, masks), protocol)
    assert facts.masks_vanished == {"dots": 1} and facts.relabelled == ({"dots": 1} if rule == "mask" else {})
    assert facts.test_bad == {"dots": 3}, "the dataset's own statement stands"
