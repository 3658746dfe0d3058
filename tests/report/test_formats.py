"""Every format against a file that was read by a person: tests/golden/report.*; GOLDEN=write makes them anew."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_records import PAPER, made, scores

from bench.protocol import SEVEN
from bench.report.formats import long_csv
from bench.report.formats.csv import delimited
from bench.report.formats.latex import latex, standalone
from bench.report.formats.markdown import document, escaped, markdown
from bench.report.formats.tex import tex
from bench.report.tables import build
from bench.report.tables.table import Column, RowBlock, Table, TableCell, TableRow
from bench.store.facts import ClassScores
from bench.store.record import Record

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ODD = ("50%", "a&b", "back\\slash", "metal_nut", "<img src=x onerror=alert(1)>", "$x^2$ {y} ~#|`*", "Grün 中", "a\nb")
"""Class names that some format would act on."""


def records() -> list[Record]:
    """Two methods on VisA (one with seeds, one with other settings), one on a dataset of odd names, one with a gap."""
    others = (
        "pcb2",
        "pcb3",
        "pcb4",
        "capsules",
        "cashew",
        "chewinggum",
        "fryum",
        "macaroni1",
        "macaroni2",
        "pipe_fryum",
    )
    visa = {"pcb1": 0.9, "candle": 0.8, **dict.fromkeys(others, 0.85)}
    return [
        *(
            made("dinomaly", "visa", {name: level + seed / 100 for name, level in visa.items()}, seed=seed)
            for seed in (0, 1)
        ),
        made("dinomaly", "visa", visa, protocol=PAPER),
        made("rd4ad", "visa", visa, config={"dropout": 0.0}),
        made("vitad", "visa", {"pcb1": 0.7}, known=12),
        made("my_method", "50%_a&b", {name: 0.5 + place / 100 for place, name in enumerate(ODD)}),
        made(
            "my_method",
            "visa",
            values={
                **{name: ClassScores(values=scores(0.6)) for name in ("pcb1", *others)},
                "candle": ClassScores(values={**scores(0.5), "pixel/ap": None}, undefined={"pixel/ap": "no masks"}),
            },
        ),
    ]


def tables() -> list[Table]:
    return build.tables(records(), methods=("dinomaly", "vitad"))


def same(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_markdown() -> None:
    same("report.md", document("Golden", tables()))


def test_latex() -> None:
    same("report.tex", "\n".join(latex(table) for table in tables()))


def test_csv_of_tables() -> None:
    same("report.csv", "\n".join(f"{table.name}\n{delimited(table)}" for table in tables()))


def test_tidy_csv() -> None:
    same("report-numbers.csv", long_csv.text(long_csv.frame(records()[:1] + records()[-1:])))


# ------------------------------------------------------------------------------------------------------- all numbers
def test_parquet_holds_the_same_rows_as_csv(tmp_path: Path) -> None:
    found = long_csv.frame(records(), long_csv.chosen(("vitad",), ("visa",)))
    long_csv.write_parquet(tmp_path / "numbers.parquet", found)
    read = pq.read_table(tmp_path / "numbers.parquet")
    assert read.schema.names == list(long_csv.COLUMNS)
    lines = list(csv.DictReader(io.StringIO(long_csv.text(found))))
    assert len(lines) == read.num_rows == len(found)
    for line, row in zip(lines, read.to_pylist(), strict=True):
        assert {name: "" if value is None else str(value) for name, value in row.items()} == line
    sources = {row["source"] for row in read.to_pylist()}
    assert sources == {"ours", "published"}


def test_every_recorded_number_is_there_once_at_full_precision() -> None:
    record = made(levels={"a": 1 / 3, "b": 2 / 3})
    found = [number for number in long_csv.numbers([record]) if number["of"] == "class"]
    want = {(cls, metric, value) for cls in "ab" for metric, value in record.scores[cls].values.items()}
    assert {(one["class"], one["metric"], one["value"]) for one in found} == want and len(found) == len(want)
    means = {one["metric"]: one["value"] for one in long_csv.numbers([record]) if one["of"] == "mean"}
    assert means["image/auroc"] == pytest.approx(0.5) and set(means) == set(SEVEN)


def test_an_incomplete_row_has_no_mean_and_an_undefined_number_its_reason() -> None:
    part = made("dinomaly", "cifar10", {"A": 0.9}, part="A", parts=4, kind="semantic", metrics=SEVEN[:3])
    found = list(long_csv.numbers([part, made(levels={"a": 0.9}, known=2)]))
    assert {one["of"] for one in found} == {"class", "cost"}
    absent = [one for one in found if one["of"] == "class" and one["value"] is None]
    assert {(one["metric"], one["note"]) for one in absent} == {(metric, "no masks") for metric in SEVEN[3:]}


def test_published_numbers_of_all_or_of_some() -> None:
    everything = long_csv.chosen((), ())
    some = long_csv.chosen(("vitad",), ("visa",))
    assert 0 < len(some) < len(everything)
    assert {score.method for score in some} == {"vitad"} and {score.dataset for score in some} == {"visa", ""}


# ------------------------------------------------------------------------------------------------------------- names
def odd_table() -> Table:
    """Odd names in every place that holds a name."""
    rows = tuple(
        TableRow(
            name,
            (TableCell(0.5, std=0.01, rank=1, notes=(name,)), TableCell(None)),
            method=name,
            notes=(f"note {name}",),
        )
        for name in ODD
    )
    columns = (Column(ODD[0], ODD[1], notes=(ODD[2],)), Column(ODD[4], ODD[5]))
    return Table("odd % & _ \\ name", "".join(ODD), ODD[6], columns, (RowBlock(ODD[7], rows),), ODD[5], notes=ODD)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("metal_nut", r"metal\_nut"),
        ("50%", r"50\%"),
        ("a&b", r"a\&b"),
        ("a\\b", r"a\textbackslash{}b"),
        ("{#$}", r"\{\#\$\}"),
        ("x^2~", r"x\textasciicircum{}2\textasciitilde{}"),
        ("<a>|'`\"", r"\textless{}a\textgreater{}\textbar{}'\textasciigrave{}\textquotedbl{}"),
        ("a-b--c---d", "a-b-{}-c-{}-{}-d"),
        ("it's ''", "it's '{}'"),
        ("DRÆM", r"DR\AE{}M"),
        ("Grün", r"Gr\"{u}n"),
        ("naïve", r"na\"{\i}ve"),
        ("Łódź", r"\L{}\'{o}d\'{z}"),
        ("392² ± −1 ↑", r"392\textsuperscript{2} $\pm$ $-$1 $\uparrow$"),
        ("中😀", "[U+4E2D][U+1F600]"),
        ("a\nb\tc", "a b c"),
        ("a\x00b", "a[U+0000]b"),
    ],
)
def test_text_for_latex(text: str, code: str) -> None:
    assert tex(text) == code


def test_markdown_keeps_names_from_acting() -> None:
    text = markdown(odd_table())
    assert "<img" not in text and "&lt;img src=x onerror=alert(1)&gt;" in text
    assert r"metal\_nut" in text and "&#36;x^2&#36;" in text and r"back\\slash" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    # no name breaks a line or a column
    assert len(rows) == 2 + len(ODD) and {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {5}
    assert escaped("a | b") == r"a \| b"


def test_csv_keeps_names_as_they_are() -> None:
    lines = list(csv.reader(io.StringIO(delimited(odd_table()))))
    assert [line[1] for line in lines[1:-1]] == list(ODD) and lines[-1][0] == "notes"
    assert {len(line) for line in lines} == {len(lines[0])}


def test_csv_of_a_table_has_numbers_that_a_program_reads() -> None:
    table = next(table for table in tables() if table.name == "overview-multi")
    lines = list(csv.DictReader(io.StringIO(delimited(table))))
    mine = [line for line in lines if line["source"] == "ours" and line["method"] == "Dinomaly (common)"]
    assert float(mine[0]["I-AUROC"]) == 85.5 and float(mine[0]["I-AUROC std"]) == 0.7
    assert float(mine[0]["I-AUROC difference"]) == -13.2
    assert lines[-1]["dataset"] == "50%_a&b" and lines[-1]["I-AUROC"] == "53.5"
    assert [line["P-AP"] for line in lines if line["method"] == "my_method"] == ["11/12", "49.5"]


# ------------------------------------------------------------------------------------------------------------- LaTeX
def compiled(code: str, folder: Path) -> str:
    """Compile a document and return TeX's log and the PDF's text."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no pdflatex here: apt-get install texlive-latex-recommended")
    (folder / "table.tex").write_text(code, encoding="utf-8")
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="latin-1", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "table.pdf").stat().st_size > 1000
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["overview-multi", "classes-50%_a&b-multi", "efficiency-multi", "odd"])
def test_latex_compiles_without_a_warning_on_widths(name: str, tmp_path: Path) -> None:
    table = {**{table.name: table for table in tables()}, "odd": odd_table()}[name]
    log = compiled(standalone(table), tmp_path)
    assert "Missing character" not in log and "Overfull" not in log and "Float too large" not in log
    text = shutil.which("pdftotext")
    if text is not None:
        words = subprocess.run([text, "table.pdf", "-"], cwd=tmp_path, capture_output=True, text=True).stdout
        assert {"overview-multi": "my_method", "odd": "back\\slash", "efficiency-multi": "RD4AD"}.get(
            name, "50%"
        ) in words


