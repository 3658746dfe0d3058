"""Operating points on the terminal: what a threshold that one could set finds, and how often it is a false alarm."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from bench.store.calibration import OperatingPoints, Share
from bench.store.rows import Row

SHOWN, SHOWN_PIXELS = "q0.95", "q0.999"
"""The rules that are shown; the report has all."""
NOTE = (
    "false alarms: normal test images above the threshold, with the 95 % Clopper-Pearson interval; SegF1: F1 of the "
    "maps above the 99.9 % quantile of normal pixels, where P-F1max is of the best threshold on the test images"
)


def made(row: Row) -> Table | None:
    """Return a line a class, and one for all classes at one threshold; None of a row without calibration."""
    found = [record.calibration for record in row.records if record.calibration is not None]
    lines = {name: points for one in found for name, points in one.classes.items()}
    if not lines:
        return None
    title = "At a threshold one could set: 95 % quantile of the normal images held back"
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    table.add_column("split" if row.unit == "splits" else "class")
    for heading in ("held", "threshold", "false alarms", "found", "SegF1"):
        table.add_column(heading, justify="right")
    for name, points in lines.items():
        table.add_row(Text(name), *_line(points))
    pooled = found[0].pooled if len(row.records) == 1 else None
    if pooled is not None:
        table.add_section()
        table.add_row("one for all", *_line(pooled))
    return table


def _line(points: OperatingPoints) -> tuple[str, ...]:
    image, pixel = points.image[SHOWN], points.pixel.get(SHOWN_PIXELS)
    alarms = _share(image.false_alarms)
    if image.false_alarms.interval is not None:
        low, high = image.false_alarms.interval
        alarms += f" ({100 * low:.0f} to {100 * high:.0f})"
    return (
        f"{points.images:,}",
        f"{image.threshold:.4g}",
        alarms,
        _share(image.found),
        _percent(pixel.f1 if pixel is not None else None),
    )


def _share(share: Share) -> str:
    return f"{share.count}/{share.of} {_percent(share.value)}" if share.of else "–"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
