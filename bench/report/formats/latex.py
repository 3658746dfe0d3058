r"""Tables as LaTeX for two-column papers: booktabs, best in bold, second underlined, notes under the table.

`latex` gives what a paper takes by \\input; `standalone` the same as a document that compiles by itself. Widths are
estimated from the text, so that a table takes one column where it fits, both where it has to, and is shrunk or cut
between groups of columns only beyond that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.report.formats.tex import tex
from bench.report.tables.arrange import Style
from bench.report.tables.table import Column, RowBlock, Table, TableCell, numbered, pieces

PACKAGES = ("booktabs", "graphicx", "textcomp")
COLUMN, PAGE = 237.0, 496.0
"""Width in points of a column and of both, as the usual conference styles have them."""
DIGIT, SMALL, GAP = 4.1, 3.5, 6.0
"""Points: a digit of footnote size, one of script size, the space between two columns."""
SHRINKABLE = 1.25
"""How much wider than a page a table may be and still be shrunk: text of footnote size becomes that of script size."""
LONGEST = 55
"""Rows that fit a page; longer tables are cut between blocks."""
PLAIN = Style()
HEAD = (
    r"\documentclass[10pt]{article}",
    r"\usepackage[T1]{fontenc}",
    # without it T1 is set in bitmaps, which do as well
    r"\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}",
)
SHEETS = (
    # \opensheet{tabular}{caption} notes \closesheet: a page of the table's width, or of a column's where that is more
    r"\newsavebox{\grid}\newsavebox{\sheet}\newlength{\sheetwidth}",
    r"\ifdefined\pdfpagewidth\else\let\pdfpagewidth\pagewidth\let\pdfpageheight\pageheight\fi",
    r"\makeatletter",
    r"\newcommand{\opensheet}[2]{%",
    r"  \sbox{\grid}{\footnotesize\setlength{\tabcolsep}{3pt}#1}%",
    rf"  \setlength{{\sheetwidth}}{{\wd\grid}}\ifdim\sheetwidth>{PAGE}pt\sbox{{\grid}}{{\resizebox{{{PAGE}pt}}{{!}}%",
    rf"    {{\usebox{{\grid}}}}}}\setlength{{\sheetwidth}}{{{PAGE}pt}}\fi",
    rf"  \ifdim\sheetwidth<{COLUMN}pt\setlength{{\sheetwidth}}{{{COLUMN}pt}}\fi",
    r"  \begin{lrbox}{\sheet}\begin{minipage}{\sheetwidth}\def\@captype{table}\centering\footnotesize",
    r"  #2\par\smallskip\usebox{\grid}}",
    r"\newcommand{\closesheet}{\end{minipage}\end{lrbox}%",
    r"  \pdfpagewidth=\dimexpr\wd\sheet+12pt\relax\pdfpageheight=\dimexpr\ht\sheet+\dp\sheet+12pt\relax",
    r"  \hoffset=\dimexpr 6pt-1in\relax\voffset=\dimexpr 6pt-1in\relax\shipout\vbox{\box\sheet}}",
    r"\makeatother",
    r"\begin{document}",
)


def latex(table: Table, style: Style = PLAIN) -> str:
    r"""Return the table as one or more floats for \\input."""
    needs = ", ".join(PACKAGES)
    floats = [_float(part, style) for part in _parts(table)]
    return "\n".join([f"% made by bench report; needs \\usepackage{{{needs}}} and [T1]{{fontenc}}", *floats])


def standalone(table: Table, style: Style = PLAIN) -> str:
    """Return the table as a document whose pages are as large as what is on them; TeX's basic packages suffice.

    It cites nothing, as it has no bibliography.
    """
    style = replace(style, citations={})
    pages = [line for part in _parts(table) for line in (*_opened(part, style), *_notes(part), r"\closesheet")]
    return "\n".join([*HEAD, rf"\usepackage{{{','.join(PACKAGES)}}}", *SHEETS, *pages, r"\end{document}", ""])


def notes(table: Table) -> str:
    """Return what several tables share as notes, for a place of the paper's own choice."""
    return "\n".join(["% made by bench report", *_notes(table), ""])


def _parts(table: Table) -> list[Table]:
    return [part for piece in pieces(table, _fits) for part in _pages(piece)]


def _fits(table: Table) -> bool:
    return _width(table) <= PAGE * SHRINKABLE


