"""DPO: known answers and a plain numpy loss, per-step DPO as the same thing on other pairs, and the whole stage."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_config import whole
from tiny_chain import PROBLEMS, SYNTHETIC, TOKENIZER, Chain, by_hand, tokens_of, values_by_hand

from algorithms import dpo
from algorithms.dpo import dpo_loss, pair_sequences, preference_loss
from data import pairs
from data.records import read_jsonl
from scaling.model.flops import forward_flops, training_flops
from scaling.model.policy import load_policy
from scaling.training import batching
from scaling.training.logps import reference_logps

LOGPS = st.lists(st.tuples(*[st.floats(-30, 0, width=32)] * 4), min_size=1, max_size=6)
RIGHT = SYNTHETIC[0]["completion"]


def table(params, tokens):
    """A policy whose logits are its params, [B, T, V]."""
    return params


# The loss.


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_where_policy_and_reference_agree_the_loss_is_ln_2_and_the_gradient_half_of_beta(beta):
    logps = jnp.array([[-3.0, -40.0], [-7.0, -0.5]])
    losses = dpo_loss(logps, logps, jnp.float32(beta))
    np.testing.assert_allclose(losses, [math.log(2)] * 2, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda moved: dpo_loss(moved, logps, jnp.float32(beta)).sum()))(logps)
    np.testing.assert_allclose(gradient, [[-beta / 2, beta / 2]] * 2, rtol=1e-6)


def test_a_margin_of_ln_3_between_the_rewards_costs_ln_four_thirds():
    # sigmoid(ln 3) = 3/4; beta = 1/2 makes it from log-ratios that differ by 2 ln 3.
    logps = jnp.array([[-5.0 + 2 * math.log(3), -5.0]])
    loss = dpo_loss(logps, jnp.full((1, 2), -5.0), jnp.float32(0.5))
    np.testing.assert_allclose(loss, [math.log(4 / 3)], rtol=1e-5)
    swapped = dpo_loss(logps[:, ::-1], jnp.full((1, 2), -5.0), jnp.float32(0.5))
    np.testing.assert_allclose(swapped, [math.log(4)], rtol=1e-5)


def test_a_huge_wrong_margin_costs_the_margin_and_no_infinity():
    loss = dpo_loss(jnp.array([[-1e4, 0.0]]), jnp.zeros((1, 2)), jnp.float32(1.0))
    np.testing.assert_allclose(loss, [1e4])


@settings(deadline=None, max_examples=50)
@given(LOGPS, st.floats(0.01, 5.0))
def test_dpo_loss_agrees_with_numpy(rows, beta):
    values = np.array(rows, np.float32)
    logps, ref_logps = values[:, :2], values[:, 2:]
    ratios = logps.astype(np.float64) - ref_logps
    expected = np.logaddexp(0.0, -np.float32(beta) * (ratios[:, 0] - ratios[:, 1]))
    found = dpo_loss(logps, ref_logps, np.float32(beta))
    # float32 rewards of up to 150 in each of four terms: about 1e-7 of them is lost.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def random_batch(seed, nll_weight, beta=0.7, batch=3, length=5, vocabulary=4):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2 * batch, length, vocabulary)).astype(np.float32)
    mask = np.zeros((batch, 2, length), np.float32)
    for row in mask.reshape(-1, length):
        first = rng.integers(1, length)
        row[first : rng.integers(first + 1, length + 1)] = 1.0
    return logits, {
        "tokens": rng.integers(0, vocabulary, (batch, 2, length)).astype(np.int32),
        "mask": mask,
        "ref_logps": rng.normal(size=(batch, 2)).astype(np.float32),
        "weight": np.array([1.0, 1.0, 0.0], np.float32),
        "beta": jnp.float32(beta),
        "nll_weight": jnp.float32(nll_weight),
    }


@pytest.mark.parametrize("nll_weight", [0.0, 0.25])
def test_preference_loss_agrees_with_a_loop_over_pairs_in_numpy(nll_weight):
    logits, batch = random_batch(3, nll_weight)
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = dict.fromkeys(("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected"), 0.0)
    for pair in range(2):  # the third is filler
        logps = [
            sum(
                log_probs[2 * pair + side, at - 1, batch["tokens"][pair, side, at]] * batch["mask"][pair, side, at]
                for at in range(1, 5)
            )
            for side in (0, 1)
        ]
        ratios = logps - batch["ref_logps"][pair]
        margin = 0.7 * (ratios[0] - ratios[1])
        expected["loss"] += np.log1p(np.exp(-margin)) - nll_weight * logps[0] / batch["mask"][pair, 0].sum()
        expected["rewards/margins"] += margin
        expected["rewards/accuracies"] += margin > 0
        expected["logps/chosen"] += logps[0]
        expected["logps/rejected"] += logps[1]
    found = jax.jit(lambda params: preference_loss(table, params, batch))(logits)
    assert found.keys() == expected.keys()
    for name, total in expected.items():
        assert float(found[name].total) == pytest.approx(total, rel=1e-5), name
        assert float(found[name].count) == 2.0


def test_uniform_logits_add_ln_of_the_vocabulary_times_nll_weight():
    _, batch = random_batch(5, nll_weight=0.25)
    logits = jnp.zeros((6, 5, 4))
    lengths = batch["mask"].sum(axis=-1)
    batch["ref_logps"] = (-lengths * np.log(4)).astype(np.float32)  # the reference is the policy
    loss = jax.jit(lambda params: preference_loss(table, params, batch)["loss"])(logits)
    assert float(loss.total / loss.count) == pytest.approx(math.log(2) + 0.25 * math.log(4), rel=1e-6)


def test_context_padding_and_filler_pairs_get_no_gradient():
    logits, batch = random_batch(7, nll_weight=0.25)
    gradient = jax.jit(jax.grad(lambda params: preference_loss(table, params, batch)["loss"].total))(logits)
    learned = (batch["mask"] * batch["weight"][:, None, None]).reshape(6, 5) > 0
    np.testing.assert_array_equal(np.abs(gradient).sum(axis=-1)[:, :-1] > 0, learned[:, 1:])
    assert not np.any(gradient[:, -1])


# From pairs to sequences.


def test_chosen_and_rejected_each_follow_their_context_and_only_they_count():
    frame = pd.DataFrame({"context": [[1, 5], [1]], "chosen": [[6, 7, 2], [8]], "rejected": [[9], [3, 2]]})
    rows = pair_sequences(frame)
    assert rows.tokens[:, :5].tolist() == [[1, 5, 6, 7, 2], [1, 5, 9, 0, 0], [1, 8, 0, 0, 0], [1, 3, 2, 0, 0]]
    assert rows.mask[:, :5].tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0]]
    assert not rows.tokens[:, 5:].any() and not rows.mask[:, 5:].any()


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("chain"), "sft")


def write_pairs(root, num_pairs):
    """Pairs of one problem: a full solution against an answer at once."""
    context, chosen = TOKENIZER.encode_prompt("1 2 3 ?"), tokens_of(RIGHT)
    rows = [(0, context, chosen, tokens_of(f"# {value}")) for value in range(num_pairs)]
    pd.DataFrame(rows, columns=["problem", "context", "chosen", "rejected"]).to_parquet(root / "pairs.parquet")


def test_reference_logps_do_not_depend_on_the_chunks_they_are_made_in(chain, tmp_path, monkeypatch):
    write_pairs(tmp_path, 8)
    rows, policy = pair_sequences(pd.read_parquet(tmp_path / "pairs.parquet")), load_policy(chain["sft"])
    whole = reference_logps(policy, rows)
    monkeypatch.setattr(batching, "CPU_TOKENS", 120)  # of 24: chunks of 4 rows
    # The same float32 sums in another order.
    np.testing.assert_allclose(reference_logps(policy, rows), whole, rtol=1e-5)
    assert whole.shape == (16,) and np.all(whole < 0)


# Per-step DPO is DPO on other pairs.


def test_with_an_empty_prefix_and_one_step_per_step_dpo_has_the_pairs_of_dpo(tmp_path):
    # Every negative is one step, which is its first pit; the only positive is the teacher's solution.
    inputs = by_hand(tmp_path, {0: [RIGHT, "# 7", "# 8"], 1: ["# 9"], 2: []})
    values = {(0, 1): ([0.0], 0.25), (0, 2): ([0.0], 0.25), (1, 0): ([0.0], 0.0)}
    inputs["step_values"] = values_by_hand(tmp_path, inputs, values)
    shared = {"problems": PROBLEMS, "seed": 0}
    folders = {name: tmp_path / name for name in ("dpo", "full_vs_prefix", "full_vs_full")}
    for name, folder in folders.items():
        folder.mkdir()
        if name == "dpo":
            pairs.run({**shared, "pairs": {"pairing": "random", "pairs_per_problem": 8}}, inputs, folder)
        else:
            pairs.run_at_pits({**shared, "pairs": {"pair_mode": name, "pit_rule": "lowest"}}, inputs, folder)
    tables = {name: pd.read_parquet(folder / "pairs.parquet") for name, folder in folders.items()}

    def losses(frame):
        """The loss of each pair under a policy and a reference that differ, sorted."""
        rows = pair_sequences(frame)
        arrays = [array.reshape(-1, 2, rows.tokens.shape[1]) for array in (rows.tokens, rows.mask)]
        batch = {"tokens": arrays[0], "mask": arrays[1], "ref_logps": np.full((len(arrays[0]), 2), -2.0, np.float32)}
        ids = jnp.arange(20.0)
        logits = jnp.sin(ids[rows.tokens][..., None] + ids)  # a fixed policy that looks at the last token
        return sorted(
            float(
                preference_loss(table, logits, batch | {"weight": weight, "beta": 0.3, "nll_weight": 0.1})["loss"].total
            )
            for weight in np.eye(len(arrays[0]), dtype=np.float32)
        )

    expected = losses(tables["dpo"])
    assert len(expected) == 3 and len(set(expected)) == 3
    assert losses(tables["full_vs_prefix"]) == losses(tables["full_vs_full"]) == expected


def test_with_an_empty_prefix_and_one_step_a_shared_prefix_changes_nothing(tmp_path):
    inputs = by_hand(tmp_path, {0: [RIGHT, "# 7"]})  # the one correct rollout is the teacher's solution
    inputs["step_values"] = values_by_hand(tmp_path, inputs, {(0, 1): ([0.0], 0.5)})
    tables = []
    for mode in ("full_vs_prefix", "shared_prefix"):
        (tmp_path / mode).mkdir()
        config = {"problems": PROBLEMS, "pairs": {"pair_mode": mode, "pit_rule": "lowest"}, "seed": 0}
        pairs.run_at_pits(config, inputs, tmp_path / mode)
        tables.append(pd.read_parquet(tmp_path / mode / "pairs.parquet"))
    pd.testing.assert_frame_equal(*tables)


# The stage.


def train(chain, out, num_pairs, **settings):
    (out / "pairs").mkdir(parents=True)
    write_pairs(out / "pairs", num_pairs)
    config = whole({"dpo": {"learning_rate": 3e-3, "epochs": 8, "batch_size": 8, "beta": 0.5, **settings}, "seed": 0})
    return dpo.run(config, {"reference": chain["sft"], "pairs": out / "pairs"}, out)


def test_training_widens_the_margin_from_zero_and_keeps_its_books(chain, tmp_path):
    numbers = train(chain, tmp_path, 8)
    metrics = read_jsonl(tmp_path / "metrics.jsonl")
    assert metrics[0]["train/loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert metrics[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-4)
    assert numbers["train/loss"] < 0.4 and numbers["rewards/margins"] > 0.5 and numbers["rewards/accuracies"] == 1.0
    lengths = [19, 8] * 8  # BOS and 4 words of the prompt, then 14 or 3 tokens
    assert (numbers["num_pairs"], numbers["num_tokens"], numbers["num_updates"]) == (8.0, sum(lengths), 8.0)
    config = load_policy(tmp_path).config
    assert numbers["training_flops"] == 8 * training_flops(config, lengths) + forward_flops(config, lengths)


def test_the_last_batch_may_be_smaller_and_its_filler_counts_nothing(chain, tmp_path):
    numbers = train(chain, tmp_path, 3, epochs=1)
    assert numbers["train/loss"] == pytest.approx(math.log(2), abs=1e-4) and numbers["num_pairs"] == 3.0


def test_an_nll_term_adds_the_chosen_completions_cost_per_token(chain, tmp_path):
    numbers = train(chain, tmp_path, 8, epochs=1, nll_weight=1.0)
    expected = math.log(2) - numbers["logps/chosen"] / 14  # the chosen completion has 14 tokens
    assert numbers["train/loss"] == pytest.approx(expected, abs=1e-4)


def test_a_beta_of_zero_or_a_key_of_another_section_is_an_error(chain, tmp_path):
    for key, value in (("beta", 0.0), ("pair_mode", "shared_prefix")):
        with pytest.raises(ValueError, match=key):
            train(chain, tmp_path / key, 8, **{key: value})
