"""The figure of docs/performance.md: our rates against what they depend on.

In: the points of results/growth.json. Out: docs/figures/growth.svg and .png.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from analysis.figures.looks import MARKERS, plain
from analysis.figures.style import HEIGHT, WIDTH, styled

UNITS = {"sampling": "completions a second", "training": "sequences a second"}


def draw(points: Sequence[Mapping], directory: Path) -> None:
    """One row of panels for each work, one panel for each thing that varies."""
    directory.mkdir(parents=True, exist_ok=True)
    axes_of = {work: list(dict.fromkeys(p["axis"] for p in points if p["work"] == work)) for work in UNITS}
    with styled():
        figure = Figure(figsize=(2 * WIDTH, 1.6 * HEIGHT), layout="constrained")
        panels = figure.subplots(2, max(map(len, axes_of.values())), sharey="row")
        for row, (work, names) in enumerate(axes_of.items()):
            for column, panel in enumerate(panels[row]):
                if column < len(names):
                    _panel(panel, [p for p in points if (p["work"], p["axis"]) == (work, names[column])], row)
                else:
                    panel.set_axis_off()
            panels[row][0].set_ylabel(UNITS[work])
        figure.savefig(directory / "growth.svg", metadata={"Date": None})
        figure.savefig(directory / "growth.png")


def _panel(panel: Axes, points: Sequence[Mapping], index: int) -> None:
    by_size = points[0]["axis"] == "size"
    values = [point["num_params" if by_size else "value"] for point in points]
    rates, shape = [point["rate"] for point in points], MARKERS[index % len(MARKERS)]
    panel.plot(values, rates, color=plain(index + 1).colour, marker=shape, markersize=4)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.xaxis.set_major_locator(FixedLocator(values))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("parameters" if by_size else points[0]["axis"])


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2g}M"
    return f"{value / 1e3:.0f}k" if value >= 1e4 else f"{value:,.0f}"
