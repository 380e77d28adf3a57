"""The theorem of per-step DPO in a world small enough to know everything (Setlur et al. 2024, theorem 6.1).

A completion is two steps, each one of three words, and every state has its own row of logits. The reference policy,
the rollout policy and the rewards are tables, so Q and the advantages are exact sums. A pair shares its prefix and
compares two steps drawn from the reference policy; its label is drawn with P(a over b) = sigmoid((A(a) - A(b)) /
scale). DPO on such pairs and advantage-weighted learning have one optimum, pi(a|s) ~ pi_ref(a|s) exp(A(s, a) / beta),
where beta is DPO's own times the scale.
"""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from algorithms import awr
from algorithms.dpo import pair_sequences, preference_loss
from data import advantage_pairs
from data.q_values import advantages

BOS, WORDS = 1, (0, 1, 2)  # the steps of the tabular world are the token ids 0, 1, 2
STATES = [(), (0,), (1,), (2,)]  # the steps so far; the last three are reached from the first
DPO_BETA, SCALE = 0.4, 0.75
BETA = DPO_BETA * SCALE


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


RNG = np.random.default_rng(0)
REF = log_softmax(RNG.normal(size=(4, 3)))  # log pi_ref, [state, step]
ROLLOUT = np.exp(log_softmax(RNG.normal(size=(4, 3))))  # the policy whose continuations define Q; not the reference
REWARDS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], float)  # after (first, second)


def advantage_table():
    """A(s, a), [state, step], from the advantages of every trace."""
    value_after = (ROLLOUT[1:] * REWARDS).sum(axis=1)  # Q of the first step
    prompt_value = float(ROLLOUT[0] @ value_after)
    table = np.zeros((4, 3))
    for first, second in product(WORDS, WORDS):
        gains = advantages([float(value_after[first]), float(REWARDS[first, second])], prompt_value)
        table[0, first], table[1 + first, second] = gains
    return table


ADVANTAGES = advantage_table()
OPTIMUM = log_softmax(REF + ADVANTAGES / BETA)
# How often a state is the prefix of a pair: the reference policy's visits.
VISITS = np.concatenate([[1.0], np.exp(REF[0])])


def tabular(params, tokens):
    """Logits [B, T, 3] of a policy [4, 3] with one row a state. tokens: BOS, first step, second step."""
    after_first = params[1 + jnp.minimum(tokens[:, 1], 2)]
    rows = [jnp.broadcast_to(params[0], after_first.shape), after_first]
    return jnp.stack(rows + [jnp.zeros_like(after_first)] * (tokens.shape[1] - 2), axis=1)


def all_pairs(hard_labels=False):
    """Every shared-prefix pair with its probability: context, chosen, rejected, chance. Soft labels are drawn."""
    rows = []
    for state, prefix in enumerate(STATES):
        for chosen, rejected in product(WORDS, WORDS):
            drawn = VISITS[state] * np.exp(REF[state, chosen] + REF[state, rejected])
            difference = ADVANTAGES[state, chosen] - ADVANTAGES[state, rejected]
            label = (np.sign(difference) + 1) / 2 if hard_labels else 1 / (1 + np.exp(-difference / SCALE))
            rows.append(([BOS, *prefix], [chosen], [rejected], drawn * label))
    return pd.DataFrame(rows, columns=["context", "chosen", "rejected", "chance"])


def dpo_objective(pairs):
    """Value and gradient of the expected DPO loss of a table of logits, flattened."""
    rows = pair_sequences(pairs)
    tokens, mask = rows.tokens.reshape(-1, 2, rows.tokens.shape[1]), rows.mask.reshape(-1, 2, rows.mask.shape[1])
    state_of = {(BOS, *prefix): state for state, prefix in enumerate(STATES)}
    ref_logps = [
        [REF[state_of[tuple(row.context)], row.chosen[0]], REF[state_of[tuple(row.context)], row.rejected[0]]]
        for row in pairs.itertuples(index=False)
    ]
    batch = {
        "tokens": tokens,
        "mask": mask,
        "ref_logps": np.array(ref_logps, np.float32),
        "weight": pairs["chance"].to_numpy(np.float32),
        **({"label": pairs["label"].to_numpy(np.float32)} if "label" in pairs else {}),
        "beta": np.float32(DPO_BETA),
        "nll_weight": np.float32(0.0),
    }

    def mean_loss(params):
        loss = preference_loss(tabular, params.reshape(4, 3), batch)["loss"]
        return loss.total / loss.count

    compiled = jax.jit(jax.value_and_grad(mean_loss))

    def objective(flat):
        value, gradient = compiled(flat.astype(np.float32))
        return float(value), np.asarray(gradient, np.float64)

    return objective


def solve(objective):
    """The log-policy [state, step] that minimises the objective, from the reference policy."""
    found = minimize(objective, REF.ravel(), jac=True, method="L-BFGS-B", options={"ftol": 0.0, "gtol": 1e-7})
    return log_softmax(found.x.reshape(4, 3))


@pytest.fixture(scope="module")
def dpo_policy():
    return solve(dpo_objective(all_pairs()))


def test_the_reference_and_the_optimum_are_far_apart():
    # Otherwise the tests below would show nothing.
    assert np.abs(np.exp(OPTIMUM) - np.exp(REF)).max() > 0.3


