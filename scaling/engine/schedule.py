"""The next stage to run: those with complete inputs, the longest remaining chain first.

In: the stages to run, inputs first, and a cost for each. Out: ready stages, one at a time, by resource class; a
failed stage blocks all that descend from it. Pure bookkeeping: it runs nothing and reads nothing.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence

from scaling.kinds import kind_of
from scaling.stage import Stage


class Schedule:
    """The stages of one execution that are not finished. A stage's inputs outside `stages` count as present."""

    def __init__(self, stages: Sequence[Stage], cost: Callable[[Stage], float]) -> None:
        self._children: dict[Stage, list[Stage]] = {stage: [] for stage in stages}
        self._missing: dict[Stage, int] = {}  # number of inputs to wait for
        for stage in stages:
            parents = set(stage.inputs.values()) & self._children.keys()
            self._missing[stage] = len(parents)
            for parent in parents:
                self._children[parent].append(stage)
        chains: dict[Stage, float] = {}  # cost of the most expensive chain that starts with the stage
        for stage in reversed(stages):
            chains[stage] = cost(stage) + max((chains[child] for child in self._children[stage]), default=0.0)
        self._priority = {stage: (-chains[stage], index) for index, stage in enumerate(stages)}
        self._ready: dict[str, list[tuple[tuple[float, int], Stage]]] = {}  # resource class -> heap
        for stage in stages:
            if self._missing[stage] == 0:
                self.put_back(stage)

    @property
    def has_ready(self) -> bool:
        """Whether some stage could start."""
        return any(self._ready.values())

    def next(self, full: Iterable[str]) -> Stage | None:
        """The most urgent ready stage whose resource class is not among those that are full; it stays ready."""
        heads = [heap[0] for resource_class, heap in self._ready.items() if heap and resource_class not in full]
        return min(heads)[1] if heads else None

    def take(self, stage: Stage) -> None:
        """Remove the stage that `next` returned from the ready ones."""
        heap = self._ready[resource_class(stage)]
        assert heap[0][1] == stage
        heapq.heappop(heap)

    def put_back(self, stage: Stage) -> None:
        """Make a stage ready, the first time or again."""
        entry = (self._priority[stage], stage)
        heapq.heappush(self._ready.setdefault(resource_class(stage), []), entry)

    def finish(self, stage: Stage) -> None:
        """The stage's artifact exists: stages that waited only for it become ready."""
        for child in self._children[stage]:
            self._missing[child] -= 1
            if self._missing[child] == 0:
                self.put_back(child)

    def fail(self, stage: Stage) -> list[Stage]:
        """The stage has failed: returns its descendants that were not blocked before; they never start."""
        blocked = []
        frontier = [stage]
        while frontier:
            for child in self._children[frontier.pop()]:
                if self._missing[child] >= 0:
                    self._missing[child] = -len(child.inputs) - 1  # no number of finished inputs makes it 0
                    blocked.append(child)
                    frontier.append(child)
        return blocked


def resource_class(stage: Stage) -> str:
    """The entry of a sweep's `resources` that the stage uses."""
    return kind_of(stage.kind).resource_class
