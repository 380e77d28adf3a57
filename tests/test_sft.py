"""SFT: the likelihood of completions against plain numpy, known answers, and the stage from end to end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_config import whole
from tiny_chain import CONFIGS, NUM_PROBLEMS, OPTIMIZER, PROBLEMS, SYNTHETIC, TOKENIZER, Chain

from algorithms import sft
from algorithms.sft import nll, synthetic_pairs
from data.records import read_jsonl, write_jsonl
from scaling.model.flops import training_flops
from scaling.model.policy import load_policy
from scaling.model.transformer import architecture
from scaling.training.batching import sequences


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("chain"), "sft")


def table(params, tokens):
    """A policy whose logits are its params, [B, T, V]."""
    return params


def random_batch(seed, batch=3, length=6, vocabulary=5):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(batch, length, vocabulary)).astype(np.float32)
    return logits, {
        "tokens": rng.integers(0, vocabulary, (batch, length)).astype(np.int32),
        "mask": rng.integers(0, 2, (batch, length)).astype(np.float32),
        "weight": rng.integers(0, 2, batch).astype(np.float32),
    }


def numpy_nll(logits, batch):
    """Total and count, token by token."""
    total, count = 0.0, 0.0
    for row, weight in enumerate(batch["weight"]):
        for at in range(batch["tokens"].shape[1]):
            counts = weight * batch["mask"][row, at]
            count += counts
            if at and counts:
                before = logits[row, at - 1].astype(np.float64)
                total -= before[batch["tokens"][row, at]] - np.log(np.exp(before).sum())
    return total, count


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_nll_agrees_with_a_sum_over_tokens_in_numpy(seed):
    logits, batch = random_batch(seed)
    loss = nll(table, logits, batch)["loss"]
    total, count = numpy_nll(logits, batch)
    # float32 sums of at most 18 terms of size one
    assert float(loss.total) == pytest.approx(total, abs=1e-4) and float(loss.count) == count


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary_a_token():
    rows = sequences([[1, 3], [1]], [[4, 5, 2], [6, 2]])
    batch = {"tokens": rows.tokens, "mask": rows.mask, "weight": np.ones(2, np.float32)}
    loss = nll(table, jnp.zeros((*rows.tokens.shape, 7)), batch)["loss"]
    assert float(loss.count) == 5 and float(loss.total) == pytest.approx(5 * np.log(7), rel=1e-6)


def test_prompt_tokens_padding_and_filler_rows_get_no_gradient():
    rows = sequences([[1, 3], [1, 3]], [[4, 5, 2], [4, 2]])
    batch = {"tokens": rows.tokens, "mask": rows.mask, "weight": np.array([1.0, 0.0], np.float32)}
    gradient = jax.jit(jax.grad(lambda logits: nll(table, logits, batch)["loss"].total))(
        jnp.zeros((*rows.tokens.shape, 7))
    )
    touched = np.abs(gradient).sum(axis=-1) > 0
    # The logits before each completion token, positions 1 to 3 of the first row.
    assert np.argwhere(touched).tolist() == [[0, 1], [0, 2], [0, 3]]


def test_completions_end_with_eos_and_prompts_begin_with_bos(tmp_path):
    write_jsonl(tmp_path / "synthetic.jsonl", SYNTHETIC)
    prompts, completions = synthetic_pairs({"problems": PROBLEMS}, {"synthetic": tmp_path})
    assert all(prompt[0] == 1 and 1 not in prompt[1:] and 2 not in prompt for prompt in prompts)
    assert all(completion[-1] == 2 and not {0, 1, 2} & set(completion[:-1]) for completion in completions)
    assert [TOKENIZER.decode(completion) for completion in completions] == [row["completion"] for row in SYNTHETIC]


def test_the_sft_policy_likes_the_solutions_better_than_the_base_policy(chain):
    rows = sequences(*synthetic_pairs({"problems": PROBLEMS}, {"synthetic": chain["synthetic"]}))
    batch = {"tokens": rows.tokens, "mask": rows.mask, "weight": np.ones(NUM_PROBLEMS, np.float32)}
    apply = architecture(load_policy(chain["sft"]).config).apply
    loss_of = jax.jit(lambda params: nll(apply, params, batch)["loss"])
    losses = {}
    for name in ("base", "sft"):
        loss = loss_of(load_policy(chain[name]).params)
        losses[name] = float(loss.total / loss.count)
    assert losses["sft"] < 0.5 < np.log(TOKENIZER.vocab_size) / 2 < losses["base"]
    # An update's metrics are those of the policy that it changes.
    metrics = read_jsonl(chain["sft"] / "metrics.jsonl")
    assert metrics[0]["update"] == 1 and metrics[0]["train/loss"] == pytest.approx(losses["base"], rel=1e-4)


def test_the_numbers_count_sequences_tokens_and_flops(chain):
    numbers = chain.numbers["sft"]
    rows = read_jsonl(chain["synthetic"] / "synthetic.jsonl")
    prompts = [len(row["prompt"].split()) + 1 for row in rows]
    completions = [len(row["completion"].split()) + 1 for row in rows]
    lengths = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    assert numbers["num_sequences"] == NUM_PROBLEMS
    assert (numbers["num_tokens"], numbers["num_learned_tokens"]) == (sum(lengths), sum(completions))
    assert numbers["num_updates"] == OPTIMIZER["epochs"]
    policy = load_policy(chain["sft"])
    assert numbers["training_flops"] == OPTIMIZER["epochs"] * training_flops(policy.config, lengths)


def test_the_same_seed_gives_the_same_policy_and_another_seed_another(chain, tmp_path):
    rows = read_jsonl(chain["synthetic"] / "synthetic.jsonl")
    write_jsonl(tmp_path / "synthetic.jsonl", [*rows, *SYNTHETIC])  # two batches an epoch, so that their order counts

    def tensors(name, seed):
        (tmp_path / name).mkdir()
        config = whole({"problems": PROBLEMS, "sft": {**OPTIMIZER, "epochs": 2}, "seed": seed})
        sft.run(config, {"base": chain["base"], "synthetic": tmp_path}, tmp_path / name)
        return (tmp_path / name / "policy.safetensors").read_bytes()

    assert tensors("first", 0) == tensors("again", 0) != tensors("other", 1)


def test_synthetic_data_that_are_cut_short_are_an_error_that_names_the_line(chain, tmp_path):
    path = tmp_path / "synthetic.jsonl"
    path.write_text((chain["synthetic"] / "synthetic.jsonl").read_text()[:-20])
    config = {"problems": PROBLEMS, **CONFIGS["sft"]}
    with pytest.raises(ValueError, match=r"synthetic\.jsonl, line 8 .*not a JSON object"):
        sft.run(config, {"base": chain["base"], "synthetic": tmp_path}, tmp_path)


def test_synthetic_data_without_solutions_are_an_error_that_names_the_key(chain, tmp_path):
    write_jsonl(tmp_path / "synthetic.jsonl", [{"prompt": "1 2 3 ?", "answer": "6"}])
    config = {"problems": PROBLEMS, **CONFIGS["sft"]}
    with pytest.raises(ValueError, match=r"synthetic\.jsonl, line 1 is .* without 'completion'"):
        sft.run(config, {"base": chain["base"], "synthetic": tmp_path}, tmp_path)


def test_problems_of_another_family_are_an_error_that_names_the_word(chain, tmp_path):
    write_jsonl(tmp_path / "synthetic.jsonl", [{"prompt": "1 2 55 ?", "answer": "3", "completion": "# 3"}])
    config = {"problems": PROBLEMS, **CONFIGS["sft"]}
    with pytest.raises(ValueError, match="word '55'"):
        sft.run(config, {"base": chain["base"], "synthetic": tmp_path}, tmp_path)


def test_an_empty_data_set_is_an_error(chain, tmp_path):
    (tmp_path / "synthetic.jsonl").touch()
    config = {"problems": PROBLEMS, **CONFIGS["sft"]}
    with pytest.raises(ValueError, match="nothing to train on"):
        sft.run(config, {"base": chain["base"], "synthetic": tmp_path}, tmp_path)
