"""`bench ls`: what there is, by name; without importing any of it, where that can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

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

Encoders (timm has hundreds) and runs are listed by their name alone. Methods stand by family, with what each needs:
a frozen encoder of which kind, and what beside its features.
"""


@dataclass(frozen=True, slots=True)
class ListedName:
    """One thing that has a name."""

    name: str
    summary: str
    family: str = ""
    """Heading under which it stands; methods alone have one."""
    encoders: Sequence[str] = ()
    needs: Sequence[str] = ()

    def facts(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        more = {"family": self.family, "encoders": self.encoders, "needs": self.needs} if self.family else {}
        return {"name": self.name, "summary": self.summary, **more}


def _methods(results: Path) -> list[ListedName]:
    from bench.families import ENCODERS, FAMILIES, OTHER
    from bench.registry import METHODS

    rows = []
    for name in METHODS.names():
        family = METHODS.stated(name, "family")
        encoders = _words(METHODS.stated(name, "encoders"), tuple(ENCODERS))
        needs = sorted(_words(METHODS.stated(name, "needs"), ("features",)))
        rows.append(ListedName(name, METHODS.summary(name), str(family or OTHER), encoders, needs))
    order = [*FAMILIES, *(row.family for row in rows if row.family != OTHER), OTHER]
    return sorted(rows, key=lambda row: order.index(row.family))


def _words(stated: object, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a class states, or the default where it is no collection of words: anybody may write a plug-in."""
    words = tuple(stated) if isinstance(stated, tuple | list | set) else default
    return words if all(isinstance(word, str) for word in words) else default


def _datasets(results: Path) -> list[ListedName]:
    from bench.registry import DATASETS

    return [ListedName(name, DATASETS.summary(name)) for name in DATASETS.names()]


def _metrics(results: Path) -> list[ListedName]:
    from bench.registry import METRICS

    return [ListedName(name, METRICS.summary(name)) for name in METRICS.names()]


def _protocols(results: Path) -> list[ListedName]:
    from bench import protocol

    return [ListedName(name, summary) for name, summary in protocol.SUMMARIES.items()]


def _suites(results: Path) -> list[ListedName]:
    from bench import suites

    return [ListedName(name, str(suites.values(name).get("title", ""))) for name in suites.names()]


def _encoders(results: Path) -> list[ListedName]:
    from bench.encoders import catalog
    from bench.registry import METHODS

    used: dict[str, list[str]] = {}
    for name in METHODS.builtin:
        fields = METHODS.load(name).Config.model_fields
        if "encoder" in fields:
            used.setdefault(fields["encoder"].default, []).append(name)
    notes = {name: "comes with bench" for name in catalog.embedded()}
    notes |= {name: f"default of {', '.join(methods)}" for name, methods in used.items()}
    listed = [*notes, *(name for name in catalog.names() if name not in notes)]
    return [ListedName(name, notes.get(name, "")) for name in listed]


def _runs(results: Path) -> list[ListedName]:
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
            ListedName(str(path), f"{record.cell.title}, {record.run}: {', '.join(scores[:1]) or record.status}")
        )
    return rows


KINDS: dict[str, Callable[[Path], list[ListedName]]] = {
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
@click.argument("kind", required=False, metavar=f"[{'|'.join(KINDS)}]", shell_complete=completed(KINDS))
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
        print_json(**{name: [row.facts() for row in rows] for name, rows in found.items()})
        return
    for name, rows in found.items():
        if kind is None:
            echo(name)
        for line in _lines(rows):
            echo(f"{'' if kind else '  '}{line}".rstrip())
    if kind is None:
        suggest("bench ls encoders, bench ls runs, or bench show NAME")


def _lines(rows: Sequence[ListedName]) -> Iterator[str]:
    """Yield a line a row, those of a family below its heading and with what each needs."""
    from bench.families import FAMILIES, needed

    width = max((len(row.name) for row in rows), default=0)
    needs = {row.name: needed(row.encoders, row.needs) for row in rows}
    column = max((len(text) for text in needs.values()), default=0)
    for family, members in groupby(rows, lambda row: row.family):
        if family:
            yield f"{family}: {FAMILIES[family]}" if family in FAMILIES else family
        for row in members:
            yield (
                f"  {row.name:{width}}  {needs[row.name]:{column}}  {row.summary}"
                if family
                else (f"{row.name:{width}}  {row.summary}")
            )
