"""Statistics as a report shows them: intervals in the right cells, rankings of what compares, paired differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_records import PAPER, made

from bench.metrics import SEVEN, bootstrap_class, evaluate_class
from bench.report.figures import statistics
from bench.report.figures.series import series
from bench.report.figures.statistics import pairs, rankings, with_intervals
from bench.report.tables import build, ours
from bench.report.tables.table import TableCell
from bench.stats import delong, rank_methods
from bench.store import record as records
from bench.store.evidence import EvidenceFiles
from bench.store.facts import ClassScores
from bench.store.record import Record

LABELS = np.arange(40) % 2 == 0
CLASSES = ("bottle", "metal_nut")


def with_predictions(folder: Path, method: str, shift: float, seed: int = 0, number: int = 0) -> Record:
    """A record whose image metrics are those of per-image scores written beside it."""
    rng = np.random.default_rng(100 * number + seed)
    rows: dict[str, list] = {name: [] for name in ("id", "class", "defect", "label", "score")}
    values = {}
    for cls in CLASSES:
        scores = rng.normal(size=40) + shift * LABELS
        found = evaluate_class(None, None, scores, LABELS, metrics=SEVEN[:3])
        values[cls] = ClassScores(
            values={**dict.fromkeys(SEVEN), **found}, undefined=dict.fromkeys(SEVEN[3:], "no masks")
        )
        order = rng.permutation(40)  # each method reads the images in an order of its own
        rows["id"] += [f"{cls}/{place}" for place in order]
        rows["class"] += [cls] * 40
        rows["defect"] += ["bad" if LABELS[place] else "good" for place in order]
        rows["label"] += [int(LABELS[place]) for place in order]
        rows["score"] += scores[order].tolist()
    record = made(method, values=values, seed=seed)
    name = f"{method}-{seed}.parquet"
    records.write_predictions(folder / name, rows)
    return record.model_copy(update={"predictions": name})


def cells(found: list[Record], folder: Path) -> dict[tuple[str, str, str], TableCell]:
    """Method, class and metric -> cell, of the tables by class and of the overview."""
    shown = {}
    for table in with_intervals(build.tables(found, published=False), found, EvidenceFiles([folder])):
        if table.name.startswith(("overview", "classes")):
            for row in table.rows:
                for cell, column in zip(row.cells, table.columns, strict=True):
                    shown[row.method or column.method, row.cls, column.metric] = cell
    return shown


def test_a_cell_has_the_interval_of_its_own_number(tmp_path: Path) -> None:
    found = [with_predictions(tmp_path, "vitad", 1.0, number=1), with_predictions(tmp_path, "rd4ad", 0.5, number=2)]
    shown = cells(found, tmp_path)
    images = EvidenceFiles([tmp_path]).images(found[0])["bottle"]
    for metric in SEVEN[:3]:
        cell = shown["vitad", "bottle", metric]
        assert cell.interval and cell.value
        low, high = cell.interval
        assert low < cell.value < high or metric == "image/f1max"
        again = bootstrap_class(None, None, images.scores, images.labels, metrics=[metric]).interval(metric)
        assert again and (low, high) == pytest.approx((again.low, again.high), abs=0.04), "other draws, same width"
    mean, single = shown["vitad", "", "image/auroc"], shown["vitad", "bottle", "image/auroc"]
    assert mean.interval and single.interval
    assert mean.interval[1] - mean.interval[0] < single.interval[1] - single.interval[0]


def test_the_interval_of_several_seeds_is_about_their_mean(tmp_path: Path) -> None:
    seeds = [with_predictions(tmp_path, "vitad", 1.0, seed=seed, number=3) for seed in range(3)]
    shown = cells(seeds, tmp_path)
    cell = shown["vitad", "", "image/auroc"]
    assert cell.interval and cell.std and cell.interval[0] < (cell.value or 0) < cell.interval[1]


def test_without_scores_beside_the_records_there_is_no_interval(tmp_path: Path) -> None:
    found = [with_predictions(tmp_path, "vitad", 1.0)]
    assert all(cell.interval is None for cell in cells(found, tmp_path / "elsewhere").values())
    tables = with_intervals(build.tables(found, published=False), found, EvidenceFiles([]))
    assert not any("bootstrap" in note for table in tables for note in table.notes)


def test_a_report_of_very_many_records_says_that_it_has_no_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "MAX_INTERVALS", 1)
    found = [with_predictions(tmp_path, "vitad", 1.0)]
    assert all(cell.interval is None for cell in cells(found, tmp_path).values())
    (table, *_) = with_intervals(build.tables(found, published=False), found, EvidenceFiles([tmp_path]))
    assert "No intervals: more than 1" in table.notes[-1]


def test_pairs_are_those_of_delong_over_classes(tmp_path: Path) -> None:
    found = [with_predictions(tmp_path, "vitad", 1.5, number=4), with_predictions(tmp_path, "rd4ad", 0.5, number=5)]
    evidence = EvidenceFiles([tmp_path])
    table = pairs(series(ours.lines(ours.group(found))), "mvtec", evidence)
    assert table is not None
    (row,) = table.rows
    assert row.title == "ViTAD − RD4AD"
    one, other = (evidence.images(record) for record in found)
    differences = []
    for cls in CLASSES:
        by_id = [dict(zip(images[cls].ids, images[cls].scores, strict=True)) for images in (one, other)]
        labels = dict(zip(one[cls].ids, one[cls].labels, strict=True))
        names = sorted(labels)
        first, second = ([scores[name] for name in names] for scores in by_id)
        differences.append(delong([labels[name] for name in names], first, second))
    assert row.cells[2].value == pytest.approx(np.mean([one.value for one in differences]))
    assert row.cells[0].value == pytest.approx(np.mean([one.first for one in differences]))
    low, high = row.cells[3].value, row.cells[4].value
    assert low is not None and high is not None and low < (row.cells[2].value or 0) < high


def test_one_method_makes_no_pair(tmp_path: Path) -> None:
    found = [with_predictions(tmp_path, "vitad", 1.5), made("rd4ad")]
    assert pairs(series(ours.lines(ours.group(found))), "mvtec", EvidenceFiles([tmp_path])) is None


def ranked(*found: Record) -> list:
    return rankings(series(ours.lines(ours.group(found))))


def test_a_ranking_is_over_the_classes_of_all_datasets() -> None:
    levels = {"dinomaly": 0.9, "vitad": 0.8, "rd4ad": 0.7}
    found = [
        made(method, dataset, {f"{place}": level + place / 100 for place in range(3)})
        for method, level in levels.items()
        for dataset in ("mvtec", "visa")
    ]
    ((table, figure),) = ranked(*found)
    rows = list(table.rows)
    assert [row.title for row in rows] == ["Dinomaly", "ViTAD", "RD4AD"]
    assert [row.cells[0].value for row in rows] == [1.0, 2.0, 3.0]
    assert "6 classes" in table.notes[0] and not figure.absent
    # all six differences have one sign: p = 2 / 2^6, times Holm's three
    assert rows[2].cells[2].value == pytest.approx(3 * 2 / 2**6)
    scores = {name: {str(place): level + place / 100 for place in range(6)} for name, level in levels.items()}
    assert rows[2].cells[1].text == ("yes" if rank_methods(scores).distance < 2 else "no")


def test_what_does_not_compare_is_not_ranked_together() -> None:
    levels = {"a": 0.9, "b": 0.8}
    two = [made("dinomaly", levels=levels), made("vitad", levels=levels)]
    assert ranked(*two, made("rd4ad", levels=levels, protocol=PAPER)) == []
    assert ranked(*two, made("rd4ad", levels=levels, setting="single")) == []
    # other images are other blocks, so no block is complete
    assert ranked(*two, made("rd4ad", levels=levels, data="changed")) == []
    assert len(ranked(*two, made("rd4ad", levels=levels))) == 1
