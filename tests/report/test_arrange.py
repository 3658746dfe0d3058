"""Tables as a paper wants them: metrics, triples, captions, citations, notes, and pages that TeX crops."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made_records import made

from bench.errors import UsageError
from bench.published.references import references
from bench.report.formats import html
from bench.report.formats.latex import latex, notes, standalone
from bench.report.formats.markdown import document, markdown
from bench.report.formats.write import write
from bench.report.tables import arrange, build
from bench.report.tables.contents import Report
from bench.report.tables.table import Table, TableRow

CLASSES = {"bottle": 0.9, "screw": 0.7}


def tables(published: bool = True) -> dict[str, Table]:
    records = [
        made("dinomaly", "mvtec", CLASSES, known=2, config={"dropout": 0.0}),
        made("vitad", "mvtec", {"bottle": 0.8, "screw": 0.6}, known=2),
        made("rd4ad", "mvtec", {"bottle": 0.5, "screw": 0.9}, known=2),
    ]
    return {table.name: table for table in build.tables(records, classes=tuple(CLASSES), published=published)}


def ours(table: Table, method: str) -> TableRow:
    return next(row for row in table.rows if row.method == method and row.source == "ours")


# -------------------------------------------------------------------------------------------------------- metrics
def test_metrics_are_chosen_by_heading_or_id_in_the_order_asked_for() -> None:
    wanted = arrange.metrics(("P-AP", "pixel/aupro", "i-auroc"))
    assert wanted == ("pixel/ap", "pixel/aupro@0.3", "image/auroc")
    table = arrange.of_metrics(tables()["overview-multi"], wanted)
    assert table is not None and [column.title for column in table.columns] == ["P-AP", "AUPRO", "I-AUROC"]
    assert ours(table, "dinomaly").cells[2].value == pytest.approx(0.8)
    by_class = arrange.of_metrics(tables()["classes-mvtec-multi"], ("image/auroc",))
    assert by_class is not None and {column.metric for column in by_class.columns} == {"image/auroc"}


def test_a_table_without_the_metrics_asked_for_is_none() -> None:
    assert arrange.of_metrics(tables()["efficiency-multi"], ("image/auroc",)) is None
    with pytest.raises(
        UsageError, match=r"--metrics: no column 'I-AUC'\. Did you mean 'i-auroc'\? Known: I-AUROC, I-AP"
    ):
        arrange.metrics(("I-AUC",))


def test_tables_are_chosen_by_name() -> None:
    found = list(tables().values())
    assert [table.name for table in arrange.named(found, ("efficiency-multi",))] == ["efficiency-multi"]
    assert arrange.named(found, ()) == found
    with pytest.raises(UsageError, match=r"--tables: no table 'overview'\. Did you mean 'overview-multi'\?"):
        arrange.named(found, ("overview",))


# -------------------------------------------------------------------------------------------------------- triples
def test_triples_hold_a_level_in_one_place() -> None:
    table = arrange.triples(tables(published=False)["overview-multi"])
    assert [column.title for column in table.columns] == [
        *("I-AUROC/I-AP/I-F1max", "P-AUROC/P-AP/P-F1max/AUPRO", "mAD")
    ]
    cell = ours(table, "dinomaly").cells[0]
    assert table.shown(cell, table.columns[0]) == "80.0/79.0/78.0" and cell.value == pytest.approx(0.8)
    assert "Small signed numbers" not in " ".join(table.notes)


def test_triples_keep_the_marks_of_each_number_in_every_format() -> None:
    table = arrange.triples(tables(published=False)["overview-multi"])
    assert "**80.0**/**79.0**/**78.0**" in markdown(table)
    assert r"\textbf{80.0}/\textbf{79.0}/\textbf{78.0}" in latex(table)
    assert '<span class="best">80.0</span>/<span class="best">79.0</span>' in html.page("T", [table], [])


def test_triples_by_class_stand_under_their_methods() -> None:
    table = arrange.triples(tables()["classes-mvtec-multi"])
    heads = [(column.group, column.title) for column in table.columns]
    assert heads[0] == ("I-AUROC/I-AP/I-F1max, published", "Dinomaly")
    assert ("P-AUROC/P-AP/P-F1max/AUPRO, ours", "RD4AD") in heads
    # of the dual student papers print the first of three alone
    alone = heads.index(("I-AUROC/I-AP/I-F1max, published", "Dual student"))
    assert [table.shown(row.cells[alone], table.columns[alone]) for row in table.rows][:2] == ["100/–/–", "98.7/–/–"]


def test_a_metric_alone_is_no_triple() -> None:
    table = arrange.of_metrics(tables()["overview-multi"], ("image/auroc", "mad"))
    assert table is not None and [column.title for column in arrange.triples(table).columns] == ["I-AUROC", "mAD"]


# -------------------------------------------------------------------------------------------- captions and citations
def test_a_caption_and_a_label_are_of_one_table_and_taken_as_they_are() -> None:
    one = tables()["overview-multi"]
    style = arrange.style([one], "each", r"Ours, $k=2$, see \cite{x}.", "tab:main", ())
    code = latex(one, style)
    assert r"\caption{Ours, $k=2$, see \cite{x}.}" in code and r"\label{tab:main}" in code
    with pytest.raises(UsageError, match=r"--caption: 3 tables\. Expected one, chosen with --tables: overview-multi, "):
        arrange.style(list(tables().values()), "each", "C", None, ())
    with pytest.raises(UsageError, match=r"--label 'a}b': expected letters"):
        arrange.style([one], "each", None, "a}b", ())


def test_methods_are_cited_by_the_keys_asked_for_with_a_bibliography() -> None:
    one = tables()["overview-multi"]
    style = arrange.style([one], "each", None, None, ("all", "dinomaly=guo2025"))
    assert style.citations["vitad"] == "zhang2023exploring" and style.citations["dinomaly"] == "guo2025"
    shown = {row.method for row in one.rows}
    assert set(style.citations) <= shown < set(references()), "only what the tables show"
    code = latex(one, style)
    assert r"Dinomaly~\cite{guo2025}" in code and r"RD4AD~\cite{deng2022anomaly}" in code
    entries = arrange.bibliography(style.citations)
    assert "@inproceedings{guo2025,\n  title = {{Dinomaly: The Less Is More" in entries
    assert "author = {Hanqiu Deng and Xingyu Li}" in entries and "eprint = {2405.14325}" in entries
    assert r"\cite" not in standalone(one, style), "it has no bibliography"


@pytest.mark.parametrize(
    ("cite", "message"),
    [
        ("dinomaly", r"--cite 'dinomaly': expected all, or method=key"),
        ("dinomaly=a b", r"--cite 'dinomaly=a b': expected all, or method=key"),
        ("vitda=x", r"--cite: no table has a method 'vitda'\. Did you mean 'vitad'\?"),
    ],
)
def test_what_cannot_be_cited_is_refused(cite: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        arrange.citations(tables().values(), (cite,))


# ---------------------------------------------------------------------------------------------------------- notes
def written(style: arrange.Style, folder: Path) -> dict[str, str]:
    report = Report("R", tuple(tables().values()), (), (), style=style)
    files = write(report, ["latex", "markdown"], folder)
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}


def test_notes_may_be_left_out_with_their_marks(tmp_path: Path) -> None:
    files = written(arrange.Style(notes="none"), tmp_path)
    for name, text in files.items():
        assert "not the paper's settings" not in text and "textsuperscript" not in text and "<sup>" not in text, name
    assert "latex/notes.tex" not in files


def test_notes_stand_once_behind_all_tables_with_the_same_marks(tmp_path: Path) -> None:
    files = written(arrange.Style(notes="once"), tmp_path)
    text, shared = files["tables.md"], files["latex/notes.tex"]
    assert text.count("not the paper's settings: dropout = 0.0") == 1 and text.index("## Notes") > text.index("## Cost")
    assert shared.count("not the paper's settings: dropout = 0.0") == 1
    (mark,) = re.findall(r"textsuperscript\{(\w+)\}\\,not the paper's settings: dropout", shared)
    for name in ("latex/overview-multi.tex", "latex/classes-mvtec-multi.tex"):
        assert "not the paper's" not in files[name]
        assert re.search(rf"Dinomaly\\textsuperscript{{(\w+,)*{mark}(,\w+)*}}", files[name]), name
    assert "not the paper's settings" in files["latex/standalone/overview-multi.tex"], "a document has its own"


def test_notes_stand_under_each_table_otherwise(tmp_path: Path) -> None:
    files = written(arrange.Style(), tmp_path)
    assert files["tables.md"].count("not the paper's settings: dropout = 0.0") >= 3
    assert markdown(tables()["overview-multi"]) in document("R", tables().values())
    assert notes(Table("n", "N", "", (), ())).strip() == "% made by bench report"


# ------------------------------------------------------------------------------------------------------- documents
def test_a_document_of_its_own_needs_no_more_than_basic_packages() -> None:
    code = standalone(tables()["overview-multi"])
    needed = {name for group in re.findall(r"\\usepackage(?:\[.*?\])?\{(.*?)\}", code) for name in group.split(",")}
    # lmodern only where it is
    assert needed == {"fontenc", "lmodern", "booktabs", "graphicx", "textcomp"}
    assert r"\IfFileExists{lmodern.sty}" in code and "multirow" not in code and r"\begin{table" not in code


@pytest.mark.slow
@pytest.mark.parametrize(("name", "widest"), [("overview-multi", 510), ("efficiency-multi", 510)])
def test_its_pages_are_cropped_to_the_table(name: str, widest: int, tmp_path: Path) -> None:
    tex, info = shutil.which("pdflatex"), shutil.which("pdfinfo")
    if tex is None or info is None:
        pytest.skip("no pdflatex or pdfinfo here: apt-get install texlive-latex-recommended poppler-utils")
    (tmp_path / "t.tex").write_text(standalone(tables()[name]), encoding="utf-8")
    command = [tex, "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="latin-1", timeout=120)
    assert done.returncode == 0 and "Overfull" not in done.stdout, done.stdout[-2000:]
    told = subprocess.run([info, "t.pdf"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    (sides,) = re.findall(r"Page size:\s+([\d.]+) x ([\d.]+)", told)
    width, height = map(float, sides)
    assert 237 < width < widest and 60 < height < 600, "letter paper would be 612 x 792"
