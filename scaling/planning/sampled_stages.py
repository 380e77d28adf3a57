"""Stages that sample, with the server that samples for them if a cell names one.

In: a stage, and the cell it is made for. Out: the stage, and whether a server samples for it. The use of a server is
part of a stage's identity, since its noise differs from ours. Its address and limits are not, since they change no
result.
"""

from dataclasses import replace

from scaling.config.sweep import Cell
from scaling.paths import from_current
from scaling.stage import Stage

_REMOTE = "remote"


def sampled(cell: Cell, stage: Stage) -> Stage:
    """The stage for this project's sampler, or with the changes that a server makes."""
    if cell.sampler is None:
        return stage
    folder = from_current(cell.sampler.folder)
    server = cell.sampler.model_dump(mode="json") | {"folder": str(folder)}
    config = {**stage.config, "sampler": _REMOTE}
    if not cell.sampler.export:
        config["served_model"] = cell.sampler.model  # the server decides which policy samples
    return replace(stage, config=config, execution={**stage.execution, "server": server})


def is_on_server(stage: Stage) -> bool:
    """Whether a server samples for the stage; `problems.solvable` is always sampled here."""
    return stage.config.get("sampler") == _REMOTE
