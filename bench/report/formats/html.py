"""The HTML page: one file that needs no network. Names are escaped by the template, and no script but ours may run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup
from PIL import Image

import bench
from bench.names import harmless
from bench.report.figures.drawing import Figure
from bench.report.figures.gallery import Gallery, Pixels
from bench.report.figures.illustrate import Illustrations
from bench.report.formats.csv import delimited
from bench.report.formats.latex import latex
from bench.report.formats.markdown import markdown
from bench.report.tables.names import dataset_title, heading
from bench.report.tables.table import MINUS, Column, RowBlock, Table, TableCell, TableRow, letters
from bench.store.record import Record

if TYPE_CHECKING:
    from bench.report.tables.contents import Report

FOLDER = Path(__file__).parent
WIDE = 10
"""Columns."""
LARGE = 2000
"""Cells."""
GROUPS = {"image": "Image level", "pixel": "Pixel level", "sample": "Object level", "mad": "mAD", "cost": "Cost"}
"""Groups of metrics that can be switched off, as metric ids begin."""
RANKS = ("", " best", " second")


@dataclass(frozen=True, slots=True)
class HtmlCell:
    """A cell as the template writes it."""

    text: str
    parts: tuple[tuple[str, str], ...]
    """Several numbers in one place: text and class names of each; empty where there is one."""
    spread: str
    difference: str
    marks: str
    key: str
    """Full value to sort by; empty where there is none."""
    css: str
    records: str
    """Places in the page's data of the records behind it."""
    interval: str
    """Its ends."""
    where: str
    """Where it is printed."""


