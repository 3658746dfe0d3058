"""`bench ls`: what there is, by name; without importing any of it, where that can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from bench.cli.completing import completed
from bench.cli.echo import echo, print_json, suggest
from bench.cli.options import json_option, results_option
from bench.errors import UsageError

EPILOG = """\b
Examples:
  bench ls
  bench ls methods
  bench ls encoders | grep dinov2
  bench ls runs --results results/runs

Encoders (timm has hundreds) and runs are listed by their name alone.
"""

Row = tuple[str, str]


def _methods(results: Path) -> list[Row]:
    from bench.registry import METHODS

    return [(name, METHODS.summary(name)) for name in METHODS.names()]


def _datasets(results: Path) -> list[Row]:
    from bench.registry import DATASETS

    return [(name, DATASETS.summary(name)) for name in DATASETS.names()]


def _metrics(results: Path) -> list[Row]:
    from bench.registry import METRICS

    return [(name, METRICS.summary(name)) for name in METRICS.names()]


def _protocols(results: Path) -> list[Row]:
    from bench import protocol

    return list(protocol.SUMMARIES.items())


def _suites(results: Path) -> list[Row]:
    from bench import suites

    return [(name, str(suites.values(name).get("title", ""))) for name in suites.names()]


def _encoders(results: Path) -> list[Row]:
    from bench.encoders import catalog
    from bench.registry import METHODS

    used: dict[str, list[str]] = {}
    for name in METHODS.builtin:
        used.setdefault(METHODS.load(name).Config.model_fields["encoder"].default, []).append(name)
    notes = {name: "comes with bench" for name in catalog.embedded()}
    notes |= {name: f"default of {', '.join(methods)}" for name, methods in used.items()}
    return [*notes.items(), *((name, "") for name in catalog.names() if name not in notes)]


def _runs(results: Path) -> list[Row]:
    from bench.store.folder import find

    if not results.is_dir():
        raise UsageError(f"{results}: no such folder, so no runs. Make some with: bench run --suite demo")
    found = find([results])
    for message in found.unreadable:
        echo(f"ignored: {message}", err=True)
    rows = []
    for path, record in found.records.items():
        scores = [f"{metric} {100 * value:.1f}" for metric, value in record.mean.items() if value is not None]
        rows.append(
            (str(path), f"{record.cell.title}, seed {record.cell.seed}: {', '.join(scores[:1]) or record.status}")
        )
    return rows


KINDS: dict[str, Callable[[Path], list[Row]]] = {
    "methods": _methods,
    "datasets": _datasets,
    "metrics": _metrics,
    "protocols": _protocols,
    "suites": _suites,
    "encoders": _encoders,
    "runs": _runs,
}
AT_ONCE = ("methods", "datasets", "metrics", "protocols", "suites")
"""What is listed where no kind is named."""


@click.command(epilog=EPILOG)
@click.argument("kind", required=False, metavar=f"[{'|'.join(KINDS)}]", shell_complete=completed("kinds"))
@results_option("Where runs are looked for.")
@json_option()
def ls(kind: str | None, results: Path, as_json: bool) -> None:
    """List what there is, one a line: all that has a name here, or what KIND says."""
    if kind is not None and kind not in KINDS:
        from bench.registry import did_you_mean

        raise UsageError(
            f"nothing called '{kind}' to list.{did_you_mean(kind, KINDS)} Known: {', '.join(KINDS)}. "
            "See: bench ls --help"
        )
    found = {name: KINDS[name](results) for name in ([kind] if kind else AT_ONCE)}
    if as_json:
        print_json(**{name: [{"name": one, "summary": text} for one, text in rows] for name, rows in found.items()})
        return
    for name, rows in found.items():
        if kind is None:
            echo(name)
        width = max((len(one) for one, _ in rows), default=0)
        for one, text in rows:
            echo(f"{'' if kind else '  '}{one:{width}}  {text}".rstrip())
    if kind is None:
        suggest("bench ls encoders, bench ls runs, or bench show NAME")
