"""The sweep command with toy stages, which benchmarks.faults breaks: `python -m benchmarks.fault_command FILE`.

What a stage writes follows from its config and from every byte of its inputs, so that a wrong byte shows in all that
comes after it. The stages of supervised fine-tuning keep the checkpoints of real training. FAULTS_JOURNAL names a file
that gets a line when a stage begins, ends, or finds itself running twice; FAULTS_SECONDS is how long a stage takes;
FAULTS_STALE_SECONDS is after how long a silent driver's leases are free.
"""

import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scaling import sweep
from scaling.engine import lease
from scaling.engine import run as engine_run
from scaling.engine.artifact import PARTIAL
from scaling.engine.inline import InlinePool
from scaling.kinds import kind_names

RUNNERS = dict.fromkeys(kind_names(), "benchmarks.fault_command:run")
NUM_UPDATES = 3
TRAINED = "sft"  # the kind that keeps checkpoints


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Some updates of a state that starts from the config and the inputs; each writes a line of numbers."""
    journal, digest = Path(os.environ["FAULTS_JOURNAL"]), out.name.removeprefix(PARTIAL)
    with (journal.parent / f"{digest}.runs").open("a") as alone:
        try:
            fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with this process
        except BlockingIOError:
            _note(journal, "twice", digest)
        _note(journal, "begin", digest)
        state = _train(_first_state(config, inputs), out, keep=out.parent.name == TRAINED)
        (out / "state").write_bytes(state.tobytes() * 64)
        _note(journal, "end", digest)
    return {"error": float(state[0]) / 256}


def _first_state(config: Mapping, inputs: Mapping[str, Path]) -> np.ndarray:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, folder in sorted(inputs.items()):
        for file in ("state", "metrics.jsonl"):
            digest.update(name.encode() + (folder / file).read_bytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _train(state: np.ndarray, out: Path, *, keep: bool) -> np.ndarray:
    start, checkpoints = 0, None
    if keep:
        from scaling.training.checkpoint import Checkpoints

        checkpoints = Checkpoints(out, every_seconds=0.0, files=("metrics.jsonl",))
        restored = checkpoints.restore({"state": state, "update": np.array(0)})
        state, start = np.asarray(restored["state"]), int(restored["update"])
    for update in range(start, NUM_UPDATES):
        time.sleep(float(os.environ["FAULTS_SECONDS"]) / NUM_UPDATES)
        state = np.frombuffer(hashlib.sha256(state.tobytes()).digest(), np.uint8)
        with (out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"update": update, "state": state.tobytes().hex()}) + "\n")
        if checkpoints:
            checkpoints.maybe_save({"state": state, "update": np.array(update + 1)}, update + 1)
    if checkpoints:
        checkpoints.close()
    return state


def _note(journal: Path, event: str, digest: str) -> None:
    with journal.open("a") as file:
        file.write(f"{event} {digest}\n")


def _pool(sweep_, store, arguments):
    if arguments.inline:
        return InlinePool(store, RUNNERS)
    from scaling.engine.pool import RayPool

    return RayPool(store.root, None, sweep_.resources.amounts, arguments.address, runners=RUNNERS)


def command() -> int:
    """The command of scaling.sweep, and its exit status."""
    seconds = float(os.environ.get("FAULTS_STALE_SECONDS", lease.STALE_SECONDS))
    lease.STALE_SECONDS = engine_run.STALE_SECONDS = seconds
    lease.HEARTBEAT_SECONDS = min(lease.HEARTBEAT_SECONDS, seconds / 10)
    sweep._pool = _pool
    sweep._write_report = lambda *arguments: None
    return sweep._command()


if __name__ == "__main__":
    sys.exit(command())
