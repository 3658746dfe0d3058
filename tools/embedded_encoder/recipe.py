"""What decides the result of a training, and the short name of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides the result besides the crops and the length of the training."""

    embed_dim: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.03
    batch_quarter: int = 64  # crops a step when a quarter of the tokens is read
    batch_whole: int = 20
    whole_share: float = 0.08  # of the steps before `whole_after` that read whole crops
    whole_after: float = 0.72  # share of the training after which all steps do
    pool_start: int = 768  # crops with targets at the first step
    pool_growth: float = 0.15  # crops that get targets, for every crop read
    decay_from: float = 0.45  # share of the training after which the learning rate falls linearly to zero
    warm_up: int = 80  # steps
    ema: float = 0.98
    gram_weight: float = 4.0
    stream_after: float = 0.66  # share of the training after which the raw token stream has a target of its own
    stream_weight: float = 8.0
    seed: int = 0

    def rate(self, step: int, done: float) -> float:
        """Learning rate at a step, `done` in [0, 1] being the share of the training behind it."""
        return self.learning_rate * min(1, (step + 1) / self.warm_up) * min(1, (1 - done) / (1 - self.decay_from))


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a training reads and writes, how long it lasts, and what it follows."""

    work: Path  # crops.npy and sources.json; targets and checkpoints are put here
    weights_dir: Path  # the two teachers
    out: Path
    recipe: Recipe
    minutes: float  # 0 where `steps` says how long
    steps: int
    resume: bool
    device: str


def recipe_hash(recipe: Recipe, work: Path) -> str:
    """Names the recipe and the images, not the machine or the length; 16 hex digits."""
    table = [
        (row["name"], row["version"], row["crops"])
        for row in json.loads((work / "sources.json").read_text(encoding="utf-8"))
    ]
    text = json.dumps({"recipe": asdict(recipe), "sources": table}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
