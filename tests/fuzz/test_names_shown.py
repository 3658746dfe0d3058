"""Names from files where they are shown: terminals, spreadsheets, pages."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from hostile import NAMES, cases, names, watched
from hypothesis import given
from made_records import made
from rich.table import Table
from rich.text import Text

from bench.cli.echo import echo
from bench.machine.terminal import console
from bench.names import UNPRINTABLE, harmless
from bench.report.formats import long_csv
from bench.report.formats.csv import delimited, inert
from bench.report.tables import build
from bench.store import record as records
from bench.store.record import Record

ESCAPE = "\x1b]0;owned\x07\x1b[31mred\x9b2J\u202e"


def obeyed(text: str) -> list[str]:
    return UNPRINTABLE.findall(text.replace("\n", "").replace("\t", ""))


@cases(200)
@given(name=names)
def test_what_is_printed_moves_no_cursor(capsys: pytest.CaptureFixture[str], name: str) -> None:
    out = console()
    table = Table(title=Text(name))
    table.add_column(Text(name))
    table.add_row(Text(name))
    out.print(table)
    out.print(name, markup=False, highlight=False, soft_wrap=True)
    out.print(Text.assemble((name, "bold"), name))
    echo(name)
    echo(name, err=True)
    for text in capsys.readouterr():
        assert not obeyed(text)


def test_letters_of_every_language_stay() -> None:
    assert harmless("表 naïve\u3000é\u200d🐛 a\tb\nc") == "表 naïve\u3000é\u200d🐛 a\tb\nc"
    assert harmless("\x1b[2J\x07\udcff\u202e") == r"\x1b[2J\x07\udcff\u202e"


def strings(value: object) -> str:
    """Return all text in what JSON stands for."""
    if isinstance(value, dict):
        return strings([*value, *value.values()])
    return "".join(map(strings, value)) if isinstance(value, list) else value if isinstance(value, str) else ""


def hostile_record(seed: int = 0) -> Record:
    record = made("m" + ESCAPE, "d" + ESCAPE, {"c" + ESCAPE: 0.9, "=cmd()": 0.8}, seed=seed, config={"s": ESCAPE})
    return record.model_copy(update={"command": (ESCAPE,)})


def test_every_command_that_prints_a_record_spells_its_names(bench: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    for seed in (0, 1):
        records.write(hostile_record(seed), folder / f"{seed}.json")
    failed = {
        "status": "failed",
        "scores": {},
        "mean": {},
        "error": {"type": ESCAPE, "message": ESCAPE, "exit_code": 1},
    }
    other = hostile_record(2).model_copy(update={"cell": hostile_record(2).cell.model_copy(update={"method": ESCAPE})})
    records.write(Record(**other.model_dump() | failed), folder / "2.json")
    (folder / f"x{ESCAPE}.json").write_text("{")
    (tmp_path / "base").mkdir()
    records.write(hostile_record(0), tmp_path / "base" / "a.json")
    for arguments in (
        ("report", "--results", "results", "--no-published"),
        ("check", "--results", "results", "--baselines", "base", "--all"),
        ("check", "--record", "--results", "results", "--baselines", "other"),
        ("compare", "m" + ESCAPE, "m" + ESCAPE, "--results", "results"),
        ("compare", "results/0.json", "results/1.json"),
        ("run", "--methods", ESCAPE, "--datasets", ESCAPE),
        ("show", ESCAPE),
        (ESCAPE,),
    ):
        done = bench(*arguments)
        assert "unexpected error" not in done.stderr, (arguments, done)
        assert done.stdout + done.stderr and not obeyed(done.stdout + done.stderr), arguments
    written = [path for path in (tmp_path / "reports").rglob("*") if path.suffix in (".html", ".md", ".csv", ".tex")]
    assert {path.suffix for path in written} == {".html", ".md", ".csv", ".tex"}
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert not obeyed(text), path
    page = (tmp_path / "reports" / "report.html").read_text(encoding="utf-8")
    data = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    about = re.findall(r'data-datasets="([^"]*)"', page)
    assert data is not None and about
    for text in (data[1], *map(unescape, about)):
        assert not obeyed(strings(json.loads(text)))


@pytest.mark.parametrize("formula", ["=cmd()", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1"])
def test_a_spreadsheet_computes_no_name(formula: str) -> None:
    found = [made(formula, formula, {formula: 0.9, "b": 0.8}, config={"s": formula})]
    tables = build.tables(found, published=False)
    assert tables
    for text in (*map(delimited, tables), long_csv.text(long_csv.frame(found))):
        for line in csv.reader(io.StringIO(text)):
            for cell in line:
                assert not cell.startswith(("=", "+", "@", "\t", "\r")), cell
                assert not cell.startswith("-") or float(cell) < 0, "only numbers are negative"
    assert inert("bottle") == "bottle" and inert("") == "" and inert(formula)[0] == "'"


@pytest.mark.parametrize("name", [name for name in NAMES if name.strip()])
def test_a_baseline_lies_where_it_belongs_whatever_its_parts_are_called(tmp_path: Path, name: str) -> None:
    from bench.checks import baselines
    from bench.checks.series import series

    text = name.encode("utf-8", "replace").decode()[:40]
    record = made(text, text, {"a": 0.5}, setting=text)
    with watched(tmp_path / "base") as broken:
        written = baselines.write(series([record]), tmp_path / "base")
    assert not broken
    assert [path.parent for path in written.files] == [tmp_path / "base"] and written.files[0].is_file()
