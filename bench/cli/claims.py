"""`bench claims`: a table of results judged by arithmetic, number by number."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.completing import completed
from bench.cli.echo import echo, print_json
from bench.cli.options import PATH, json_option
from bench.errors import UsageError
from bench.words import counted

if TYPE_CHECKING:
    from bench.claims.numbers import Claim, Unread
    from bench.claims.verdicts import Verdict

EPILOG = """\b
Examples:
  bench claims table.csv --dataset mvtec
  bench claims paper/tables.tex
  bench claims rows.csv --dataset visa --metric image/f1max --json

Tables: CSV, Markdown or LaTeX. Heads, first columns, group rows and captions say what a number is: a method, a class
or mean, a metric (I-AUROC, image/ap, F1-max under Image-level, AUROC/AP/F1 over 99.6/99.9/98.4), a dataset; or a CSV
with the columns method, class, metric, value and perhaps dataset. Judged against the official test counts: what no
ranking of the images gives, F1-max, AUROC and AP that exclude one another, means that are not the means of their rows,
numbers that papers print otherwise, differences below one pair of images. Pixel metrics are judged by means and by
what papers print alone: how many pixels are anomalous stands in no table.
Exit code: 0 nothing found that cannot be, 1 something was, 2 something given was wrong.
"""


@click.command(epilog=EPILOG)
@click.argument("tables", nargs=-1, required=True, type=PATH, metavar="TABLE...")
@click.option(
    "--dataset",
    metavar="D",
    shell_complete=completed("datasets"),
    help="What the tables are about, if they do not say.",
)
@click.option(
    "--metric", metavar="M", shell_complete=completed("metrics"), help="Likewise; an id, see bench ls metrics."
)
@click.option(
    "--averaged", is_flag=True, help="The numbers are means over several runs, which no confusion matrix gives."
)
@json_option()
def claims(tables: tuple[Path, ...], dataset: str | None, metric: str | None, averaged: bool, as_json: bool) -> int:
    """Say of every number in a table of results whether it can be, and show the arithmetic."""
    from bench.claims.grids import grids
    from bench.claims.numbers import claims as read
    from bench.claims.verdicts import judge
    from bench.metrics.ids import parse
    from bench.registry import DATASETS

    if dataset is not None:
        DATASETS.check(dataset)
    wanted = None if metric is None else str(parse(metric))
    found: list[Claim] = []
    verdicts: list[Verdict] = []
    unread: list[tuple[str, Unread]] = []
    for path in tables:
        for grid in grids(path):
            some, rest = read(grid, dataset, wanted, averaged)
            found += some
            verdicts += judge(some)
            unread.append((f"{path.name}, table at {grid.place}", rest))
    if not found:
        lacking = Counter(what for _, rest in unread for what in rest.lacking)
        ways = {"dataset": "--dataset mvtec", "metric": "--metric image/auroc"}
        way = "; ".join(f"no {what} is named{f' (give {ways[what]})' if what in ways else ''}" for what in lacking)
        raise UsageError(f"no number could be read as a score: {way or 'there is none'}. See: bench claims --help")
    if as_json:
        print_json(numbers=len(found), unread=_unread(unread), verdicts=[_facts(one) for one in verdicts])
    else:
        _print(found, verdicts, unread)
    return 1 if any(verdict.kind in ("impossible", "mean") for verdict in verdicts) else 0


def _facts(verdict: Verdict) -> dict[str, Any]:
    keys = ("method", "dataset", "metric", "where")
    about = [
        {"class": one.cls, "printed": one.text, **{key: getattr(one, key) for key in keys}} for one in verdict.claims
    ]
    return {"kind": verdict.kind, "numbers": about, "proof": verdict.proof}


def _unread(unread: list[tuple[str, Unread]]) -> list[dict[str, Any]]:
    return [
        {"where": where, "lacking": what, "numbers": n} for where, rest in unread for what, n in rest.lacking.items()
    ]


def _print(found: list[Claim], verdicts: list[Verdict], unread: list[tuple[str, Unread]]) -> None:
    from bench.claims.verdicts import KINDS

    for kind, title in KINDS.items():
        of_kind = [verdict for verdict in verdicts if verdict.kind == kind]
        if of_kind:
            echo(f"{title} ({len(of_kind)})")
        for verdict in of_kind:
            echo(f"  {'; '.join(map(str, verdict.claims))}")
            echo(f"      {verdict.proof}")
    for where, rest in unread:
        for what, n in rest.lacking.items():
            echo(f"not judged: {counted(n, 'number')} of {where}, whose {what} is not said")
    methods, sets = {claim.method for claim in found}, sorted({claim.dataset for claim in found})
    judged = sum(claim.test is not None and claim.metric.startswith("image/") for claim in found)
    said = ", ".join(f"{sum(one.kind == kind for one in verdicts)} {word}" for kind, word in _SHORT.items())
    echo(
        f"{counted(len(found), 'number')} of {counted(len(methods), 'method')} on {', '.join(sets)}, "
        f"{judged} of them held against the test counts: {said}"
    )


_SHORT = {
    "impossible": "cannot be",
    "ties": "only with equal scores",
    "mean": "means off",
    "differs": "printed otherwise elsewhere",
    "resolution": "below the resolution",
}
