"""`bench check`: has a score or a speed got worse than what was recorded?"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.completing import completed
from bench.cli.echo import echo, print_json, suggest
from bench.cli.options import PATH, json_option
from bench.errors import UsageError
from bench.store import RESULTS

if TYPE_CHECKING:
    from bench.checks.series import Series
    from bench.checks.verdicts import Checked
    from bench.store.record import Record

EPILOG = """\b
Examples:
  bench check --suite demo --run
  bench check --suite demo --run --junit check.xml --markdown summary.md -- --seeds 0,1
  bench check --results results/runs --methods dinomaly --tolerance 0.002 --tolerance pixel/ap=0.02
  bench check --suite demo --run --any-precision -- --precision bf16
  bench check --record --suite demo --run -- --seeds 0,1,2,3,4
  pytest tests/perf --benchmark-enable --benchmark-json=run.json && bench check --speed run.json

Verdicts: better, same, worse; missing (no record or no value); not comparable (protocol, metric version, data, encoder
or configuration differs, and the difference is named). What follows -- goes to bench run.
Exit code: 0 all same or better, 1 anything else, 2 something given was wrong.
"""


@click.command(epilog=EPILOG)
@click.argument("run_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- RUN OPTIONS]")
@click.option(
    "--suite",
    metavar="NAME",
    shell_complete=completed("suites"),
    help="Only what this suite runs; see bench ls suites.",
)
@click.option("--run", "fresh", is_flag=True, help="Run first, into an empty folder, and check what comes out.")
@click.option("--record", is_flag=True, help="Write the records as baselines instead of comparing them.")
@click.option("--methods", metavar="M,..", shell_complete=completed("methods"), help="Only baselines of these methods.")
@click.option(
    "--datasets", metavar="D,..", shell_complete=completed("datasets"), help="Only baselines of these datasets."
)
@click.option(
    "--results",
    metavar="DIR",
    type=PATH,
    help="Records to check (default results/runs); with --run where to put them (default a temporary folder).",
)
@click.option(
    "--baselines",
    metavar="DIR",
    type=PATH,
    default=Path("results/baselines"),
    show_default=True,
    help="Recorded scores and speeds.",
)
@click.option(
    "--tolerance",
    "tolerances",
    metavar="[METRIC=]FRACTION",
    multiple=True,
    help="Allowed difference in place of the one from the seeds' spread; for speeds a share, 0.5 by default.",
)
@click.option(
    "--multiple",
    metavar="K",
    type=click.FloatRange(min=0, min_open=True),
    help="Tolerance in standard deviations of the difference between seeds' means (default 5).",
)
@click.option(
    "--any-precision",
    is_flag=True,
    help="Compare records of another arithmetic too: are bf16's scores within the spread of fp32's seeds?",
)
@click.option(
    "--speed",
    metavar="FILE",
    type=PATH,
    help="Check a record of bench speed, or a saved run of pytest-benchmark.",
)
@click.option("--junit", metavar="FILE", type=PATH, help="Also write JUnit XML.")
@click.option("--markdown", metavar="FILE", type=PATH, help="Also write a summary for CI.")
@click.option("--all", "everything", is_flag=True, help="Print every comparison, not only means and changes.")
@json_option()
def check(
    run_options: tuple[str, ...],
    suite: str | None,
    fresh: bool,
    record: bool,
    methods: str | None,
    datasets: str | None,
    results: Path | None,
    baselines: Path,
    tolerances: tuple[str, ...],
    multiple: float | None,
    any_precision: bool,
    speed: Path | None,
    junit: Path | None,
    markdown: Path | None,
    everything: bool,
    as_json: bool,
) -> int:
    """Compare records, or a fresh run, with recorded baselines, and fail where a score or a speed got worse."""
    if run_options and not fresh:
        raise UsageError(
            f"'{' '.join(run_options)}' goes to bench run, but nothing is run. Expected --run before the --"
        )
    if speed is not None and (fresh or suite or methods or datasets):
        raise UsageError("--speed compares a file. Leave --run, --suite, --methods and --datasets to a second command")
    from bench.checks.tolerance import MULTIPLE, parse_tolerances

    allowed = parse_tolerances(tolerances, MULTIPLE if multiple is None else multiple)
    if speed is not None:
        from bench.checks import ratios
        from bench.checks import speed as speeds
        from bench.speed.record import is_record

        if is_record(speed) and not record:
            return _tell(
                [ratios.check(baselines, speed, allowed.given.get("", ratios.TOLERANCE))],
                junit,
                markdown,
                everything,
                as_json,
            )
        if record:
            click.echo(f"recorded {speeds.write(speed, baselines)}")
            return 0
        share = allowed.given.get("", speeds.TOLERANCE)
        return _tell([speeds.check(baselines / speeds.BASELINE, speed, share)], junit, markdown, everything, as_json)
    chosen = _chosen(suite, methods, datasets)
    with _results(suite, fresh, results, run_options) as found:
        own = [one for one in found if _fits(one, *chosen)]
        if record:
            return _record(own, baselines)
        from bench.checks import baselines as recorded
        from bench.checks import verdicts

        wanted = recorded.select(recorded.read(baselines), *chosen)
        if fresh:
            wanted = _of_this_run(wanted, own)
        if not wanted:
            raise UsageError(f"no such baseline in {baselines}. Record one with: bench check --record")
        return _tell(verdicts.check(wanted, own, allowed, any_precision), junit, markdown, everything, as_json)


def _chosen(suite: str | None, methods: str | None, datasets: str | None) -> tuple[frozenset[str], frozenset[str]]:
    """Return the methods and datasets that baselines and records are restricted to; empty for all."""
    wanted = [
        frozenset(part.strip() for part in (text or "").split(",") if part.strip()) for text in (methods, datasets)
    ]
    if suite is not None:
        from bench.config import load_suite

        base = load_suite(suite)
        wanted = [wanted[0] or frozenset(base.methods), wanted[1] or frozenset(base.datasets)]
    return wanted[0], wanted[1]


def _fits(record: Record, methods: frozenset[str], datasets: frozenset[str]) -> bool:
    return (not methods or record.cell.method in methods) and (not datasets or record.cell.dataset in datasets)


@contextmanager
def _results(suite: str | None, fresh: bool, folder: Path | None, options: Sequence[str]) -> Iterator[list[Record]]:
    """Give the records to look at; those of a fresh run lie in an empty folder, since old ones would be skipped."""
    from bench.store.folder import find

    def read(place: Path) -> list[Record]:
        found = find([place])
        for message in found.unreadable:
            echo(f"ignored: {message}", err=True)
        return list(found.records.values())

    if not fresh:
        place = folder or RESULTS
        if not place.exists():
            at_once = f"bench check{f' --suite {suite}' if suite else ' --suite demo'} --run"
            raise UsageError(
                f"{place}: no such file or folder. Make records with bench run, or run and check at once: {at_once}"
            )
        yield read(place)
        return
    if folder is not None and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"--run with --results {folder}: the folder holds something. Expected a new or empty one")
    with tempfile.TemporaryDirectory(prefix="bench-check-") as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        _run([*(["--suite", suite] if suite else []), *options, "--results", str(place)])
        yield read(place)


def _run(arguments: Sequence[str]) -> None:
    """Run cells; a failed one is in the records and judged there."""
    from bench.cli.run import run

    # the run's tables are progress here; the check's own are the output
    click.echo(f"bench run {' '.join(arguments)}", err=True)
    with redirect_stdout(sys.stderr):
        run.main(args=list(arguments), prog_name="bench run", standalone_mode=False)


def _of_this_run(baselines: list[Series], records: Sequence[Record]) -> list[Series]:
    """Return the baselines of what was run: a suite of two cells is not asked about a third."""
    from bench.checks.series import identity, subject

    there = {identity(record) for record in records}
    same = [one for one in baselines if identity(one.head) in there]
    # under another protocol there is nothing to compare with, which the check then says
    measured = {subject(record) for record in records}
    return same or [one for one in baselines if subject(one.head) in measured]


def _record(records: Sequence[Record], folder: Path) -> int:
    from bench.checks.baselines import write
    from bench.checks.series import series

    failed = [record for record in records if record.status == "failed"]
    if failed:
        raise UsageError(f"{failed[0].cell.title}, seed {failed[0].cell.seed} failed. Expected finished cells only")
    found = series(records)
    done = write(found, folder)
    for path in done.files:
        echo(f"recorded {path}")
    for path in done.removed:
        echo(f"removed  {path}: replaced")
    for one in found:
        if len(one.seeds) == 1:
            echo(f"{one.title}: one seed, so its spread is not known. Five make a good baseline")
    return 0


def _tell(
    checked: Sequence[Checked], junit: Path | None, markdown: Path | None, everything: bool, as_json: bool
) -> int:
    from bench.checks import output
    from bench.files import atomic

    failed = any(one.failed for one in checked)
    if as_json:
        print_json(failed=failed, checks=[output.facts(one) for one in checked])
    else:
        _print(checked, everything)
        if failed:
            suggest("mend it; or, where the change is meant, the same with --record")
    for path, content in ((junit, output.junit), (markdown, output.markdown)):
        if path is not None:
            made = content(checked)
            with atomic(path) as file:
                file.write(made if isinstance(made, bytes) else made.encode())
    return 1 if failed else 0


def _print(checked: Sequence[Checked], everything: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from bench.checks.output import cells, shown
    from bench.machine.terminal import console

    colours = {"better": "green", "worse": "bold red", "missing": "bold red", "not comparable": "bold yellow"}
    out = console()
    for one in checked:
        out.print(Text(one.title, "bold"), Text(f"({one.against})"), soft_wrap=True)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("line", "metric", "baseline", "now", "difference", "tolerance", "verdict"):
            table.add_column(column, justify="left" if column in ("line", "metric", "verdict") else "right")
        for finding in one.findings if everything else shown(one.findings):
            *rest, verdict = (Text(text) for text in cells(finding))
            verdict.stylize(colours.get(finding.verdict, ""))
            table.add_row(*rest, verdict)
        if table.row_count and any(finding.metric for finding in one.findings):
            out.print(table)
        for finding in one.findings:
            if finding.reason and finding.verdict in ("missing", "not comparable"):
                where = " ".join(part for part in (finding.line, finding.metric) if part)
                text = f"{finding.verdict}: {where + ': ' if where else ''}{finding.reason}"
                out.print(Text(text, colours[finding.verdict]), soft_wrap=True)
        for note in one.notes:
            out.print(Text(note, "dim"), soft_wrap=True)
        out.print(Text(f"{'FAILED' if one.failed else 'passed'}  {one.summary}"), soft_wrap=True)
        out.print()
    sys.stdout.flush()
