"""Training that was killed, through the store: the artifact and the record are those of the unbroken run."""

import json
import shutil
import time
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from tiny_policy import CONFIG
from toy_stages import toy

from scaling.copies import Copies, file_system
from scaling.engine.store import CHECKPOINTS, LOG, Store
from scaling.engine.worker import Done, run_stage
from scaling.training import checkpoint
from scaling.training.loop import METRICS_FILE, Updates, run_updates
from scaling.training.update import Objective, OptimizerSettings, Sum

NUM_UPDATES = 40
STAGE = toy("fit", seed=0)


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
        for name in ("wall_seconds", "committed_at", "provenance", "folder"):
            record.pop(name, None)
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


# On an object store, where another node sees nothing of the scratch folder


def objects(store, stage=STAGE):
    """The copies of a stage's checkpoints: their sizes by their paths."""
    store.refresh()
    place = store.copies_at(stage)
    return {f"s3://{name}": entry["size"] for name, entry in file_system(place).find(str(place), detail=True).items()}


@pytest.mark.slow
@pytest.mark.parametrize("at", [[23], [9, 9, 31, NUM_UPDATES]])
def test_a_stage_killed_on_one_node_goes_on_on_the_next_with_the_bytes_of_the_unbroken_one(
    at, unbroken, s3_store, move, prompt
):
    for moment in at:
        kill(s3_store, moment)
        kept = {tuple(path.split("/")[6:9]) for path in objects(s3_store) if path.endswith("files.json")}
        assert len(kept) == 1  # older ones are removed
        move()
    assert not checkpoints_of(s3_store)
    store = Store(s3_store.root)
    assert isinstance(run_stage(STAGE, store, {"toy": fit()}), Done)
    assert_equal_artifacts(store, unbroken)
    assert "continuing at update" in (store.find(STAGE) / LOG).read_text()
    assert not objects(store)


@pytest.mark.slow
def test_a_copy_that_lacks_a_file_or_has_a_damaged_one_is_not_gone_on_from(unbroken, s3_store, move, prompt, caplog):
    kill(s3_store, 23)
    sizes = objects(s3_store)
    largest = epath.Path(max(sizes, key=sizes.get))
    whole = largest.read_bytes()
    for damaged, said in ((None, ""), (bytes(len(whole)), "is damaged, or of other devices")):
        largest.unlink() if damaged is None else largest.write_bytes(damaged)
        s3_store.refresh()
        move()
        kill(s3_store, 0)  # the batch that only a start from nothing asks for
        assert said in caplog.text
    s3_store.refresh()
    move()
    kill(s3_store, 31)  # copies again what it could not use, under the same names
    move()
    store = Store(s3_store.root)
    assert isinstance(run_stage(STAGE, store, {"toy": fit(kill_at=0)}), Done)
    assert_equal_artifacts(store, unbroken)


@pytest.mark.slow
def test_what_is_left_on_the_node_is_gone_on_from_where_it_goes_further(unbroken, s3_store, prompt, monkeypatch):
    kill(s3_store, 15)
    monkeypatch.setattr(Copies, "_send", lambda *_: None)  # as if the kill had come before the copy was made
    kill(s3_store, 31)
    (newest,) = checkpoints_of(s3_store)
    store = Store(s3_store.root)
    assert isinstance(run_stage(STAGE, store, {"toy": fit()}), Done)
    assert_equal_artifacts(store, unbroken)
    assert f"continuing at update {newest.name} of" in (store.find(STAGE) / LOG).read_text()


@pytest.mark.slow
def test_two_nodes_that_run_a_stage_at_once_end_with_the_same_artifact_and_leave_no_copy(
    unbroken, s3_store, move, prompt
):
    second = Store(s3_store.root)

    def other(config, inputs, out):
        """Runs the stage on another node in the middle of it."""
        move()
        assert isinstance(run_stage(STAGE, second, {"toy": fit()}), Done)

    def first(config, inputs, out):
        def batches(index):
            if index == 20:
                other(config, inputs, out)
            return batch_at(index)

        updates = Updates(NUM_UPDATES, batches, lambda index: OptimizerSettings(0.1, 0.0, 1.0))
        params, numbers = run_updates({"w": jnp.zeros(3)}, CONFIG, updates, Objective(regression), out, 3.0)
        np.save(out / "params.npy", params["w"])
        return numbers

    assert isinstance(run_stage(STAGE, s3_store, {"toy": first}), Done)
    assert_equal_artifacts(Store(s3_store.root), unbroken)
    assert not objects(s3_store)


@pytest.mark.slow
def test_copies_of_a_stored_stage_are_removed_by_the_next_run_and_those_of_others_stay(s3_store, prompt):
    kill(s3_store, 23)
    assert s3_store.clear_litter() == 0
    assert [digest for _, digest in s3_store.unfinished()] == [STAGE.digest]
    num_bytes, written_at = s3_store.extent(s3_store.copies_at(STAGE))
    assert num_bytes > 100 and abs(written_at - time.time()) < 600
    store = Store(s3_store.root)
    assert isinstance(run_stage(STAGE, store, {"toy": fit()}), Done)
    (store.copies_at(STAGE) / "late").write_text("of a node that was slower")
    store.refresh()
    assert Store(s3_store.root).clear_litter() == 1 and not objects(store)
