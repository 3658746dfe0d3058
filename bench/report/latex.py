r"""Tables as LaTeX for two-column papers: booktabs, best in bold, second underlined, notes under the table.

`latex` gives what a paper takes by \\input; `standalone` the same as a document that compiles by itself. Widths are
estimated from the text, so that a table takes one column where it fits, both where it has to, and is shrunk or cut
between groups of columns only beyond that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.report.table import Block, Cell, Column, Table, pieces
from bench.report.tex import tex

PACKAGES = ("booktabs", "multirow", "graphicx", "textcomp")
COLUMN, PAGE = 237.0, 496.0
"""Width in points of a column and of both, as the usual conference styles have them."""
DIGIT, SMALL, GAP = 4.1, 3.5, 6.0
"""Points: a digit of footnote size, one of script size, the space between two columns."""
SHRINKABLE = 1.25
"""How much wider than a page a table may be and still be shrunk: text of footnote size becomes that of script size."""
LONGEST = 55
"""Rows that fit a page; longer tables are cut between blocks."""


def latex(table: Table) -> str:
    r"""Return the table as one or more floats for \\input."""
    needs = ", ".join(PACKAGES)
    floats = [_float(part) for piece in pieces(table, _fits) for part in _pages(piece)]
    return "\n".join([f"% made by bench report; needs \\usepackage{{{needs}}} and [T1]{{fontenc}}", *floats])


def standalone(table: Table) -> str:
    """Return the table as a document of a two-column paper's format."""
    packages = "\n".join(rf"\usepackage{{{name}}}" for name in PACKAGES)
    return "\n".join(
        [
            r"\documentclass[10pt,twocolumn]{article}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage{mathptmx}",
            r"\usepackage[letterpaper,textwidth=6.875in,textheight=8.875in,columnsep=0.3125in]{geometry}",
            packages,
            r"\begin{document}",
            latex(table),
            r"\end{document}",
            "",
        ]
    )


def _fits(table: Table) -> bool:
    return _width(table) <= PAGE * SHRINKABLE


def _pages(table: Table) -> list[Table]:
    """Cut between blocks, so that each part fits a page as far as a block does."""
    parts: list[list[Block]] = []
    for block in table.blocks:
        if parts and sum(len(one.rows) for one in [*parts[-1], block]) <= LONGEST:
            parts[-1].append(block)
        else:
            parts.append([block])
    if len(parts) < 2:
        return [table]
    return [
        replace(
            table,
            name=f"{table.name}-page{number}",
            title=f"{table.title} ({number}/{len(parts)})",
            blocks=tuple(part),
        )
        for number, part in enumerate(parts, start=1)
    ]


def _float(table: Table) -> str:
    width = _width(table)
    environment = "table" if width <= COLUMN else "table*"
    body = "\n".join(_tabular(table))
    if width > PAGE:
        body = f"\\resizebox{{\\linewidth}}{{!}}{{%\n{body}}}"
    return "\n".join(
        [
            rf"\begin{{{environment}}}[t]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}%",
            rf"\caption{{{tex(table.title)}.}}",
            rf"\label{{tab:{_label(table.name)}}}",
            body,
            *_notes(table),
            rf"\end{{{environment}}}",
            "",
        ]
    )


def _tabular(table: Table) -> list[str]:
    stubs = table.stubs
    alignment = "l" * len(stubs) + "".join("c" if column.unit == "percent" else "r" for column in table.columns)
    lines = [rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}", r"\toprule", *_head(table, len(stubs)), r"\midrule"]
    for number, block in enumerate(table.blocks):
        if number:
            lines.append(r"\midrule")
        lines += _block(table, block)
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _head(table: Table, stubs: int) -> list[str]:
    """Return one or two lines: groups of columns, and titles."""
    lines = []
    if any(name for name, _ in table.groups):
        lines += _spanning(table.groups, stubs)
    titles = [f"{tex(column.title)}{_marks(table, column.notes)}" for column in table.columns]
    return [*lines, _line([*(tex(stub) for stub in table.stubs), *titles])]


