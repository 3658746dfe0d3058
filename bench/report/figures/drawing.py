"""Figure style, and output as SVG or PDF. matplotlib is imported when something is drawn."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.files import atomic
from bench.names import harmless

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas

INK = "#1b1d22"
"""Text and axes; the page's own text colour stands for it in SVG, so that figures follow dark and light."""
FAINT = "#8b909a"
"""Grid and notes: readable on white and on near-black alike."""
COLOURS = ("#2f6fb3", "#d9822b", "#3a9a6b", "#c0476d", "#7a5cc0", "#1f9aa8", "#93a113", "#6b7280")
"""Of methods, in their order; told apart by most colour-blind readers, and by line style beyond eight."""
STYLES = ("-", "--", ":", "-.")

_LOOK: Any = {
    "font.family": ["sans-serif"],
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.7,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    # a class called a$b$c is a name and no formula
    "text.parse_math": False,
    # curves lose points that nobody sees, half a pixel off at most
    "path.simplify_threshold": 0.5,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Figure:
    """A figure of a report, or the reason why it cannot be drawn."""

    name: str
    """Short and unique within a report: `roc-demo`. Files are named by it."""
    title: str
    caption: str = ""
    """What is seen and what is left out, in sentences."""
    draw: Callable[[], Canvas] | None = None
    """Called once, within the look."""
    absent: str = ""
    """Why there is nothing to draw; empty where there is."""
    dataset: str = ""
    wide: bool = False
    """Whether it takes a page's whole width."""

    @cached_property
    def _drawn(self) -> Canvas:
        assert self.draw is not None
        # most of the look is read when axes are made, not when they are saved
        with _look({}):
            drawn = self.draw()
            # laid out once, not anew for each format and each of its passes
            if engine := drawn.get_layout_engine():
                engine.execute(drawn)
            drawn.set_layout_engine("none")
            return drawn

    def svg(self) -> str:
        """Return an `<svg>` element for a page: at most 1.3 times its size on paper, no ids but those referred to."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        out = io.StringIO()
        # ids are hashes; the salt keeps those of two figures on one page apart
        with _look({"svg.hashsalt": self.name}):
            # savefig would draw everything once more, to lay it out
            canvas_of: Any = FigureCanvasSVG(self._drawn)
            canvas_of.print_svg(out, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        return _for_page(out.getvalue(), self.title)

    def write_pdf(self, path: Path) -> str:
        """Write the figure as PDF, its text as text, and return the characters that its font does not have.

        Raises:
            StoreError: the file cannot be written.
        """
        with atomic(path) as file, _look({}):
            drawn = self._drawn
            with warnings.catch_warnings(record=True) as told:
                warnings.filterwarnings("always", _NO_GLYPH)
                drawn.savefig(file, format="pdf", metadata={"CreationDate": None, "Creator": "bench"})
        codes = [re.match(_NO_GLYPH, str(one.message)) for one in told]
        return "".join(chr(int(code[1])) for code in codes if code)


def canvas(width: float, height: float) -> Canvas:
    """Return an empty canvas of so many inches; to be called within `Figure.draw`."""
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height), layout="constrained")


def plain_ticks(axis: Axis) -> None:
    """Write the ticks of a logarithmic axis as plain numbers: 0.02, 5, 1000."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def line_style(place: int) -> dict[str, Any]:
    """Return colour and line style of the method at this place."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": STYLES[place // len(COLOURS) % len(STYLES)]}


@dataclass(frozen=True, slots=True)
class Names:
    """The labels of a legend, broken into lines and columns that fit."""

    labels: list[str]
    columns: int
    lines: int
    """Height of the legend in lines of text."""


def fitted(labels: Sequence[str], width: float, most: int) -> Names:
    """Return how labels go into a legend of at most so many inches and columns; to be called within `Figure.draw`."""
    # matplotlib leaves out labels that begin so
    shown = [f"\u200b{label}" if label.startswith("_") else label for label in labels]
    room = width - _AROUND
    for columns in range(min(most, len(shown)), 0, -1):
        down = -(-len(shown) // columns)
        # filled column by column
        widest = (max(map(_inches, shown[start : start + down])) for start in range(0, len(shown), down))
        if sum(widest) + columns * _HANDLE + (columns - 1) * _BETWEEN <= room:
            return Names(shown, columns, down)
    broken = ["\n".join(_broken(label, room - _HANDLE)) for label in shown]
    return Names(broken, 1, sum(label.count("\n") + 1 for label in broken))


def legend(
    whole: Canvas,
    handles: Sequence[Any],
    names: Names,
    where: Literal["outside lower center", "lower center"] = "outside lower center",
) -> None:
    """Put one legend below all axes."""
    whole.legend(handles, names.labels, loc=where, ncols=names.columns)


_EM = 8.5 / 72
"""Size of the legend's text in inches; matplotlib's lengths around it, in such units: handle 2, gap 0.8, and so on."""
_HANDLE, _BETWEEN, _AROUND = 2.8 * _EM, 2 * _EM, 2 * _EM


def _inches(label: str) -> float:
    return sum(map(_advance, label))


@cache
def _advance(char: str) -> float:
    """Return how far a character moves the next one, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    return float(text_to_path.get_text_width_height_descent(char, FontProperties(size=8.5), ismath=False)[0]) / 72


def _broken(label: str, width: float) -> Iterator[str]:
    """Yield a label in lines of at most so many inches, broken at a blank where there is one."""
    while _inches(label) > width:
        most = next(count for count in range(len(label), 0, -1) if count == 1 or _inches(label[:count]) <= width)
        at = label.rfind(" ", 1, most + 1)
        yield label[: at if at > 0 else most]
        label = label[at + 1 if at > 0 else most :]
    yield label


@contextmanager
def _look(more: Any) -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context({**_LOOK, **more}), warnings.catch_warnings():
        # a page's reader has other fonts; for PDFs it is told, see `write_pdf`
        warnings.filterwarnings("ignore", _NO_GLYPH)
        yield


_NO_GLYPH = r"Glyph (\d+) "
"""How matplotlib begins to tell of a character that its font does not have."""
_DIGITS = re.compile(r"(\.\d\d)\d+")
"""Of coordinates, more than a hundredth of a point; most of a file is such digits."""


def _for_page(text: str, title: str) -> str:
    svg = text[text.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    referred = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r'\sid="([^"]*)"', lambda found: found[0] if found[1] in referred else "", svg)
    svg = re.sub(r'\s(?:d|x|y|transform)="[^"]*"', lambda found: _DIGITS.sub(r"\1", found[0]), svg)
    opening = svg[: svg.index(">")]
    plain = re.sub(r'\s(width|height|version|xmlns:xlink)="[^"]*"', "", opening)
    # its text, 8 to 9 points in print, is then never larger than the page's notes
    (wide,) = re.findall(r'viewBox="\S+ \S+ (\S+)', opening)
    named = f'xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{escape(harmless(title))}"'
    named += f' style="max-width: {1.3 * float(wide):.0f}px"'
    svg = f"{plain} {named}{svg[len(opening) :]}"
    return svg.replace(INK, "currentColor")
