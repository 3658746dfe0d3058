from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made_records import PAPER, made

from bench import suites
from bench.config import Suite, SuiteVariant, configure, load_suite
from bench.encoders import catalog
from bench.errors import UsageError
from bench.published import papers
from bench.registry import DATASETS, METHODS
from bench.report.formats import html
from bench.report.formats.csv import delimited
from bench.report.formats.latex import latex
from bench.report.formats.markdown import markdown
from bench.report.tables import suite as report
from bench.report.tables import theirs
from bench.report.tables.build import tables as all_tables
from bench.report.tables.table import Table, TableRow

NOISELESS = {"dropout": 0.0}
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
PAPERS = [name for name in suites.names() if load_suite(name).published]
TITLES = {"MVTec-AD": "MVTec AD"}
"""Datasets as the paper spells them -> as their cards do."""


def digits(table: Table, row: TableRow) -> list[str]:
    return [table.shown(cell, column) for cell, column in zip(row.cells, table.columns, strict=True)]


# ----------------------------------------------------------------------------------------------- as the paper prints it
def test_table_1_of_dinomaly_from_published_scores_alone_is_the_papers() -> None:
    """Every digit, and the order of its datasets and rows; the golden file was cut out of the paper's text."""
    lines = (GOLDEN / "dinomaly_cvpr2025_table1.txt").read_text(encoding="utf-8").splitlines()
    paper: list[tuple[str, list[list[str]]]] = []
    for line in lines:
        if line.startswith(" "):
            paper[-1][1].append([word.rstrip("†") for word in line.replace("(Ours)", "").split()])
        elif line:
            paper.append((TITLES.get(line, line), []))
    (table,) = report.tables("dinomaly-table1", load_suite("dinomaly-table1"), [])
    ours = [
        (block.title, [[row.title, *digits(table, row)] for row in block.rows if row.source == "published"])
        for block in table.blocks
    ]
    assert ours == paper
    assert sum(len(rows) for _, rows in paper) == 30


def test_its_methods_that_bench_has_wait_for_ours_with_dashes() -> None:
    (table,) = report.tables("dinomaly-table1", load_suite("dinomaly-table1"), [])
    for block in table.blocks:
        waiting = [row for row in block.rows if row.source == "ours"]
        assert {row.title for row in waiting} == {
            "RD4AD",
            "UniAD",
            "SimpleNet",
            "DeSTSeg",
            "ReContrast",
            "ViTAD",
            "Dinomaly",
        }
        assert all(set(digits(table, row)) == {"–"} for row in waiting)
        assert [heading for heading, _ in block.groups] == ["Published: Dinomaly, CVPR 2025", "Ours, not run yet"]
        assert block.groups[1][1] == tuple(waiting)


@pytest.mark.parametrize("name", PAPERS)
def test_every_suite_gives_its_table_before_anything_was_run(name: str) -> None:
    suite = load_suite(name)
    tables = report.tables(name, suite, [])
    assert len(tables) == (len(suite.datasets) if suite.layout == "classes" else 1)
    for table in tables:
        assert any(cell.value is not None for row in table.rows for cell in row.cells)
        sources = {row.source for row in table.rows} | {column.source for column in table.columns}
        assert sources >= {"published", "ours"}
        assert table.notes[0].startswith("Published: ")
    without = report.tables(name, suite, [], published=False)
    assert all(cell.value is None for table in without for row in table.rows for cell in row.cells)


@pytest.mark.parametrize("name", suites.names())
def test_every_suite_can_be_planned_and_every_row_of_it_is_in_the_paper(name: str) -> None:
    suite = load_suite(name)
    printed = {(line.method, line.variant, line.setting) for line in theirs.of_tables(suite.published)}
    few = sorted({variant for _, variant, _ in printed if variant.startswith("shots=")}) or [""]
    wanted = list(suite.variants) or [
        SuiteVariant(name="", method=method, published=variant) for method in suite.methods for variant in few
    ]
    for dataset in suite.datasets:
        assert dataset in DATASETS.targets
        for variant in wanted:
            kind = METHODS.load(variant.method)
            request = kind(
                configure(kind, dataset, {**suite.set.get(variant.method, {}), **variant.set}, suite.encoder)
            ).encoder()
            if request is not None:
                catalog.describe(request.name, request.input_size, request.blocks)
    if suite.published:
        for variant in wanted:
            assert all((variant.method, variant.published, setting) in printed for setting in suite.settings)
    sets = [(variant.method, sorted(variant.set.items(), key=str)) for variant in suite.variants]
    assert all(sets.count(one) == 1 for one in sets)


