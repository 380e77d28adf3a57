"""Policy gradient on step advantages: gains by hand, the loss against NumPy, PAV's trap, and the stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from finite_differences import gradient, logps_of
from interrupted import BYTES, Killed, killing, looking_every
from pydantic import ValidationError
from stage_config import whole
from tiny_chain import PROBLEMS, SETTINGS, TOKENIZER, Chain

from algorithms import step_pg
from algorithms.step_pg import step_gains, step_loss
from data.continuations import Source
from data.groups import Draws, draw, with_continuations
from data.records import read_jsonl, read_problems
from data.tokens.steps import step_cutter
from scaling.config.on_policy import StepPg
from scaling.config.sampling import Verifier
from scaling.kinds import kind_of, loaded
from scaling.model.flops import forward_flops, sampling_flops, training_flops
from scaling.model.policy import load_policy
from scaling.stage import Stage

TEMPERATURE = 0.7
VINE = {"outcome_weight": 0.0, "step_weight": 1.0, "best_of": 1}


def table(params, tokens):
    """A policy whose logits are its params, [B, T, V]."""
    return params


def random_batch(kl_weight, size=3, length=7, vocabulary=4):
    """Logits, and completions whose ratios leave the clipped range on both sides."""
    rng = np.random.default_rng(0)
    mask = np.zeros((size, length), np.float32)
    for row in mask:
        start = rng.integers(1, 3)
        row[start : start + rng.integers(2, 5)] = 1.0
    logits, tokens = rng.normal(size=(size, length, vocabulary)), rng.integers(0, vocabulary, (size, length))
    logps = by_token(logits, tokens, mask)
    batch = {
        "tokens": tokens.astype(np.int32),
        "mask": mask,
        "weight": np.ones(size, np.float32),
        "token_gains": (rng.normal(size=mask.shape) * mask).astype(np.float32),
        "old_token_logps": ((logps - rng.normal(0, 0.4, mask.shape)) * mask).astype(np.float32),
        **{name: np.float32(value) for name, value in (("epsilon", 0.2), ("temperature", TEMPERATURE))},
        "kl_weight": np.float32(kl_weight),
    }
    if kl_weight:
        batch["ref_token_logps"] = ((logps + rng.normal(0, 0.5, mask.shape)) * mask).astype(np.float32)
    return logits, batch


def by_token(logits, tokens, mask):
    """Log-probability float64 [B, T] of each masked token at the temperature."""
    places = np.eye(mask.shape[1])[:, None, :] * mask
    return np.stack([logps_of(logits / TEMPERATURE, tokens, at) for at in places], axis=1)


def written_out(logits, batch):
    """The loss token by token."""
    logps = by_token(logits, batch["tokens"], batch["mask"])
    total = 0.0
    for row, place in np.argwhere(batch["mask"]):
        gain, ratio = batch["token_gains"][row, place], np.exp(logps[row, place] - batch["old_token_logps"][row, place])
        total += min(ratio * gain, np.clip(ratio, 0.8, 1.2) * gain)
        if "ref_token_logps" in batch:
            apart = batch["ref_token_logps"][row, place] - logps[row, place]
            total -= batch["kl_weight"] * (np.exp(apart) - apart - 1)
    return -total / batch["mask"].sum()


def mean_loss(params, batch):
    found = step_loss(table, params, batch)["loss"]
    return found.total / found.count


@pytest.mark.parametrize("kl_weight", [0.0, 0.3])
def test_loss_and_gradient_agree_with_numpy_and_finite_differences_in_float64(kl_weight):
    logits, batch = random_batch(kl_weight)
    value, by_logits = jax.value_and_grad(mean_loss)(jnp.asarray(logits, jnp.float32), batch)
    assert float(value) == pytest.approx(written_out(logits, batch), rel=1e-4, abs=1e-6)
    found = gradient(lambda moved: written_out(moved, batch), logits)
    assert np.abs(found).max() > 0.01
    np.testing.assert_allclose(by_logits, found, atol=1e-5)
    sums = step_loss(table, jnp.asarray(logits, jnp.float32), batch)
    assert 0 < float(sums["clip_fraction"].total) < batch["mask"].sum() == float(sums["entropy"].count)


def group(rewards, num_correct):
    return pd.DataFrame({"reward": rewards, "num_correct": num_correct})


def settings_of(size, rollouts, **weights):
    return StepPg(samples_per_problem=size, rollouts_per_prefix=rollouts, **weights)


def test_gains_by_hand():
    # Two completions of one problem: half are right. The first is right after 3 and then 4 of 4; the second after 2, 0.
    samples = group([1.0, 0.0], [[3, 4], [2, 0]])
    vine = step_gains(samples, settings_of(2, 4, **VINE))
    np.testing.assert_allclose(vine, [[0.25, 0.25, 0.0], [0.0, -0.5, 0.0]])
    outcome = step_gains(samples, settings_of(2, 4, outcome_weight=2.0, step_weight=0.0, best_of=1))
    np.testing.assert_allclose(outcome, [[1.0] * 3, [-1.0] * 3])
    # Best of 2: 1 - C(4 - c, 2) / C(4, 2) is 1, 1, 5/6 and 0 at c = 4, 3, 2 and 0; of the problem 1 - C(1, 2) = 1. So
    # the advantages are 0, 0, 0 and -1/6, -5/6, 0, less their means -1/12, -5/12, 0.
    mixed = step_gains(samples, settings_of(2, 4, outcome_weight=1.0, step_weight=3.0, best_of=2))
    np.testing.assert_allclose(mixed, [[0.75, 1.75, 0.5], [-0.75, -1.75, -0.5]], atol=1e-12)
    # A completion with fewer steps: the third place is the second one's alone.
    ragged = step_gains(
        group([1.0, 0.0], [[], [2, 0]]), settings_of(2, 4, outcome_weight=0.0, step_weight=1.0, best_of=2)
    )
    np.testing.assert_allclose(ragged[0], [1 / 12])
    np.testing.assert_allclose(ragged[1], [-1 / 12, 0, 0], atol=1e-12)


def expected_gradient(**weights):
    """The gradient over all completions of a world, each as often as the policy writes it, by its three choices.

    A first step 0 or 1, one half each; then the right answer with a chance of 3/4 after 0, and of 1/4 after 1.
    """
    paths = [(0, 1)] * 3 + [(0, 0)] + [(1, 1)] + [(1, 0)] * 3
    samples = group([float(right) for _, right in paths], [[3 if first == 0 else 1] for first, _ in paths])
    gains = step_gains(samples, settings_of(8, 4, **weights))
    batch = {
        "tokens": np.array([[0, *path] for path in paths], np.int32),
        "mask": np.array([[0.0, 1.0, 1.0]] * 8, np.float32),
        "weight": np.ones(8, np.float32),
        "token_gains": np.array([[0.0, *row] for row in gains], np.float32),
        **{name: np.float32(value) for name, value in (("epsilon", 0.2), ("kl_weight", 0.0), ("temperature", 1.0))},
    }

    def of_choices(choices):
        first = jnp.asarray([path[0] for path in paths])
        rows = jnp.stack([jnp.broadcast_to(choices[0], (8, 2)), choices[1 + first], jnp.zeros((8, 2))], axis=1)
        return mean_loss(rows, batch)

    chances = np.log([[0.5, 0.5], [0.25, 0.75], [0.75, 0.25]])
    return np.asarray(jax.grad(of_choices)(jnp.asarray(chances, jnp.float32)))


def test_with_the_policy_itself_as_prover_the_mixture_only_rescales_and_with_best_of_k_it_does_not():
    outcome = expected_gradient(outcome_weight=1.0, step_weight=0.0, best_of=1)
    assert np.abs(outcome).max() > 0.01
    np.testing.assert_allclose(expected_gradient(**VINE), outcome, atol=1e-6)
    mixture = {"outcome_weight": 1.0, "step_weight": 3.0}
    np.testing.assert_allclose(expected_gradient(**mixture, best_of=1), 4 * outcome, atol=1e-6)
    other = expected_gradient(**mixture, best_of=4).ravel()
    cosine = other @ outcome.ravel() / np.linalg.norm(other) / np.linalg.norm(outcome)
    assert cosine < 0.99


def test_settings_that_cannot_be_estimated_or_teach_nothing_are_refused():
    for settings, words in (
        ({"best_of": 6}, "best_of is 6, more than rollouts_per_prefix = 5"),
        ({"samples_per_problem": 3}, "more than rollouts_per_prefix = 5 or samples_per_problem = 3"),
        ({"outcome_weight": 0.0, "step_weight": 0.0}, "nothing to learn from"),
    ):
        with pytest.raises(ValidationError, match=words):
            StepPg(**settings)


# The stage.


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("chain"), "sft")


SECTION = {"iterations": 3, "problems_per_update": 2, "samples_per_problem": 4, "learning_rate": 3e-3}
SECTION |= {"rollouts_per_prefix": 4}


def train(chain, out, **changes):
    out.mkdir(parents=True, exist_ok=True)
    config = whole({"problems": PROBLEMS, "step_pg": {**SECTION, **changes}, "seed": 0})
    return step_pg.run(config, chain.inputs(reference="sft", synthetic="synthetic"), out)


def test_continuations_are_nested_in_their_number_and_keyed_by_iteration(chain):
    policy = load_policy(chain["sft"])
    source = Source(SETTINGS, TOKENIZER, read_problems(chain["synthetic"] / "synthetic.jsonl"), 0, 15, Verifier())
    draws, cutter = Draws(source, policy.config, 4, 4, 0, 1.0), step_cutter(SETTINGS, TOKENIZER)
    drawn = draw(draws, policy.params, 0)

    def continued(iteration, count):
        return with_continuations(draws, policy.params, iteration, drawn, cutter, count)

    few, many, later = continued(0, 2), continued(0, 6), continued(1, 6)
    (few_right, many_right, later_right) = (np.concatenate(part["num_correct"]) for part in (few, many, later))
    assert few["step_ends"].map(len).tolist() == [len(counts) + 1 for counts in few["num_correct"]]
    assert ((few_right <= many_right) & (many_right <= few_right + 4)).all() and (many_right > few_right).any()
    assert (many_right != later_right).any()
    assert many["continuation_flops"].sum() > 2 * few["continuation_flops"].sum() > 0


def test_what_is_sampled_and_continued_is_counted(chain, tmp_path):
    numbers = train(chain, tmp_path, iterations=1, updates_per_iteration=2, kl_weight=0.1)
    samples, config = pd.read_parquet(tmp_path / "samples.parquet"), load_policy(chain["sft"]).config
    lengths = samples["tokens"].map(len).tolist()
    num_continuations = 4 * sum(len(counts) for counts in samples["num_correct"])
    assert numbers["num_rollouts"] == len(samples) == 16 and numbers["num_continuations"] == num_continuations > 0
    assert numbers["num_generated_tokens"] == sum(lengths) + samples["continuation_tokens"].sum()
    expected = sampling_flops(config, [5] * 16, lengths) + samples["continuation_flops"].sum()
    assert numbers["generation_flops"] == pytest.approx(expected)
    read = [5 + length for length in lengths]
    assert numbers["training_flops"] == pytest.approx(training_flops(config, read) + 2 * forward_flops(config, read))
    made = loaded(kind_of("step_pg").verified)(Stage("step_pg", {}), numbers)
    assert made == 16 + num_continuations


def test_rewards_rise(chain, tmp_path):
    train(chain, tmp_path, iterations=25, problems_per_update=8, samples_per_problem=8, **VINE)
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    before, after = (np.mean([line["rewards/mean"] for line in part]) for part in (lines[:5], lines[-5:]))
    assert after > before + 0.2
    assert all(0 <= line["groups/without_gradient_fraction"] <= 1 for line in lines)


@pytest.mark.parametrize("at", [[0], [4], [7, 2]])
def test_a_killed_stage_ends_with_the_bytes_of_the_unbroken_one(at, chain, tmp_path, monkeypatch):
    settings = {"updates_per_iteration": 2, "problems_per_update": 1, "kl_weight": 0.1}
    numbers = train(chain, tmp_path / "unbroken", **settings)
    looking_every(monkeypatch, 25)
    for moment in at:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            killing(patch, step_pg, moment)
            train(chain, tmp_path / "killed", **settings)
    assert train(chain, tmp_path / "killed", **settings) == numbers
    for name in BYTES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes(), name
