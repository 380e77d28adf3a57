"""Sampling: the cache gives what the full forward pass gives, and a row never depends on its batch."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny_policy import CONFIG, apply, random_params

from scaling.model import sampling
from scaling.model.sampling import EOS, PAD, Sampled, _keep_nucleus, row_keys, sample
from scaling.training.logps import completion_logps

NEW = 16  # tokens
# A log-probability of one token is good to 1e-5 (tests/test_transformer.py); a completion sums up to 16 of them.
LOGP_TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def params():
    return random_params(0)


@pytest.fixture(scope="module")
def prompts():
    generator = np.random.default_rng(0)
    return [generator.integers(3, CONFIG.vocab_size, length).tolist() for length in generator.integers(1, 9, 64)]


@pytest.fixture(scope="module")
def keys():
    return keys_of(64)


@pytest.fixture(scope="module")
def sampled(params, prompts, keys):
    """The 64 prompts at temperature 1: the answer that every other batch is compared with."""
    return sample(params, CONFIG, prompts, keys, [NEW] * 64, temperature=1.0)


@pytest.fixture(scope="module")
def greedy(params, prompts, keys):
    return sample(params, CONFIG, prompts, keys, [NEW] * 64, temperature=0.0)


def keys_of(rows: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), np.arange(rows, dtype=np.uint32)[:, None])


def completion(result: Sampled, row: int) -> list[int]:
    return result.tokens[row, : result.lengths[row]].tolist()


def joined(prompts, result: Sampled) -> tuple[np.ndarray, np.ndarray]:
    """Prompts and completions [B, 24], padded on the right, and the mask of the completions."""
    tokens, mask = np.zeros((len(prompts), 24), np.int32), np.zeros((len(prompts), 24), np.float32)
    for row, prompt in enumerate(prompts):
        whole = [*prompt, *completion(result, row)]
        tokens[row, : len(whole)] = whole
        mask[row, len(prompt) : len(whole)] = 1
    return tokens, mask


def logits_and_choices(params, prompts, result: Sampled):
    """For every sampled token: row, position, the full pass's logits float32 [V] before it, and the token."""
    logits = np.asarray(apply(params, joined(prompts, result)[0]))
    for row, prompt in enumerate(prompts):
        for position, token in enumerate(completion(result, row)):
            yield row, position, logits[row, len(prompt) - 1 + position], token


def test_a_greedy_token_is_the_argmax_of_the_full_forward_pass(params, prompts, greedy):
    choices = list(logits_and_choices(params, prompts, greedy))
    assert len(choices) > 100
    for _, _, logits, token in choices:
        assert token == logits.argmax() or logits.max() - logits[token] < 1e-4  # a tie in float32


def test_greedy_sampling_uses_no_key(params, prompts, greedy):
    other = sample(params, CONFIG, prompts, keys_of(64, seed=9), [NEW] * 64, temperature=0.0)
    np.testing.assert_array_equal(other.tokens, greedy.tokens)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_a_sampled_token_is_the_full_passes_choice_under_the_same_noise(params, prompts, keys, temperature):
    result = sample(params, CONFIG, prompts, keys, [NEW] * 64, temperature)
    draw = jax.jit(jax.vmap(lambda key, at: jax.random.gumbel(jax.random.fold_in(key, at), (CONFIG.vocab_size,))))
    noise = np.stack([draw(keys, np.full(64, position)) for position in range(NEW)])
    choices = list(logits_and_choices(params, prompts, result))
    assert len(choices) > 100
    for row, position, logits, token in choices:
        noisy = logits / temperature + noise[position, row]  # Gumbel-max: the argmax is a draw from the softmax
        assert token == noisy.argmax() or noisy.max() - noisy[token] < 1e-4


def test_sampled_logps_equal_training_logps(params, prompts, sampled, greedy):
    for result in (sampled, greedy):
        tokens, mask = joined(prompts, result)
        expected = completion_logps(apply(params, tokens), tokens, mask)
        np.testing.assert_allclose(result.logps, expected, atol=LOGP_TOLERANCE, rtol=0)


def test_logps_are_at_temperature_one_over_the_whole_vocabulary_whatever_was_sampled_from(params, prompts, keys):
    result = sample(params, CONFIG, prompts, keys, [NEW] * 64, temperature=0.6, top_p=0.8)
    tokens, mask = joined(prompts, result)
    expected = completion_logps(apply(params, tokens), tokens, mask)
    np.testing.assert_allclose(result.logps, expected, atol=LOGP_TOLERANCE, rtol=0)


def test_a_completion_ends_with_eos_or_at_its_limit_and_is_padded_behind(sampled):
    ended = 0
    for row in range(64):
        tokens = completion(sampled, row)
        assert EOS not in tokens[:-1]
        assert tokens[-1] == EOS or len(tokens) == NEW
        assert np.all(sampled.tokens[row, len(tokens) :] == PAD)
        ended += len(tokens) < NEW
    assert 0 < ended < 64  # both endings are seen


