"""Columns of metrics beside the field's seven: every format has them, and takes what they are from the metric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from made_records import PAPER, made, scores

from bench.checks import output, verdicts
from bench.checks.series import series
from bench.checks.tolerance import Tolerances
from bench.cli import terminal
from bench.machine.terminal import console
from bench.metrics import Evidence, Metric, Whole
from bench.protocol import COMMON, SEVEN
from bench.registry import METRICS
from bench.report.formats.csv import delimited
from bench.report.formats.html import page
from bench.report.formats.latex import latex
from bench.report.formats.long_csv import numbers
from bench.report.formats.markdown import markdown
from bench.report.tables import build
from bench.report.tables.names import in_order
from bench.report.tables.table import Table
from bench.store.facts import ClassScores
from bench.store.record import Record
from bench.store.rows import rows

MORE = ("image/fpr@recall0.95", "pixel/aupro@0.05", "pixel/iou:grid7")


def wider(method: str = "dinomaly", level: float = 0.9, more: tuple[str, ...] = MORE, **facts: Any) -> Record:
    """A record of protocol common that holds more metrics."""
    protocol = replace(COMMON, metrics=(*SEVEN, *more))
    return made(method, protocol=protocol, levels={"bottle": level, "metal_nut": level}, **facts)


def tables(*records: Record, **options: Any) -> dict[str, Table]:
    return {table.name: table for table in build.tables(records, published=False, **options)}


def test_what_any_record_holds_is_a_column_the_seven_first() -> None:
    found = tables(made("vitad"), wider(), wider(seed=1))
    want = [*SEVEN, "mad", *MORE]
    for name in ("overview-multi", "seeds-multi"):
        assert [column.metric for column in found[name].columns] == want
    # two methods: the columns of a class table are grouped by metric
    assert list(dict.fromkeys(column.metric for column in found["classes-mvtec-multi"].columns)) == want
    headings = [column.title for column in found["overview-multi"].columns][-3:]
    assert headings == ["I-FPR@recall0.95", "AUPRO@0.05", "P-IoU:grid7"]
    notes = " ".join(found["overview-multi"].notes)
    assert "I-FPR@recall0.95: false-positive rate at the highest threshold" in notes and "lower is better" in notes


def test_a_metric_more_leaves_records_comparable_and_ranked() -> None:
    table = tables(made("vitad"), wider(), made("knn", levels={"bottle": 0.5, "metal_nut": 0.5}))["overview-multi"]
    first = {row.method: row.cells[0] for row in table.rows}
    assert first["dinomaly"].value == pytest.approx(0.9) and first["vitad"].value == pytest.approx(0.85)
    assert {method: cell.rank for method, cell in first.items()} == {"dinomaly": 1, "vitad": 2, "knn": 0}


def test_of_a_metric_where_lower_is_better_the_lowest_is_best() -> None:
    table = tables(wider(level=0.9), wider("vitad", level=0.8), wider("knn", level=0.7))["overview-multi"]
    place = [column.metric for column in table.columns].index(MORE[0])
    assert {row.method: row.cells[place].rank for row in table.rows} == {"dinomaly": 0, "vitad": 2, "knn": 1}
    assert {row.method: row.cells[0].rank for row in table.rows} == {"dinomaly": 1, "vitad": 2, "knn": 0}


def test_the_columns_can_be_chosen_in_their_order() -> None:
    chosen = ("image/mad", "image/fpr@recall0.95", "pixel/auroc")
    table = tables(wider(), metrics=chosen)["overview-multi"]
    assert [column.metric for column in table.columns] == list(chosen)
    # the level's mean is of what the record holds
    assert next(table.rows).cells[0].value == pytest.approx((0.9 + 0.89 + 0.88) / 3)


def test_a_variant_stands_in_its_metrics_column_or_beside_it() -> None:
    grid = "pixel/aupro@0.3:grid200"
    stands_in = tables(made(protocol=PAPER))["overview-multi"]
    assert [column.metric for column in stands_in.columns] == [*SEVEN, "mad"]
    beside = tables(wider(more=(grid,)))["overview-multi"]
    assert [column.title for column in beside.columns][-1] == "AUPRO:grid200"
    (row,) = beside.rows
    values = {column.metric: cell.value for column, cell in zip(beside.columns, row.cells, strict=True)}
    assert values["pixel/aupro@0.3"] == pytest.approx(0.84) and values[grid] == pytest.approx(0.83)


def test_levels_stay_together() -> None:
    found = in_order(["sample/ap", "pixel/x", "image/y", "other", "image/auroc:logical", "image/ap"])
    assert found[8:] == ("image/y", "image/auroc:logical", "pixel/x", "sample/ap", "other")


# ------------------------------------------------------------------------------------ numbers that are no shares
def distant(value: float, metric: str = "pixel/distance", **facts: Any) -> Record:
    record = made(**facts)
    own = {
        cls: ClassScores(values={**one.values, metric: value}, undefined=one.undefined)
        for cls, one in record.scores.items()
    }
    protocol = record.protocol.model_copy(update={"metrics": (*record.protocol.metrics, metric)})
    data = record.model_dump() | {"scores": own, "protocol": protocol, "units": {metric: "px"}}
    return Record(**data)


def test_a_metric_that_no_plug_in_at_hand_knows_is_shown_by_its_id_and_never_marked() -> None:
    table = tables(distant(7.5), distant(2.25, method="vitad"), distant(3, method="knn"))["overview-multi"]
    place = len(table.columns) - 1
    assert table.columns[place].title == "pixel/distance (px)" and table.columns[place].group == "Pixel level"
    cells = {row.method: row.cells[place] for row in table.rows}
    shown = {method: table.shown(cell, table.columns[place]) for method, cell in cells.items()}
    assert shown == {"dinomaly": "7.500", "vitad": "2.250", "knn": "3.000"}
    assert {cell.rank for cell in cells.values()} == {0}
    everywhere = (markdown(table), latex(table), delimited(table), page("t", [table], []))
    assert all("7.500" in text and "pixel/distance" in text.replace("\\_", "_") for text in everywhere)
    (row,) = rows([distant(7.5)])
    printed = console()
    with printed.capture() as caught:
        printed.print(terminal.score_table(row))
    assert "pixel/distance (px)" in caught.get() and "7.500" in caught.get()
    assert {one["value"] for one in numbers([distant(7.5)]) if one.get("metric") == "pixel/distance"} == {7.5}


@pytest.fixture
def distance() -> Iterator[None]:
    """The plug-in of pixel/distance, at hand."""

    class Distance(Metric):
        """Distance between the highest score and the defect."""

        id, heading, unit, higher_is_better = "pixel/distance", "Distance", "px", False
        definition = undefined = source = "as in the test"

        def compute(self, evidence: Evidence) -> float:
            return 7.5

        def oracle(self, data: Whole) -> float | None:
            return 7.5

    METRICS.targets["pixel/distance"], METRICS._loaded["pixel/distance"] = "here:Distance", Distance
    yield
    del METRICS.targets["pixel/distance"], METRICS._loaded["pixel/distance"]


def test_with_the_plug_in_it_has_a_heading_and_a_direction(distance: None) -> None:
    table = tables(distant(7.5), distant(2.25, method="vitad"), distant(3, method="knn"))["overview-multi"]
    assert table.columns[-1].title == "Distance (px)"
    assert {row.method: row.cells[-1].rank for row in table.rows} == {"dinomaly": 0, "vitad": 1, "knn": 2}


def checked(before: Record, after: Record, metric: str) -> Any:
    (one,) = verdicts.check(series([before]), [after], Tolerances())
    return [finding for finding in one.findings if finding.metric == metric and finding.line == "mean"]


def test_check_knows_which_way_is_better() -> None:
    good, bad = wider(level=0.8), wider(level=0.9)
    for metric, verdict in (("image/auroc", "better"), (MORE[0], "worse")):
        (found,) = checked(good, bad, metric)
        assert found.verdict == verdict
        (found,) = checked(bad, good, metric)
        assert found.verdict == ("worse" if verdict == "better" else "better")


def test_check_shows_a_number_with_a_unit_as_it_is_and_allows_a_share_of_it() -> None:
    (found,) = checked(distant(750.0), distant(755.0), "pixel/distance")
    assert found.verdict == "same", "one percent of 750 are 7.5"
    (found,) = checked(distant(750.0), distant(760.0), "pixel/distance")
    assert found.verdict == "worse", "nobody at hand knows which way is better"
    assert output.cells(found)[2:6] == ("750.00", "760.00", "+10.00", "7.50")


def test_scores_of_the_test_records_descend() -> None:
    assert scores(0.9)["pixel/aupro@0.3"] == pytest.approx(0.84)