def _spanning(groups: Sequence[tuple[str, int]], stubs: int) -> list[str]:
    """Return a line of headings, each over its columns, and the rules under them."""
    cells, rules = [""] * stubs, []
    place = stubs + 1
    for name, span in groups:
        cells.append(rf"\multicolumn{{{span}}}{{c}}{{{tex(name)}}}" if name else " & " * (span - 1))
        if name:
            rules.append(rf"\cmidrule(lr){{{place}-{place + span - 1}}}")
        place += span
    return [_line(cells), " ".join(rules)]


def _block(table: Table, block: Block) -> list[str]:
    last = len(table.stubs) + len(table.columns)
    # the block's title stands over all of its lines, and no rule goes through it
    rule = rf"\cmidrule{{2-{last}}}" if table.block_stub else r"\midrule"
    before = [""] if table.block_stub else []
    lines: list[str] = []
    bodies = 0
    for heading, rows in block.groups:
        if heading:
            lines += [rule] if lines else []
            over = rf"\multicolumn{{{last - len(before)}}}{{@{{}}l@{{}}}}{{\emph{{{tex(heading)}}}}}"
            lines.append(_line([*before, over]))
            bodies += 1
        for place, row in enumerate(rows):
            if row.summary and place and not rows[place - 1].summary:
                lines.append(rule)
            numbers = [_cell(table, cell, column) for cell, column in zip(row.cells, table.columns, strict=True)]
            lines.append(_line([*before, f"{tex(row.title)}{_marks(table, row.notes)}", *numbers]))
            bodies += 1
    if table.block_stub and lines:
        lines[0] = f"{_over(bodies, tex(block.title))}{lines[0]}"
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _over(rows: int, text: str) -> str:
    return rf"\multirow{{{rows}}}{{*}}{{{text}}}" if rows > 1 else text


def _cell(table: Table, cell: Cell, column: Column) -> str:
    text = tex(table.shown(cell, column))
    if cell.value is not None and text.startswith("-"):
        text = f"$-${text[1:]}"
    text = {0: text, 1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}[cell.rank]
    spread, difference = table.shown_std(cell, column), table.shown_difference(cell, column)
    if spread:
        text += rf"{{\scriptsize$\pm${spread}}}"
    if difference:
        text += rf"\,{{\scriptsize {tex(difference).replace('+', '$+$')}}}"
    return text + _marks(table, cell.notes)


def _marks(table: Table, notes: Sequence[str]) -> str:
    return rf"\textsuperscript{{{','.join(table.marks(notes))}}}" if notes else ""


def _notes(table: Table) -> list[str]:
    marked = [rf"{_marks(table, [note])}\,{tex(note)}{'' if note.endswith('.') else '.'}" for note in table.footnotes]
    notes = [*(tex(note) for note in table.notes), *marked]
    if not notes:
        return []
    return [
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\scriptsize\raggedright",
        "\n".join(notes),
        r"\end{minipage}",
    ]


def _label(name: str) -> str:
    return "".join(char if char.isascii() and (char.isalnum() or char in "-.") else "-" for char in name)


def _width(table: Table) -> float:
    """Return how wide the table will be in points, about."""
    rows = list(table.rows)
    total = 0.0
    for number, stub in enumerate(table.stubs):
        texts = [stub]
        if table.block_stub and not number:
            texts += [block.title for block in table.blocks]
        else:
            texts += [row.title for row in rows]
        total += max(len(text) for text in texts) * DIGIT + GAP
    for place, column in enumerate(table.columns):
        inner = [_cell_width(table, row.cells[place], column) for row in rows]
        total += max([len(column.title) * DIGIT + len(column.notes) * SMALL, *inner]) + GAP
    return total


def _cell_width(table: Table, cell: Cell, column: Column) -> float:
    small = len(table.shown_std(cell, column)) + len(table.shown_difference(cell, column)) + 2 * len(cell.notes)
    return len(table.shown(cell, column)) * DIGIT + (small + 1) * SMALL * bool(small)