def test_a_completion_does_not_depend_on_the_order_or_the_company_of_its_batch(params, prompts, keys, sampled):
    order = np.random.default_rng(1).permutation(64)
    shuffled = sample(params, CONFIG, [prompts[row] for row in order], keys[order], [NEW] * 64, 1.0)
    np.testing.assert_array_equal(shuffled.tokens, sampled.tokens[order])
    np.testing.assert_array_equal(shuffled.lengths, sampled.lengths[order])
    np.testing.assert_allclose(shuffled.logps, sampled.logps[order], atol=LOGP_TOLERANCE, rtol=0)
    for row in (0, 31, 63):
        alone = sample(params, CONFIG, [prompts[row]], keys[row : row + 1], [NEW], 1.0)
        assert completion(alone, 0) == completion(sampled, row)


def test_longer_neighbours_change_nothing(params, prompts, keys, sampled):
    """Neighbours with prompts as long as the padding allows and longer limits, which take more cache slots."""
    long = [([*prompts[row], *range(3, 11)])[:8] for row in range(30)]
    mixed_prompts = [prompt for row in range(30) for prompt in (prompts[row], long[row])]
    mixed_keys = keys[np.repeat(np.arange(30), 2)]
    mixed = sample(params, CONFIG, mixed_prompts, mixed_keys, [NEW, NEW + 8] * 30, 1.0)
    assert mixed.tokens.shape == (60, NEW + 8)
    for row in range(30):
        assert completion(mixed, 2 * row) == completion(sampled, row)


def test_a_completion_goes_on_from_its_own_beginning(params, prompts, keys, sampled):
    """With its position told, a row whose prompt ends in the first tokens of its completion has the same rest."""
    rows = [row for row in range(64) if sampled.lengths[row] > 3]
    begun = [[*prompts[row], *completion(sampled, row)[:3]] for row in rows]
    rest = sample(params, CONFIG, begun, keys[np.array(rows)], [NEW - 3] * len(rows), 1.0, positions=[3] * len(rows))
    assert [completion(rest, i) for i in range(len(rows))] == [completion(sampled, row)[3:] for row in rows]


def test_the_kept_logits_are_those_of_the_full_forward_pass(params, prompts, keys, sampled):
    result = sample(params, CONFIG, prompts, keys, [NEW] * 64, 1.0, keep_logits=True)
    np.testing.assert_array_equal(result.tokens, sampled.tokens)
    tokens, _ = joined(prompts, result)
    logits = np.asarray(apply(params, tokens))
    for row, prompt in enumerate(prompts):
        length = result.lengths[row]
        expected = logits[row, len(prompt) - 1 : len(prompt) - 1 + length]
        np.testing.assert_allclose(result.logits[row, :length], expected, atol=2e-5)


def test_prompts_of_other_padded_lengths_come_back_in_their_places(params, prompts, keys, sampled):
    """A prompt of 9 tokens is padded to 16 and sampled in a call of its own."""
    mixed_prompts = [prompts[0], [*range(3, 12)], prompts[2]]
    mixed = sample(params, CONFIG, mixed_prompts, keys[:3], [NEW] * 3, 1.0)
    assert [completion(mixed, row) for row in (0, 2)] == [completion(sampled, row) for row in (0, 2)]
    long = completion(mixed, 1)
    logits = np.asarray(apply(params, np.array([[*range(3, 12), *long, *[0] * (NEW - len(long))]], np.int32)))[0]
    noise = jax.random.gumbel(jax.random.fold_in(keys[1], 0), (CONFIG.vocab_size,))
    assert long[0] == np.argmax(logits[8] + noise)


def test_rows_beyond_one_chunk_come_back_in_their_places(params, prompts, keys, sampled):
    rows = np.arange(300) % 64  # two chunks of 128 and one of 64
    many = sample(params, CONFIG, [prompts[row] for row in rows], keys[rows], [NEW] * 300, 1.0)
    np.testing.assert_array_equal(many.tokens, sampled.tokens[rows])


def test_rows_that_share_a_prompt_share_its_prefill_and_sample_what_they_would_alone(params, prompts, monkeypatch):
    prefilled = []

    def watched(params, chunk, program):
        prefilled.append(len(chunk.prompts))
        return generate(params, chunk, program)

    generate = sampling._generate
    monkeypatch.setattr(sampling, "_generate", watched)
    # Eight prompts of 8 rows each, interleaved; alone, each row is in a batch of 64 different prompts.
    chosen = [prompts[row % 8] for row in range(64)]
    together = sample(params, CONFIG, chosen, keys_of(64, seed=7), [NEW] * 64, temperature=1.0)
    assert prefilled == [16]
    for row in (0, 9, 63):
        company = [chosen[row], *prompts[1:]]
        alone_keys = jax.numpy.concatenate([keys_of(64, seed=7)[row : row + 1], keys_of(63)])
        alone = sample(params, CONFIG, company, alone_keys, [NEW] * 64, temperature=1.0)
        assert completion(alone, 0) == completion(together, row)
    assert prefilled[1:] == [64] * 3


