"""`bench explain`: from a recorded number to a published one, rule by rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.echo import echo, print_json, suggest
from bench.cli.options import PATH, data_root_option, json_option, names, quiet_option
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.store.explained import Explanation

EPILOG = """\b
Examples:
  bench explain results/runs/mvtec/dinomaly/multi/s0-1f3c.json --paper dinomaly_cvpr2025 --data-root /data
  bench explain RECORD --paper dinomaly_cvpr2025 --data-root /data --keep
  bench explain RECORD --paper vitad --metrics pixel/aupro@0.3,pixel/f1max --data-root /data

Crop, mask rule, image label rule, image score and metric code are changed from the record's to the paper's, alone and
together in every combination, and the number is measured each time from the kept maps (bench run --keep-maps; from a
kept model they are made without training). What a rule moves is its mean over all orders in which the rules can be
changed, since they interact; the parts add up to the whole. What is left to the published number is unexplained by
rules: training, weights, the crop of what the network saw, which checkpoint is printed.
Exit code: 0 explained, 2 something given was wrong or is not at hand.
"""


@click.command(epilog=EPILOG)
@click.argument("record", type=PATH, metavar="RECORD")
@click.option("--paper", metavar="KEY", required=True, help="Whose published numbers; for example vitad.")
@click.option("--method", metavar="NAME", help="Whose row in the paper (default: the record's method).")
@click.option("--metrics", metavar="M,..", help="Metrics (default: the field's seven that both have).")
@click.option("--markdown", is_flag=True, help="Print Markdown tables.")
@click.option("--keep", is_flag=True, help="Keep the ladders beside the record; bench report draws them.")
@data_root_option()
@quiet_option()
@json_option()
def explain(
    record: Path,
    paper: str,
    method: str | None,
    metrics: str | None,
    markdown: bool,
    keep: bool,
    data_roots: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> int:
    """Say what moves a recorded number to the published one: crop, masks, labels, image score or metric code."""
    from bench.explain import published

    published.check(paper)
    from bench.explain.measure import Measured
    from bench.explain.rules import published as rules_of
    from bench.machine.terminal import TerminalProgress
    from bench.protocol import SEVEN
    from bench.published import protocols
    from bench.store import explained
    from bench.store.evidence import EvidenceFiles, Lacking
    from bench.store.record import read

    found = read(record)
    if found.status != "done":
        raise UsageError(f"{record}: a cell that failed. Expected a finished one")
    row = method or found.cell.method
    tag = published.protocol_tag(found, paper, row)
    theirs, beside = rules_of(tag, protocols()[tag])
    wanted = names(metrics) or [metric for metric in SEVEN if found.mean.get(metric) is not None]
    for metric in wanted:
        if found.mean.get(metric) is None:
            raise UsageError(f"{record} has no {metric}. Expected of: {', '.join(found.mean)}")
    try:
        measured = Measured(found, EvidenceFiles([record.parent], data_roots), TerminalProgress.of(quiet or as_json))
        done = [
            measured.explain(
                metric, theirs, protocols()[tag].metrics.get(metric, ""), published.number(found, paper, row, metric)
            )
            for metric in wanted
        ]
    except Lacking as why:
        raise UsageError(f"{record}: {why}") from why
    if keep:
        kept = explained.Explained(
            fingerprint=found.cell.fingerprint, paper=paper, method=row, beside=beside, ladders=tuple(done)
        )
        explained.write(kept, explained.place(record, paper))
    if as_json:
        print_json(record=str(record), paper=paper, protocol=tag, beside=beside, ladders=[_facts(one) for one in done])
        return 0
    for one in done:
        echo("\n".join(_markdown(one) if markdown else _lines(one)))
    if beside:
        echo(f"not to be told from a record: {beside}")
    if keep:
        suggest(f"bench report --results {record.parent}")
    else:
        suggest("the same command with --keep, then bench report: the page draws the ladders")
    return 0


def _facts(one: Explanation) -> dict[str, Any]:
    steps = [{"rule": s.rule, "ours": s.ours, "theirs": s.theirs, "moved": s.moved} for s in one.steps]
    return {
        "metric": one.metric,
        "classes": list(one.classes),
        "ours": one.ours,
        "steps": steps,
        "reached": one.reached,
        "published": one.published,
        "where": one.where or None,
        "unexplained": one.unexplained,
    }


def _rows(one: Explanation) -> list[tuple[str, str, str]]:
    """Return the rungs: what, from and to, and the number or what it is moved by, in percent."""
    from bench.store.explained import NAMES

    classes = len(one.classes)
    rows = [("ours", f"mean of {classes}" if classes > 1 else one.classes[0], f"{100 * one.ours:.2f}")]
    rows += [(NAMES[step.rule], f"{step.ours} -> {step.theirs}", f"{100 * step.moved:+.2f}") for step in one.steps]
    rows += [("by the paper's rules", "", f"{100 * one.reached:.2f}")]
    if one.published is not None and one.unexplained is not None:
        rows += [
            ("unexplained", "", f"{100 * one.unexplained:+.2f}"),
            ("published", one.where, f"{100 * one.published:.2f}"),
        ]
    else:
        rows += [("published", "not over these classes", "–")]
    return rows


def _lines(one: Explanation) -> list[str]:
    rows = _rows(one)
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    return [one.metric, *(f"  {a:{wide[0]}}  {c:>{wide[2]}}  {b}".rstrip() for a, b, c in rows), ""]


def _markdown(one: Explanation) -> list[str]:
    return [
        f"**{one.metric}**",
        "",
        "| rule | ours -> theirs | percent |",
        "|---|---|--:|",
        *(f"| {a} | {b} | {c} |" for a, b, c in _rows(one)),
        "",
    ]
