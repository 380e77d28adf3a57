"""Training that was killed, through the store: the artifact and the record are those of the unbroken run."""

import json
import shutil
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_policy import CONFIG

from scaling.engine.store import CHECKPOINTS, LOG, Store
from scaling.engine.worker import Done, run_stage
from scaling.stage import Stage
from scaling.training import checkpoint
from scaling.training.loop import METRICS_FILE, Updates, run_updates
from scaling.training.update import Objective, OptimizerSettings, Sum

NUM_UPDATES = 40
STAGE = Stage("toy", {"text": "fit", "seed": 0})


class Killed(BaseException):
    """What a kill looks like from inside: not even the worker's edge sees it."""


def regression(_, params, batch):
    errors = batch["x"] @ params["w"] - batch["y"]
    return {"loss": Sum(jnp.sum(errors**2), jnp.float32(len(errors)))}


def batch_at(index):
    generator = np.random.default_rng(index)
    x = generator.normal(size=(4, 3)).astype(np.float32)
    return [{"x": x, "y": x @ np.array([1, -2, 0.5], np.float32) + 0.1}]


def fit(kill_at=None):
    """A stage that trains; it dies when it asks for that batch, or, at NUM_UPDATES, after training."""

    def run(config, inputs, out):
        def batches(index):
            if index == kill_at:
                raise Killed
            return batch_at(index)

        updates = Updates(NUM_UPDATES, batches, lambda index: OptimizerSettings(0.1, 0.0, 1.0))
        params, numbers = run_updates({"w": jnp.zeros(3)}, CONFIG, updates, Objective(regression), out, 3.0)
        if kill_at == NUM_UPDATES:
            raise Killed
        np.save(out / "params.npy", params["w"])
        return numbers

    return run


@pytest.fixture(autouse=True)
def ticking(monkeypatch):
    """A clock that goes one second a look, so that with 3 seconds every third line comes with a checkpoint."""
    clock = accumulate(iter(lambda: 1, 0))
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(clock)))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("unbroken"))
    assert isinstance(run_stage(STAGE, store, {"toy": fit()}), Done)
    return store


def kill(store, at):
    with pytest.raises(Killed):
        run_stage(STAGE, Store(store.root), {"toy": fit(at)})


def checkpoints_of(store):
    folder = store.partial(STAGE) / CHECKPOINTS
    return sorted((path for path in folder.glob("*") if path.name.isdecimal()), key=lambda path: int(path.name))


def assert_equal_artifacts(store, expected):
    """Every listed file but the log, and the record but for times and provenance."""
    records = [dict(found.record(STAGE)) for found in (store, expected)]
    for record in records:
        for name in ("wall_seconds", "committed_at", "provenance"):
            record.pop(name)
        record["files"] = {name: entry for name, entry in record["files"].items() if name != LOG}
    assert records[0] == records[1]
    assert records[0]["numbers"]["train/loss"] > 0


@pytest.mark.parametrize("at", [[0], [7], [23], [NUM_UPDATES - 1], [NUM_UPDATES], [9, 9, 31, NUM_UPDATES]])
def test_a_killed_stage_ends_as_the_unbroken_one_in_files_and_record(at, unbroken, tmp_path):
    store = Store(tmp_path / "store")
    for moment in at:
        kill(store, moment)
    assert isinstance(run_stage(STAGE, store, {"toy": fit()}), Done)
    assert_equal_artifacts(store, unbroken)
    lines = (Path(store.find(STAGE)) / METRICS_FILE).read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == list(range(2, NUM_UPDATES + 1, 2))


@pytest.mark.parametrize("keep_the_one_before", [True, False])
def test_a_damaged_checkpoint_gives_the_same_artifact_from_the_one_before_or_the_start(
    keep_the_one_before, unbroken, tmp_path
):
    store = Store(tmp_path / "store")
    kill(store, 15)
    (before,) = checkpoints_of(store)
    shutil.copytree(before, tmp_path / "before")
    kill(store, 23)
    (newest,) = checkpoints_of(store)
    assert int(before.name) < int(newest.name)
    for path in newest.rglob("*"):
        if path.is_file() and path.name != "files.json":
            path.write_bytes(bytes(path.stat().st_size))
    if keep_the_one_before:
        shutil.copytree(tmp_path / "before", before)
    assert isinstance(run_stage(STAGE, store, {"toy": fit()}), Done)
    assert_equal_artifacts(store, unbroken)
    continued = "continuing at update" in (Path(store.find(STAGE)) / LOG).read_text()
    assert continued == keep_the_one_before
