"""Rollouts: one row for each (problem, sample), the same whatever else is sampled."""

from functools import cache

import jax
import numpy as np
import pytest
from stage_config import whole
from tiny_chain import CONFIGS, NUM_PROBLEMS, PROBLEMS, SAMPLES, TOKENIZER, Chain

from data import rollouts
from data.problems import modular_sum
from data.records import read_jsonl, write_jsonl
from data.rollout_tables import load_rollouts
from scaling.config.problems import ModularSum
from scaling.model.flops import sampling_flops
from scaling.model.policy import load_policy
from scaling.model.transformer import architecture
from scaling.training.batching import sequences
from scaling.training.logps import completion_logps

EOS, LIMIT = 2, modular_sum.max_completion_words(ModularSum(modulus=11, operands=3)) + 1


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("chain"), "rollouts")


def sample(chain, out, synthetic=None, seed=0, **settings):
    """Rollouts of the chain's policy with other settings or problems."""
    out.mkdir()
    inputs = {"policy": chain["sft"], "synthetic": synthetic or chain["synthetic"]}
    config = whole({"problems": PROBLEMS, "rollouts": {"samples_per_problem": SAMPLES, **settings}, "seed": seed})
    rollouts.run(config, inputs, out)
    return load_rollouts(out)


def as_dict(frame):
    return {(row.problem, row.sample): row.tokens for row in frame.itertuples(index=False)}


def test_every_problem_has_its_samples_in_order(chain):
    frame = load_rollouts(chain["rollouts"])
    assert list(frame.columns) == ["problem", "sample", "tokens", "logp"]
    expected = [(problem, number) for problem in range(NUM_PROBLEMS) for number in range(SAMPLES)]
    assert list(zip(frame["problem"], frame["sample"], strict=True)) == expected


def test_a_completion_ends_with_its_only_eos_or_at_the_limit(chain):
    for tokens in load_rollouts(chain["rollouts"])["tokens"]:
        assert 1 <= len(tokens) <= LIMIT and EOS not in tokens[:-1]
        assert tokens[-1] == EOS or len(tokens) == LIMIT


def test_samples_of_a_problem_differ_from_each_other(chain):
    frame = load_rollouts(chain["rollouts"])
    assert frame.groupby("problem")["tokens"].agg(lambda group: len({*map(tuple, group)})).min() > 1


def test_a_rollout_depends_on_no_other_sample_and_no_other_problem(chain, tmp_path):
    whole = as_dict(load_rollouts(chain["rollouts"]))
    fewer = as_dict(sample(chain, tmp_path / "fewer", samples_per_problem=2))
    assert fewer == {key: tokens for key, tokens in whole.items() if key[1] < 2}
    (tmp_path / "synthetic").mkdir()
    write_jsonl(tmp_path / "synthetic" / "synthetic.jsonl", read_jsonl(chain["synthetic"] / "synthetic.jsonl")[:3])
    smaller = as_dict(sample(chain, tmp_path / "smaller", tmp_path / "synthetic"))
    assert smaller == {key: tokens for key, tokens in whole.items() if key[0] < 3}


def test_another_seed_gives_other_rollouts(chain, tmp_path):
    ours, other = as_dict(load_rollouts(chain["rollouts"])), as_dict(sample(chain, tmp_path / "other", seed=1))
    assert sum(ours[key] == other[key] for key in ours) < len(ours) / 2


def test_a_low_temperature_brings_the_likeliest_completions_and_logps_stay_at_temperature_one(chain, tmp_path):
    cold = sample(chain, tmp_path / "cold", temperature=0.05)
    assert cold.groupby("problem")["tokens"].agg(lambda group: len({*map(tuple, group)})).mean() < 2
    assert cold["logp"].mean() > load_rollouts(chain["rollouts"])["logp"].mean()
    check_logps(chain, cold)


def test_logps_are_those_of_the_training_side(chain):
    check_logps(chain, load_rollouts(chain["rollouts"]))


def check_logps(chain, frame):
    policy = load_policy(chain["sft"])
    synthetic = read_jsonl(chain["synthetic"] / "synthetic.jsonl")
    prompts = [TOKENIZER.encode_prompt(synthetic[problem]["prompt"]) for problem in frame["problem"]]
    rows = sequences(prompts, frame["tokens"].tolist())
    width = ((0, 0), (0, 24 - rows.tokens.shape[1]))
    expected = logps_of(policy.config)(policy.params, np.pad(rows.tokens, width), np.pad(rows.mask, width))
    # float32 sums of up to 14 terms, made once with a cache and once without
    np.testing.assert_allclose(frame["logp"], expected, atol=1e-3)


@cache
def logps_of(config):
    apply = architecture(config).apply
    return jax.jit(lambda params, tokens, mask: completion_logps(apply(params, tokens), tokens, mask))


def test_the_numbers_count_rollouts_tokens_and_flops(chain):
    frame, numbers = load_rollouts(chain["rollouts"]), chain.numbers["rollouts"]
    lengths = frame["tokens"].map(len).tolist()
    flops = sampling_flops(load_policy(chain["sft"]).config, [5] * len(lengths), lengths)  # BOS and four words
    assert numbers == {
        "num_rollouts": float(NUM_PROBLEMS * SAMPLES),
        "truncated_fraction": np.mean([tokens[-1] != EOS for tokens in frame["tokens"]]),
        "num_generated_tokens": float(sum(lengths)),
        "generation_flops": flops,
    }


def test_a_limit_of_tokens_cuts_completions_and_changes_nothing_before_the_cut(chain, tmp_path):
    whole, cut = load_rollouts(chain["rollouts"]), sample(chain, tmp_path / "cut", max_new_tokens=7)
    assert cut["tokens"].tolist() == [tokens[:7] for tokens in whole["tokens"]]


def test_a_missing_seed_is_an_error_that_names_it(chain, tmp_path):
    config = {"problems": PROBLEMS, "rollouts": CONFIGS["rollouts"]["rollouts"]}
    with pytest.raises(KeyError, match="seed"):
        rollouts.run(config, chain.inputs(policy="sft", synthetic="synthetic"), tmp_path)


def test_a_nucleus_of_nothing_is_an_error(chain, tmp_path):
    with pytest.raises(ValueError, match="top_p"):
        sample(chain, tmp_path / "out", top_p=0.0)