def test_dpo_on_shared_prefix_pairs_reaches_the_advantage_weighted_optimum(dpo_policy):
    # Probabilities; the loss is float32, so its gradient vanishes only up to 1e-7 and the curvature is about 1e-3.
    np.testing.assert_allclose(np.exp(dpo_policy), np.exp(OPTIMUM), atol=1e-3)


def test_the_gradient_of_dpo_vanishes_at_that_optimum_and_not_at_the_reference():
    objective = dpo_objective(all_pairs())
    assert np.abs(objective(OPTIMUM.ravel())[1]).max() < 1e-6
    assert np.abs(objective(REF.ravel())[1]).max() > 1e-3


def labelled_pairs():
    """Each pair of different steps once, the better one chosen, with its label as data.advantage_pairs writes it."""
    rows = []
    for state, prefix in enumerate(STATES):
        taken = [((word,), ADVANTAGES[state, word]) for word in WORDS]
        for _, chosen, rejected in advantage_pairs.compared({prefix: taken}, np.random.default_rng(state)):
            label = advantage_pairs.label(chosen, rejected, SCALE)
            rows.append(([BOS, *prefix], list(chosen[0]), list(rejected[0]), VISITS[state], label))
    return pd.DataFrame(rows, columns=["context", "chosen", "rejected", "chance", "label"])


def test_dpo_with_labels_of_advantage_reaches_the_same_policy(dpo_policy):
    pairs = labelled_pairs()
    assert (pairs["label"] >= 0.5).all() and pairs["label"].max() > 0.6
    found = solve(dpo_objective(pairs))
    np.testing.assert_allclose(np.exp(found), np.exp(OPTIMUM), atol=1e-3)
    np.testing.assert_allclose(np.exp(found), np.exp(dpo_policy), atol=2e-3)


def test_awr_reaches_that_optimum_too():
    """Its own weights and loss, on every trace with the reference policy's chance of it."""
    traces = [(first, second) for first, second in product(WORDS, WORDS)]
    gains = [[ADVANTAGES[0, first], ADVANTAGES[1 + first, second]] for first, second in traces]
    weights = np.array([awr.step_weights(gain, BETA, max_weight=1e9) for gain in gains])
    batch = {
        "tokens": np.array([[BOS, *trace] for trace in traces], np.int32),
        "mask": np.pad(weights / weights.mean(), ((0, 0), (1, 0))).astype(np.float32),
        "weight": np.array([np.exp(REF[0, first] + REF[1 + first, second]) for first, second in traces], np.float32),
    }

    def mean_loss(params):
        return awr.weighted_nll(tabular, params.reshape(4, 3), batch)["loss"].total

    compiled = jax.jit(jax.value_and_grad(mean_loss))

    def objective(flat):
        value, by_params = compiled(flat.astype(np.float32))
        return float(value), np.asarray(by_params, np.float64)

    np.testing.assert_allclose(np.exp(solve(objective)), np.exp(OPTIMUM), atol=1e-3)


def test_advantage_weighted_learning_reaches_the_same_policy(dpo_policy):
    weights = VISITS[:, None] * np.exp(REF + ADVANTAGES / BETA)  # of log pi(a|s), traces from the reference policy

    def objective(flat):
        policy = log_softmax(flat.reshape(4, 3))
        gradient = np.exp(policy) * weights.sum(axis=1, keepdims=True) - weights
        return -float((weights * policy).sum()), gradient.ravel()

    weighted = solve(objective)
    np.testing.assert_allclose(np.exp(weighted), np.exp(OPTIMUM), atol=1e-5)
    np.testing.assert_allclose(np.exp(dpo_policy), np.exp(weighted), atol=1e-3)


def test_dpo_on_pairs_drawn_at_random_comes_near_the_optimum(dpo_policy):
    rng = np.random.default_rng(1)
    num_pairs = 200_000
    counts = np.zeros((4, 3, 3))  # [state, chosen, rejected]
    for state, share in enumerate(VISITS / VISITS.sum()):
        steps = rng.choice(3, size=(round(share * num_pairs), 2), p=np.exp(REF[state]))
        difference = ADVANTAGES[state, steps[:, 0]] - ADVANTAGES[state, steps[:, 1]]
        as_drawn = rng.random(len(steps)) < 1 / (1 + np.exp(-difference / SCALE))
        chosen, rejected = np.where(as_drawn[:, None], steps, steps[:, ::-1]).T
        np.add.at(counts[state], (chosen, rejected), 1)
    pairs = all_pairs()
    pairs["chance"] = counts.ravel() / num_pairs  # all_pairs is in the order of the axes
    found = solve(dpo_objective(pairs))
    # A log-odds from n fair labels has a standard error of 2 / sqrt(n) over DPO's beta; the rarest pairs have n of
    # about 2000, so 0.11, and probabilities move by at most a quarter of that: 0.03. Twice that is allowed.
    np.testing.assert_allclose(np.exp(found), np.exp(OPTIMUM), atol=0.06)


def test_with_hard_labels_there_is_no_finite_optimum():
    objective = dpo_objective(all_pairs(hard_labels=True))
    along = [objective((REF + stretch * ADVANTAGES).ravel())[0] for stretch in (0, 3, 10, 30, 100)]
    assert np.all(np.diff(along) < 0)
