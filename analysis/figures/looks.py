"""How each algorithm looks in figures: the same colour everywhere, a dash, marker and filling for its variant.

In: the names of a figure's algorithms. Out: a `Look` each. Colours are Okabe and Ito's and two of Tol's, safe for
colour-blind readers. Only the reference is black. Legends name only what differs among an algorithm's variants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from analysis.tables.printing import current, name_of, settings_of, settings_text, short
from scaling.config.algorithms import algorithms

BLACK = "#000000"
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#999933",
    "#332288",
    "#661100",
    "#44AA99",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_FILLS: tuple[Literal["full", "left", "right", "top", "bottom"], ...] = ("full", "left", "right", "top", "bottom")
Dash = str | tuple[float, tuple[float, ...]]
DASHES: tuple[Dash, ...] = ("-", "--", "-.", (0, (3, 1, 1, 1, 1, 1)), (0, (5, 1)))


class Face(TypedDict, total=False):
    """How markers are filled, as matplotlib's keywords; empty: with their colour."""

    fillstyle: Literal["full", "left", "right", "top", "bottom", "none"]
    markerfacecolor: str
    markerfacecoloralt: str


HOLLOW: Face = {"markerfacecolor": "none"}  # has its own meaning in some figures, so no variant has it


@dataclass(frozen=True)
class Look:
    """The look of one algorithm, or of one variant."""

    name: str  # in legends
    colour: str
    marker: str = MARKERS[0]
    dash: Dash = DASHES[0]
    fill: Literal["full", "left", "right", "top", "bottom"] = "full"

    @property
    def face(self) -> Face:
        return {} if self.fill == "full" else {"fillstyle": self.fill, "markerfacecoloralt": "#FFFFFF"}


def looks(names: Sequence[str], reference: str | None = None) -> dict[str, Look]:
    """The look of every name, in their order.

    The built-in algorithms have colours of their own in all figures; others take those that are left.
    """
    bases = list(dict.fromkeys(_base(name) for name in names if name != reference))
    known = [algorithm.name for algorithm in algorithms() if algorithm.name != "sft"]
    colours = {base: COLOURS[known.index(base) % len(COLOURS)] for base in bases if base in known}
    free = [shade for shade in COLOURS if shade not in colours.values()] or list(COLOURS)
    colours |= {base: free[place % len(free)] for place, base in enumerate(b for b in bases if b not in known)}
    found, common = {}, common_settings(names, reference)
    for name in names:
        if name == reference:
            found[name] = Look(short(name), BLACK)
            continue
        base = _base(name)
        variant = [other for other in names if _base(other) == base and other != reference].index(name)
        turn, place = divmod(variant, len(MARKERS) - 1)
        found[name] = Look(
            short(name, without=common[base]),
            colours[base],
            MARKERS[1 + (bases.index(base) + place) % (len(MARKERS) - 1)],
            DASHES[variant % len(DASHES)],
            _FILLS[(turn + variant) % len(_FILLS)],
        )
    return found


def plain(number: int, text: str = "") -> Look:
    """The look of the n-th line of a figure without algorithms; the first is black."""
    shade = BLACK if number == 0 else COLOURS[(number - 1) % len(COLOURS)]
    return Look(text, shade, MARKERS[number % len(MARKERS)])


def common_settings(names: Sequence[str], reference: str | None = None) -> Mapping[str, tuple[str, ...]]:
    """Algorithm -> the settings that all its variants share."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        if name != reference:
            settings = settings_of(name)
            found[_base(name)] = tuple(one for one in found.get(_base(name), settings) if one in settings)
    return found


def common_text(names: Sequence[str], reference: str | None = None) -> str:
    """The settings that legends leave out, stated once for all algorithms that share them."""
    of_settings: dict[tuple[str, ...], list[str]] = {}
    own = current().labels
    for base, settings in common_settings([name for name in names if name not in own], reference).items():
        if settings:
            of_settings.setdefault(settings, []).append(name_of(base))
    return "; ".join(f"{', '.join(who)}: {settings_text(settings)}" for settings, who in of_settings.items())


def _base(name: str) -> str:
    return name.partition(",")[0]
