"""Policy gradient on groups: advantages and losses against NumPy, what is learned, and an interrupted stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from finite_differences import gradient, logps_of
from interrupted import BYTES, Killed, killing, looking_every
from stage_config import whole
from tiny_chain import PROBLEMS, Chain

from algorithms import group_pg, on_policy
from algorithms.group_pg import advantages, loss_of, policy_loss, token_weights
from data.records import read_jsonl
from scaling.copies import copying_to
from scaling.model import sampling
from scaling.model.flops import forward_flops, sampling_flops, training_flops
from scaling.model.policy import load_policy

LOSSES = ("grpo", "dr_grpo", "dapo", "rloo", "cispo")
GROUPS, SAMPLES, LONGEST, TEMPERATURE = 2, 3, 5, 0.7
REWARDS = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])


def table(params, tokens):
    """A policy whose logits are its params, [B, T, V]."""
    return params


def random_batch(loss, seed=0, rewards=REWARDS, length=8, vocabulary=4, kl_weight=0.0):
    """Logits, and six completions of two groups whose ratios leave the clipped range on both sides."""
    rng = np.random.default_rng(seed)
    size = GROUPS * SAMPLES
    mask = np.zeros((size, length), np.float32)
    for row in mask:
        start = rng.integers(1, 4)
        row[start : start + rng.integers(2, LONGEST + 1)] = 1.0
    logits = rng.normal(size=(size, length, vocabulary))
    tokens = rng.integers(0, vocabulary, (size, length)).astype(np.int32)
    logps = by_token(logits, tokens, mask)
    lengths = mask.sum(axis=1).reshape(GROUPS, SAMPLES)
    batch = {
        "tokens": tokens,
        "mask": mask,
        "weight": np.ones(size, np.float32),
        "advantage": advantages(rewards, loss).astype(np.float32).ravel(),
        "token_weight": token_weights(loss, lengths, LONGEST).astype(np.float32).ravel(),
        "old_token_logps": ((logps - rng.normal(0, 0.4, logps.shape)) * mask).astype(np.float32),
        "epsilon": np.float32(0.2),
        "epsilon_high": np.float32(1.1 if loss == "cispo" else 0.3),
        "temperature": np.float32(TEMPERATURE),
        "kl_weight": np.float32(kl_weight),
    }
    if kl_weight:
        batch["ref_token_logps"] = ((logps + rng.normal(0, 0.5, logps.shape)) * mask).astype(np.float32)
    return logits, batch


def by_token(logits, tokens, mask):
    """Log-probability float64 [B, T] of each masked token at the temperature."""
    found = np.zeros(mask.shape)
    for place in range(1, mask.shape[1]):
        at = np.zeros_like(mask)
        at[:, place] = mask[:, place]
        found[:, place] = logps_of(logits / TEMPERATURE, tokens, at)
    return found


def written_out(loss, logits, at, batch, rewards=REWARDS):
    """The loss as its paper has it, completion by completion and token by token. CISPO's ratios are those of `at`."""
    tokens, mask = batch["tokens"], batch["mask"]
    logps, fixed = by_token(logits, tokens, mask), by_token(at, tokens, mask)
    old, epsilon, high = (np.float64(batch[name]) for name in ("old_token_logps", "epsilon", "epsilon_high"))
    total = 0.0
    for group in range(GROUPS):
        members = range(group * SAMPLES, (group + 1) * SAMPLES)
        given = rewards[group]
        for index, row in enumerate(members):
            others = np.delete(given, index)
            gain = {
                "rloo": given[index] - others.mean(),
                "dr_grpo": given[index] - given.mean(),
                "cispo": (given[index] - given.mean()) / (rewards.std(ddof=1) + 1e-4),
            }.get(loss, (given[index] - given.mean()) / (given.std(ddof=1) + 1e-4))
            places = np.flatnonzero(mask[row])
            if loss == "rloo":
                ratio = np.exp((logps[row] - old[row])[places].sum())
                total += min(ratio * gain, np.clip(ratio, 1 - epsilon, 1 + high) * gain) / (GROUPS * SAMPLES)
                continue
            value = 0.0
            for place in places:
                ratio = np.exp(logps[row, place] - old[row, place])
                if loss == "cispo":
                    value += min(np.exp(fixed[row, place] - old[row, place]), high) * gain * logps[row, place]
                else:
                    value += min(ratio * gain, np.clip(ratio, 1 - epsilon, 1 + high) * gain)
                if "ref_token_logps" in batch:
                    apart = batch["ref_token_logps"][row, place] - logps[row, place]
                    value -= batch["kl_weight"] * (np.exp(apart) - apart - 1)
            total += {
                "grpo": value / len(places) / SAMPLES / GROUPS,
                "dr_grpo": value / LONGEST / SAMPLES / GROUPS,
                "dapo": value / mask.sum(),
                "cispo": value / mask[list(members)].sum() / GROUPS,
            }[loss]
    return -total


