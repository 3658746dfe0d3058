"""Speed records as tables, and the model of what the full matrix costs."""

from __future__ import annotations

import random

import pytest
from made_speed import method, speed

from bench.checks import ratios
from bench.registry import DATASETS
from bench.report.formats.markdown import markdown
from bench.report.tables.table import DASH
from bench.speed import layout, profile, scaling, tables
from bench.speed import record as records
from bench.speed.scaling import CellGroup, makespan, parts, schedule


# --------------------------------------------------------------------------------------------------------- model
def test_the_longest_job_goes_first_to_whoever_is_free() -> None:
    assert makespan([3, 3, 2, 2, 2], 2) == 7  # the best is 6; LPT is known for this
    assert makespan([5, 1, 1, 1], 2) == 5
    assert makespan([4, 2], 8) == 4 and makespan([], 3) == 0


def test_makespans_keep_within_the_bound() -> None:
    rng = random.Random(0)
    for _ in range(50):
        jobs = [rng.uniform(0.1, 9) for _ in range(rng.randint(1, 40))]
        workers = rng.randint(1, 9)
        least = max(max(jobs), sum(jobs) / workers)
        # what LPT is known to keep to, counted from a bound that the best schedule cannot beat either
        assert least - 1e-9 <= makespan(jobs, workers) <= least + max(jobs) * (1 - 1 / workers) + 1e-9
        assert makespan(jobs, 1) == pytest.approx(sum(jobs))


def test_seeds_stay_together_until_that_takes_longer() -> None:
    matrix = [CellGroup("a", "x", shared=10, own=1, seeds=5)]
    assert schedule(matrix, 1) == scaling.Schedule(1, 15, 15, True)
    # five workers: each computes the features anew, and all are done sooner
    assert schedule(matrix, 5) == scaling.Schedule(5, 11, 55, False)


def test_semantic_sets_are_four_models_of_their_normal_classes() -> None:
    assert parts(DATASETS.load("mvtec").card) == [(3629, 1725)]
    assert parts(DATASETS.load("cifar10").card) == [(25_000, 10_000)] * 4
    assert parts(DATASETS.load("realiad").card) == [(36_465, 114_585)]


def test_a_group_has_the_dataset_s_images_and_the_method_s_steps() -> None:
    (found,) = scaling.groups({"dinomaly": method()}, ["mvtec"], seeds=3)
    assert found.shared == pytest.approx(0.1 * (3629 + 1725) + 0.2 * 3629)
    # published: 10,000 steps on MVTec AD; the record comes once a cell
    assert found.own == pytest.approx(0.5 * 10_000 + 0.5 * 1725 + 0.1 * 1725 + 1)
    (memory,) = scaling.groups({"knn": method(trains=False)}, ["cifar10"], seeds=3)[:1]
    assert memory.shared == pytest.approx(0.1 * 35_000)
    # nothing keeps a memory's features for the next seed, and there are no masks to measure pixels by
    assert memory.own == pytest.approx(0.2 * 25_000 + 7 + 0.5 * 10_000 + 1)


def test_a_projection_replaces_what_operations_were_counted_for() -> None:
    there = {phase.name: phase.seconds for phase in scaling.projected(method(whole=True), 1.0).phases}
    assert there["train"] == pytest.approx(1000 * 5e9 / 0.5e12)
    assert (there["decode"], there["metrics"], there["inference"]) == (15.0, 5.0, 25.0)


def test_without_a_gpu_its_rows_are_dashes_and_name_the_command() -> None:
    made = scaling.table([speed(("dinomaly", "knn"))])
    text = markdown(made)
    assert [row.title for row in made.blocks[1].rows] == ["1 GPU", "8 GPUs", "64 GPUs"]
    assert all(cell.value is None for row in made.blocks[1].rows for cell in row.cells)
    assert "bench speed --workload mvtec --device cuda" in text and "projected" not in text
    assert "extrapolated from timed blocks" in text


