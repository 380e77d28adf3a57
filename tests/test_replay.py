"""Replay: the completions of `sample`, token for token, for fewer sampled tokens."""

from functools import partial

import jax
import numpy as np
import pytest
from tiny_policy import CONFIG, random_params

from scaling.model.flops import sampling_flops
from scaling.model.replay import Replay
from scaling.model.sampling import EOS, row_keys, sample

PARAMS = random_params(0)
SAMPLE = partial(sample, PARAMS, CONFIG)
LIMIT = 5  # with its prompt, at most one bucket of tokens: few programs to compile
PROMPTS = [[1, 5], [1, 5], [1, 7], [1, 5, 9]] * 4  # the first two are the same prompt


def keys_of(count, seed=0):
    return row_keys(jax.random.key(seed), np.arange(count, dtype=np.uint16)[:, None])


def sampled(prompts, keys, limits, temperature):
    result = sample(PARAMS, CONFIG, prompts, keys, limits, temperature)
    return [row[:length].tolist() for row, length in zip(result.tokens, result.lengths, strict=True)]


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_rounds_of_replay_give_what_sampling_gives(temperature):
    limits = [LIMIT, LIMIT - 2] * 8
    replay = Replay(SAMPLE, CONFIG, temperature)
    for seed in range(4):
        keys = keys_of(16, seed)
        expected = sampled(PROMPTS, keys, limits, temperature)
        assert replay.complete(PROMPTS, keys, limits) == expected
        if seed == 0:
            assert replay.num_replayed_tokens == 0 and replay.num_generated_tokens == sum(map(len, expected))
    assert replay.num_replayed_tokens > 0


def test_the_same_keys_again_sample_nothing():
    replay = Replay(SAMPLE, CONFIG, 1.0)
    first = replay.complete(PROMPTS, keys_of(16), [LIMIT] * 16)
    generated, flops = replay.num_generated_tokens, replay.generation_flops
    assert replay.complete(PROMPTS, keys_of(16), [LIMIT] * 16) == first
    assert (replay.num_generated_tokens, replay.generation_flops) == (generated, flops)
    assert replay.num_replayed_tokens == sum(map(len, first)) == generated


def test_a_token_is_replayed_exactly_where_the_tokens_before_it_were_met_in_an_earlier_round():
    replay, met = Replay(SAMPLE, CONFIG, 0.3), set()
    for seed in range(3):
        before = replay.num_replayed_tokens
        completions = replay.complete(PROMPTS, keys_of(16, seed), [LIMIT] * 16)
        contexts = [
            [(*prompt, *tokens[:position]) for position in range(len(tokens))]
            for prompt, tokens in zip(PROMPTS, completions, strict=True)
        ]
        assert replay.num_replayed_tokens - before == sum(context in met for row in contexts for context in row)
        met.update(context for row in contexts for context in row)


def test_a_completion_of_a_prefix_replays_what_was_sampled_from_the_prompt():
    """As the continuations of a later step do; they have a key and positions of their own."""
    replay = Replay(SAMPLE, CONFIG, 0.05)
    (whole,) = replay.complete([[1, 7]], keys_of(1), [LIMIT])
    (rest,) = replay.complete([[1, 7, *whole[:3]]], keys_of(1, seed=1), [LIMIT - 3])
    assert [rest] == sampled([[1, 7, *whole[:3]]], keys_of(1, seed=1), [LIMIT - 3], 0.05)
    assert replay.num_replayed_tokens > 0


def test_the_work_is_counted_for_sampled_tokens_only():
    replay = Replay(SAMPLE, CONFIG, 1.0)
    (tokens,) = replay.complete([[1, 7]], keys_of(1), [LIMIT])
    assert replay.generation_flops == sampling_flops(CONFIG, [2], [len(tokens)])
    assert len(tokens) == LIMIT or tokens[-1] == EOS


def test_nothing_to_complete_is_no_error_and_greedy_is():
    assert Replay(SAMPLE, CONFIG, 1.0).complete([], keys_of(1)[:0], []) == []
    with pytest.raises(ValueError, match="temperature is 0; a greedy completion"):
        Replay(SAMPLE, CONFIG, 0.0)
