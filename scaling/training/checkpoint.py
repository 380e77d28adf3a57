"""Checkpoints of a training state with Orbax: a killed stage continues at the exact update.

In: the directory `checkpoints/` of a stage's working directory. A checkpoint holds the whole `TrainState`; the data
order follows from the update's index, so nothing else is needed. Orbax takes two seconds to import and short
stages never save, so it is imported where it is used.
"""

import os
import time
from pathlib import Path

from scaling.model.sharding import told_by_first
from scaling.stage import CHECKPOINTS
from scaling.training.update import TrainState


class Checkpoints:
    """Saves the training state every `every_seconds`, keeps the newest, restores it."""

    def __init__(self, out: Path, every_seconds: float = 60.0) -> None:
        self.directory = Path(os.path.realpath(out / CHECKPOINTS))  # members of a group have a link to one directory
        self.every_seconds = every_seconds
        self._last_saved = time.monotonic()
        self._manager = None

    def restore(self, state: TrainState) -> TrainState:
        """The newest checkpoint, or `state` itself when there is none."""
        if not self.directory.exists():
            return state
        import orbax.checkpoint as ocp

        manager = self._open()
        step = manager.latest_step()
        if step is None:
            return state
        return manager.restore(step, args=ocp.args.StandardRestore(state))

    def maybe_save(self, state: TrainState, update_index: int) -> bool:
        """Save when the last save was long enough ago. Returns whether it did."""
        if not told_by_first(time.monotonic() - self._last_saved >= self.every_seconds):
            return False
        import orbax.checkpoint as ocp

        manager = self._open()
        manager.save(update_index, args=ocp.args.StandardSave(state))
        manager.wait_until_finished()
        self._last_saved = time.monotonic()
        return True

    def close(self) -> None:
        """Release Orbax's threads."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _open(self):
        import orbax.checkpoint as ocp

        if self._manager is None:
            self._manager = ocp.CheckpointManager(
                self.directory, options=ocp.CheckpointManagerOptions(max_to_keep=1, create=True)
            )
        return self._manager
