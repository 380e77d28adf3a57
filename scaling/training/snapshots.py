"""Snapshots: policies that a training run passes through; a later stage keeps the best of them.

In: the state after an update. Out: `snapshots/<update>/` in the stage's artifact, each a policy. They grow in the
folder that survives a killed stage, before the checkpoint of their update: a resumed stage writes the later ones again,
and ends with all of them.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import jax

from scaling.config.policy import Lora
from scaling.model.policy import Policy, save_trained
from scaling.model.transformer import Params
from scaling.stage import CHECKPOINTS

SNAPSHOTS = "snapshots"


def evenly(num: int, total: int) -> frozenset[int]:
    """`num` points of 1 to total, evenly spaced, without the last one: that is the policy itself."""
    return frozenset(round(total * index / num) for index in range(1, num)) - {0, total}


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of one training run."""

    start: Policy
    lora: Lora | None
    out: Path
    updates: frozenset[int]  # after which the policy is saved

    @property
    def _growing(self) -> Path:
        """Members of a group write for themselves: theirs are discarded."""
        return self.out / (CHECKPOINTS if jax.process_index() == 0 else "member") / SNAPSHOTS

    def maybe_save(self, params: Params, update_index: int) -> None:
        """Save what is trained after this many updates, if it is one of those to keep."""
        if update_index in self.updates:
            folder = self._growing / str(update_index)
            folder.mkdir(parents=True, exist_ok=True)
            save_trained(self.start, params, self.lora, folder)

    def finish(self) -> None:
        """Link them into the artifact. Those beside the checkpoints stay, for a run that is killed before it ends."""
        if self._growing.exists():
            shutil.copytree(self._growing, self.out / SNAPSHOTS, copy_function=os.link, dirs_exist_ok=True)
