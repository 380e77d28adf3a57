"""What makes sampling fast, read from the compiled program, and that it changes no token."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_policy import CONFIG, random_params

from benchmarks.workloads import BASE
from scaling.model import sampling
from scaling.model.policy import load_policy
from scaling.model.sampling import BUCKET, row_keys, sample

ROWS, PROMPT, NEW = 64, 8, 16


@pytest.fixture(scope="module")
def loop() -> str:
    """The optimised program of one step of the sampling loop."""
    keys = row_keys(jax.random.key(0), np.arange(ROWS, dtype=np.uint32)[:, None])
    prompts, starts = np.ones((ROWS, PROMPT), np.int32), np.zeros(ROWS, np.int32)
    limits, one = np.full(ROWS, NEW, np.int32), jnp.float32(1)
    chunk = sampling._Chunk(prompts, starts, None, keys, limits, one, one, None)
    settings = sampling._Program(CONFIG, NEW, greedy=False, nucleus=False)
    program = sampling._generate.lower(random_params(0), chunk, settings).compile().as_text()
    bodies = [
        re.search(rf"^%?{re.escape(name)} \(.*?^}}", program, re.S | re.M)[0]
        for name in re.findall(r"body=%?([\w.-]+)", program)
    ]
    return max(bodies, key=len)


def test_the_cache_is_updated_in_place(loop):
    cached = ROWS * CONFIG.num_kv_heads * CONFIG.head_width * (PROMPT + NEW)
    copies = [
        line
        for line, shape in re.findall(r"(.* = f32\[([\d,]+)\]\S* copy\(.*)", loop)
        if np.prod([int(size) for size in shape.split(",")]) >= cached
    ]
    assert "dynamic-update-slice" in loop, "this is not the loop that writes the cache"
    assert not copies, copies


def test_the_loop_computes_no_cosine(loop):
    assert "cosine(" not in loop and "sine(" not in loop


@pytest.mark.parametrize("num_values", [1, 2, 66])
def test_the_first_of_the_largest_is_the_argmax_ties_included(num_values):
    values = np.random.default_rng(0).integers(0, 3, (500, num_values)).astype(np.float32)
    found = sampling._first_of_largest(jnp.asarray(values))
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, values.argmax(axis=-1))


def test_chunks_and_buckets_change_under_one_token_in_ten_thousand(monkeypatch):
    """Only where two tokens are as likely to the last bits; after the first one, a completion may differ throughout."""
    policy = load_policy(BASE)
    generator, num_rows = np.random.default_rng(0), 1024
    prompts = [[1, *generator.integers(7, 66, length).tolist(), 3] for length in generator.integers(3, 9, num_rows)]
    keys = row_keys(jax.random.key(0), np.arange(num_rows, dtype=np.uint32)[:, None])
    found = []
    for chunks, bucket in (((64, 128), BUCKET), ((32, 32), 2 * BUCKET)):
        monkeypatch.setattr(sampling, "CHUNK_SIZES", chunks)
        monkeypatch.setattr(sampling, "BUCKET", bucket)
        found.append(sample(policy.params, policy.config, prompts, keys, [24] * num_rows, 1.0))
    changed = int((found[0].tokens != found[1].tokens).any(axis=1).sum())
    assert changed <= found[0].lengths.sum() / 10_000, f"{changed} completions of {num_rows} differ"
