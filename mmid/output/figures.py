"""Figures in one plain style.

Conventions: a figure is a row of panels, a panel holds series of points. matplotlib is loaded only
to draw, through its object interface: no display, no global state but the style while it draws. The
suffix of the path, .png or .svg, says the format; a file is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmid.errors import MmidError
from mmid.system.outputs import check_file, written_target

SUFFIXES = (".png", ".svg")
PANEL_INCHES = (5.2, 4.4)
DOTS_PER_INCH = 150

WIDE = 300.0
"""A logarithmic axis that spans more than this ratio has ticks at the powers of ten only."""

STYLE: Any = {  # names that matplotlib knows
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.0,
    "svg.hashsalt": "mmid",
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#222222", "#cc79a7")
"""Distinct to colour-blind eyes too (Okabe and Ito); a panel's series take them in turn."""

MARKS = {"line": ("-", ""), "points": ("", "o"), "both": ("-", "o"), "star": ("", "*")}


@contextmanager
def train_extra(purpose: str) -> Iterator[None]:
    """Turn a missing package of the ``train`` extra into an error that says how to get it.

    Raises
    ------
    MmidError
        If an import inside fails.
    """
    try:
        yield
    except ImportError as error:
        missing = error.name or "a package"
        raise MmidError(f"{purpose} needs {missing}: pip install 'mmid[train]'") from error


@dataclass(frozen=True, eq=False)
class Series:
    """Points of a panel that belong together.

    Parameters
    ----------
    name : str
        For the legend.
    x, y : sequence of float
        As many of each, in the units of the panel's axes.
    mark : {"line", "points", "both", "star"}
        ``points`` are half transparent, to show how densely they lie.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    mark: Literal["line", "points", "both", "star"] = "line"


Scale = Literal["linear", "log", "symlog"]


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes.

    Parameters
    ----------
    title, x_label, y_label : str
        Labels with the unit.
    series : sequence of Series
    x_scale, y_scale : {"linear", "log", "symlog"}
        ``symlog`` is logarithmic from `least` on and shows 0 as well.
    least : float
        Where a ``symlog`` scale turns linear.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    least: float = 1e-3


def check_target(path: Path) -> Path:
    """Check, before work begins, that a figure can be drawn and has a place.

    Returns
    -------
    Path
        The path given.

    Raises
    ------
    MmidError
        If the suffix is not .png or .svg, the folder is missing, or matplotlib is.
    """
    check_drawing()
    return check_file(path, SUFFIXES)


def check_drawing() -> None:
    """Check, before work begins, that figures can be drawn.

    Raises
    ------
    MmidError
        If matplotlib is missing.
    """
    with train_extra("drawing"):
        import matplotlib  # noqa: F401


def save_figure(panels: Sequence[Panel], path: Path) -> None:
    """Draw panels side by side.

    Parameters
    ----------
    panels : sequence of Panel
        At least one.
    path : Path
        The .png or .svg file to write.

    Raises
    ------
    MmidError
        As `check_target`, or if the file cannot be written.
    """
    check_target(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    width, height = PANEL_INCHES
    with rc_context(STYLE):
        figure = Figure((width * len(panels), height), dpi=DOTS_PER_INCH, layout="constrained")
        rows = figure.subplots(1, len(panels), squeeze=False)
        for axes, panel in zip(rows[0], panels, strict=True):
            _draw_panel(axes, panel)
        save_whole(figure, path)


def _draw_panel(axes: Any, panel: Panel) -> None:
    for name, scale in (("x", panel.x_scale), ("y", panel.y_scale)):
        options = {"linthresh": panel.least} if scale == "symlog" else {}
        getattr(axes, f"set_{name}scale")(scale, **options)
    for series, colour in zip(panel.series, _endless(COLOURS), strict=False):
        line, marker = MARKS[series.mark]
        size = {"markersize": 14} if series.mark == "star" else {}
        alpha = 0.6 if series.mark == "points" else 1.0
        style = {"linestyle": line, "marker": marker, "color": colour, "alpha": alpha, **size}
        axes.plot(series.x, series.y, label=series.name, markeredgewidth=0, **style)
    if panel.y_scale == "symlog" and min(min(series.y) for series in panel.series) >= 0:
        axes.set_ylim(bottom=-panel.least / 5)
    _set_ticks(axes.xaxis, panel.x_scale, *axes.get_xlim())
    _set_ticks(axes.yaxis, panel.y_scale, *axes.get_ylim())
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _set_ticks(axis: Any, scale: Scale, low: float, high: float) -> None:
    """Give a logarithmic axis plain numbers at its ticks, not powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if scale == "log":
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < WIDE * low else (1,)))
    if scale != "linear":
        axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
        axis.set_minor_formatter(NullFormatter())


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1 else f"{value:g}"


def _endless(colours: Sequence[str]) -> Iterator[str]:
    while True:
        yield from colours


def save_whole(figure: Any, path: Path) -> None:
    """Write a matplotlib figure to a .png or .svg file, or leave what is there as it is.

    Raises
    ------
    MmidError
        If the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    with written_target(path) as part:
        figure.savefig(part, format=kind, metadata={"Date": None} if kind == "svg" else None)