WRITERS: dict[str, Callable[[Table], str]] = {
    "markdown": markdown,
    "latex": latex,
    "csv": delimited,
    "html": lambda table: html.page("T", [table], []),
}


@pytest.mark.parametrize("format_name", WRITERS)
@pytest.mark.parametrize(
    ("suite", "shown", "note"),
    [
        ("dinomaly-preprint-table4", "99.19", "printed 98.19; 99.19 by the author's word"),
        ("dual-student-table2", "67.2", "67.2 is PatchCore on CIFAR-10; Dinomaly's table 2 prints 89.4"),
        ("dual-student-table2", "99.3", "digit for digit GeneralAD's own ViT-L row"),
        ("dual-student-table1", "89.7", "Recipe unstated: the paper cites Sun et al. (ICML 2022)"),
    ],
)
def test_every_format_says_what_of_a_published_number_is_not_as_printed(
    suite: str, shown: str, note: str, format_name: str
) -> None:
    (table,) = report.tables(suite, load_suite(suite), [])
    text = WRITERS[format_name](table).replace("&#39;", "'")
    assert shown in text and note in text


def test_ours_is_compared_with_what_a_misprint_means_and_not_with_what_slipped() -> None:
    suite = load_suite("dinomaly-preprint-table4")
    (table,) = report.tables("s", suite, [made("dinomaly", "mvtec", {"a": 0.9926}, protocol=PAPER, config=NOISELESS)])
    printed, ours = (next(row for row in table.rows if row.source == source) for source in ("published", "ours"))
    assert digits(table, printed)[0] == "99.19" and ours.cells[0].difference == pytest.approx(0.9926 - 0.9919)
    record = made("patchcore", "realiad", {"a": 0.9}, protocol=PAPER, setting="single")
    (table,) = report.tables("s", load_suite("dual-student-table2"), [record])
    place = [column.dataset for column in table.columns].index("realiad")
    printed, ours = (row for row in table.blocks[0].rows if row.method == "patchcore")
    assert table.shown(printed.cells[place], table.columns[place]) == "67.2"
    assert printed.cells[place].value is None and ours.cells[place].difference is None
    assert ours.cells[place].value == pytest.approx(0.9)


def test_papers_and_tables_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown paper\. Did you mean 'vitad'\?"):
        theirs.of_tables(["vitadd 1"])
    with pytest.raises(UsageError, match=r"vitad has no table '4'\. It has: 1, 2"):
        theirs.of_tables(["vitad 4"])


# ----------------------------------------------------------------------------------------------------------- ours in it
ABLATION = Suite(
    title="T",
    datasets=("mvtec", "visa"),
    protocol="paper",
    published=("dinomaly_preprint 4",),
    variants=(
        SuiteVariant(name="0", method="dinomaly", set={"dropout": 0.0}, published="dropout=0"),
        SuiteVariant(name="0.2", method="dinomaly", published=""),
        SuiteVariant(name="0.1, softmax", method="dinomaly", set={"dropout": 0.1, "attention": "softmax"}),
    ),
)


