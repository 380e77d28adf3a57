"""The figures of a study by name: those that a report draws for every panel and a notebook can draw.

In: a `Panel`, its claims, the words for its axes, and a place. Out: matplotlib figures.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from matplotlib.figure import Figure

from analysis.figures import diagnostics, overview
from analysis.figures.compute import cost_figure
from analysis.figures.style import Place
from analysis.page.wording import Wording
from analysis.verdicts.panel import Panel

Claims = Mapping[str, float | str]
Drawing = Callable[[Panel, Claims, Wording, Place], Figure | None]  # None: the study has no such figure


STUDY_FIGURES: Mapping[str, Drawing] = MappingProxyType(
    {
        "error": lambda panel, _, words, place: overview.error_figure(panel.study, words, panel.base_error, place),
        "collapsed": lambda panel, _, words, place: overview.collapsed_figure(panel.study, words, place),
        "multiplier": lambda panel, _, words, place: overview.multiplier_figure(panel.study, words, place),
        "compute": lambda panel, _, words, place: (
            cost_figure(panel.study, panel.flops, words.error_axis, place) if panel.flops else None
        ),
        "holdout": lambda panel, _, __, place: diagnostics.holdout_figure(panel.study, place),
        "density": lambda panel, claims, _, place: diagnostics.density_figure(panel.study, claims, place),
        "spread": lambda panel, _, __, place: diagnostics.spread_figure(panel, place),
        "residual": lambda panel, _, words, place: diagnostics.residual_figure(panel.study, words, place),
    }
)
