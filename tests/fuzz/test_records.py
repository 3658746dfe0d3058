"""Records: damaged as files, and with fields that fit the schema and nothing else, through all that is made of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from hostile import bent, cases, damaged, survives
from hypothesis import given
from hypothesis import strategies as st
from made_records import made

from bench.checks import baselines, output, verdicts
from bench.checks.series import series
from bench.checks.tolerance import Tolerances
from bench.cli import terminal
from bench.machine.terminal import console
from bench.report.formats import long_csv
from bench.report.formats.csv import delimited
from bench.report.formats.html import page
from bench.report.formats.latex import standalone
from bench.report.formats.markdown import document
from bench.report.tables import build
from bench.store import record as records
from bench.store.record import Record
from bench.store.rows import rows


def facts(**more: Any) -> dict[str, Any]:
    """A record as JSON holds it, with every part that may be there."""
    data: dict[str, Any] = json.loads(made(config={"dropout": 0.4}, **more).model_dump_json())
    data["training"] = {"steps": 10, "batch_size": 4, "store": "memory", "resumed_at": [5], "loss_curve": [[0, 1.0]]}
    data["pooled"] = {"values": {"image/auroc": 0.5, "image/ap": None}, "undefined": {"image/ap": "why"}}
    data["scores"]["bottle"]["extra"] = {"image/auroc:logical": 0.25}
    data["dataset"]["masks_vanished"] = {"bottle": 1}
    data["predictions"], data["maps"] = "s0.parquet", "s0.maps"
    return data


def signed(data: Any) -> Any:
    """The fields with the checksum that they have, as somebody would write them who means to be read."""
    return {**data, "sha256": records.checksum(data)} if isinstance(data, dict) else data


DONE = facts()
FAILED = facts(method="vitad") | {"status": "failed", "error": {"type": "X", "message": "why\nso", "exit_code": 1}}
PART = facts(dataset="fmnist", levels={"A": 0.7, "bottle": 0.6}, part="A", parts=4, kind="semantic")
OTHERS = [made(seed=1), made("vitad"), made("knn", "visa", {"candle": 0.8})]


@cases(250)
@given(content=damaged(json.dumps(signed(DONE)).encode(), json.dumps(signed(FAILED), indent=1).encode()))
def test_damaged_files(home: Path, content: bytes) -> None:
    path = home / "record.json"
    path.write_bytes(content)
    survives("record bytes", lambda: records.read(path), home)


def all_that_is_made_of(found: Sequence[Record], home: Path) -> None:
    """Every use of records in one process, short of the figures."""
    out = console()
    with redirect_stdout(io.StringIO()):
        for row in rows(found):
            console().print(terminal.score_table(row))
            for note in terminal.footnotes(row):
                out.print(note, highlight=False, markup=False)
        for record in found:
            if record.cell.part and record.status == "done":
                terminal.score_line(record)
    done = [record for record in found if record.status == "done"]
    tables = build.tables(done, published=False)
    page("title", tables, done)
    document("title", tables).encode()
    for table in tables:
        standalone(table).encode()
        delimited(table).encode()
    long_csv.text(long_csv.frame(done)).encode()
    long_csv.write_parquet(home / "numbers.parquet", long_csv.frame(done))
    every = series(done)
    for wanted, current in ((every, OTHERS), (series(OTHERS), found)):
        checked = verdicts.check(wanted, current, Tolerances())
        output.junit(checked)
        output.markdown(checked).encode()
    baselines.write(every, home / "baselines")
    baselines.read(home / "baselines")


@cases(150)
@given(data=st.sampled_from([DONE, DONE, PART, FAILED]).flatmap(bent))
def test_records_that_fit_the_schema_and_nothing_else(home: Path, data: Any) -> None:
    path = home / "in" / "record.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(signed(data)))

    def use() -> Record:
        record = records.read(path)
        all_that_is_made_of([record, *OTHERS], home)
        records.write(record, home / "out.json")
        assert records.read(home / "out.json") == record
        return record

    survives("record fields", use, home)


@cases(5)
@given(
    data=st.sampled_from([DONE, DONE, PART, FAILED]).flatmap(bent), content=damaged(json.dumps(signed(DONE)).encode())
)
def test_the_commands_end_without_a_traceback(
    home: Path, private_cache: Path, bench: Callable, data: Any, content: bytes
) -> None:
    # once for all cases, since it asks fc-list which fonts there are
    import matplotlib.font_manager  # noqa: F401

    (home / "in").mkdir(exist_ok=True)
    (home / "in" / "bent.json").write_text(json.dumps(signed(data)))
    (home / "in" / "damaged.json").write_bytes(content)
    for number, record in enumerate(OTHERS):
        records.write(record, home / "in" / f"{number}.json")
    for arguments in (
        ("report", "--results", "in", "--no-published"),
        ("check", "--results", "in", "--baselines", "in", "--junit", "x.xml", "--markdown", "x.md", "--all"),
        ("compare", "dinomaly", "vitad", "--results", "in"),
    ):

        def call(arguments: tuple[str, ...] = arguments) -> None:
            done = bench(*arguments)
            assert "unexpected error" not in done.stderr and "Traceback" not in done.stderr, (data, done.stderr)

        survives(f"bench {arguments[0]}", call, home, private_cache)
