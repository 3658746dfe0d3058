"""Tables of some classes: means over them, published ones recomputed, and nothing where there is nothing to say."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest
from made_records import PAPER, made

from bench.config import load_suite
from bench.errors import UsageError
from bench.protocol import SEVEN
from bench.published import MEAN, lookup
from bench.report.tables import build, subset
from bench.report.tables import suite as report
from bench.report.tables.table import Table, TableRow
from bench.store.record import Record

TWO = {"bottle": 0.9, "screw": 0.7}
FULL = {**TWO, "tile": 0.5}


def some(method: str = "dinomaly", levels: dict[str, float] | None = None, **options: object) -> Record:
    """A record of some of MVTec AD's 15 classes."""
    return made(method, "mvtec", levels or TWO, known=15, **options)  # type: ignore[arg-type]


def tables(*records: Record, published: bool = True, **options: object) -> dict[str, Table]:
    found = build.tables(records, published=published, **options)  # type: ignore[arg-type]
    return {table.name: table for table in found}


def row(table: Table, method: str, source: str) -> TableRow:
    (found,) = (row for row in table.rows if (row.method, row.source) == (method, source))
    return found


def test_a_subset_has_means_of_its_own_classes_and_says_so() -> None:
    table = tables(some(), some("vitad"))["overview-multi"]
    assert [block.title for block in table.blocks] == ["MVTec AD (bottle and screw)"]
    ours = row(table, "dinomaly", "ours")
    assert ours.cells[0].value == pytest.approx(0.8) and not any("15" in note for note in ours.notes)
    assert any(note.startswith("Means on MVTec AD are over bottle and screw alone; published") for note in table.notes)


def test_published_means_are_recomputed_over_the_same_classes_and_marked() -> None:
    table = tables(some())["overview-multi"]
    theirs, ours = row(table, "dinomaly", "published"), row(table, "dinomaly", "ours")
    for metric, cell in zip(SEVEN, theirs.cells, strict=False):
        printed = [
            score
            for cls in TWO
            for score in lookup("dinomaly", "mvtec", cls, metric)
            if score.where in ("dinomaly_preprint table A8", "dinomaly_preprint table A9")
        ]
        assert len(printed) == 2 and cell.value == pytest.approx(fmean(float(s.value) for s in printed) / 100, abs=6e-4)
    assert any(
        note == "recomputed over bottle and screw, by class in Dinomaly, preprint with appendix, 2024"
        for note in theirs.notes
    )
    assert ours.cells[0].difference == pytest.approx(0.8 - theirs.cells[0].value)  # type: ignore[operator]
    # a mean that a paper prints is of all classes, and not shown
    assert theirs.cells[0].printed not in {score.value for score in lookup("dinomaly", "mvtec", MEAN, "image/auroc")}


def test_methods_that_no_paper_has_by_class_have_no_published_row() -> None:
    methods = {row.method for row in tables(some())["overview-multi"].rows if row.source == "published"}
    assert "knn" not in methods and {"dinomaly", "vitad", "rd4ad"} <= methods


def test_one_complete_method_keeps_the_means_over_all() -> None:
    every = {f"class{number}": 0.9 for number in range(15)}
    table = tables(made("dinomaly", "mvtec", every), some("vitad"), published=False)["overview-multi"]
    assert [block.title for block in table.blocks] == ["MVTec AD"]
    assert [row.cells[0].text for row in table.rows] == ["", "2/15"]


def test_several_subsets_meet_in_what_they_share() -> None:
    table = tables(some(levels=FULL), some("vitad"), published=False)["overview-multi"]
    assert [block.title for block in table.blocks] == ["MVTec AD (bottle and screw)"]
    assert [row.cells[0].value for row in table.rows] == [pytest.approx(0.8)] * 2


def test_seeds_and_models_of_a_class_are_restricted_too() -> None:
    single = {"setting": "single", "parts": 15}
    records = [
        made("dinomaly", "mvtec", {cls: level}, part=cls, seed=seed, **single)  # type: ignore[arg-type]
        for cls, level in TWO.items()
        for seed in (0, 1)
    ]
    table = tables(*records, published=False)["overview-single"]
    (one,) = table.rows
    assert one.cells[0].value == pytest.approx(0.8) and one.cells[0].std == pytest.approx(0.0)


