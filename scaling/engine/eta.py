"""When a plan will finish, estimated from the stages so far.

In: the seconds that the plan gives each stage, and those that finished stages took. Out: seconds to go: the work left
divided by the slots in use, but no less than the longest chain of stages that wait for each other.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling.stage import Stage

# Planned seconds of work that must be done before other kinds tell how long an unseen one takes: the first small stages
# of a sweep take ten times their plan, since they start processes.
_ENOUGH = 30.0


@dataclass
class Calibration:
    """Seconds taken per second planned, by kind of stage.

    The ratio is a median of stages, weighted by their planned seconds: the first stages of a kind compile its programs,
    which a mean would expect of all.
    """

    cost: Callable[[Stage], float]
    _seen: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # kind -> ratio, planned seconds

    def observe(self, stage: Stage, seconds: float) -> None:
        """Add the seconds that a stage took."""
        planned = self.cost(stage)
        if planned > 0:
            self._seen.setdefault(stage.kind, []).append((seconds / planned, planned))

    def seconds(self, stage: Stage) -> float:
        """Seconds that a stage will take, by its kind's ratio or that of all kinds; as planned before one is done."""
        of_all = ((1.0, _ENOUGH), *(one for kind in self._seen.values() for one in kind))
        return self.cost(stage) * _median(self._seen.get(stage.kind) or of_all)


def _median(weighted: Iterable[tuple[float, float]]) -> float:
    """The value in whose middle half of all weight lies: of two of equal weight, their mean."""
    values, weights = np.array(sorted(weighted)).T
    below = np.cumsum(weights)
    first, last = (np.searchsorted(below, below[-1] / 2, side) for side in ("left", "right"))
    return float(values[first] + values[min(last, len(values) - 1)]) / 2


def seconds_to_go(calibration: Calibration, left: Iterable[Stage], elapsed: Mapping[Stage, float], slots: int) -> float:
    """Seconds that the stages in `left`, inputs first, will take.

    elapsed: seconds that the running ones have taken. slots: how many run at once.
    """
    work = 0.0
    chains: dict[Stage, float] = {}  # the longest chain that ends with the stage
    for stage in left:
        seconds = max(0.0, calibration.seconds(stage) - elapsed.get(stage, 0.0))
        chains[stage] = seconds + max((chains.get(parent, 0.0) for parent in stage.inputs.values()), default=0.0)
        work += seconds
    return max([work / max(1, slots), *chains.values()])


def spoken(seconds: float) -> str:
    """A duration as text: 8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
