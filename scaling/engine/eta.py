"""When a plan will finish, estimated from the stages so far.

In: the cost the plan gives each stage, in any unit, and the seconds that finished stages took. Out: seconds to go:
the work left divided by the slots in use, but no less than the longest chain of stages that wait for each other.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from scaling.stage import Stage


@dataclass
class Calibration:
    """Seconds per unit of cost, by kind of stage."""

    cost: Callable[[Stage], float]
    _seconds: dict[str, float] = field(default_factory=dict)  # kind -> sum
    _costs: dict[str, float] = field(default_factory=dict)

    def observe(self, stage: Stage, seconds: float) -> None:
        """Add the seconds that a stage took."""
        self._seconds[stage.kind] = self._seconds.get(stage.kind, 0.0) + seconds
        self._costs[stage.kind] = self._costs.get(stage.kind, 0.0) + self.cost(stage)

    def seconds(self, stage: Stage) -> float | None:
        """Seconds that a stage will take, by its kind's rate or that of all kinds; None before the first is done."""
        if self._costs.get(stage.kind):
            return self.cost(stage) * self._seconds[stage.kind] / self._costs[stage.kind]
        total = sum(self._costs.values())
        return self.cost(stage) * sum(self._seconds.values()) / total if total else None


def seconds_to_go(
    calibration: Calibration, left: Iterable[Stage], elapsed: Mapping[Stage, float], slots: int
) -> float | None:
    """Seconds that the stages in `left`, inputs first, will take; None before any stage is done.

    elapsed: seconds that the running ones have taken. slots: how many run at once.
    """
    work, longest = 0.0, 0.0
    chains: dict[Stage, float] = {}  # the longest chain that ends with the stage
    for stage in left:
        estimate = calibration.seconds(stage)
        if estimate is None:
            return None
        seconds = max(0.0, estimate - elapsed.get(stage, 0.0))
        chains[stage] = seconds + max((chains.get(parent, 0.0) for parent in stage.inputs.values()), default=0.0)
        work += seconds
        longest = max(longest, chains[stage])
    return max(work / max(1, slots), longest)


def spoken(seconds: float) -> str:
    """A duration as text: 8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
