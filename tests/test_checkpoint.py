"""Checkpoints: the whole state comes back bit for bit, the newest wins, and a half-written one is ignored."""

import asyncio
import resource
import shutil
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_policy import random_params

from scaling.stage import CHECKPOINTS
from scaling.training import checkpoint
from scaling.training.checkpoint import Checkpoints
from scaling.training.update import TrainState, init_state


@pytest.fixture(scope="module")
def state():
    """A state in which no leaf is zero or equal to another."""
    fresh = init_state(random_params(0))
    leaves, tree = jax.tree.flatten(fresh.optimizer_state)
    filled = [leaf + jnp.asarray(index + 0.1, leaf.dtype) for index, leaf in enumerate(leaves)]
    return TrainState(fresh.params, jax.tree.unflatten(tree, filled), jnp.int32(7))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def save(out, state, update_index):
    checkpoints = Checkpoints(out, every_seconds=0)
    assert checkpoints.maybe_save(state, update_index)
    checkpoints.close()


def restored(out):
    checkpoints = Checkpoints(out)
    found = checkpoints.restore(init_state(random_params(1)))
    checkpoints.close()
    return found


def test_without_a_checkpoint_the_given_state_comes_back_and_nothing_is_written(state, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore(state) is state
    checkpoints.close()
    assert list(tmp_path.iterdir()) == []


def test_params_optimizer_state_and_update_index_come_back_bit_for_bit(state, tmp_path):
    save(tmp_path, state, 7)
    found = restored(tmp_path)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert int(found.update_index) == 7


def test_the_parts_of_a_process_come_back_bit_for_bit(state, tmp_path):
    narrow = state.replace(params=jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state.params))
    for number, whole in enumerate((state, narrow)):
        path = tmp_path / str(number) / "parts"
        checkpoint._write_parts(whole, path)
        found = checkpoint._read_parts(jax.tree.map(jnp.zeros_like, whole), path)
        for ours, theirs in zip(jax.tree.leaves(whole), jax.tree.leaves(found), strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_the_newest_checkpoint_is_restored_and_the_only_one_kept(state, tmp_path):
    save(tmp_path, state, 7)
    save(tmp_path, state.replace(update_index=jnp.int32(12)), 12)
    assert int(restored(tmp_path).update_index) == 12
    assert [path.name for path in (tmp_path / CHECKPOINTS).iterdir()] == ["12"]


def test_a_checkpoint_that_was_being_written_at_the_kill_is_ignored(state, tmp_path):
    save(tmp_path, state, 7)
    unfinished = tmp_path / CHECKPOINTS / "9.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "half").write_text("x")
    assert int(restored(tmp_path).update_index) == 7


def test_a_kill_during_the_first_save_leaves_the_start(state, tmp_path):
    (tmp_path / CHECKPOINTS / "9.orbax-checkpoint-tmp").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore(state) is state
    checkpoints.close()


def test_saves_are_at_least_every_seconds_apart(state, tmp_path, clock):
    checkpoints = Checkpoints(tmp_path, every_seconds=60)
    saved = []
    for seconds in (0, 59, 60, 61, 119, 121):
        clock.seconds = seconds
        saved.append(checkpoints.maybe_save(state, seconds))
    checkpoints.close()
    assert saved == [False, False, True, False, False, True]


def test_a_short_stage_never_touches_the_disk(state, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert not checkpoints.maybe_save(state, 1)
    checkpoints.close()
    assert list(tmp_path.iterdir()) == []


# Damage


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def _flip(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def _remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [_cut, _zero, _flip, _remove])
def test_a_damage_to_any_file_of_a_checkpoint_sets_it_aside(state, tmp_path, caplog, damage):
    save(tmp_path / "whole", state, 7)
    files = [path for path in sorted((tmp_path / "whole").rglob("*")) if path.is_file() and path.stat().st_size]
    assert len(files) > 3
    for number, whole in enumerate(files):
        out = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", out)
        damage(out / whole.relative_to(tmp_path / "whole"))
        checkpoints = Checkpoints(out)
        assert checkpoints.restore(state) is state, whole
        assert sorted(path.name for path in (out / CHECKPOINTS).iterdir()) == ["damaged"]
        assert "is damaged or was cut off" in caplog.text


def test_an_empty_folder_of_a_checkpoint_is_set_aside(state, tmp_path):
    (tmp_path / CHECKPOINTS / "9").mkdir(parents=True)
    assert Checkpoints(tmp_path).restore(state) is state


def test_the_one_before_a_damaged_checkpoint_is_taken_and_training_can_save_again(state, tmp_path):
    save(tmp_path, state, 7)
    shutil.copytree(tmp_path / CHECKPOINTS / "7", tmp_path / "seven")
    save(tmp_path, state.replace(update_index=jnp.int32(12)), 12)
    shutil.copytree(tmp_path / "seven", tmp_path / CHECKPOINTS / "7")  # as when a kill came before it was removed
    (tmp_path / CHECKPOINTS / "12" / "files.json").unlink()
    checkpoints = Checkpoints(tmp_path, every_seconds=0)
    assert int(checkpoints.restore(init_state(random_params(1))).update_index) == 7
    assert checkpoints.maybe_save(state.replace(update_index=jnp.int32(12)), 12)
    checkpoints.close()
    assert int(restored(tmp_path).update_index) == 12
    assert sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir()) == ["12", "damaged"]


def test_files_that_grow_come_back_as_they_were_at_the_checkpoint(state, tmp_path):
    (tmp_path / "metrics").write_text("at 7\n")
    checkpoints = Checkpoints(tmp_path, 0.0, ("metrics", "absent"))
    checkpoints.maybe_save(state, 7)
    checkpoints.close()
    (tmp_path / "metrics").unlink()  # the store empties a work directory
    checkpoints = Checkpoints(tmp_path, 0.0, ("metrics", "absent"))
    checkpoints.restore(state)
    checkpoints.close()
    assert (tmp_path / "metrics").read_text() == "at 7\n" and not (tmp_path / "absent").exists()


def test_an_error_of_saving_is_raised_and_its_traceback_is_not_logged_besides(tmp_path, caplog):
    large = {"state": np.random.default_rng(0).integers(0, 255, 200_000, dtype=np.uint8)}
    checkpoints = Checkpoints(tmp_path, every_seconds=0)
    assert checkpoints.maybe_save({"state": np.zeros(3, np.uint8)}, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # as on a disk that is full
    try:
        with pytest.raises(Exception, match="File too large"):
            checkpoints.maybe_save(large, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    checkpoints.close()
    assert any("orbax" in entry.pathname and entry.levelname == "ERROR" for entry in caplog.records)
    assert not any(entry.exc_info for entry in caplog.records)


def test_a_write_that_ends_after_a_failed_save_prints_no_traceback(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    Checkpoints(tmp_path, every_seconds=0.0).maybe_save({"params": np.zeros(2)}, 1)
    loop = asyncio.new_event_loop()
    loop.close()
    for call in (lambda: loop.call_soon_threadsafe(print), lambda: 1 / 0):
        try:
            call()
        except (RuntimeError, ZeroDivisionError) as error:
            what = SimpleNamespace(exc_value=error, exc_traceback=error.__traceback__, object=None)
            sys.unraisablehook(what)
    assert [type(one.exc_value) for one in shown] == [ZeroDivisionError]
