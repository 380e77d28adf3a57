"""KTO, whole and by step: the loss against NumPy, its reference point over a whole batch, rows, and the stage."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from finite_differences import gradient, logps_of
from stage_config import whole
from tiny_chain import PROBLEMS, SYNTHETIC, TOKENIZER, Chain, by_hand, tokens_of, values_by_hand

from algorithms import kto
from algorithms.kto import divergence, kto_loss, next_problems, unpaired_loss, with_mismatched
from data.records import read_jsonl
from scaling.training import batching

RIGHT = SYNTHETIC[0]["completion"]  # steps end after 6, 11 and 14 tokens
WRONG = "1 2 = 3 3 ; 3 3 = 7 ; # 7"


def table(params, tokens):
    """A policy whose logits are its params, [B, 2, T, V]; of the own rows, whose loss alone has a gradient."""
    return params


def test_at_the_reference_point_a_row_costs_one_half_and_its_gradient_is_a_quarter_of_beta():
    ratios, desirable = jnp.array([0.7, 0.7]), jnp.array([1.0, 0.0])
    np.testing.assert_allclose(kto_loss(ratios, desirable, 0.7, 0.4), [0.5, 0.5])
    slope = jax.grad(lambda at: kto_loss(at, desirable, 0.7, 0.4).sum())(ratios)
    np.testing.assert_allclose(slope, [-0.1, 0.1], rtol=1e-6)


def test_at_a_kl_of_0_and_below_it_a_row_costs_the_sigmoid_of_its_reward():
    ratios, desirable = jnp.array([math.log(3), math.log(3)]), jnp.array([1.0, 0.0])
    for kl in (0.0, -5.0):
        np.testing.assert_allclose(kto_loss(ratios, desirable, kl, 1.0), [1 / 4, 3 / 4], rtol=1e-6)


def random_batch(seed=0, size=4, length=6, vocabulary=4):
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, 2, length), np.float32)
    for row in mask.reshape(-1, length):
        row[rng.integers(1, 3) : rng.integers(4, length + 1)] = 1.0
    return rng.normal(size=(size, 2, length, vocabulary)), {
        "tokens": rng.integers(0, vocabulary, (size, 2, length)).astype(np.int32),
        "mask": mask,
        "ref_logps": rng.normal(-9, 1, size=(size, 2)).astype(np.float32),
        "desirable": np.array([1.0, 0.0] * (size // 2), np.float32),
        "weight": np.array([1.0] * (size - 1) + [0.0], np.float32),
        "beta": np.float32(0.6),
        "desirable_weight": np.float32(1.0),
        "undesirable_weight": np.float32(1.33),
    }


def ratios_of(logits, batch, which):
    tokens, mask = batch["tokens"][:, which], batch["mask"][:, which]
    return logps_of(logits, tokens, mask) - batch["ref_logps"][:, which]


def test_loss_and_gradient_agree_with_numpy_and_finite_differences_in_float64():
    logits, batch = random_batch()
    kept = batch["weight"] > 0
    kl = ratios_of(logits[:, 1], batch, 1)[kept].mean()
    assert kl > 0.1  # otherwise the cut at 0 hides it

    def expected(own):
        ratios, desirable = ratios_of(own, batch, 0), batch["desirable"] > 0
        value = 1 / (1 + np.exp(-0.6 * np.where(desirable, ratios - kl, kl - ratios)))
        return float((np.where(desirable, 1.0, 1.33) * (1 - value))[kept].mean())

    point = divergence(lambda params, tokens: params, jnp.asarray(logits[:, 1], jnp.float32), batch)["kl"]
    assert float(point.total / point.count) == pytest.approx(kl, rel=1e-5)

    def mean_loss(params):
        found = unpaired_loss(table, params, {**batch, "kl": point.total / point.count})["loss"]
        return found.total / found.count

    value, by_logits = jax.jit(jax.value_and_grad(mean_loss))(jnp.asarray(logits[:, 0], jnp.float32))
    assert float(value) == pytest.approx(expected(logits[:, 0]), rel=1e-5)
    found = gradient(expected, logits[:, 0])
    assert np.abs(found).max() > 0.01
    np.testing.assert_allclose(by_logits, found, atol=1e-5)


# Rows.


def labelled(root, run, config, inputs):
    (root / "labelled").mkdir()
    numbers = run({"problems": PROBLEMS, "seed": 0, **config}, inputs, root / "labelled")
    frame = pd.read_parquet(root / "labelled/labelled.parquet")
    return [
        (row.problem, list(row.context), list(row.completion), row.desirable) for row in frame.itertuples()
    ], numbers


def test_right_and_wrong_completions_are_labelled_each_at_most_as_often_as_asked(tmp_path):
    inputs = by_hand(tmp_path, {0: [RIGHT, "# 6", "# 6", WRONG, "# 7", "# 8"], 1: ["# 9", "# 9"]})
    config = {"labelled": {"completions_per_problem": 2, "teacher_positives": False}}
    rows, numbers = labelled(tmp_path, kto.label_completions, config, inputs)
    prompts = [TOKENIZER.encode_prompt(row["prompt"]) for row in SYNTHETIC]
    assert sorted(row[2] for row in rows if row[3]) == sorted([tokens_of(RIGHT), tokens_of("# 6")])
    assert [(row[0], row[1]) for row in rows] == [(0, prompts[0])] * 4 + [(1, prompts[1])]
    assert rows[-1][2:] == (tokens_of("# 9"), False)
    assert numbers["num_desirable"] == 2 and numbers["num_undesirable"] == 3
    assert numbers["problems_without_data_fraction"] == pytest.approx(1 / 3)


def test_the_teachers_solution_is_desirable_unless_it_is_not_offered(tmp_path):
    inputs = by_hand(tmp_path, {0: ["# 7"]})
    rows, _ = labelled(tmp_path, kto.label_completions, {"labelled": {"completions_per_problem": 1}}, inputs)
    assert [(row[0], row[3]) for row in rows] == [(0, True), (0, False), (1, True), (2, True)]
    assert rows[0][2] == tokens_of(RIGHT)


def test_a_step_is_labelled_by_the_sign_of_its_advantage_after_the_steps_before_it(tmp_path):
    inputs = by_hand(tmp_path, {0: [WRONG], 1: ["# 4"]})
    values = {(0, 0): ([0.75, 0.0, 0.0], 0.5), (1, 0): ([1.0], 0.25)}  # up, down, level; up
    inputs["step_values"] = values_by_hand(tmp_path, inputs, values)
    rows, numbers = labelled(tmp_path, kto.label_steps, {}, inputs)
    tokens, prompt = tokens_of(WRONG), TOKENIZER.encode_prompt(SYNTHETIC[0]["prompt"])
    assert rows == [
        (0, prompt, tokens[:6], True),
        (0, [*prompt, *tokens[:6]], tokens[6:11], False),
        (1, TOKENIZER.encode_prompt(SYNTHETIC[1]["prompt"]), tokens_of("# 4"), True),
    ]
    assert (numbers["num_desirable"], numbers["num_undesirable"]) == (2, 1)


def test_a_mismatched_twin_has_the_rows_context_and_a_completion_of_the_next_problem():
    assert next_problems(np.array([0, 0, 0, 3, 3, 7])) == [3, 4, 3, 5, 5, 0]
    frame = pd.DataFrame({"problem": [0, 4], "context": [[1, 5], [1]], "completion": [[6, 2], [8]]})
    rows = with_mismatched(frame)
    assert rows.tokens[:, :4].tolist() == [[1, 5, 6, 2], [1, 5, 8, 0], [1, 8, 0, 0], [1, 6, 2, 0]]
    assert rows.mask[:, :4].tolist() == [[0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]]


# The stage.


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("chain"), "sft")


def train(chain, out, problems=8, **changes):
    """A right and a wrong completion of each problem: its solution, and an answer at once."""
    (out / "labelled").mkdir(parents=True)
    rows = []
    for problem, row in enumerate(read_jsonl(chain["synthetic"] / "synthetic.jsonl")[:problems]):
        context = TOKENIZER.encode_prompt(row["prompt"])
        rows += [(problem, context, tokens_of(row["completion"]), True), (problem, context, tokens_of("# 3"), False)]
    frame = pd.DataFrame(rows, columns=["problem", "context", "completion", "desirable"])
    frame.to_parquet(out / "labelled/labelled.parquet")
    section = {"learning_rate": 3e-3, "epochs": 4, "batch_size": 8, "beta": 0.5}
    config = whole({"kto": section, "seed": 0}) | changes
    return kto.run(config, {"reference": chain["sft"], "labelled": out / "labelled"}, out)


def test_training_starts_at_one_half_raises_right_rows_over_wrong_ones_and_counts_both_passes(chain, tmp_path):
    numbers = train(chain, tmp_path)
    first = read_jsonl(tmp_path / "metrics.jsonl")[0]
    assert first["train/loss"] == pytest.approx(0.5, abs=1e-4)
    assert first["kl/reference_point"] == pytest.approx(0.0, abs=1e-4)
    assert numbers["rewards/chosen"] > 0 > -1 > numbers["rewards/rejected"]  # SFT is nearly sure of the right ones
    assert numbers["train/loss"] < 0.45 and numbers["num_sequences"] == 16


def test_the_reference_point_is_that_of_the_whole_batch_however_it_is_cut(chain, tmp_path, monkeypatch):
    whole_batch = train(chain, tmp_path / "whole")
    monkeypatch.setattr(batching, "CPU_TOKENS", 96)  # a row or two at a time
    cut = train(chain, tmp_path / "cut")
    assert cut == pytest.approx(whole_batch, rel=1e-3)
    points = [line["kl/reference_point"] for line in read_jsonl(tmp_path / "cut/metrics.jsonl")]
    assert max(points) > 0 or min(line["rewards/rejected"] for line in read_jsonl(tmp_path / "cut/metrics.jsonl")) < 0


def test_rows_of_one_problem_have_no_twins_an_error_at_first_and_later_the_end_of_training(chain, tmp_path):
    with pytest.raises(ValueError, match="2 labelled rows of 1 problems, but the reference point needs"):
        train(chain, tmp_path / "first", problems=1)
    assert train(chain, tmp_path / "later", problems=1, round=2)["num_updates"] == 0
