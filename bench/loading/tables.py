"""Strict reading of CSV tables that people hand in: a line is a row and has as many fields as the header.

What is not so (a decimal comma, a column named twice or not at all, a cut line) puts values into other columns, and
every number read from there on would be a wrong one without a word. UTF-8, with or without a byte order mark; empty
lines are passed over; quoted fields may hold commas, but no line breaks.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import regular

MAX_BYTES = 128 << 20
"""Larger tables are refused before they are read; one of a million images takes this much."""

_BLANK = " \t"
_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff")


class TableError(ValueError):
    """No row can be read at all; the text says where and why."""


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One line of a table."""

    line: int
    """Its number in the file, from 1."""
    cells: Mapping[str, str] = field(default_factory=dict)
    """Column -> field as it stands; empty where there is a fault."""
    fault: str = ""
    """Why the line cannot be used."""


def read_table(path: Path, columns: Sequence[str]) -> Iterator[CsvRow]:
    """Yield the rows of a table, in the file's order, with those that cannot be used.

    Args:
        path: a CSV file whose first line names its columns.
        columns: those that must be there, in any order; others may be.

    Raises:
        TableError: no regular file, larger than `MAX_BYTES`, not UTF-8, or a header that lacks a column, names one
            twice or leaves one without a title.
    """
    lines = _lines(path)
    titles: list[str] = []
    for number, text in lines:
        fields, fault = _fields(text)
        if not fields and not fault:
            continue
        if not titles:
            titles = _titles(fields, fault, columns)
        elif fault:
            yield CsvRow(number, fault=fault)
        elif len(fields) != len(titles):
            comma = ": a decimal comma?" if len(fields) > len(titles) else ""
            counted = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
            yield CsvRow(number, fault=f"{counted}. Expected {len(titles)}, as in the header{comma}")
        else:
            yield CsvRow(number, dict(zip(titles, fields, strict=True)))
    if not titles:
        raise TableError(f"an empty table. Expected a header with the columns {', '.join(columns)}")


def _lines(path: Path) -> Iterator[tuple[int, str | UnicodeDecodeError]]:
    try:
        with regular.opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise TableError(f"{size:,} bytes. Expected at most {MAX_BYTES:,}")
            number = 0
            for ended in file:
                # of old Macs' tables all lines are one to this loop
                for part in ended.removesuffix(b"\n").removesuffix(b"\r").split(b"\r"):
                    number += 1
                    if number == 1 and part.startswith(_OTHER_MARKS):
                        raise TableError("byte 0 is not UTF-8, but UTF-16's mark. Save the table as UTF-8")
                    yield number, _decoded(part.removeprefix(_MARK) if number == 1 else part)
    except OSError as error:
        raise TableError(f"cannot be read ({error.strerror}). Expected a CSV file") from error


def _decoded(line: bytes) -> str | UnicodeDecodeError:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return error


def _fields(line: str | UnicodeDecodeError) -> tuple[list[str], str]:
    """Return the fields of a line, or why there are none."""
    if isinstance(line, UnicodeDecodeError):
        return [], f"byte {line.start} of the line is not UTF-8"
    if "\0" in line:
        return [], "a NUL character. Expected text"
    try:
        return next(csv.reader([line], strict=True), []), ""
    except csv.Error as error:
        return [], f"{error}. Expected comma-separated fields, a quoted one closed on its line"


def _titles(fields: Sequence[str], fault: str, columns: Sequence[str]) -> list[str]:
    if fault:
        raise TableError(f"the header: {fault}")
    titles = [title.strip(_BLANK) for title in fields]
    wanted = f"Expected a header with the columns {', '.join(columns)}"
    if untitled := [place for place, title in enumerate(titles, 1) if not title]:
        raise TableError(f"column {untitled[0]} of {len(titles)} has no title. {wanted} (pandas: to_csv(index=False))")
    if doubled := [title for title in titles if titles.count(title) > 1]:
        raise TableError(f"column {doubled[0]!a} is named {titles.count(doubled[0])} times. {wanted}, each once")
    if lost := [column for column in columns if column not in titles]:
        other = next((sign for sign in ";\t|" if len(titles) == 1 and sign in titles[0]), "")
        parted = f", fields parted by {other!a}" if other else ""
        named = ", ".join(ascii(title) for title in titles[:8])
        raise TableError(f"no column {', '.join(lost)} but {named}{parted}. {wanted}, parted by commas")
    return titles
