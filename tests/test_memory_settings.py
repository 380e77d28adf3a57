"""Memory settings: they reach a stage through its worker, change no result, and remat takes less memory."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_policy import CONFIG, nll, random_params, random_rows
from toy_stages import toy

from scaling.config.memory import Memory
from scaling.config.policy import Lora
from scaling.config.training import Optimizer
from scaling.engine.inline import InlinePool
from scaling.engine.store import Store
from scaling.engine.worker import StageWorker, run_stage
from scaling.model.policy import Policy
from scaling.model.transformer import architecture
from scaling.training.batching import CPU_TOKENS, micro_batch_tokens
from scaling.training.loop import train
from scaling.training.memory_settings import current_memory, using_memory
from scaling.training.update import Objective, make_accumulate

REMAT = Memory(remat="layers")


def gradients(remat: bool, lora: Lora | None = None):
    """Summed gradients and the loss of a batch."""
    params = jax.tree.map(jnp.asarray, random_params(0, shapes_of(CONFIG, lora)))
    accumulate = make_accumulate(CONFIG, nll, lora, remat)
    return accumulate(jax.tree.map(jnp.zeros_like, params), params, {}, random_rows(0), {})


def shapes_of(config, lora=None):
    return jax.eval_shape(architecture(config, lora).init, jax.random.key(0))


@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["all params", "lora"])
def test_remat_gives_the_same_loss_and_gradients(lora):
    """The same float32 operations, which XLA may fuse otherwise: a rounding or two of 6e-8 of the largest entry."""
    (ours, our_sums), (theirs, their_sums) = gradients(True, lora), gradients(False, lora)
    np.testing.assert_allclose(our_sums["loss"].total, their_sums["loss"].total, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6 * np.abs(b).max(), rtol=0)


def test_remat_takes_a_fraction_of_the_memory_of_a_deep_policys_gradients():
    """Without it the activations of all layers are kept; with it one layer's, and every layer's input."""
    config = replace(CONFIG, num_layers=8, width=32, ffn_width=64)
    shapes = shapes_of(config)
    rows = {
        "tokens": jax.ShapeDtypeStruct((8, 64), jnp.int32),
        "mask": jax.ShapeDtypeStruct((8, 64), jnp.float32),
        "weight": jax.ShapeDtypeStruct((8,), jnp.float32),
    }
    taken = {}
    for remat in (False, True):
        compiled = make_accumulate(config, nll, None, remat).lower(shapes, shapes, {}, rows, {}).compile()
        taken[remat] = compiled.memory_analysis().temp_size_in_bytes
    assert taken[True] < 0.4 * taken[False]


def fit(out, memory: Memory):
    out.mkdir()
    rows = random_rows(0)
    arrays, lengths = {"tokens": rows["tokens"], "mask": rows["mask"]}, np.full(8, 16)
    settings = Optimizer(learning_rate=1e-3, epochs=4, batch_size=8)
    with using_memory(memory):
        return train(Policy(random_params(0), CONFIG), arrays, lengths, Objective(nll), settings, 0, out)


@pytest.mark.parametrize("memory", [REMAT, Memory(micro_batch_tokens=32), Memory(micro_batch_tokens=1_000_000)])
def test_training_ends_where_it_ends_without_the_settings(memory, tmp_path):
    """Four updates; a hundredth of a learning rate, as in tests/test_update.py for batches that are cut otherwise."""
    params, metrics = fit(tmp_path / "with", memory)
    expected, expected_metrics = fit(tmp_path / "without", Memory())
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    assert metrics["train/loss"] == pytest.approx(expected_metrics["train/loss"], rel=1e-5)


def test_a_micro_batch_has_as_many_tokens_as_the_settings_or_the_machine_say():
    assert micro_batch_tokens() == CPU_TOKENS
    with using_memory(Memory(micro_batch_tokens=77)):
        assert micro_batch_tokens() == 77
    assert micro_batch_tokens() == CPU_TOKENS


def remember(seen):
    def run(config, inputs, out):
        seen.append(current_memory())
        if config["text"] == "raises":
            raise ValueError("it does")
        return {}

    return {"toy": run}


def test_a_stage_runs_under_its_workers_settings_and_nothing_is_left_of_them(tmp_path):
    store, seen = Store(tmp_path), []
    runners = remember(seen)
    StageWorker(str(tmp_path), None, runners, {}, (), REMAT).run(toy("in a worker"))
    StageWorker(str(tmp_path), None, runners, {}, ()).run(toy("in another"))
    run_stage(toy("raises"), store, runners, memory=REMAT)
    run_stage(toy("plain"), store, runners)
    pool = InlinePool(store, runners, REMAT)
    pool.wait([pool.submit(toy("inline"))], 0.0)
    assert seen == [REMAT, Memory(), REMAT, Memory(), REMAT]
    assert current_memory() == Memory()