def test_a_lower_limit_cuts_the_same_completion(params, prompts, keys, sampled):
    limits = np.random.default_rng(2).integers(0, NEW + 1, 64)
    limits[0] = NEW
    cut = sample(params, CONFIG, prompts, keys, limits.tolist(), 1.0)
    for row, limit in enumerate(limits):
        assert completion(cut, row) == completion(sampled, row)[:limit]
        assert np.all(cut.tokens[row, cut.lengths[row] :] == PAD)
    assert np.all(cut.logps[limits == 0] == 0)


def test_top_p_restricts_the_support_to_the_nucleus(params, prompts, keys, sampled):
    top_p = 0.5

    def in_nucleus(logits, token) -> bool:
        probs = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        return probs[probs > probs[token]].sum() < top_p + 1e-5  # the mass that ranks higher falls short of top_p

    nucleus = sample(params, CONFIG, prompts, keys, [NEW] * 64, 1.0, top_p)
    chosen = [in_nucleus(logits, token) for _, _, logits, token in logits_and_choices(params, prompts, nucleus)]
    assert all(chosen)
    unrestricted = [in_nucleus(logits, token) for _, _, logits, token in logits_and_choices(params, prompts, sampled)]
    assert not all(unrestricted)
    assert len({tuple(completion(nucleus, row)[:1]) for row in range(64)}) > 1  # still a draw


def test_a_vanishing_top_p_is_greedy(params, prompts, keys, greedy):
    narrow = sample(params, CONFIG, prompts, keys, [NEW] * 64, 1.0, top_p=1e-6)
    np.testing.assert_array_equal(narrow.tokens, greedy.tokens)


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p():
    probs = np.array([[0.15, 0.5, 0.05, 0.3]], np.float32)
    for top_p, kept in ((0.4, [1]), (0.6, [1, 3]), (0.79, [1, 3]), (0.9, [0, 1, 3]), (0.99, [0, 1, 2, 3])):
        assert np.flatnonzero(np.isfinite(_keep_nucleus(np.log(probs), top_p)[0])).tolist() == kept


def test_row_keys_fold_each_id_in_and_differ_by_row():
    root = jax.random.key(5)
    ids = np.array([[0, 0], [0, 1], [1, 0], [7, 3]], np.uint32)
    data = jax.random.key_data(row_keys(root, ids))
    expected = jax.random.key_data(jax.random.fold_in(jax.random.fold_in(root, 7), 3))
    np.testing.assert_array_equal(data[3], expected)
    assert len({tuple(row) for row in np.asarray(data).tolist()}) == 4


def test_each_row_needs_one_key_and_one_limit(params, keys):
    with pytest.raises(ValueError, match="2 prompts, 64 keys and 2 limits"):
        sample(params, CONFIG, [[3], [4]], keys, [8, 8], 1.0)


def test_no_prompts_give_no_completions(params, keys):
    nothing = sample(params, CONFIG, [], keys[:0], [], 1.0)
    assert nothing.tokens.shape == (0, 0) and nothing.lengths.shape == nothing.logps.shape == (0,)


def test_any_stop_token_of_the_policy_ends_a_completion_and_eos_alone_no_more(params, prompts, keys, sampled):
    first, second = sampled.tokens[0, 3], sampled.tokens[1, 5]
    config = replace(CONFIG, stop_tokens=(int(first), int(second)))
    stopped = sample(params, config, prompts, keys, [NEW] * 64, temperature=1.0)
    endless = sample(params, replace(CONFIG, stop_tokens=(CONFIG.vocab_size,)), prompts, keys, [NEW] * 64, 1.0)
    assert set(endless.lengths.tolist()) == {NEW} and (endless.tokens == EOS).any()
    for row in range(64):
        tokens = endless.tokens[row].tolist()
        ends = [place + 1 for place, token in enumerate(tokens) if token in config.stop_tokens]
        assert completion(stopped, row) == tokens[: ends[0] if ends else NEW]


def test_a_large_vocabulary_has_small_chunks_and_wide_buckets_and_the_same_completions(
    params, prompts, keys, sampled, monkeypatch
):
    generate, calls = sampling._generate, []

    def counted(params, chunk, program):
        calls.append((chunk.prompts.shape, len(chunk.limits), program.num_new))
        return generate(params, chunk, program)

    monkeypatch.setattr(sampling, "_generate", counted)
    monkeypatch.setattr(sampling, "SMALL_VOCABULARY", CONFIG.vocab_size - 1)
    few = sample(params, CONFIG, prompts[:5], sampling.chosen_keys(keys, np.arange(5)), [NEW] * 5, temperature=1.0)
    assert calls == [((8, 64), 8, 64)]  # not the 64 rows of a small policy's chunk
    assert [completion(few, row) for row in range(5)] == [completion(sampled, row) for row in range(5)]
    assert few.tokens.shape == (5, NEW)