def mean_loss(params, batch, loss):
    found = policy_loss(table, params, batch, loss)["loss"]
    return found.total / found.count


@pytest.mark.parametrize("kl_weight", [0.0, 0.3])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_gradient_agree_with_numpy_and_finite_differences_in_float64(loss, kl_weight):
    logits, batch = random_batch(loss, kl_weight=kl_weight)
    value, by_logits = jax.jit(jax.value_and_grad(mean_loss), static_argnames="loss")(
        jnp.asarray(logits, jnp.float32), batch, loss=loss
    )
    assert float(value) == pytest.approx(written_out(loss, logits, logits, batch), rel=1e-4, abs=1e-6)
    found = gradient(lambda moved: written_out(loss, moved, logits, batch), logits)
    assert np.abs(found).max() > 0.01
    np.testing.assert_allclose(by_logits, found, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_first_update_is_reinforce_with_a_baseline(loss):
    logits, batch = random_batch(loss)
    del batch["old_token_logps"]
    weights = batch["token_weight"] * batch["advantage"]
    count = batch["mask"].sum() if loss == "dapo" else GROUPS * SAMPLES
    found = jax.grad(mean_loss)(jnp.asarray(logits, jnp.float32), batch, loss)

    def reinforce(moved):
        return -float((weights * by_token(moved, batch["tokens"], batch["mask"]).sum(axis=1)).sum() / count)

    np.testing.assert_allclose(found, gradient(reinforce, logits), atol=1e-5)
    assert float(policy_loss(table, jnp.asarray(logits), batch, loss)["clip_fraction"].total) == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_groups_of_equal_rewards_have_no_gradient(loss):
    logits, batch = random_batch(loss, rewards=np.array([[1.0] * 3, [0.0] * 3]))
    assert not np.any(jax.grad(mean_loss)(jnp.asarray(logits, jnp.float32), batch, loss))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_costs_the_same_however_it_is_cut_and_filler_costs_nothing(loss):
    logits, batch = random_batch(loss, kl_weight=0.3)

    def part(rows, weight=1.0):
        cut = {name: array[rows] if np.ndim(array) else array for name, array in batch.items()}
        return policy_loss(
            table, jnp.asarray(logits[rows], jnp.float32), {**cut, "weight": weight * cut["weight"]}, loss
        )

    at_once, parts = part(slice(None)), [part(slice(0, 1)), part(slice(1, 6)), part(slice(0, 2), weight=0.0)]
    for name, expected in at_once.items():
        for field in ("total", "count"):
            assert float(getattr(expected, field)) == pytest.approx(
                sum(float(getattr(found[name], field)) for found in parts), rel=1e-4, abs=1e-6
            )


def test_the_clip_ends_the_gradient_where_it_binds_and_cispo_keeps_it():
    # One token a completion, with a ratio of 1.5 and an advantage of 1, and one with 0.5 and -1.
    batch = {
        "tokens": np.array([[0, 1], [0, 1]], np.int32),
        "mask": np.array([[0.0, 1.0], [0.0, 1.0]], np.float32),
        "weight": np.ones(2, np.float32),
        "advantage": np.array([1.0, -1.0], np.float32),
        "token_weight": np.ones(2, np.float32),
        "old_token_logps": np.log(0.5) - np.log(np.array([[1, 1.5], [1, 0.5]], np.float32)) * [[0, 1], [0, 1]],
        **{name: np.float32(value) for name, value in {"epsilon": 0.2, "kl_weight": 0.0, "temperature": 1.0}.items()},
    }
    params = jnp.zeros((2, 2, 2))  # each token has a chance of one half
    for loss, high, expected in (("grpo", 0.2, 1.2 - 0.8), ("dapo", 0.28, 1.28 - 0.8)):
        full = {**batch, "old_token_logps": batch["old_token_logps"] * batch["mask"], "epsilon_high": np.float32(high)}
        sums = policy_loss(table, params, full, loss)
        assert float(sums["loss"].total) == pytest.approx(-expected, rel=1e-5)
        assert float(sums["clip_fraction"].total) == 2 and not np.any(jax.grad(mean_loss)(params, full, loss))
    full["epsilon_high"] = np.float32(1.25)
    sums = policy_loss(table, params, full, "cispo")
    assert float(sums["loss"].total) == pytest.approx(-(1.25 - 0.5) * np.log(0.5), rel=1e-5)
    assert float(sums["clip_fraction"].total) == 1
    by_logits = jax.grad(mean_loss)(params, full, "cispo")[:, 0, 1]  # of log 1/2: one half a unit of logit
    np.testing.assert_allclose(by_logits, [-1.25 / 2 / 2, 0.5 / 2 / 2], rtol=1e-5)


def test_entropy_and_divergence_of_known_policies():
    _, batch = random_batch("grpo", kl_weight=0.5)
    chance = np.where(batch["mask"], np.log(1 / 4), 0.0).astype(np.float32)
    batch |= {"old_token_logps": chance, "ref_token_logps": chance + np.log(2.0) * batch["mask"]}
    sums = policy_loss(table, jnp.zeros((6, 8, 4)), batch)
    assert float(sums["entropy"].total / sums["entropy"].count) == pytest.approx(np.log(4), rel=1e-5)
    assert float(sums["kl"].total / sums["kl"].count) == pytest.approx(2 - np.log(2) - 1, rel=1e-5)


def test_advantages_by_hand():
    rewards = np.array([[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0] * 4])
    centred = np.array([[0.5, -0.5, -0.5, 0.5], [0.75, -0.25, -0.25, -0.25], [0.0] * 4])
    np.testing.assert_allclose(advantages(rewards, "dr_grpo"), centred)
    np.testing.assert_allclose(advantages(rewards, "rloo"), centred * 4 / 3)
    deviations = np.array([[(4 * 0.25 / 3) ** 0.5], [(0.75**2 + 3 * 0.25**2) ** 0.5 / 3**0.5], [1.0]])
    for loss in ("grpo", "dapo"):
        np.testing.assert_allclose(advantages(rewards, loss), centred / deviations, rtol=1e-3)
    of_batch = (3 * 0.75**2 + 9 * 0.25**2) / 11  # three of twelve are right
    np.testing.assert_allclose(advantages(rewards, "cispo"), centred / of_batch**0.5, rtol=1e-3)
    np.testing.assert_allclose(advantages(rewards, "cispo", "none"), centred)
    np.testing.assert_allclose(advantages(rewards, "grpo", "batch"), advantages(rewards, "cispo"))


def test_what_a_token_weighs():
    lengths = np.array([[2, 4], [5, 5]])
    np.testing.assert_allclose(token_weights("grpo", lengths, 10), [[1 / 2, 1 / 4], [1 / 5, 1 / 5]])
    np.testing.assert_allclose(token_weights("dr_grpo", lengths, 10), np.full((2, 2), 1 / 10))
    np.testing.assert_allclose(token_weights("dapo", lengths, 10), np.ones((2, 2)))
    np.testing.assert_allclose(token_weights("cispo", lengths, 10), [[2 / 6, 2 / 6], [2 / 10, 2 / 10]])


def test_stages_of_one_loss_share_it():
    assert loss_of("dapo") is loss_of("dapo") is not loss_of("grpo")


# The stage.


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("chain"), "sft")


