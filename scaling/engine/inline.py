"""Run stages in this process, one at a time: for a debugger, and for tests without Ray.

In: a store. Out: a pool with the same methods as that of Ray workers; a stage runs inside `wait`.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scaling.config.memory import Memory
from scaling.engine.jax_environment import pin_here
from scaling.engine.schedule import resource_class
from scaling.engine.store import Store
from scaling.engine.worker import DEFAULT_MEMORY, Outcome, Runner, run_stage
from scaling.stage import Stage


@dataclass
class InlinePool:
    """One slot, in this process."""

    store: Store
    runners: Mapping[str, str | Runner] = field(default_factory=dict)
    memory: Memory = DEFAULT_MEMORY
    meshes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # class of stages -> axes of its mesh
    _submitted: Stage | None = field(default=None, init=False)

    def __enter__(self) -> "InlinePool":
        pin_here(os.environ)
        return self

    def __exit__(self, *error: object) -> None:
        self._submitted = None

    def has_room(self, stage: Stage) -> bool:
        """Whether no stage waits to be run."""
        return self._submitted is None

    def submit(self, stage: Stage) -> Stage | None:
        """Put the stage in the slot; it is its own handle."""
        if self._submitted is not None:
            return None
        self._submitted = stage
        return stage

    def wait(self, handles: Sequence[Stage], timeout_seconds: float) -> list[tuple[Stage, Outcome]]:
        """Run the submitted stage; the timeout is ignored."""
        if self._submitted is None:
            time.sleep(timeout_seconds)
            return []
        stage = self._submitted
        try:
            mesh = self.meshes.get(resource_class(stage), {})
            return [(stage, run_stage(stage, self.store, self.runners, memory=self.memory, mesh=mesh))]
        finally:
            self._submitted = None

    def cancel(self, handles: Iterable[Stage]) -> None:
        """Empty the slot."""
        self._submitted = None
