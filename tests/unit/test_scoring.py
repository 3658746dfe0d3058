"""Scoring class by class: the same beside prediction as after it, and never more than its classes in memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.api import Sample
from bench.errors import ScoreError
from bench.protocol import COMMON
from bench.run import scoring
from bench.run.progress import Advance, Silent
from bench.run.scoring import Predicted, Scored
from bench.run.settings import tasks
from bench.run.task import Task, read
from bench.run.timing import Stopwatch


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
    return tasks(read("folder", root, (), Silent()), "multi")[0]


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