SECTION = {"iterations": 4, "problems_per_update": 4, "samples_per_problem": 4, "learning_rate": 3e-3}


def train(chain, out, inputs=None, **changes):
    out.mkdir(parents=True, exist_ok=True)
    extra = {key: changes.pop(key) for key in ("lora", "verifier") if key in changes}
    config = whole({"problems": PROBLEMS, "group_pg": {**SECTION, **changes}, "seed": 0, **extra})
    found = inputs or chain.inputs(reference="sft", synthetic="synthetic")
    return group_pg.run(config, found, out)


def test_rewards_rise_and_every_iteration_has_its_line(chain, tmp_path):
    numbers = train(chain, tmp_path, iterations=40, problems_per_update=8, samples_per_problem=8)
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    assert [line["iteration"] for line in lines] == [line["update"] for line in lines] == list(range(1, 41))
    before, after = (np.mean([line["rewards/mean"] for line in part]) for part in (lines[:5], lines[-5:]))
    assert after > before + 0.2
    assert numbers["mean_reward"] == pytest.approx(np.mean([line["rewards/mean"] for line in lines[-2:]]))
    assert numbers["train/entropy"] < lines[0]["train/entropy"] and numbers["train/clip_fraction"] == 0
    assert "train/kl" not in numbers  # nothing reads the reference