def _pages(table: Table) -> list[Table]:
    """Cut between blocks, so that each part fits a page as far as a block does."""
    parts: list[list[RowBlock]] = []
    for block in table.blocks:
        if parts and sum(len(one.rows) for one in [*parts[-1], block]) <= LONGEST:
            parts[-1].append(block)
        else:
            parts.append([block])
    if len(parts) < 2:
        return [table]
    return [
        numbered(replace(table, name=f"{table.name}-page{number}", blocks=tuple(part)), number, len(parts))
        for number, part in enumerate(parts, start=1)
    ]


def _float(table: Table, style: Style) -> str:
    width = _width(table)
    environment = "table" if width <= COLUMN else "table*"
    body = "\n".join(_tabular(table, style))
    if width > PAGE:
        body = f"\\resizebox{{\\linewidth}}{{!}}{{%\n{body}}}"
    return "\n".join(
        [
            rf"\begin{{{environment}}}[t]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}%",
            *_caption(table, style),
            body,
            *_notes(table),
            rf"\end{{{environment}}}",
            "",
        ]
    )


def _opened(table: Table, style: Style) -> list[str]:
    """Return a table as the commands of SHEETS take it."""
    caption = "\n".join(_caption(table, style))
    return ["\n".join([r"\opensheet{%", *_tabular(table, style), "}{%", f"{caption}}}"])]


def _caption(table: Table, style: Style) -> list[str]:
    caption = style.caption or f"{tex(table.caption or table.title)}."
    return [rf"\caption{{{caption}}}", rf"\label{{{style.label or f'tab:{_label(table.name)}'}}}"]


def _tabular(table: Table, style: Style) -> list[str]:
    alignment = "l" + "".join("c" if column.unit == "percent" else "r" for column in table.columns)
    lines = [rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}", r"\toprule", *_head(table, style), r"\midrule"]
    for number, block in enumerate(table.blocks):
        if number:
            lines.append(r"\midrule")
        lines += _block(table, block, style)
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _head(table: Table, style: Style) -> list[str]:
    """Return one or two lines: groups of columns, and titles."""
    lines = _spanning(table.groups) if any(name for name, _ in table.groups) else []
    titles = [
        f"{tex(column.title)}{_cited(column.method, style)}{_marks(table, column.notes)}" for column in table.columns
    ]
    return [*lines, _line([tex(table.stub), *titles])]


def _spanning(groups: Sequence[tuple[str, int]]) -> list[str]:
    """Return a line of headings, each over its columns, and the rules under them."""
    cells, rules = [""], []
    place = 2
    for name, span in groups:
        cells.append(rf"\multicolumn{{{span}}}{{c}}{{{tex(name)}}}" if name else " & " * (span - 1))
        if name:
            rules.append(rf"\cmidrule(lr){{{place}-{place + span - 1}}}")
        place += span
    return [_line(cells), " ".join(rules)]


def _block(table: Table, block: RowBlock, style: Style) -> list[str]:
    def across(text: str) -> str:
        return _line([rf"\multicolumn{{{len(table.columns) + 1}}}{{@{{}}l@{{}}}}{{{text}}}"])

    lines = [across(rf"\textbf{{{tex(block.title)}}}")] if table.block_stub and block.title else []
    for number, (heading, rows) in enumerate(block.groups):
        if heading:
            lines += [r"\midrule"] if number else []
            lines.append(across(rf"\emph{{{tex(heading)}}}"))
        for place, row in enumerate(rows):
            if row.summary and place and not rows[place - 1].summary:
                lines.append(r"\midrule")
            numbers = [_cell(table, cell, column) for cell, column in zip(row.cells, table.columns, strict=True)]
            lines.append(_line([f"{tex(row.title)}{_cited(row.method, style)}{_marks(table, row.notes)}", *numbers]))
    return lines


def _cited(method: str, style: Style) -> str:
    return rf"~\cite{{{style.citations[method]}}}" if method in style.citations else ""


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _cell(table: Table, cell: TableCell, column: Column) -> str:
    if cell.parts:
        return "/".join(_cell(table, part, column) for part in cell.parts) + _marks(table, cell.notes)
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
    if table.silent or not notes:
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
    total += max(len(text) for text in (table.stub, *(row.title for row in rows))) * DIGIT + GAP
    for place, column in enumerate(table.columns):
        inner = [_cell_width(table, row.cells[place], column) for row in rows]
        total += max([len(column.title) * DIGIT + len(column.notes) * SMALL, *inner]) + GAP
    return total


def _cell_width(table: Table, cell: TableCell, column: Column) -> float:
    small = len(table.shown_std(cell, column)) + len(table.shown_difference(cell, column)) + 2 * len(cell.notes)
    return len(table.shown(cell, column)) * DIGIT + (small + 1) * SMALL * bool(small)
