"""The costs in `--plan`: a table by kind of stage, and sentences on money, a server, memory and time.

In: the stages that would run, those that are stored, and the sweep. Out: a table and lines of text; nothing is printed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from rich.table import Column, Table

from scaling.config.policy import DEFAULT_TEMPLATE
from scaling.config.resources import Resources
from scaling.config.sweep import Sweep
from scaling.engine.eta import spoken
from scaling.kinds import kind_names, kind_of
from scaling.pretrained.hub import has_chat_template
from scaling.pricing.costs import Cost, seconds_of
from scaling.pricing.stage_memory import memory_lines, seconds_on, time_lines
from scaling.pricing.teacher_bill import added_problems, bill
from scaling.stage import Stage


def cost_table(
    planned: Iterable[Stage],
    stored: Iterable[Stage],
    work: Mapping[Stage, Cost],
    rates: Mapping[str, float],
    resources: Resources,
) -> Table:
    """A row for each kind of stage. work: of the stages to run; rates: FLOPs a second by kind, from records.

    Of several sorts of hardware the table has the time on the first.
    """
    hardware = resources.hardware
    time_on = f"time on {hardware[0].name}" if hardware else "worker time"
    headers = ("distinct", "stored", "to run", "training FLOPs", "generation FLOPs")
    first, last = (
        Column(header, no_wrap=True) for header in ("kind", time_on)
    )  # in 80 columns the headers wrap instead
    table = Table(first, *headers, last, box=None, pad_edge=False)
    distinct, have = (Counter(stage.kind for stage in stages) for stages in (planned, stored))
    for kind in kind_names():
        if not distinct[kind]:
            continue
        own = {stage: item for stage, item in work.items() if stage.kind == kind}
        costs = list(own.values())
        seconds = [
            item.request_seconds + seconds_on(item, hardware[0])
            if hardware
            else seconds_of(stage, item, rates, resources)
            for stage, item in own.items()
        ]
        table.add_row(
            kind,
            str(distinct[kind]),
            str(have[kind]),
            str(len(costs)),
            _sum_of(costs, lambda item: item.training_flops),
            _sum_of(costs, lambda item: item.generation_flops),
            spoken(sum(seconds)),
        )
    return table


def estimates(
    work: Mapping[Stage, Cost], stored: Iterable[Stage], rates: Mapping[str, float], sweep: Sweep, slots: int
) -> list[str]:
    """Sentences on every cost. slots: workers that run at once on this machine."""
    lines = prompt_lines((*work, *stored)) + bill(added_problems(work, stored)) + server_lines(work)
    lines += memory_lines(tuple(work), sweep.resources, sweep.memory)
    if sweep.resources.hardware:
        costs = tuple(work.values())
        times = (line for hardware in sweep.resources.hardware for line in time_lines(costs, hardware))
        return lines + list(dict.fromkeys(times))  # waiting takes as long on each
    waiting = sum(item.request_seconds for item in work.values())
    seconds = sum(seconds_of(stage, item, rates, sweep.resources) for stage, item in work.items())
    source = "rates of this store's records" if rates else "rates of a two-core machine"
    waits = f", {spoken(waiting)} of it waiting for the teachers' replies" if waiting else ""
    at_once = max(seconds / slots, waiting)  # stages that use a teacher wait for each other
    workers = "1 worker" if slots == 1 else f"{slots} workers"
    return [
        *lines,
        f"Estimated: {spoken(seconds)} of one worker{waits}, about {spoken(at_once)} on {workers} here ({source}).",
    ]


def server_lines(work: Mapping[Stage, Cost]) -> list[str]:
    """The stages that the server of `sampler` computes and those it does not; empty without one."""
    asked = {stage: item.server_flops for stage, item in work.items() if item.server_flops}
    if not asked:
        return []
    hosts = dict.fromkeys(urlsplit(str(stage.execution["server"]["endpoint"])).netloc for stage in asked)
    kinds = ", ".join(dict.fromkeys(stage.kind for stage in asked))
    lines = [
        f"Server: {sum(asked.values()):.1e} FLOPs of generation by {', '.join(hosts)}, for {len(asked)} stages"
        f" ({kinds}); its time and memory are unknown and not counted."
    ]
    present = (kind_of(kind) for kind in kind_names() if any(stage.kind == kind for stage in work))
    here = [kind.computed_here for kind in present if kind.computed_here]
    return lines + ([f"Not by the server: {'; '.join(here)}."] if here else [])


def prompt_lines(stages: Iterable[Stage]) -> list[str]:
    """The prompt format of each checkpoint without a chat template, or with another one."""
    lines: dict[str, None] = {}
    for stage in stages:
        policy = stage.config.get("policy", {})
        if stage.kind != "pretrain" or "hf" not in policy:
            continue
        name = str(stage.execution.get("checkpoint", policy["hf"]))
        template, there = policy["prompt_template"], has_chat_template(name)
        how = f"Prompts of {name}: "
        if template is not None:
            lines[how + f"{template!r} (policy.prompt_template)."] = None
        elif there is None:
            lines[how + f"its chat template, or {DEFAULT_TEMPLATE!r} without one (policy.prompt_template)."] = None
        elif not there:
            lines[how + f"{DEFAULT_TEMPLATE!r}, because it has no chat template (policy.prompt_template)."] = None
    return list(lines)


def _sum_of(costs: Sequence[Cost], part: Callable[[Cost], float]) -> str:
    total = sum(map(part, costs))
    return f"{total:.1e}" if total else "-"