@dataclass(frozen=True, slots=True)
class HtmlRow:
    """A row as the template writes it."""

    row: TableRow
    marks: str
    places: tuple[HtmlCell, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """A group of rows as the template writes it; rows are sorted within it."""

    block: RowBlock
    title: str
    """The block's, where this is its first group."""
    group: str
    lines: tuple[HtmlRow, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table as the template writes it."""

    table: Table
    columns: tuple[tuple[Column, str, str], ...]
    """Column, class names and footnote marks."""
    besides: tuple[tuple[bool, bool], ...]
    """Whether any number of a column has a spread, and a difference, whose place the others keep free."""
    spans: tuple[tuple[str, int, int, str], ...]
    """Group heading, columns, published ones among them, and class names."""
    bodies: tuple[Body, ...]
    footnotes: tuple[tuple[str, str], ...]
    datasets: str

    @property
    def picks(self) -> list[tuple[str, str, str]]:
        """Return id, title and class name of the metrics of a wide table of metrics x methods, shown one at a time."""
        crossed = all(column.metric and column.method for column, _, _ in self.columns)
        found = dict.fromkeys((column.metric, _css(column).partition(" ")[0]) for column, _, _ in self.columns)
        if not crossed or len(self.columns) <= max(WIDE, len(found)) or len(found) == 1:
            return []
        return [(metric, heading(metric), css) for metric, css in found]

    @property
    def large(self) -> bool:
        """Return whether the table is only laid out when it is scrolled to."""
        return len(self.columns) * sum(len(body.lines) for body in self.bodies) > LARGE


def page(title: str, tables: Sequence[Table], records: Sequence[Record], extras: Illustrations | None = None) -> str:
    """Return the page.

    Args:
        title: of the report.
        tables: of scores, in the order in which they are shown.
        records: those that cells name by fingerprint; details are shown of these.
        extras: figures and statistics.
    """
    extras = extras or Illustrations()
    places = {record.cell.fingerprint: place for place, record in enumerate(records)}
    everything = [*tables, *extras.tables]
    groups = dict.fromkeys(_group(column) for table in everything for column in table.columns if column.metric)
    sources = {source for table in everything for source in _sources(table)}
    script, style = (FOLDER / f"page.{kind}" for kind in ("js", "css"))
    code = script.read_text(encoding="utf-8")
    figures = [figure for figure in extras.figures if not figure.absent]
    galleries = [gallery for gallery in extras.galleries if not gallery.absent]
    values = {
        "title": title,
        "version": bench.__version__,
        "count": len(records),
        "methods": len({record.cell.method for record in records}),
        "newest": max((record.created[:10] for record in records), default=""),
        "script": Markup(code),
        "script_hash": base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        "style": Markup(style.read_text(encoding="utf-8")),
        "sheets": [_sheet(table, places) for table in tables],
        "statistics": [_sheet(table, places) for table in extras.tables],
        "figures": [(figure, _svg(figure)) for figure in figures],
        "galleries": galleries,
        "absent": _reasons([*extras.figures, *extras.galleries]),
        "left_out": extras.left_out,
        "datasets": _datasets(everything),
        "named": {name: dataset_title(name) for name in dict.fromkeys(record.cell.dataset for record in records)},
        "groups": [(name, GROUPS[name]) for name in GROUPS if name in groups] if len(groups) > 1 else [],
        "mixed": len(sources) > 1,
        "data": Markup(_json(_spelt(_details(records)))),
        "texts": Markup(_json(_spelt({table.name: _texts(table) for table in everything}))),
    }
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_spelt,
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"picture": _picture, "spelt": _spelt}
    return environment.get_template("page.html.jinja").render(values)


def html(report: Report, out: Path) -> list[Path]:
    """Write the report as one page, report.html."""
    from bench.files import atomic
    from bench.report.figures.illustrate import illustrate
    from bench.report.figures.statistics import with_intervals
    from bench.store.evidence import EvidenceFiles

    evidence = EvidenceFiles(report.folders, report.data_roots, report.open_model)
    tables = with_intervals(report.tables, report.records, evidence)
    extras = illustrate(report.records, evidence)
    for gallery in extras.galleries:
        if gallery.absent:
            report.say(f"no pictures of {gallery.dataset} in the page: {gallery.absent}")
    text = page(report.title, tables, report.records, extras)
    path = out / "report.html"
    with atomic(path, durable=False) as file:
        # a name from a file system may hold what is no text; it is spelt out
        file.write(text.encode("utf-8", "backslashreplace"))
    return [path]


def _texts(table: Table) -> dict[str, str]:
    """Return what the buttons under a table copy, by the buttons' names."""
    return {"LaTeX": latex(table), "Markdown": markdown(table), "CSV": delimited(table)}


def _sheet(table: Table, places: dict[str, int]) -> Sheet:
    footnotes = {note: letters(place) for place, note in enumerate(table.footnotes)}

    def marks(notes: Iterable[str]) -> str:
        return ",".join(sorted((footnotes[note] for note in notes), key=lambda mark: (len(mark), mark)))

    columns = tuple((column, _css(column), marks(column.notes)) for column in table.columns)
    spans = []
    start = 0
    for title, count in table.groups:
        within = table.columns[start : start + count]
        shared = {_css(column).partition(" ")[0] for column in within}
        published = sum(column.source == "published" for column in within)
        spans.append((title, count, published, shared.pop() if len(shared) == 1 else ""))
        start += count

    def line(row: TableRow) -> HtmlRow:
        filled = (
            _place(table, cell, column, css, marks(cell.notes), places)
            for cell, (column, css, _) in zip(row.cells, columns, strict=True)
        )
        return HtmlRow(row, marks(row.notes), tuple(filled))

    bodies = tuple(
        Body(block, "" if number else block.title, title, tuple(map(line, rows)))
        for block in table.blocks
        for number, (title, rows) in enumerate(block.groups)
    )
    besides = tuple(
        (any(cell.std is not None for cell in cells), any(cell.difference is not None for cell in cells))
        for cells in zip(*(row.cells for row in table.rows), strict=True)
    )
    marked = tuple((mark, note) for note, mark in footnotes.items())
    return Sheet(table, columns, besides, tuple(spans), bodies, marked, _about(table))


def _place(table: Table, cell: TableCell, column: Column, css: str, marks: str, places: dict[str, int]) -> HtmlCell:
    interval = ""
    if cell.interval:
        scale = 100 if column.unit == "percent" else 1
        interval = " to ".join(f"{scale * end:.{table.places(column) + 1}f}" for end in cell.interval)
    text = table.shown(cell, column)
    return HtmlCell(
        text=MINUS + text[1:] if cell.value is not None and text.startswith("-") else text,
        parts=tuple((table.shown(part, column), RANKS[part.rank].strip()) for part in cell.parts),
        spread=table.shown_std(cell, column),
        difference=table.shown_difference(cell, column),
        marks=marks,
        key="" if cell.value is None else f"{cell.value:.6g}",
        css=css + RANKS[cell.rank],
        records=" ".join(str(places[name]) for name in cell.records if name in places),
        interval=interval,
        where=cell.where,
    )


def _css(column: Column) -> str:
    """Return class names by which the page's switches hide a column."""
    return f"g-{_group(column)}{' published' if column.source == 'published' else ''}"


def _group(column: Column) -> str:
    name = column.metric.partition("/")[0]
    return name if name in GROUPS else "other"


def _sources(table: Table) -> set[str]:
    columns = {str(column.source) for column in table.columns if column.source}
    return columns or {str(row.source) for row in table.rows}


def _about(table: Table) -> str:
    named = [block.dataset for block in table.blocks] + [column.dataset for column in table.columns]
    return json.dumps(list(dict.fromkeys(harmless(name) for name in named if name)))


def _datasets(tables: Iterable[Table]) -> list[tuple[str, str]]:
    """Return name and title of every dataset that a table is about."""
    found = dict.fromkeys(name for table in tables for name in json.loads(_about(table)))
    return [(name, dataset_title(name)) for name in found]


def _svg(figure: Figure) -> Markup:
    # made by matplotlib, which escapes what it is given
    return Markup(figure.svg())


def _spelt(value: Any) -> Any:
    """Return what is shown with the names in it spelt, however deep they are; markup of ours stays as it is."""
    if isinstance(value, dict):
        return {_spelt(key): _spelt(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelt(item) for item in value]
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _reasons(items: Iterable[Figure | Gallery]) -> list[tuple[str, list[str]]]:
    """Return each reason why figures are absent with their titles; a page that is shown around tells no folders."""
    found: dict[str, list[str]] = {}
    for item in items:
        if item.absent:
            # a path begins with its slash: in advice such as <class>/train/good/ nothing is hidden
            why = re.sub(r"(?<![^\s'\"(=])(?:/[^\s/:;,()]+)+/", "…/", item.absent)
            found.setdefault(why, []).append(f"{item.title} ({item.dataset})" if item.dataset else item.title)
    return list(found.items())


def _picture(tile: Pixels) -> str:
    out = io.BytesIO()
    Image.fromarray(tile).save(out, "WEBP", quality=72, method=4)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def _details(records: Sequence[Record]) -> dict[str, Any]:
    """Return what clicks show of records; what many share (machines, configurations) is kept once."""
    shared: list[Any] = []
    known: dict[str, int] = {}

    def once(value: Any) -> int:
        key = json.dumps(value, sort_keys=True, default=str)
        if key not in known:
            known[key] = len(shared)
            shared.append(value)
        return known[key]

    found = []
    for record in records:
        cell, made = record.cell, record.efficiency
        found.append(
            {
                "title": f"{cell.title}, {record.run}",
                "file": cell.file.as_posix(),
                "command": shlex.join(map(_homeless, record.command)),
                "created": record.created,
                "protocol": once(record.protocol.model_dump(mode="json")),
                "metrics": record.metric_version,
                "config": once(record.config),
                "changed": list(record.changed),
                "encoder": once(record.encoder.model_dump(mode="json")) if record.encoder else None,
                "input": record.input_size,
                "environment": once(record.environment.model_dump(mode="json")),
                "dataset": once(record.dataset.model_dump(mode="json", exclude={"chosen", "root"})),
                "external": once(record.external.model_dump(mode="json")) if record.external else None,
                "imported": once(record.imported.model_dump(mode="json")) if record.imported else None,
                "seconds": once({phase: round(spent, 2) for phase, spent in made.seconds.items()}) if made else None,
            }
        )
    return {"shared": shared, "records": found}


def _homeless(argument: str) -> str:
    """Return an argument of a command with `~` for a home, as bench reads it: a page shown around names no user."""
    return re.sub(r"(^|[=,])(?:/(?:home|Users)/[^/]+|/root)(?=/|$)", r"\1~", argument)


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")