def rows(*records: object, suite: Suite = ABLATION, **options: object) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Title, source, image AUROC and notes of the rows of MVTec AD."""
    (table,) = report.tables("s", suite, records, **options)  # type: ignore[arg-type]
    return [(row.title, row.source, digits(table, row)[0], row.notes) for row in table.blocks[0].rows]


def mine(level: float, **config: object):  # type: ignore[no-untyped-def]
    return made("dinomaly", "mvtec", {"a": level}, protocol=PAPER, config=config)


def test_a_record_stands_below_the_row_whose_settings_it_has() -> None:
    found = rows(mine(0.9), mine(0.8, dropout=0.0), mine(0.7, attention="softmax", dropout=0.1))
    assert [(title, value) for title, source, value, _ in found if source == "ours"] == [
        *(("0 (noiseless)", "80.00"), ("0.2", "90.00"), ("0.1, softmax", "70.00"))
    ]
    assert [title for title, source, _, _ in found if source == "published"] == [
        *("0 (noiseless)", "0.1", "0.2", "0.3", "0.4", "0.5")
    ]
    # what the row is called by is no footnote
    assert all(notes == () for _, source, _, notes in found if source == "ours")


def test_settings_that_no_row_is_about_are_a_footnote_and_other_switches_are_no_row() -> None:
    found = rows(mine(0.9, steps=5), mine(0.8, dropout=0.3), mine(0.6, attention="softmax"))
    shown = [(value, notes) for _, source, value, notes in found if source == "ours"]
    assert shown == [("–", ()), ("90.00", ("not the paper's settings: steps = 5",)), ("–", ())]


def test_only_rows_of_some_methods_and_only_ours() -> None:
    assert {source for _, source, _, _ in rows(mine(0.9), published=False)} == {"ours"}
    assert {title for title, _, _, _ in rows(suite=load_suite("dinomaly-table1"), methods=("vitad",))} == {"ViTAD"}


def test_ours_on_one_dataset_is_a_dash_on_the_other() -> None:
    (table,) = report.tables("s", ABLATION, [mine(0.9)])
    visa = [row for row in table.blocks[1].rows if row.source == "ours"]
    assert [row.title for row in visa] == ["0 (noiseless)", "0.2", "0.1, softmax"]
    assert all(set(digits(table, row)) == {"–"} for row in visa)


@pytest.mark.parametrize(
    ("change", "belongs"),
    [
        ({}, True),
        ({"protocol": PAPER}, True),
        ({"method": "knn"}, False),
        ({"dataset": "btad"}, False),
        ({"setting": "single"}, False),
    ],
)
def test_what_belongs_to_a_suite(change: dict[str, object], belongs: bool) -> None:
    record = made(**{"protocol": PAPER, **change})  # type: ignore[arg-type]
    assert report.belongs(record, ABLATION) is belongs
    assert not report.belongs(made(), ABLATION)  # another protocol


def test_a_suite_without_a_paper_gives_every_table_of_its_records() -> None:
    suite = Suite(title="Demo", methods=("dinomaly",), datasets=("mvtec",))
    tables = report.tables("demo", suite, [made()])
    assert [table.name for table in tables] == [
        *("demo-overview-multi", "demo-classes-mvtec-multi", "demo-efficiency-multi")
    ]


def test_classes_of_a_suite_have_a_column_for_ours() -> None:
    suite = Suite(
        title="T", methods=("vitad",), datasets=("visa",), protocol="paper", layout="classes", published=("vitad 7",)
    )
    (table,) = report.tables("s", suite, [])
    image = [(column.title, column.source) for column in table.columns if column.metric == "image/auroc"]
    assert image == [*((title, "published") for title in ("DRÆM", "UniAD", "SimpleNet", "ViTAD")), ("ViTAD", "ours")]


def test_every_published_table_is_a_suite_or_its_absence_has_a_reason() -> None:
    known = {f"{name} {table}" for name, paper in papers().items() for table in paper.tables}
    shown = {table for name in suites.names() for table in load_suite(name).published}
    reasons = re.findall(r"^\| `(.+?)` \| .+ \|$", (suites.FOLDER / "README.md").read_text(encoding="utf-8"), re.M)
    assert shown.isdisjoint(reasons) and shown | set(reasons) == known


@pytest.mark.parametrize("shots", [1, 2, 8])
def test_rows_of_so_many_shots_stand_beside_ours_of_as_many(shots: int) -> None:
    suite = load_suite("subspacead-preprint-table1")
    levels = {"bottle": 0.5, "cable": 0.75}
    record = made("subspacead", "mvtec", levels, protocol=PAPER, setting="few-shot-single", shots=shots)
    (table,) = report.tables("s", suite, [record])
    found = {row.title: row.cells[0].value for row in table.rows if row.source == "ours"}
    wanted = (
        {title: None for title in found} | {f"SubspaceAD {shots}-shot": 0.625} if shots < 8 else dict.fromkeys(found)
    )
    assert found == wanted and len(found) == 6
    tables = all_tables([record])
    (overview,) = (table for table in tables if table.name == f"overview-few-shot-single-{shots}")
    printed = {row.method: row.cells[0].printed for row in overview.rows if row.source == "published"}
    assert printed.get("subspacead") == {1: "97.1", 2: "97.5", 8: None}[shots]
