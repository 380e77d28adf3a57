"""Stages that sample, with the server that samples for them where a cell names one.

In: a stage, and the cell it is made for. Out: the stage, and whether a server samples for one. That a server samples is
part of its identity, since its noise is not ours; where the server is and how it is asked is not, since that changes no
result.
"""

from dataclasses import replace

from scaling.config.sweep import Cell
from scaling.paths import from_current
from scaling.stage import Stage

_REMOTE = "remote"


def sampled(cell: Cell, stage: Stage) -> Stage:
    """The stage as it is for this project's own sampler, or with what a server changes."""
    if cell.sampler is None:
        return stage
    folder = from_current(cell.sampler.folder)
    server = cell.sampler.model_dump(mode="json") | {"folder": str(folder)}
    config = {**stage.config, "sampler": _REMOTE}
    if not cell.sampler.export:
        config["served_model"] = cell.sampler.model  # then the stage's own policy does not decide who samples
    return replace(stage, config=config, execution={**stage.execution, "server": server})


def is_on_server(stage: Stage) -> bool:
    """Whether a server samples for the stage: the choice of `problems.solvable` is always sampled here."""
    return stage.config.get("sampler") == _REMOTE
