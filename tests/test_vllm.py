"""The real server: vLLM on this machine's CPU samples exported policies, and its tokens are those of our sampler."""

import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_policy import CONFIG

pytest.importorskip("httpx", reason="needs httpx: pip install -e '.[remote]'")
pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")

from random_checkpoint import random_policy
from tiny_tokenizer import TEMPLATE, WORDS, save_tokenizer

from data.sampling.remote_sampler import RemoteSampler
from data.sampling.server_answers import ServerError
from data.tokens.hf_tokenizer import load_tokenizer
from data.tokens.tokenizer import for_problems
from scaling.config.problems import ModularSum
from scaling.config.sampling import Sampler
from scaling.model.policy import Policy, save_policy
from scaling.model.sampling import sample
from scaling.model.sizes import model_config
from scaling.model.transformer import architecture
from scaling.serve import serve

PYTHON = Path(__file__).parent.parent / ".venv-vllm" / "bin" / "python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs vLLM in an environment of its own: make vllm"),
]

CONTEXT, NEW_TOKENS = 128, 48
# vLLM's CPU attention takes heads of 32, 64, ... only.
SHAPE = replace(CONFIG, vocab_size=264, width=64, head_width=32, ffn_width=96, max_positions=256, stop_tokens=(2,))
OFFLINE = ("HF_HUB_OFFLINE=1", "VLLM_NO_USAGE_STATS=1", "VLLM_CPU_KVCACHE_SPACE=1", "VLLM_CPU_OMP_THREADS_BIND=nobind")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """The settings of a sampler whose servers come and go as they are wanted."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    exports = tmp_path_factory.mktemp("exports")
    command = [
        "env", *OFFLINE, os.fspath(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", "{folder}",
        "--served-model-name", "{name}", "--dtype", "float32", "--generation-config", "vllm", "--enforce-eager",
        "--max-model-len", str(CONTEXT), "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    over = threading.Event()
    watch = threading.Thread(target=serve, args=(exports, command, 0.5, 15.0, lambda: not over.is_set()))
    watch.start()
    yield Sampler(endpoint=f"http://127.0.0.1:{port}/v1", export=True, folder=str(exports), wait_minutes=8.0)
    over.set()
    watch.join()


@pytest.fixture(scope="module")
def policy():
    return random_policy(SHAPE)


@pytest.fixture(scope="module")
def remote(settings, policy, tmp_path_factory):
    """The policy, served with its byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("policy")
    save_policy(policy, folder)
    save_tokenizer(folder, TEMPLATE)
    return lambda out, **changes: RemoteSampler(
        settings.model_copy(update=changes), {"policy": folder}, out, load_tokenizer(folder, SHAPE)
    )


def random_prompts(num_prompts: int, vocab_size: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(3, vocab_size, rng.integers(4, 40)).tolist() for _ in range(num_prompts)]


def check_greedy(remote: RemoteSampler, policy: Policy, prompts: list[list[int]]) -> None:
    keys, limits = jax.random.split(jax.random.key(0), len(prompts)), [NEW_TOKENS] * len(prompts)
    theirs = remote.sample(prompts, keys, limits, 0.0)
    ours = sample(policy.params, policy.config, prompts, keys, limits, 0.0)
    np.testing.assert_array_equal(theirs.tokens, ours.tokens)
    np.testing.assert_array_equal(theirs.lengths, ours.lengths)
    np.testing.assert_allclose(theirs.logps, ours.logps, atol=1e-3, rtol=0)
    assert remote.numbers()["num_rows_from_text"] == 0


def test_greedy_tokens_and_logps_are_those_of_our_sampler(remote, policy, tmp_path):
    assert len(WORDS) <= SHAPE.vocab_size
    check_greedy(remote(tmp_path), policy, random_prompts(20, len(WORDS)))


def test_a_seed_gives_the_same_tokens_whatever_else_is_sampled(remote, tmp_path):
    prompts, keys = random_prompts(20, len(WORDS)), jax.random.split(jax.random.key(1), 20)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    together = remote(tmp_path / "a").sample(prompts, keys, [NEW_TOKENS] * 20, 1.0)
    alone = remote(tmp_path / "b", max_concurrency=1).sample(prompts[:5], keys[:5], [NEW_TOKENS] * 5, 1.0)
    np.testing.assert_array_equal(together.tokens[:5], alone.tokens)
    stopped = together.lengths < NEW_TOKENS
    assert (together.tokens[stopped, together.lengths[stopped] - 1] == 2).all() and stopped.any()


def test_samples_are_distributed_as_the_policy_says(remote, policy, tmp_path):
    prompt, draws = random_prompts(1, len(WORDS))[0], 600
    sampled = remote(tmp_path).sample([prompt] * draws, jax.random.split(jax.random.key(2), draws), [1] * draws, 1.0)
    logits = architecture(SHAPE).apply(policy.params, np.array([prompt], np.int32))[0, -1]
    log_probs = np.asarray(jax.nn.log_softmax(logits), np.float64)
    probs = np.exp(log_probs)
    mean, variance = probs @ log_probs, probs @ log_probs**2 - (probs @ log_probs) ** 2
    assert abs(log_probs[sampled.tokens[:, 0]].mean() - mean) < 4 * np.sqrt(variance / draws)
    np.testing.assert_allclose(sampled.logps, log_probs[sampled.tokens[:, 0]], atol=1e-3)


def test_a_prompt_that_leaves_too_little_of_the_context_is_an_error(remote, tmp_path):
    with pytest.raises(ServerError, match=rf"context of {CONTEXT} tokens, but the longest .* need 160"):
        remote(tmp_path).sample([[5] * 100], jax.random.split(jax.random.key(0), 1), [60], 0.0)


def test_an_embedded_policy_is_served_after_it_with_the_words_of_its_family(settings, tmp_path):
    tokenizer = for_problems(ModularSum(modulus=11, operands=3))
    shape = model_config("s", tokenizer.vocab_size)
    policy = random_policy(shape, seed=1)
    save_policy(policy, tmp_path)
    served = RemoteSampler(settings, {"policy": tmp_path}, tmp_path, tokenizer)
    check_greedy(served, policy, random_prompts(20, tokenizer.vocab_size))