def test_a_gpu_s_rows_and_a_projection_are_filled() -> None:
    made = scaling.table([speed(device="cuda:0 NVIDIA H100")], assumed_tflops=400)
    assert len(made.blocks) == 2 and "not measured" in made.blocks[1].title
    days = [row.cells[0].value for row in made.blocks[0].rows]
    assert all(days) and sorted(days, key=lambda one: -(one or 0)) == days
    assert made.blocks[0].rows[0].cells[2].value == 1.0


# -------------------------------------------------------------------------------------------------------- tables
def test_tables_show_what_was_measured_and_mark_what_was_not() -> None:
    rates, shares, gains, floors = tables.tables([speed(("dinomaly", "knn"))])
    ours = dict(zip([(c.group, c.title) for c in rates.columns], rates.blocks[0].rows[0].cells, strict=True))
    assert ours["Training", "steps/s"].value == 2.0 and ours["Training", "images/s"].value == 32.0
    assert ours["Training", "range"].text == "1.50–3.00"
    assert ours["Whole", "hours"].value == pytest.approx(566 / 3600)
    assert any("extrapolated from 30 of 1,000 (train)" in note for note in rates.footnotes)
    assert ours["Used (%)", "training"].value == pytest.approx(50) and ours["Used (%)", "inference"].value is None
    knn = rates.blocks[0].rows[1]
    assert knn.cells[0].value is None and knn.cells[1].value == 2.0
    for row in shares.blocks[0].rows:
        assert sum(cell.value or 0 for cell in row.cells[:-1]) == pytest.approx(100)
    # before and after, of both methods
    assert [row.title for row in shares.blocks[0].rows][:2] == ["Dinomaly, plain way", "Dinomaly"]
    assert len(shares.blocks[0].rows) == 4
    gained = dict(zip([(c.group, c.title) for c in gains.columns], gains.blocks[0].rows[0].cells, strict=True))
    assert gained["Training: pixels kept", "predicted"].value == pytest.approx(1 / 0.9)
    assert gained["Inference: pixels kept", "predicted"].value == pytest.approx(1 / 0.8)
    assert gained["Training: features kept", "measured"].value is None
    assert floors.blocks[0].rows[1].cells[-1].value == 2.0


def test_a_dash_stands_for_the_gpu_until_there_is_one() -> None:
    rates, *_ = tables.tables([speed()])
    assert DASH in markdown(rates) and layout.fill("mvtec") in " ".join(rates.notes)
    both, *_ = tables.tables([speed(), speed(device="cuda:0 NVIDIA H100")])
    assert len(both.blocks) == 2 and not any("No GPU" in note for note in both.notes)


def test_the_plain_way_s_seconds_follow_from_its_rates_and_parts() -> None:
    one = speed()
    found = profile.plain(one.methods["dinomaly"], one.workload)
    # a step a second and an image a second: 1,000 steps, 50 test images
    assert found == pytest.approx(
        {"decode": 100 + 10, "features": 300, "train": 600, "inference": 40, "metrics": 5, "record": 1}
    )
    found = profile.plain(method(trains=False), one.workload)
    assert found["fit"] == pytest.approx(100 * 0.6 + 7) and "train" not in found


# --------------------------------------------------------------------------------------------------------- check
def test_ratios_are_checked_against_the_recorded_ones(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    records.write(speed(("dinomaly", "knn")), folder / "base" / "speed" / "cpu-mvtec.json")
    verdicts = {}
    for name, factor in (("same", 0.95), ("worse", 0.7), ("better", 1.4)):
        records.write(speed(("dinomaly",), factor=factor), folder / f"{name}.json")
        found = ratios.check(folder / "base", folder / f"{name}.json").findings
        verdicts[name] = [one.verdict for one in found]
    assert verdicts == {name: [name, name, "missing", "missing"] for name in ("same", "worse", "better")}
