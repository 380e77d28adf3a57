"""IPO, conservative DPO and SimPO: known answers, plain NumPy in float64, and the stage with each setting."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from finite_differences import gradient, logps_of
from pydantic import ValidationError
from stage_config import whole
from tiny_chain import SYNTHETIC, TOKENIZER, Chain, tokens_of

from algorithms import dpo
from algorithms.dpo import dpo_loss, ipo_loss, loss_of, smoothed
from data.records import read_jsonl
from scaling.config.training import Dpo, Preference
from scaling.model.flops import training_flops
from scaling.model.policy import load_policy

BETA, MARGIN = 0.7, 0.4
VARIANTS = [
    ("sigmoid", False, None),
    ("sigmoid", True, None),  # TRL's sigmoid_norm
    ("sigmoid", False, 0.1),
    ("ipo", False, None),
    ("ipo", True, None),  # TRL's ipo
    ("ipo", False, 0.1),
    ("simpo", True, None),
    ("simpo", True, 0.2),
]


def table(params, tokens):
    """A policy whose logits are its params, [B, T, V]."""
    return params


def random_batch(loss, smoothing, seed=0, size=3, length=6, vocabulary=4):
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, 2, length), np.float32)
    for row in mask.reshape(-1, length):
        row[rng.integers(1, 3) : rng.integers(4, length + 1)] = 1.0
    batch = {
        "tokens": rng.integers(0, vocabulary, (size, 2, length)).astype(np.int32),
        "mask": mask,
        "ref_logps": rng.normal(-4, 1, size=(size, 2)).astype(np.float32),
        "weight": np.array([1.0] * (size - 1) + [0.0], np.float32),
        "beta": np.float32(BETA),
        "nll_weight": np.float32(0.25),
    }
    if loss == "simpo":
        batch |= {"ref_logps": np.zeros((size, 2), np.float32), "simpo_margin": np.float32(MARGIN)}
    if smoothing is not None:
        batch["label"] = smoothed(np.ones(size), smoothing)
    return rng.normal(size=(2 * size, length, vocabulary)), batch


def expected_loss(logits, batch, loss, per_token, smoothing):
    """The mean over pairs as docs/learners.md writes it, a pair at a time in float64."""
    length = batch["tokens"].shape[-1]
    logps = logps_of(logits, batch["tokens"].reshape(-1, length), batch["mask"].reshape(-1, length)).reshape(-1, 2)
    total = 0.0
    for pair in np.flatnonzero(batch["weight"]):
        lengths = batch["mask"][pair].sum(axis=-1)
        ratios = logps[pair] - (0.0 if loss == "simpo" else batch["ref_logps"][pair].astype(float))
        ratios = ratios / lengths if per_token else ratios
        h = ratios[0] - ratios[1]

        def cost(h):
            return (h - 1 / (2 * BETA)) ** 2 if loss == "ipo" else math.log1p(math.exp(-BETA * h))

        h = h - MARGIN / BETA if loss == "simpo" else h
        share = smoothing or 0.0
        total += (1 - share) * cost(h) + share * cost(-h) - 0.25 * logps[pair, 0] / lengths[0]
    return total / batch["weight"].sum()


@pytest.mark.parametrize(("loss", "per_token", "smoothing"), VARIANTS)
def test_loss_and_gradient_agree_with_numpy_and_finite_differences_in_float64(loss, per_token, smoothing):
    logits, batch = random_batch(loss, smoothing)

    def mean_loss(params):
        found = loss_of(loss, per_token)(table, params, batch)["loss"]
        return found.total / found.count

    value, by_logits = jax.jit(jax.value_and_grad(mean_loss))(jnp.asarray(logits, jnp.float32))
    assert float(value) == pytest.approx(expected_loss(logits, batch, loss, per_token, smoothing), rel=1e-5)
    expected = gradient(lambda at: expected_loss(at, batch, loss, per_token, smoothing), logits)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(by_logits, expected, atol=1e-5)


# Known answers.


def at_margin(h):
    """Log-probabilities [1, 2] whose log-ratios, to a reference of -5 each, differ by h."""
    return jnp.array([[-5.0 + h, -5.0]], jnp.float32)


REFERENCE = jnp.full((1, 2), -5.0)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_ipo_is_least_at_a_margin_of_1_over_2_beta(beta):
    best = 1 / (2 * beta)
    slope = jax.jit(jax.grad(lambda logps: ipo_loss(logps, REFERENCE, jnp.float32(beta)).sum()))
    assert float(ipo_loss(at_margin(best), REFERENCE, jnp.float32(beta))[0]) == pytest.approx(0.0, abs=1e-10)
    np.testing.assert_allclose(slope(at_margin(best)), 0.0, atol=1e-5)
    np.testing.assert_allclose(
        slope(at_margin(best + 1.0)), [[2.0, -2.0]], rtol=1e-5
    )  # (h - best)^2 at a distance of 1


def test_where_policy_and_reference_agree_ipo_costs_the_square_of_its_margin():
    assert float(ipo_loss(REFERENCE, REFERENCE, jnp.float32(0.25))[0]) == pytest.approx(4.0)  # (1 / (2 / 4))^2


def losses(loss, logps, **batch):
    """The loss of one pair of one-token completions with these log-probabilities under the policy."""
    logits = jnp.stack([logps[0], jnp.log1p(-jnp.exp(logps[0]))], axis=-1)  # of tokens 0 and 1
    batch = {
        "tokens": np.zeros((1, 2, 2), np.int32),
        "mask": np.array([[[0.0, 1.0]] * 2], np.float32),
        "ref_logps": np.asarray(REFERENCE),
        "weight": np.ones(1, np.float32),
        "beta": np.float32(0.5),
        "nll_weight": np.float32(0.0),
        **batch,
    }
    params = jnp.repeat(logits[:, None], 2, axis=1)
    return float(loss_of(loss, loss == "simpo")(table, params, batch)["loss"].total)


def test_conservative_dpo_without_smoothing_is_dpo_and_at_one_half_it_is_least_at_no_margin():
    plain = losses("sigmoid", at_margin(1.5))
    assert plain == pytest.approx(float(dpo_loss(at_margin(1.5), REFERENCE, jnp.float32(0.5))[0]))
    assert losses("sigmoid", at_margin(1.5), label=smoothed(np.ones(1), 0.0)) == plain
    half = [losses("sigmoid", at_margin(h), label=smoothed(np.ones(1), 0.5)) for h in (-1.0, 0.0, 1.0)]
    assert half[1] == pytest.approx(math.log(2)) and half[0] == pytest.approx(half[2], rel=1e-5) and half[0] > half[1]


@pytest.mark.parametrize("smoothing", [0.1, 0.25])
def test_conservative_dpo_is_least_where_the_policy_believes_the_pair_as_much_as_the_label(smoothing):
    best = math.log((1 - smoothing) / smoothing) / 0.5  # sigmoid(beta h) = 1 - smoothing
    cost = {
        move: losses("sigmoid", at_margin(best + move), label=smoothed(np.ones(1), smoothing)) for move in (-1, 0, 1)
    }
    entropy = -(1 - smoothing) * math.log(1 - smoothing) - smoothing * math.log(smoothing)
    assert cost[0] == pytest.approx(entropy, rel=1e-5) and cost[0] < min(cost[-1], cost[1])


def test_simpo_does_not_know_the_reference_and_costs_ln_2_where_the_margin_is_gamma():
    nothing = {"ref_logps": np.zeros((1, 2), np.float32)}
    assert losses("simpo", at_margin(0.8), simpo_margin=np.float32(0.4), **nothing) == pytest.approx(math.log(2))
    assert losses("simpo", at_margin(0.0), simpo_margin=np.float32(0.4), **nothing) == pytest.approx(
        math.log1p(math.exp(0.4)), rel=1e-5
    )


def test_smoothing_turns_a_share_of_soft_labels_as_well():
    np.testing.assert_allclose(smoothed([1.0, 0.8, 0.5], 0.1), [0.9, 0.74, 0.5], rtol=1e-6)


def test_equal_settings_give_the_same_function_so_that_stages_share_a_compiled_update():
    assert loss_of("ipo", True) is loss_of("ipo", True) is not loss_of("ipo", False)


def test_a_margin_without_simpo_is_an_error_with_its_cure():
    with pytest.raises(ValidationError, match="only SimPO has one and loss is 'ipo'; set loss: simpo"):
        Dpo(loss="ipo", simpo_margin=0.5)
    assert Preference(loss="simpo", simpo_margin=0.5).simpo_margin == 0.5


# The stage.


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("chain"), "sft")


def train(chain, out, labels=None, **settings):
    """Eight pairs of one problem, a full solution against an answer at once."""
    (out / "pairs").mkdir(parents=True)
    context, chosen = TOKENIZER.encode_prompt("1 2 3 ?"), tokens_of(SYNTHETIC[0]["completion"])
    rows = [(0, context, chosen, tokens_of(f"# {value}")) for value in range(8)]
    pairs = pd.DataFrame(rows, columns=["problem", "context", "chosen", "rejected"])
    (pairs if labels is None else pairs.assign(label=labels)).to_parquet(out / "pairs/pairs.parquet")
    section = {"learning_rate": 3e-3, "epochs": 2, "batch_size": 8, "beta": 0.5, **settings}
    config = whole({"dpo": section, "seed": 0})
    return dpo.run(config, {"reference": chain["sft"], "pairs": out / "pairs"}, out)


def first_loss(out):
    return read_jsonl(out / "metrics.jsonl")[0]["train/loss"]


def test_a_label_of_one_a_pair_is_no_label(chain, tmp_path):
    plain, labelled = train(chain, tmp_path / "plain"), train(chain, tmp_path / "labelled", labels=1.0)
    assert labelled == pytest.approx(plain, rel=1e-4)


def test_ipo_starts_at_its_squared_margin_and_lowers_it(chain, tmp_path):
    numbers = train(chain, tmp_path, loss="ipo", learning_rate=1e-4)
    assert first_loss(tmp_path) == pytest.approx(1.0, abs=1e-3) and numbers["train/loss"] < 1.0  # (1 / (2 / 2))^2


def test_smoothed_and_soft_labels_start_at_ln_2_and_hold_the_margin_back(chain, tmp_path):
    hard = train(chain, tmp_path / "hard", epochs=8)
    smooth = train(chain, tmp_path / "smooth", epochs=8, label_smoothing=0.4)
    soft = train(chain, tmp_path / "soft", labels=0.6, epochs=8)
    assert first_loss(tmp_path / "smooth") == pytest.approx(math.log(2), abs=1e-4)
    assert smooth["rewards/margins"] < 0.8 * hard["rewards/margins"]
    assert soft == pytest.approx(smooth, rel=1e-4)


def test_simpo_reads_no_reference_and_counts_none(chain, tmp_path):
    numbers = train(chain, tmp_path, loss="simpo", simpo_margin=0.3)
    lengths = [19, 8] * 8  # BOS and 4 words of the prompt, then 14 or 3 tokens
    assert numbers["training_flops"] == 2 * training_flops(load_policy(tmp_path).config, lengths)
    first = read_jsonl(tmp_path / "metrics.jsonl")[0]
    h = first["logps/chosen"] / 14 - first["logps/rejected"] / 3
    assert first["rewards/margins"] == pytest.approx(0.5 * h, rel=1e-4)
    assert numbers["num_pairs"] == 8.0
