"""`frame` and `report` from Python: recorded numbers as a pandas frame, and tables in files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.errors import UsageError
from bench.functions.arguments import Names, Roots, data_roots, names, warn
from bench.home import expanded

if TYPE_CHECKING:
    import pandas as pd

    from bench.store.record import Record


def frame(
    results: str | Path | Record | Iterable[str | Path | Record] = "results/runs", *, published: bool = False
) -> pd.DataFrame:
    """Return the numbers of records, one a row, with where each is from: numbers.csv of `bench report` as a frame.

    Args:
        results: folders of records (with their subfolders), files of records, records, or several of these.
        published: whether all that papers print of the same datasets follows, as in `bench report`.

    Returns:
        The columns of `bench.report.formats.long_csv.COLUMNS`. `value` is a fraction at full precision, missing where
        a score is undefined, with the reason in `note`; `of` says what it is of: class, mean, pooled or cost.

    Warns:
        UserWarning: a file of a folder is no record, or a record is of a failed cell; both are left out.

    Raises:
        StoreError: a folder or file does not exist, or a file that was named is no record.

    Example:
        >>> import bench
        >>> numbers = bench.frame("results/runs")
        >>> means = numbers[(numbers["of"] == "mean") & (numbers["metric"] == "image/auroc")]
        >>> print(means[["method", "dataset", "seed", "value"]].to_string(index=False))
          method dataset  seed  value
        dinomaly    visa     0    0.9
           rd4ad    visa     0    0.8
    """
    from bench.report.formats import long_csv

    records = list(_records(results))
    datasets = {record.cell.dataset for record in records}
    return long_csv.frame(records, long_csv.chosen((), datasets) if published and records else ())


def report(
    results: str | Path | Iterable[str | Path] = "results/runs",
    out: str | Path = "reports",
    *,
    suite: str | None = None,
    formats: Names = (),
    methods: Names = (),
    datasets: Names = (),
    classes: Names = (),
    published: bool = True,
    decimals: int | None = None,
    tables: Names = (),
    metrics: Names = (),
    layout: Literal["columns", "triples"] = "columns",
    notes: Literal["each", "once", "none"] = "each",
    caption: str | None = None,
    label: str | None = None,
    cite: Mapping[str, str] | Literal["all"] | None = None,
    data_root: Roots = None,
) -> list[Path]:
    """Make tables of recorded scores as `bench report` does, and return the files that were written.

    Args:
        results: folders of records, with their subfolders.
        out: where files go; those of a suite into a folder of its name.
        suite: the table of this suite alone.
        formats: some of html, figures, latex, markdown, csv, parquet; empty for all.
        methods: only these; empty for all.
        datasets: only these; empty for all.
        classes: means over these alone, published ones recomputed.
        published: whether there are rows that papers print.
        decimals: of percentages, 0 to 6; None for 1, of a suite as many as its paper prints.
        tables: only these, by the names of their files.
        metrics: only these columns, in this order: I-AUROC, P-AP, AUPRO or ids.
        layout: a column a metric, or one a level (triples), as papers print them.
        notes: of LaTeX and Markdown: under each table, once for all, or nowhere.
        caption: of the one table in LaTeX.
        label: of the one table in LaTeX.
        cite: method -> key of BibTeX, or all by their own; writes references.bib.
        data_root: folder of images for the gallery, or a folder a dataset.

    Warns:
        UserWarning: something is left out of the tables or the files.

    Raises:
        UsageError: a name that there is not, or no record to report.
        UnwritableError: a file cannot be written.

    Example:
        >>> import bench
        >>> files = bench.report("results/runs", "tables", datasets="visa", formats=["csv", "parquet"])
        >>> files[-1].as_posix()
        'tables/numbers.parquet'
    """
    from bench.prediction.map_model import opened
    from bench.report.make import ReportRequest, make

    if decimals is not None and not 0 <= decimals <= 6:
        raise UsageError(f"decimals={decimals}: expected 0 to 6")
    places = [results] if isinstance(results, (str, Path)) else results
    citations = cite.items() if isinstance(cite, Mapping) else ()
    wanted = ReportRequest(
        folders=tuple(expanded(str(place)) for place in places),
        out=expanded(str(out)),
        suite=suite,
        formats=names(formats),
        methods=names(methods),
        datasets=names(datasets),
        classes=names(classes),
        published=published,
        decimals=decimals,
        tables=names(tables),
        metrics=names(metrics),
        layout=layout,
        notes=notes,
        caption=caption,
        label=label,
        cite=(cite,) if isinstance(cite, str) else tuple(f"{method}={key}" for method, key in citations),
        data_roots=data_roots(data_root),
        open_model=opened,
    )
    return list(make(wanted, warn).files)


def _records(results: str | Path | Record | Iterable[str | Path | Record]) -> Iterator[Record]:
    from bench.report import collect
    from bench.store.record import Record

    several = [results] if isinstance(results, (str, Path, Record)) else list(results)
    for one in several:
        if isinstance(one, Record):
            # as of a folder: a failed cell has no numbers
            yield from collect.done([one], warn)
        else:
            yield from collect.read([expanded(str(one))], warn)