@pytest.mark.slow
def test_tables_can_be_input_into_a_paper(tmp_path: Path) -> None:
    (tmp_path / "overview.tex").write_text(latex(tables()[0]), encoding="utf-8")
    code = r"""\documentclass[twocolumn]{article}
\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx,textcomp}
\begin{document}Text before. \input{overview} Text behind, see table~\ref{tab:overview-multi}.\end{document}"""
    assert "Overfull \\hbox" not in compiled(code, tmp_path)


def test_a_narrow_table_takes_one_column_and_a_wide_one_both() -> None:
    def of(width: int, rows: int = 1) -> str:
        columns = tuple(Column(f"metric {place}", f"group {place}") for place in range(width))
        blocks = tuple(
            RowBlock(str(b), tuple(TableRow("m", tuple(TableCell(0.5) for _ in columns)) for _ in range(30)))
            for b in range(rows)
        )
        return latex(Table("t", "T", "method", columns, blocks, "block"))

    assert "\\begin{table}[t]" in of(3) and "\\begin{table*}" not in of(3)
    assert "\\begin{table*}[t]" in of(9) and "resizebox" not in of(9)
    assert "\\resizebox{\\linewidth}" in of(12) and of(12).count("\\begin{tabular}") == 1
    assert of(24).count("\\begin{tabular}") == 2
    assert of(3, rows=2).count("\\begin{tabular}") == 2  # 60 rows do not fit a page
