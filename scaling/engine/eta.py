"""When a plan will finish, estimated from the stages so far.

In: the seconds that the plan gives each stage, and those that finished stages took. Out: seconds to go: the work left
divided by the slots in use, but no less than the longest chain of stages that wait for each other.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling.stage import Stage

# Planned seconds of work, and of a kind as many stages, that must be done before they outweigh what was expected: the
# first small stages of a sweep, and of each kind, take up to ten times their plan, since they start processes and
# compile programs.
_ENOUGH, _ENOUGH_STAGES = 30.0, 3


@dataclass
class Calibration:
    """Seconds taken per second planned, by group of stages.

    The ratio is a median of stages, weighted by their planned seconds: the first stages of a group compile its
    programs, which a mean would expect of all. What is expected takes part as one more stage: of all groups the plan,
    of a group the ratio of all.
    """

    cost: Callable[[Stage], float]
    _seen: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # group -> ratio, planned seconds
    _ratios: dict[str, float] = field(default_factory=dict)  # of the groups asked for since the last observation

    def observe(self, stage: Stage, seconds: float) -> None:
        """Add the seconds that a stage took."""
        planned = self.cost(stage)
        if planned > 0:
            self._seen.setdefault(_group(stage), []).append((seconds / planned, planned))
            self._ratios.clear()

    def seconds(self, stage: Stage) -> float:
        """Seconds that a stage will take."""
        group = _group(stage)
        if group not in self._ratios:
            of_all = _median([(1.0, _ENOUGH), *(one for seen in self._seen.values() for one in seen)])
            seen = self._seen.get(group, [(of_all, _ENOUGH)])
            expected = min(_ENOUGH, _ENOUGH_STAGES * sum(planned for _, planned in seen) / len(seen))
            self._ratios[group] = _median([(of_all, expected), *seen])
        return self.cost(stage) * self._ratios[group]


def _group(stage: Stage) -> str:
    """Stages of one kind, evaluation on validation and on test problems apart: sampling takes longer than greedy does
    for as many FLOPs."""
    return f"{stage.kind} {stage.config.get('split', '')}"


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
