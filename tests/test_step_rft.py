"""Advantage-filtered RFT: which steps are learned, that nothing else is, and the stage from end to end."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_config import whole
from tiny_chain import (
    OPTIMIZER,
    PROBLEMS,
    SYNTHETIC,
    TOKENIZER,
    Chain,
    by_hand,
    tokens_of,
    values_by_hand,
)

from algorithms import step_rft
from algorithms.sft import nll
from algorithms.step_rft import step_mask
from data import verifier
from data.records import read_jsonl, write_jsonl
from data.tokens.tokenizer import for_problems
from scaling.config.problems import Ledger
from scaling.config.section import plain
from scaling.training.batching import masked_sequences

RIGHT = SYNTHETIC[0]["completion"]  # steps end after 6, 11 and 14 tokens
WRONG = "1 2 = 3 3 ; 3 3 = 7 ; # 7"
SPURIOUS = "1 2 = 4 3 ; 4 3 = 6 ; # 6"


def select(root, inputs, min_advantage=0.0):
    """The rows (problem, prompt, tokens, mask) of steps to learn, and the numbers."""
    out = root / f"steps-{min_advantage}"
    out.mkdir()
    numbers = step_rft.select_steps({"problems": PROBLEMS, "good_steps": {"min_advantage": min_advantage}}, inputs, out)
    frame = pd.read_parquet(out / "good_steps.parquet")
    rows = [(row.problem, list(row.prompt), list(row.tokens), list(row.mask)) for row in frame.itertuples(index=False)]
    return rows, numbers


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1))
def test_a_step_mask_has_one_weight_a_token_constant_within_a_step(steps):
    ends = np.cumsum([length for length, _ in steps]).tolist()
    kept = [keep for _, keep in steps]
    expected = [float(keep) for length, keep in steps for _ in range(length)]
    assert step_mask(ends, kept) == expected


def test_a_mask_for_another_number_of_steps_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        step_mask([2, 4], [True])


def test_steps_that_raise_q_are_kept_of_right_and_wrong_traces_alike(tmp_path):
    inputs = by_hand(tmp_path, {0: [RIGHT, WRONG], 1: ["# 5"]})
    values = {
        (0, 0): ([0.25, 0.75, 1.0], 0.5),  # down, up, up
        (0, 1): ([0.75, 0.0, 0.0], 0.5),  # up, down, level
        (1, 0): ([0.0], 0.5),  # down
    }
    rows, numbers = select(tmp_path, {**inputs, "step_values": values_by_hand(tmp_path, inputs, values)})
    prompt = TOKENIZER.encode_prompt(SYNTHETIC[0]["prompt"])
    assert rows == [
        (0, prompt, tokens_of(RIGHT), [0.0] * 6 + [1.0] * 8),
        (0, prompt, tokens_of(WRONG), [1.0] * 6 + [0.0] * 8),
    ]
    assert numbers == {
        "num_traces": 2.0,
        "kept_steps_fraction": pytest.approx(3 / 7),
        "num_learned_steps": 3.0,
        "num_wrong_steps": 0.0,
        "num_spurious_steps": 0.0,
        "num_spurious_traces": 0.0,
        "problems_without_data_fraction": pytest.approx(2 / 3),
    }


def test_a_spurious_step_of_a_right_trace_is_left_out(tmp_path):
    inputs = by_hand(tmp_path, {0: [SPURIOUS]})
    values = {(0, 0): ([0.25, 1.0, 1.0], 0.75)}  # the first wrong sum lowers Q, the second repairs it
    (row,), numbers = select(tmp_path, {**inputs, "step_values": values_by_hand(tmp_path, inputs, values)})
    assert row[3] == [0.0] * 6 + [1.0] * 5 + [0.0] * 3
    assert (numbers["num_spurious_steps"], numbers["num_spurious_traces"]) == (1, 1)  # the repair is a wrong sum too


def test_wrong_steps_that_are_learned_are_counted_in_right_and_in_wrong_traces(tmp_path):
    inputs = by_hand(tmp_path, {0: [RIGHT, WRONG, SPURIOUS, "# 6"]})
    raised = ([0.5, 0.75, 1.0], 0.25)
    values = {(0, 0): raised, (0, 1): ([0.5, 0.75, 0.0], 0.25), (0, 2): raised, (0, 3): ([1.0], 0.25)}
    _, numbers = select(tmp_path, {**inputs, "step_values": values_by_hand(tmp_path, inputs, values)})
    # Kept: 3 right steps; a right and a wrong one (3 3 = 7) of the wrong trace; two wrong and a right one; one wrong.
    assert (numbers["num_learned_steps"], numbers["num_wrong_steps"]) == (9, 4)
    assert (numbers["num_spurious_steps"], numbers["num_spurious_traces"]) == (3, 2)


@pytest.mark.parametrize(("min_advantage", "num_kept"), [(-1.0, 3), (-0.5, 2), (0.0, 2), (0.25, 1), (0.5, 0), (1.0, 0)])
def test_a_step_is_kept_when_its_advantage_is_above_the_threshold_not_at_it(tmp_path, min_advantage, num_kept):
    inputs = by_hand(tmp_path, {0: [RIGHT]})
    inputs["step_values"] = values_by_hand(tmp_path, inputs, {(0, 0): ([0.25, 0.5, 1.0], 0.75)})  # -1/2, 1/4, 1/2
    _, numbers = select(tmp_path, inputs, min_advantage)
    assert numbers["kept_steps_fraction"] == pytest.approx(num_kept / 3)


def test_only_the_tokens_of_kept_steps_get_a_gradient():
    rows = masked_sequences([[1, 3]], [[4, 5, 6, 2]], [step_mask([2, 4], [False, True])])
    batch = {"tokens": rows.tokens, "mask": rows.mask, "weight": np.ones(1, np.float32)}
    loss = jax.jit(jax.grad(lambda logits: nll(lambda params, _: params, logits, batch)["loss"].total))
    touched = np.abs(loss(jnp.zeros((*rows.tokens.shape, 7)))).sum(axis=-1) > 0
    assert np.argwhere(touched).tolist() == [[0, 3], [0, 4]]  # the logits before tokens 4 and 5


# Training.


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("chain"), "sft")


@pytest.fixture(scope="module")
def artifacts(chain, tmp_path_factory):
    """Every problem's teacher solution as its one trace, of which every step, or none, raises Q."""
    root = tmp_path_factory.mktemp("steps")
    synthetic = read_jsonl(chain["synthetic"] / "synthetic.jsonl")
    inputs = by_hand(root, {problem: [row["completion"]] for problem, row in enumerate(synthetic)}, synthetic)
    values = {(problem, 0): ([0.5, 0.75, 1.0], 0.25) for problem in range(len(synthetic))}
    inputs["step_values"] = values_by_hand(root, inputs, values)
    for threshold in (0.0, 0.25):  # the advantages are all 1/4
        select(root, inputs, threshold)
    return {"start": chain["base"], "synthetic": chain["synthetic"], "root": root}


