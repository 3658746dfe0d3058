"""Tables as grids of text cells, from CSV, Markdown and LaTeX files: spans written out, markup taken off."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import regular
from bench.errors import UsageError

MAX_BYTES = 4 << 20
"""Larger files are no table of a paper."""
SUFFIXES = {".csv": "CSV", ".md": "Markdown", ".tex": "LaTeX"}

_DROPPED = (
    "cite|citep|citet|ref|label|footnote|footnotemark|footnotetext|vspace|hspace|rowcolor|cellcolor|color|cmidrule|cline"
    "|tnote|resizebox|setlength|renewcommand|arraystretch|specialrule|midrule|toprule|bottomrule|hline|addlinespace"
)
_DROP = re.compile(rf"\\(?:{_DROPPED})\b\*?(?:\([^)]*\))?(?:\[[^]]*\])?(?:\{{[^{{}}]*\}})*")
_TWO = re.compile(r"\\(?:textcolor|multirow|href)\*?(?:\[[^]]*\])?(?:\{[^{}]*\})(?:\[[^]]*\])?(?:\{([^{}]*)\}){1,2}")
_ONE = re.compile(r"\\[a-zA-Z]+\*?(?:\[[^]]*\])?\{([^{}]*)\}")
_SPAN = re.compile(r"\s*\\multicolumn\s*\{(\d+)\}\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
_TABULAR = re.compile(r"\\begin\{(tabular[xy*]?|longtable|tabularx)\}(.*?)\\end\{\1\}", re.DOTALL)
_CAPTION = re.compile(r"\\caption(?:\[[^]]*\])?\{")
_SYMBOLS = {r"\pm": "±", r"\_": "_", r"\%": "%", r"\&": "&", r"\#": "#", "~": " ", r"\,": " ", r"\;": " ", "$": ""}


@dataclass(frozen=True, slots=True)
class Grid:
    """One table."""

    file: Path
    place: str
    """Which table of the file, for messages: `line 12`."""
    caption: str
    """Text around it that may name its dataset; empty where there is none."""
    rows: tuple[tuple[str, ...], ...]
    """Text cells, all rows equally long; a cell that spans columns stands in each of them."""


def grids(path: Path) -> list[Grid]:
    """Return the tables of a file.

    Raises:
        UsageError: another kind of file, unreadable, too large, or without a table.
    """
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(f"{name} ({suffix})" for suffix, name in SUFFIXES.items())
        raise UsageError(f"{path}: not a table that can be read. Expected {known}")
    try:
        with regular.opened(path) as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8. Expected a text file") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Expected a table") from error
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{path}: over {MAX_BYTES:,} bytes. Expected a table of a paper")
    read = {".csv": _of_csv, ".md": _of_markdown, ".tex": _of_latex}[path.suffix.lower()]
    found = [Grid(path, place, caption, _even(rows)) for place, caption, rows in read(text) if any(map(any, rows))]
    if not found:
        raise UsageError(f"{path}: no table in it. Expected {SUFFIXES[path.suffix.lower()]}")
    return found


def _even(rows: list[list[str]]) -> tuple[tuple[str, ...], ...]:
    width = max(map(len, rows))
    return tuple((*row, *[""] * (width - len(row))) for row in rows if any(row))


def _of_csv(text: str) -> Iterator[tuple[str, str, list[list[str]]]]:
    try:
        yield "line 1", "", [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), strict=True)]
    except csv.Error as error:
        raise UsageError(f"not CSV: {error}. Expected comma-separated fields") from error


def _of_markdown(text: str) -> Iterator[tuple[str, str, list[list[str]]]]:
    rows: list[list[str]] = []
    before, start = "", 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip().startswith("|"):
            start = start or number
            cells = [_plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
            if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                rows.append(cells)
            continue
        if rows:
            yield f"line {start}", before, rows
            rows, start = [], 0
        before = line.strip(" #*") or before


def _plain(text: str) -> str:
    """Take Markdown's emphasis, code marks and links off a cell."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text.replace("\\|", "|"))
    return re.sub(r"\*\*|__|[*`]|</?[a-z]+/?>", "", text).strip()


def _of_latex(text: str) -> Iterator[tuple[str, str, list[list[str]]]]:
    text = re.sub(r"(?<!\\)%.*", "", text)
    for found in _TABULAR.finditer(text):
        body = _after_groups(found[2], 2 if found[1] in ("tabularx", "tabular*", "tabulary") else 1)
        rows = [
            [cell for part in _split(line, "&") for cell in _cells(part)]
            for line in re.split(r"\\\\(?:\[[^]]*\])?|\\tabularnewline", body)
        ]
        around = text[max(text.rfind("\\begin{table", 0, found.start()), 0) :]
        title = _CAPTION.search(around)
        caption = _untexed(_group(around, title.end() - 1)) if title else ""
        yield f"line {text.count(chr(10), 0, found.start()) + 1}", caption, rows


def _after_groups(text: str, groups: int) -> str:
    """Return what follows the arguments of a tabular: an optional [..] and so many {..}."""
    text = re.sub(r"^\s*(\[[^]]*\])?", "", text)
    for _ in range(groups):
        text = re.sub(r"^\s*(\[[^]]*\])?\s*", "", text)
        if text.startswith("{"):
            text = text[len(_group(text, 0)) + 2 :]
    return text


def _group(text: str, start: int) -> str:
    """Return what the braces that open at `start` hold."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0) if text[place - 1 : place] != "\\" else 0
        if not depth:
            return text[start + 1 : place]
    return text[start + 1 :]


def _split(text: str, sign: str) -> list[str]:
    """Split at a sign that is neither escaped nor inside of braces."""
    parts, depth = [""], 0
    for place, one in enumerate(text):
        escaped = text[place - 1 : place] == "\\"
        depth += 0 if escaped else {"{": 1, "}": -1}.get(one, 0)
        if one == sign and not escaped and depth <= 0:
            parts.append("")
        else:
            parts[-1] += one
    return parts


def _cells(part: str) -> list[str]:
    """Return a cell as often as it spans columns."""
    span = _SPAN.match(_DROP.sub("", part))
    return [_untexed(part)] * min(int(span[1]) if span else 1, 64)


def _untexed(text: str) -> str:
    text = _DROP.sub("", text)
    text = _SPAN.sub("", text)
    for sign, plain in _SYMBOLS.items():
        text = text.replace(sign, plain)
    before = ""
    while before != text:
        before, text = text, _ONE.sub(r"\1", _TWO.sub(r"\1", text))
    text = re.sub(r"\\(uparrow|downarrow|[a-zA-Z]+)\s?", "", text)
    text = re.sub(r"[_^]\s*±", "±", re.sub(r"[{}\\]", "", text))
    return re.sub(r"\s+", " ", text).strip()
