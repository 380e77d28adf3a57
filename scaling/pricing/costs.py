"""What a plan will cost, before anything runs: FLOPs from the configs, seconds from FLOPs.

In: a stage, and the FLOPs per second that its kind has reached in this store. Out: `Cost`, by the function
that the stage's kind names (scaling.pricing.work). Records hold the time that a stage really took.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from scaling.config.resources import Resources
from scaling.kinds import kind_of, loaded
from scaling.planning.chain import is_on_server
from scaling.pricing.lengths import setting
from scaling.pricing.teacher_bill import added_problems, asking_seconds
from scaling.stage import Stage

# FLOPs a second of one core, by the params of a policy, used until the store holds a record of the kind. The small one
# is that of four studies, the large one a share of 0.6 of a core's matmul peak (docs/performance.md).
_SMALL_RATE, _LARGE_RATE, _LARGE = 3.0e10, 5.5e10, 1_000_000
OVERHEAD_SECONDS = 0.3  # of reading, checking and writing, for each stage


@dataclass(frozen=True)
class Cost:
    """Estimated work of one stage."""

    training_flops: float = 0.0
    generation_flops: float = 0.0
    request_seconds: float = 0.0  # of waiting for a chat model
    server_flops: float = 0.0  # of generation by the server in `sampler`; its time is not counted
    shared_flops: float = 0.0  # of generation_flops, those of prompts that are read once for several completions

    @property
    def flops(self) -> float:
        """Of this project's workers."""
        return self.training_flops + self.generation_flops

    def seconds(self, rate: float) -> float:
        """Wall seconds of one worker at a machine's rate in FLOPs a second."""
        return OVERHEAD_SECONDS + self.request_seconds + (self.flops - self.shared_flops) / rate


def seconds_of(stage: Stage, work: Cost, rates: Mapping[str, float], resources: Resources) -> float:
    """Wall seconds of a stage. rates: FLOPs a second by kind, from records; where there are none, the usual one."""
    kind = kind_of(stage.kind)
    if kind.name in rates:
        return OVERHEAD_SECONDS + work.flops / rates[kind.name]  # all of a record's time is that of its FLOPs
    if not work.flops:
        return work.seconds(_SMALL_RATE)
    rate = _LARGE_RATE if setting(stage)[1].num_params > _LARGE else _SMALL_RATE
    return work.seconds(rate * max(1.0, resources.amounts[kind.resource_class].get("cpu", 1.0)))


def cost(stage: Stage) -> Cost:
    """Estimate the FLOPs of a stage from its config and its ancestors'."""
    work: Cost = loaded(kind_of(stage.kind).work)(stage)
    if not is_on_server(stage):
        return work
    return replace(work, generation_flops=0.0, shared_flops=0.0, server_flops=work.generation_flops)


def costs(stages: Iterable[Stage], stored: Iterable[Stage] = ()) -> dict[Stage, Cost]:
    """The same for stages of one plan, where sizes share the requests to a chat model.

    stored: stages of the plan that ran before.
    """
    stages = tuple(stages)
    added = added_problems(stages, stored)
    found = {stage: cost(stage) for stage in stages}
    return found | {
        stage: replace(found[stage], request_seconds=asking_seconds(stage, count)) for stage, count in added.items()
    }


def observed_rates(stages: Iterable[Stage], records: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """FLOPs estimated a second taken, by kind, over stored stages; estimates and times of the same stages."""
    flops: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for stage, record in zip(stages, records, strict=True):
        estimate = cost(stage).flops
        if estimate:
            flops[stage.kind] = flops.get(stage.kind, 0.0) + estimate
            seconds[stage.kind] = seconds.get(stage.kind, 0.0) + max(record["wall_seconds"] - OVERHEAD_SECONDS, 1e-3)
    return {kind: flops[kind] / seconds[kind] for kind in flops}
