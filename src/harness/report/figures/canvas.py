"""A picture and how it is written: as a PNG, as an SVG file, or as an SVG in a page that follows its light and dark."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.system.errors import UserError
from harness.system.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDTH_IN = 4.6  # as wide as a phone shows without scrolling, at the size of its text
INK, FAINT, GROUND = "#101112", "#8a8b8c", "#fefefd"  # the page puts its own colours in their place
# Okabe and Ito's palette: the colour-blind can distinguish it too; markers repeat what colours say
COLOURS = {
    "baseline": "#999999", "arch": "#E69F00", "hw": "#56B4E9", "combined": "#009E73", "expected": "#BBBBBB",
}  # fmt: skip
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#B8A800")
MARKERS = "osD^vP*X"

_STYLE: Any = {
    "font.size": 9.5, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "xtick.color": INK,
    "ytick.color": INK, "axes.titlesize": 9, "legend.fontsize": 8, "legend.frameon": False, "grid.color": FAINT,
    "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "none",
    "axes.facecolor": "none", "savefig.facecolor": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """One figure with its words."""

    name: str  # of its files, and of its place in the page
    title: str
    alt: str  # what it shows, for who can't see it: with its main numbers
    caption: str
    figure: Figure

    def png(self) -> bytes:
        """Return it on white, for MLflow and documents."""
        out = io.BytesIO()
        with _styled():
            self.figure.savefig(out, format="png", dpi=130, facecolor="white", metadata={"Software": None})
        return out.getvalue()

    def svg(self) -> str:
        """Return a file of its own, on white."""
        return self._svg("white")

    def inline(self) -> str:
        """Return an element for the page: no background, the page's colours, ids that no other figure has."""
        text = self._svg("none")
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
        text = re.sub(r'\bid="', f'id="{self.name}-', text)
        text = re.sub(r'(href="|url\()#', rf"\1#{self.name}-", text)
        text = text.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)").replace(GROUND, "var(--ground)")
        label = f'role="img" aria-labelledby="{self.name}-t {self.name}-d"'
        words = f'<title id="{self.name}-t">{html.escape(self.title)}</title>'
        words += f'<desc id="{self.name}-d">{html.escape(self.alt)}</desc>'
        points = 72 * self.figure.get_figwidth()
        size = f' style="min-width: {points:.0f}px; max-width: {1.5 * points:.0f}px"'
        return re.sub(r"<svg\b([^>]*)>", lambda found: f"<svg {label}{size}{_fluid(found[1])}>{words}", text, count=1)

    def _svg(self, background: str) -> str:
        with _styled():
            return svg_text(self.figure, background)


def svg_text(figure: Figure, background: str = "white") -> str:
    """Return a figure as an SVG file's text: the same for the same figure, and its words are text, not outlines."""
    from matplotlib import rc_context

    out = io.StringIO()
    nobody = {"Date": None, "Creator": None, "Format": None, "Type": None}
    fonts = ["DejaVu Sans", "sans-serif"]  # the whole list would stand beside every word
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "harness", "font.sans-serif": fonts}):
        figure.savefig(out, format="svg", facecolor=background, metadata=nobody)
    return compact_svg(out.getvalue())


def compact_svg(text: str) -> str:
    """Return an SVG file's text without indents, its lengths to 0.01 points: what is seen is the same."""

    def shorter(found: re.Match[str]) -> str:
        return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")

    def places(found: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d{3,}", shorter, found[0])

    return re.sub(r' (?:d|x|y|width|height)="[^"]*"', places, re.sub(r"\n +", "\n", text))


@contextmanager
def canvas(height_in: float, columns: int = 1, rows: int = 1, **options: Any) -> Iterator[tuple[Figure, Any]]:
    """Give a figure and its axes in the report's style."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _styled():
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(rows, columns, **options)


def logarithmic(axes: Axes, which: str) -> None:
    """Make the x or y axis logarithmic, plain numbers beside its ticks; call it when everything is drawn.

    Matplotlib's own ticks are powers of ten, of which a narrow range may hold none.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    if high / low > 300:
        axis.set_major_locator(LogLocator(10, numticks=8))
    elif high / low > 4:
        axis.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=12))
    else:
        axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axis.set_minor_formatter(NullFormatter())


def plain(text: str) -> str:
    """Return a text that matplotlib shows as it is: a dollar sign would start a formula."""
    return text.replace("$", r"\$")


def shortened(text: str, characters: int = 44) -> str:
    """Return a label that leaves room for the picture, with a mark where it was cut."""
    return plain(text if len(text) <= characters else f"{text[: characters - 1]}…")


def _styled() -> Any:
    from matplotlib import rc_context

    return rc_context(_STYLE)


def _fluid(attributes: str) -> str:
    """Return the attributes without a fixed size: the page's width decides."""
    return re.sub(r'\s(width|height)="[^"]*"', "", attributes)


def write_figures(folder: Path, drawn: Iterable[Picture]) -> None:
    """Write each picture as NAME.png and NAME.svg into a folder, which is made where it is missing.

    Raises:
        UserError: it can't be written there.

    """
    try:
        folder.mkdir(exist_ok=True)
        for picture in drawn:
            write_whole(folder / f"{picture.name}.png", picture.png())
            write_whole(folder / f"{picture.name}.svg", picture.svg())
    except OSError as error:
        raise UserError(
            f"can't write figures into {folder}: {error.strerror}; choose another place for them."
        ) from error
