"""The commands as Python functions of the package: `bench.frame`, over records on disk or in memory.

Importing this module loads neither torch nor pandas. What a command prints and exits for is returned and raised here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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
        published: whether the numbers that papers print for the same methods and datasets follow.

    Returns:
        The columns of `bench.report.tidy.COLUMNS`. `value` is a fraction at full precision, missing where a score is
        undefined, with the reason in `note`; `of` says what it is of: class, mean, pooled or cost.

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
    from bench.report import tidy

    records = list(_records(results))
    methods = {record.cell.method for record in records}
    datasets = {record.cell.dataset for record in records}
    return tidy.frame(records, tidy.chosen(methods, datasets) if published and records else ())


def _records(results: str | Path | Record | Iterable[str | Path | Record]) -> Iterator[Record]:
    from bench.report import collect
    from bench.store.record import Record

    several = [results] if isinstance(results, (str, Path, Record)) else list(results)
    for one in several:
        if isinstance(one, Record):
            # as of a folder: a failed cell has no numbers
            yield from collect.done([one], _warn)
        else:
            yield from collect.read([expanded(str(one))], _warn)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)