def test_classes_that_are_asked_for_choose_among_all(tmp_path: object) -> None:
    every = {f"class{number}": 0.9 for number in range(13)} | TWO
    whole = made("dinomaly", "mvtec", every)
    found = tables(whole, made("dinomaly", "visa", {"pcb1": 0.5}), classes=("screw", "bottle"), published=False)
    (block,) = found["overview-multi"].blocks
    assert block.title == "MVTec AD (screw and bottle)" and block.rows[0].cells[0].value == pytest.approx(0.8)
    assert [row.title for row in found["classes-mvtec-multi"].rows][:3] == ["bottle", "screw", "mean of 2"]


def test_many_classes_are_counted_in_the_heading_and_named_in_the_note() -> None:
    levels = dict.fromkeys(("bottle", "cable", "capsule", "carpet"), 0.9)
    table = tables(some(levels=levels), published=False)["overview-multi"]
    assert table.blocks[0].title == "MVTec AD (4 classes)"
    assert "Means on MVTec AD are over bottle, cable, capsule, carpet alone." in table.notes


def test_a_class_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--classes: no class 'botle' in mvtec\. Did you mean 'bottle'\?"):
        tables(some(), classes=("botle",))


def test_pooled_scores_of_all_classes_are_no_row_of_some() -> None:
    whole = made("dinomaly", "mvtec", FULL)
    pooled = whole.model_copy(update={"pooled": whole.scores["bottle"]})
    titles = [row.title for row in tables(pooled, published=False)["classes-mvtec-multi"].rows]
    assert "pooled" in titles
    some_of_it = tables(pooled, published=False, classes=("bottle", "tile"))["classes-mvtec-multi"]
    assert "pooled" not in [row.title for row in some_of_it.rows]


def test_no_table_without_a_number() -> None:
    apart = [some(levels={"bottle": 0.9}), some("vitad", levels={"screw": 0.9})]
    found = tables(*apart, published=False)
    assert "overview-multi" not in found and "classes-mvtec-multi" in found
    for table in found.values():
        assert any(cell.value is not None for row in table.rows for cell in row.cells), table.name


def test_half_splits_are_a_subset_as_well() -> None:
    halves = [
        made("dinomaly", "cifar10", {part: 0.9}, part=part, parts=4, kind="semantic", metrics=SEVEN[:3])
        for part in "AB"
    ]
    table = tables(*halves)["semantic-multi"]
    assert table.blocks[0].title == "CIFAR-10 (A and B)"
    theirs = row(table, "dinomaly", "published")
    assert theirs.cells[0].printed == "64.2"  # 63.7 and 64.8


def test_a_suites_table_of_some_classes_takes_them_from_whichever_paper_has_them() -> None:
    record = some(protocol=PAPER)
    (table,) = report.tables("s", load_suite("dinomaly-table1"), [record])
    assert [block.title for block in table.blocks] == ["MVTec AD (bottle and screw)", "VisA", "Real-IAD"]
    titles = {heading: [row.title for row in rows] for heading, rows in table.blocks[0].groups}
    assert titles == {
        "Published: Dinomaly, preprint with appendix, 2024": [
            *("RD4AD", "SimpleNet", "DeSTSeg", "UniAD", "DiAD", "MambaAD", "Dinomaly")
        ],
        "Published: Dual student, NeurIPS 2025": ["ReContrast"],
        "Published: ViTAD, preprint, 2023": ["ViTAD"],
        "Ours, protocol paper:dinomaly": [
            *("RD4AD", "SimpleNet", "DeSTSeg", "UniAD", "ReContrast", "ViTAD", "Dinomaly")
        ],
    }
    (asked,) = report.tables("s", load_suite("dinomaly-table1"), [], classes=("bottle", "screw"))
    assert [block.title for block in asked.blocks] == ["MVTec AD (bottle and screw)"]


def test_what_is_recomputed_is_never_taken_for_a_misprint() -> None:
    (one, *_) = (score for score in subset.printed("visa", ("candle",)) if score.cls == MEAN)
    misprinted = replace(one, paper="dual_student", table="16", method="dinomaly", value="99.8")
    assert misprinted.correction is None and misprinted.used == "99.8"