def test_tokens_and_flops_of_sampling_and_training_are_counted(chain, tmp_path):
    numbers = train(chain, tmp_path, iterations=1, updates_per_iteration=2, kl_weight=0.1)
    samples, config = pd.read_parquet(tmp_path / "samples.parquet"), load_policy(chain["sft"]).config
    lengths = samples["tokens"].map(len).tolist()
    assert len(samples) == numbers["num_rollouts"] == 2 * 4 * 4 and numbers["num_updates"] == 2
    assert numbers["num_generated_tokens"] == sum(lengths)
    assert numbers["generation_flops"] == sampling_flops(config, [5] * len(lengths), lengths)
    read = [5 + length for length in lengths]
    expected = training_flops(config, read) + 2 * forward_flops(config, read)
    assert numbers["training_flops"] == pytest.approx(expected) and numbers["num_tokens"] == sum(read)
    assert numbers["train/kl"] >= 0


def test_later_updates_of_an_iteration_leave_the_policy_that_sampled(chain, tmp_path):
    numbers = train(chain, tmp_path, iterations=1, updates_per_iteration=4, learning_rate=1e-2, kl_weight=0.1)
    assert numbers["train/clip_fraction"] > 0


def test_negatives_only_learn_nothing_from_right_completions(chain, tmp_path, monkeypatch):
    seen = []
    real = group_pg.batches_of
    monkeypatch.setattr(
        group_pg, "batches_of", lambda start, arrays, *rest: seen.append(arrays) or real(start, arrays, *rest)
    )
    train(chain, tmp_path, iterations=1, positive_weight=0.0)
    rewards = pd.read_parquet(tmp_path / "samples.parquet").sort_values("slot", kind="stable")["reward"].to_numpy()
    gains = seen[0]["advantage"]
    assert gains.max() == 0 > gains.min() and not gains[rewards == 1].any()