def train(out, artifacts, threshold, **settings):
    out.mkdir()
    inputs = {**artifacts, "good_steps": artifacts["root"] / f"steps-{threshold}"}
    return step_rft.run(whole({"problems": PROBLEMS, "step_rft": {**OPTIMIZER, **settings}, "seed": 0}), inputs, out)


def test_with_every_step_kept_it_is_sft_on_the_traces(chain, artifacts, tmp_path):
    numbers = train(tmp_path / "out", artifacts, 0.0, include_synthetic=False)
    assert numbers == chain.numbers["sft"]
    ours, theirs = ((path / "policy.safetensors").read_bytes() for path in (tmp_path / "out", chain["sft"]))
    assert ours == theirs


def test_mixing_d_syn_in_learns_all_its_tokens(chain, artifacts, tmp_path):
    numbers = train(tmp_path / "out", artifacts, 0.25, include_synthetic=True, epochs=1)
    assert numbers["num_learned_tokens"] == chain.numbers["sft"]["num_learned_tokens"]
    assert numbers["num_sequences"] == chain.numbers["sft"]["num_sequences"]


def test_no_step_to_learn_and_no_d_syn_is_an_error_with_its_cure(artifacts, tmp_path):
    with pytest.raises(ValueError, match=r"no step has an advantage above min_advantage.*lower\s+step_rft"):
        train(tmp_path / "out", artifacts, 0.25, include_synthetic=False)


def test_a_right_step_that_is_not_needed_is_spurious_and_not_wrong_where_it_is_learned(tmp_path):
    settings = Ledger(modulus=7)
    tokenizer = for_problems(settings)
    prompt = "Ana has 3 . Bo has 4 . Cy is Ana plus Bo . Gus is Bo plus Ana . how many has Cy ?"
    tokens = tokenizer.encode_completion("Gus : Bo 4 plus Ana 3 = 0 ; Cy : Ana 3 plus Bo 4 = 0 ; # 0")
    inputs = {name: tmp_path / name for name in ("synthetic", "rollouts", "verification", "step_values")}
    for folder in inputs.values():
        folder.mkdir()
    write_jsonl(inputs["synthetic"] / "synthetic.jsonl", [{"prompt": prompt, "answer": "0"}])
    rollout = pd.DataFrame({"problem": [0], "sample": [0], "tokens": [tokens], "logp": [-1.0]})
    rollout.to_parquet(inputs["rollouts"] / "rollouts.parquet")
    verifier.run({"problems": plain(settings)}, inputs, inputs["verification"])
    assert pd.read_parquet(inputs["verification"] / "verification.parquet")["spurious_steps"].tolist() == [1]
    valued = {"problem": [0], "sample": [0], "reward": [1.0], "step_ends": [[10, 20, 23]]}
    values = pd.DataFrame({**valued, "q_values": [[0.5, 0.75, 1.0]], "prompt_value": [0.25]})
    values.to_parquet(inputs["step_values"] / "step_values.parquet")
    config = {"problems": plain(settings), "good_steps": {"min_advantage": 0.0}}
    numbers = step_rft.select_steps(config, inputs, tmp_path)
    assert (numbers["num_learned_steps"], numbers["num_wrong_steps"], numbers["num_spurious_steps"]) == (3, 0, 1)
