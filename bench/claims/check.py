"""Check of the transcribed tables: `python -m bench.claims.check` prints a report, exit code 1 where one fails.

The checks are in bench.claims.proofs. What the papers themselves print wrongly or differently is listed in
exceptions.toml with its reason and its exact number; a finding that is not listed there fails, and so does an entry
that matches more or fewer findings than it says. Where it is known what was meant, corrections.toml has it. The papers'
and methods' addresses are proved by their form and against one another, without a network.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.claims.proofs import Tables, Violation, every
from bench.errors import BenchError
from bench.published.corrections import corrections
from bench.published.read import FOLDER, files, papers, read

EXCEPTIONS = FOLDER / "exceptions.toml"


@dataclass(frozen=True, slots=True)
class KnownException:
    """An entry of exceptions.toml."""

    check: str
    count: int
    reason: str
    match: tuple[tuple[str, str], ...]
    """(attribute of Score, value); each has to fit one of a finding's numbers."""

    def names(self, finding: Violation) -> bool:
        """Return whether this entry means the finding."""
        return finding.check == self.check and all(
            any(getattr(score, key) == value for score in finding.about) for key, value in self.match
        )

    def __str__(self) -> str:
        return f"{self.check}: {', '.join(value for _, value in self.match)}"


@dataclass(frozen=True, slots=True)
class ProofReport:
    """The outcome of all checks."""

    numbers: dict[str, int]
    """How many numbers were read, by paper and table."""
    held: dict[str, int]
    """How many comparisons came out equal, by check."""
    known: dict[KnownException, int]
    """How many findings each exception names."""
    failures: tuple[str, ...]


def known() -> tuple[KnownException, ...]:
    """Return exceptions.toml."""
    entries = tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8"))["exception"]
    return tuple(
        KnownException(entry.pop("check"), entry.pop("count"), entry.pop("reason"), tuple(_wanted(entry)))
        for entry in entries
    )


def _wanted(entry: dict[str, str | list[str]]) -> Iterator[tuple[str, str]]:
    for key, values in entry.items():
        yield from ((key, value) for value in ([values] if isinstance(values, str) else values))


def check(paths: list[Path] | None = None) -> ProofReport:
    """Run every check on the given files, by default on all. Raises UsageError for an unreadable one."""
    by_table = {
        (path.parent.name, path.stem.removeprefix("table")): read(path)
        for path in (files() if paths is None else paths)
    }
    tables = Tables(by_table)
    exceptions = known()
    found: Counter[KnownException] = Counter()
    failures: list[str] = []
    for finding in every(tables, papers()):
        entry = next((entry for entry in exceptions if entry.names(finding)), None)
        if entry is None:
            failures.append(str(finding))
        else:
            found[entry] += 1
    failures += [
        f"exceptions.toml: '{entry}' names {found[entry]} findings, expected {entry.count}"
        for entry in exceptions
        if found[entry] != entry.count
    ]
    numbers = {" ".join(place): len(rows) for place, rows in by_table.items()}
    return ProofReport(numbers, dict(tables.held), {entry: found[entry] for entry in exceptions}, tuple(failures))


def lines(report: ProofReport) -> Iterator[str]:
    """Yield the report as text."""
    for name, paper in papers().items():
        counts = {number: report.numbers.get(f"{name} {number}", 0) for number in paper.tables}
        each = ", ".join(f"{number}: {count}" for number, count in counts.items())
        yield f"{name}: {sum(counts.values())} numbers ({each})"
    yield "held: " + ", ".join(f"{name} {count}" for name, count in report.held.items())
    for entry, count in report.known.items():
        yield f"known, {count}x {entry}: {entry.reason}"
    for correction in corrections():
        used = f"{correction.value} is used" if correction.value else "not used"
        yield f"corrected, {correction.count}x {correction}: {correction.reason}; {used}"
    yield from (f"FAILED {failure}" for failure in report.failures)
    yield f"{sum(report.numbers.values())} numbers, {sum(report.known.values())} known exceptions, " + (
        f"{len(report.failures)} failures" if report.failures else "no failure"
    )


def main() -> int:
    """Print the report; return the exit code."""
    try:
        report = check()
    except BenchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("\n".join(lines(report)))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