def test_the_divergence_is_part_of_rloos_reward(chain, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(group_pg, "batches_of", lambda start, arrays, lengths: seen.append(arrays) or [])
    monkeypatch.setattr(on_policy, "run_iterations", lambda start, settings, *given: one(*given[:2]))
    monkeypatch.setattr(on_policy, "numbers_of_record", lambda lines: {})
    start = load_policy(chain["sft"])
    policy = jax.tree.map(lambda leaf: leaf * 1.05, start.params)

    def one(sample, batches):
        samples = sample(policy, 0)
        samples["tokens"] = [np.array(tokens) for tokens in samples["tokens"]]
        batches(policy, samples)
        seen.append(samples)
        return start.params, []

    train(chain, tmp_path, loss="rloo", kl_weight=5.0)
    arrays, samples = seen
    apart = (arrays["old_token_logps"] - arrays["ref_token_logps"]).sum(axis=1)
    assert np.abs(apart).max() > 0.1
    np.testing.assert_allclose(arrays["old_token_logps"].sum(axis=1), samples["logp"], atol=1e-3)
    given = (samples["reward"].to_numpy() - 5 * apart).reshape(-1, 4)
    others = (given.sum(axis=1, keepdims=True) - given) / 3
    np.testing.assert_allclose(arrays["advantage"], (given - others).ravel(), rtol=1e-4, atol=1e-5)


def test_rewards_are_the_verifiers(chain, tmp_path):
    exact = train(chain, tmp_path / "exact", iterations=1)
    lenient = train(chain, tmp_path / "lenient", iterations=1, verifier={"classes": None, "false_positive": 1.0})
    samples = [pd.read_parquet(tmp_path / name / "samples.parquet") for name in ("exact", "lenient")]
    assert [list(row) for row in samples[0]["tokens"]] == [list(row) for row in samples[1]["tokens"]]
    assert lenient["mean_reward"] > exact["mean_reward"]


def test_the_sampler_is_compiled_once_for_all_iterations(chain, tmp_path):
    train(chain, tmp_path / "one", iterations=1)
    compiled = sampling._generate._cache_size()
    train(chain, tmp_path / "more", iterations=4, dynamic_sampling=2)
    assert sampling._generate._cache_size() == compiled


@pytest.mark.slow
def test_adapters_are_trained_and_sampled_with(chain, tmp_path):
    inputs = {**chain.inputs(reference="sft", synthetic="synthetic"), "base": chain["sft"]}
    train(chain, tmp_path, inputs, lora={"rank": 2}, iterations=2, learning_rate=1e-1)
    start, trained = load_policy(chain["sft"]), load_policy(tmp_path, chain["sft"])
    changed = jax.tree.map(lambda one, other: bool(np.any(one != other)), start.params, trained.params)
    assert any(jax.tree.leaves(changed)) and not all(jax.tree.leaves(changed))


# An interrupted stage.


SETTINGS = {"updates_per_iteration": 2, "problems_per_update": 2, "dynamic_sampling": 1, "kl_weight": 0.1}


@pytest.fixture(scope="module")
def unbroken(chain, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken")
    return out, train(chain, out, **SETTINGS)


@pytest.mark.parametrize("at", [[0], [2], [4, 5], [7], [11], [10, 1]])
def test_a_killed_stage_ends_with_the_bytes_of_the_unbroken_one(at, chain, unbroken, tmp_path, monkeypatch):
    looking_every(monkeypatch, 25)  # every third look brings a checkpoint, after samples or after updates
    expected, numbers = unbroken
    for moment in at:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            killing(patch, group_pg, moment)
            train(chain, tmp_path, **SETTINGS)
    assert train(chain, tmp_path, **SETTINGS) == numbers
    for name in BYTES:
        assert (tmp_path / name).read_bytes() == (expected / name).read_bytes(), name


def test_samples_that_a_checkpoint_holds_are_not_drawn_again(chain, tmp_path, monkeypatch):
    looking_every(monkeypatch, 100)  # each look brings a checkpoint
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        killing(patch, group_pg, 4)  # in the first update of the second iteration
        train(chain, tmp_path, **SETTINGS)
    drawn = []
    real = group_pg.draw
    monkeypatch.setattr(group_pg, "draw", lambda *of: drawn.append(of[2]) or real(*of))
    train(chain, tmp_path, **SETTINGS)
    assert drawn == [2, 3]


def test_a_killed_stage_goes_on_on_another_node_with_the_samples_of_its_copy(
    chain, unbroken, tmp_path, monkeypatch, memory_bucket, prompt
):
    looking_every(monkeypatch, 100)  # each look brings a checkpoint
    expected, numbers = unbroken
    drawn = []
    real = group_pg.draw
    monkeypatch.setattr(group_pg, "draw", lambda *of: drawn.append(of[2]) or real(*of))
    with copying_to(memory_bucket[0]):
        for node, moment in enumerate((4, 6)):
            with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
                killing(patch, group_pg, moment)
                train(chain, tmp_path / str(node), **SETTINGS)
        assert train(chain, tmp_path / "last", **SETTINGS) == numbers
    assert drawn == [0, 1, 2, 3]
    for name in BYTES:
        assert (tmp_path / "last" / name).read_bytes() == (expected / name).read_bytes(), name
