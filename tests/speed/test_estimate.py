from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from bench.errors import StoreError
from bench.plan.planned import Planned
from bench.registry import METHODS
from bench.run.complexity import complexity
from bench.speed import estimate as module
from bench.speed.estimate import Estimate, estimates
from bench.store import record as records
from bench.store.provenance import environment

CPU = torch.device("cpu")
Dinomaly = METHODS.load("dinomaly")


def cell(train: int = 10, test: int = 20, **config: Any) -> Any:
    method = Dinomaly(Dinomaly.Config(**{"encoder": "vit_small_patch14_reg4_dinov2.lvd142m", "steps": 100, **config}))
    task = SimpleNamespace(train=[None] * train, test=[None] * test)
    key = method.config.model_dump_json()
    steps, encoder = method.steps(train), method.encoder()
    facts = {"encoder": encoder, "input_size": encoder.input_size, "features_key": key}
    return SimpleNamespace(method=method, task=task, steps=steps, precision="fp32", **facts)


def planned(made: Any) -> Planned:
    return Planned(cell=made, state="new")


def estimate(item: Planned, results: Path, device: torch.device) -> Estimate:
    (found,) = estimates([item], results, device)
    assert found is not None
    return found


def earlier(made: Any, **changes: Any) -> Any:
    """A record of a cell with 10 training and 20 test images, 100 steps of 10 images, taking 1 + 2 + 4 + 8 seconds."""
    parts: dict[str, Any] = {
        "status": "done",
        "environment": environment("cpu", "fp32", 1),
        "encoder_id": (made.encoder.name, "0"),
        "input_size": made.encoder.input_size,
        "efficiency": SimpleNamespace(seconds={"decode": 1.0, "features": 2.0, "train": 4.0, "inference": 8.0}),
        "training": SimpleNamespace(steps=100, batch_size=10),
        "dataset": SimpleNamespace(train={"a": 10}, test_good={"a": 5}, test_bad={"a": 15}),
    }
    return SimpleNamespace(**{**parts, **changes})


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put records into a results folder, oldest first; `kept.read` lists the files that were opened."""
    contents: dict[str, Any] = {}
    opened: list[str] = []

    def read(path: Path) -> Any:
        opened.append(path.stem)
        if contents[path.stem] is None:
            raise StoreError("broken")
        return contents[path.stem]

    def keep(*found: Any) -> Path:
        folder = tmp_path / "mvtec" / "dinomaly" / "multi"
        folder.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(found):
            path = folder / f"s{number}.json"
            path.touch()
            os.utime(path, (1000 + number, 1000 + number))
            contents[path.stem] = content
        return tmp_path

    monkeypatch.setattr(records, "read", read)
    return SimpleNamespace(keep=keep, read=opened)


def test_the_same_work_takes_the_same_time(kept: Any) -> None:
    made = cell()
    assert estimate(planned(made), kept.keep(earlier(made)), CPU) == Estimate(15.0, measured=True)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"steps": 200}, 1 + 2 + 8 + 8),
        ({"batch_size": 5}, 1 + 2 + 2 + 8),
        ({"train": 40, "batch_size": 10}, 2 + 8 + 4 + 8),
        ({"test": 50}, 2 + 2 + 4 + 20),
    ],
)
def test_other_work_is_scaled_phase_by_phase(kept: Any, changes: dict[str, int], seconds: float) -> None:
    made = cell(**cast("dict[str, Any]", changes))
    assert estimate(planned(made), kept.keep(earlier(made)), CPU).seconds == pytest.approx(seconds)


def test_the_newest_fitting_record_counts_and_no_more_are_read(kept: Any) -> None:
    made = cell()
    fast = earlier(made, efficiency=SimpleNamespace(seconds={"features": 0.25, "train": 0.75}))
    results = kept.keep(earlier(made), earlier(made), fast, None)
    assert estimate(planned(made), results, CPU).seconds == 1.0
    assert kept.read == ["s3", "s2"]


def test_done_cells_have_no_estimate(kept: Any) -> None:
    made = cell()
    assert estimates([Planned(cell=made, state="done")], kept.keep(earlier(made)), CPU) == [None]


def test_features_are_counted_for_the_first_of_several_seeds_only(kept: Any) -> None:
    made, other = cell(), cell(steps=50)
    found = estimates([planned(made), planned(made), planned(other), planned(made)], kept.keep(earlier(made)), CPU)
    assert [one.seconds for one in found if one] == [15.0, 13.0, 13.0, 15.0]


def test_a_record_that_took_anothers_features_leaves_their_cost_to_an_older_one(kept: Any) -> None:
    made = cell()
    took = earlier(made, efficiency=SimpleNamespace(seconds={"decode": 1.0, "train": 5.0, "inference": 8.0}))
    slow = earlier(made, efficiency=SimpleNamespace(seconds={"decode": 90.0, "features": 3.0, "train": 90.0}))
    assert estimate(planned(made), kept.keep(slow, took, took), CPU).seconds == 14.0 + 3.0
    assert kept.read == ["s2", "s1", "s0"]


def test_each_record_is_read_once_for_a_whole_plan(kept: Any) -> None:
    made = cell()
    assert len(estimates([planned(made)] * 9, kept.keep(earlier(made)), CPU)) == 9
    assert kept.read == ["s0"]


def test_a_method_that_trains_nothing_is_estimated_from_its_records(kept: Any) -> None:
    made = cell()
    made.method, made.steps = SimpleNamespace(name="dinomaly", config=SimpleNamespace(batch_size=1)), 0
    made.task = SimpleNamespace(train=[None] * 20, test=[None] * 20)
    memory = earlier(
        made, training=None, efficiency=SimpleNamespace(seconds={"decode": 3.0, "fit": 2.0, "inference": 8.0})
    )
    assert estimate(planned(made), kept.keep(memory), CPU) == Estimate(3 * 40 / 30 + 2 * 2 + 8, measured=True)


def test_records_that_do_not_fit_are_passed_over(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "matrix_rate", lambda device: 1e9)
    made = cell()
    here = environment("cpu", "fp32", 1)
    unfit = [
        earlier(made, status="failed"),
        earlier(made, efficiency=None),
        earlier(made, training=None),
        earlier(made, environment=here.model_copy(update={"cpu": "another"})),
        earlier(made, environment=here.model_copy(update={"device": "cuda"})),
        earlier(made, environment=here.model_copy(update={"precision": "bf16"})),
        earlier(made, encoder_id=("other", "0")),
        earlier(made, input_size=1),
    ]
    found = estimate(planned(made), kept.keep(*unfit), CPU)
    assert len(kept.read) == len(unfit) and not found.measured
    # 100 steps of 10 images forward and backward, the encoder once for each of 30 images, 20 images scored
    cost = complexity(made.method)
    macs = 3 * 100 * 10 * cost.macs_trainable + 30 * (cost.macs - cost.macs_trainable) + 20 * cost.macs_trainable
    assert found.seconds == pytest.approx(2 * macs / (module.EFFICIENCY * 1e9))


def test_the_matrix_rate_is_measured() -> None:
    assert 1e8 < module.matrix_rate(CPU) < 1e15
