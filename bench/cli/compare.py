"""`bench compare`: two methods or runs side by side, and which differences are significant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.completing import completed
from bench.cli.echo import print_json, suggest_report
from bench.cli.options import data_root_option, json_option, names, results_option
from bench.errors import UsageError
from bench.home import expanded

if TYPE_CHECKING:
    from rich.console import Console

    from bench.checks.paired import Compared, PairedLine
    from bench.store.record import Record

EPILOG = """\b
Examples:
  bench compare dinomaly vitad
  bench compare dinomaly patchcore --datasets mvtec --metrics image/auroc,pixel/aupro@0.3
  bench compare results/runs/mvtec/dinomaly/multi/s0-1f3c.json results/runs/mvtec/dinomaly/multi/s0-77ab.json

A and B are methods in --results, record files, or folders of one method's records. Intervals (95 %) are of the
difference A - B: DeLong's for image AUROC of one seed each, else bootstrapped over the test images, which both sides
draw alike; for pixel metrics that takes kept maps (bench run --keep-maps) and the dataset. Without them, Student's
over the seeds. A difference is significant when its interval excludes 0 with all lines of its metric counted in
(Bonferroni); alone: by itself, without counting them in.
"""
METRICS = "image/auroc,pixel/aupro@0.3"


@click.command(epilog=EPILOG)
@click.argument("a", shell_complete=completed("methods"))
@click.argument("b", shell_complete=completed("methods"))
@click.option("--datasets", metavar="D,..", shell_complete=completed("datasets"), help="Only these datasets.")
@click.option("--metrics", metavar="M,..", default=METRICS, show_default=True, help="Metrics shown per class.")
@results_option("Where methods are looked for.")
@data_root_option()
@json_option()
def compare(
    a: str,
    b: str,
    datasets: str | None,
    metrics: str,
    results: Path,
    data_roots: tuple[str, ...],
    as_json: bool,
) -> int:
    """Put A and B side by side: scores per class, their difference, its interval, and whether it is significant."""
    from bench.checks import paired
    from bench.machine.terminal import console
    from bench.metrics.ids import parse
    from bench.store.evidence import EvidenceFiles

    wanted = names(datasets)
    chosen = [str(parse(metric)) for metric in names(metrics)]
    sides = [_records(side, results, wanted) for side in (a, b)]
    for side, records in zip((a, b), sides, strict=True):
        if not records:
            raise UsageError(f"no record of {side} on {', '.join(wanted)}. Expected --datasets that it was run on")
    found = paired.pairs(*sides)
    if not found:
        has = ["; ".join(sorted({record.cell.title for record in side})) for side in sides]
        raise UsageError(f"{a} and {b} share no dataset, setting and protocol. {a}: {has[0]}. {b}: {has[1]}")
    folders = [place for place in (results, *map(expanded, (a, b))) if place.exists()]
    evidence = EvidenceFiles([place if place.is_dir() else place.parent for place in folders], data_roots)
    out = console()
    done = [paired.compare(first, second, chosen, evidence) for first, second in found]
    if as_json:
        print_json(pairs=[_facts(one) for one in done])
    else:
        for one in done:
            _print(one, out)
        places = [place for place in map(expanded, (a, b)) if place.exists()]
        if not places:
            suggest_report(results, options=f" --methods {','.join(dict.fromkeys((a, b)))}")
        elif len(places) == 2 and all(place.is_dir() for place in places):
            suggest_report(*places)
    return 1 if all(one.obstacles for one in done) else 0


def _facts(one: Compared) -> dict[str, Any]:
    """Return a comparison as JSON has it; scores are fractions, or in the unit stated."""
    return {
        "a": {"title": one.first.title, "seeds": list(one.first.seeds)},
        "b": {"title": one.second.title, "seeds": list(one.second.seeds)},
        "obstacles": list(one.obstacles),
        "notes": list(one.notes),
        "lines": [
            {
                "line": line.line,
                "metric": line.metric,
                "a": line.first,
                "b": line.second,
                "difference": line.difference,
                "interval": line.interval,
                "from": line.by or None,
                "holds": line.holds or None,
                "unit": line.unit,
            }
            for line in one.lines
        ],
    }


def _records(side: str, results: Path, datasets: Sequence[str]) -> list[Record]:
    from bench.registry import did_you_mean
    from bench.store.folder import find

    place = expanded(side)
    found = list(find([place if place.exists() else results]).records.values())
    records = [record for record in found if record.status == "done"]
    methods = sorted({record.cell.method for record in records})
    if not place.exists():
        if side not in methods:
            raise UsageError(
                f"no record of '{side}' in {results}, and no such file.{did_you_mean(side, methods)} "
                f"Found: {', '.join(methods) or 'nothing'}"
            )
        records = [record for record in records if record.cell.method == side]
    elif len(methods) != 1:
        raise UsageError(f"{side}: records of {', '.join(methods) or 'no method'}. Expected those of one method")
    return [record for record in records if not datasets or record.cell.dataset in datasets]


def _print(one: Compared, out: Console) -> None:
    from rich.text import Text

    from bench.checks.series import MEAN

    first, second = one.first, one.second
    out.print(Text(f"A  {first.title}, {_seeds(first.seeds)}", "bold"), soft_wrap=True)
    out.print(Text(f"B  {second.title}, {_seeds(second.seeds)}", "bold"), soft_wrap=True)
    if one.obstacles:
        out.print(Text(f"not comparable: {'; '.join(one.obstacles)}", "bold yellow"), soft_wrap=True)
        return
    detailed = dict.fromkeys(line.metric for line in one.lines if line.line != MEAN)
    for metric in detailed:
        _table(metric, [line for line in one.lines if line.metric == metric], out)
    _table("means", [line for line in one.lines if line.line == MEAN], out, metrics=True)
    if plain := [line.metric for line in one.lines if line.metric not in detailed]:
        hint = f"– no interval: only metrics that --metrics names get one; not named: {', '.join(plain)}"
        out.print(Text(hint), soft_wrap=True)
    if any(line.holds == "alone" for line in one.lines):
        out.print(Text("alone: significant by itself, not with all lines of its metric counted in"), soft_wrap=True)
    for note in one.notes:
        out.print(Text(note), soft_wrap=True)
    out.print()


def _table(title: str, lines: Sequence[PairedLine], out: Console, *, metrics: bool = False) -> None:
    from rich.table import Table
    from rich.text import Text

    from bench.cli.terminal import number

    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("metric" if metrics else "line")
    for column in ("A", "B", "A - B", "95 % interval"):
        table.add_column(column, justify="right")
    table.add_column("from")
    table.add_column("significant")
    for line in lines:
        gap = "–" if line.difference is None else signed(line.difference, line.unit)
        between = "–" if line.interval is None else " to ".join(signed(edge, line.unit) for edge in line.interval)
        values = (number(value, line.unit) for value in (line.first, line.second))
        cells = (line.metric if metrics else line.line, *values, gap, between)
        style = "bold" if line.holds == "yes" else ""
        table.add_row(*(Text(text, style) for text in (*cells, line.by or "–", line.holds or "–")))
    out.print(table)


def signed(difference: float, unit: str) -> str:
    """Return a difference with its sign: in percent, or as it is where the metric has a unit."""
    return f"{difference:+.3f}" if unit else f"{100 * difference:+.1f}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {','.join(str(seed) for seed in seeds)}"
