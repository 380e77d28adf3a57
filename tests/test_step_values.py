"""Step values: the choice of traces, estimates from continuations, and the stage on a tiny policy."""

import numpy as np
import pandas as pd
import pytest
from tiny_chain import (
    CONFIGS,
    NUM_PROBLEMS,
    PROBLEMS,
    SYNTHETIC,
    TOKENIZER,
    TRACES_PER_PROBLEM,
    by_hand,
    split_steps,
)

from data import pairs, step_values
from data.q_values import best_of_k
from data.rollout_tables import load_step_values, load_verified
from data.step_values import choose_traces, with_prompt_value, with_q_values
from scaling.config.sampling import StepValues

# The choice of traces.


@pytest.fixture
def verified(tmp_path):
    completions = {0: ["# 1", "# 6", "# 1", "# 2", "# 3", "# 6"], 1: ["# 4"], 2: ["# 0", "# 0", "# 1", "# 3", "# 5"]}
    inputs = by_hand(tmp_path, completions)
    return load_verified(inputs["rollouts"], inputs["verification"])


def samples(traces):
    return {int(problem): group["sample"].tolist() for problem, group in traces.groupby("problem")}


def test_traces_are_different_negatives_each_the_first_of_its_duplicates(verified):
    traces = choose_traces(verified, "negatives", 9, seed=0)
    assert list(traces.columns) == ["problem", "sample", "reward", "tokens"]
    assert samples(traces) == {0: [0, 3, 4], 2: [0, 2, 3, 4]} and (traces["reward"] == 0.0).all()
    assert samples(choose_traces(verified, "all", 9, seed=0)) == {0: [0, 1, 3, 4], 1: [0], 2: [0, 2, 3, 4]}


def test_at_most_per_problem_traces_are_chosen_and_every_one_can_be(verified):
    found = set()
    for seed in range(40):
        chosen = samples(choose_traces(verified, "negatives", 2, seed))
        assert chosen.keys() == {0, 2} and all(len({*numbers}) == 2 for numbers in chosen.values())
        found |= {(problem, number) for problem, numbers in chosen.items() for number in numbers}
    assert found == {(0, 0), (0, 3), (0, 4), (2, 0), (2, 2), (2, 3), (2, 4)}


def test_the_choice_follows_from_the_seed_and_the_problem_alone(verified):
    alone = verified[verified["problem"] == 2].reset_index(drop=True)
    for seed in range(10):
        chosen = samples(choose_traces(verified, "negatives", 2, seed))
        assert samples(choose_traces(verified, "negatives", 2, seed)) == chosen
        assert samples(choose_traces(alone, "negatives", 2, seed)) == {2: chosen[2]}


def test_problems_with_as_many_candidates_are_chosen_from_independently(tmp_path):
    wrong = ["# 0", "# 1", "# 3", "# 5"]
    inputs = by_hand(tmp_path, {0: wrong, 1: wrong})
    twins = load_verified(inputs["rollouts"], inputs["verification"])
    chosen = [samples(choose_traces(twins, "negatives", 2, seed)) for seed in range(20)]
    # One of six pairs is chosen for each: the same one in all 20 seeds has chance 6^-20.
    assert any(numbers[0] != numbers[1] for numbers in chosen)


def test_traces_of_an_unknown_kind_are_an_error(verified):
    with pytest.raises(ValueError, match="traces is 'positives'; use 'negatives' or 'all'"):
        choose_traces(verified, "positives", 2, seed=0)


# From continuations to Q.


def test_q_values_are_best_of_k_of_the_continuations_and_the_last_is_the_reward(tmp_path):
    right, wrong = SYNTHETIC[0]["completion"], "1 2 = 3 3 ; 3 3 = 7 ; # 7"
    inputs = by_hand(tmp_path, {0: [right, wrong, "# 5", "# 6"], 1: ["# 5", "# 3"]})
    verified = load_verified(inputs["rollouts"], inputs["verification"])
    traces = verified.loc[[0, 1, 4]].assign(step_ends=[[6, 11, 14], [6, 11, 14], [3]])
    counts = {(0, 0, 0): 1, (0, 0, 1): 4, (0, 1, 0): 2, (0, 1, 1): 0}
    continuations = pd.DataFrame(
        [(*key, index, float(index < count)) for key, count in counts.items() for index in range(4)],
        columns=["problem", "sample", "step", "index", "reward"],
    )
    table = with_q_values(traces, continuations, StepValues(rollouts_per_prefix=4, best_of=2))
    table = with_prompt_value(table, verified, best_of=2)
    # 1 - C(4 - c, 2) / C(4, 2) is 0, 1/2, 5/6, 1, 1 for c = 0 to 4.
    assert table["q_values"].tolist() == [[0.5, 1.0, 1.0], [pytest.approx(5 / 6), 0.0, 0.0], [0.0]]
    assert table["prompt_value"].tolist() == [pytest.approx(5 / 6)] * 2 + [0.0]  # 2 of 4 rollouts right, and 0 of 2


# The stage.


@pytest.fixture
def chain(values_chain):
    return values_chain


@pytest.fixture
def table(chain):
    return load_step_values(chain["step_values"], load_verified(chain["rollouts"], chain["verification"]))


@pytest.fixture
def continuations(chain):
    return pd.read_parquet(chain["step_values"] / "continuations.parquet")


def test_every_trace_has_a_q_value_and_an_end_for_each_step(table):
    assert {len(group) for _, group in table.groupby("problem")} == {TRACES_PER_PROBLEM}
    assert len(table) == NUM_PROBLEMS * TRACES_PER_PROBLEM
    for row in table.itertuples(index=False):
        steps = split_steps(row.tokens, TOKENIZER.id_of(";"))
        assert row.step_ends == np.cumsum([len(step) for step in steps]).tolist()
        assert len(row.q_values) == len(steps) and row.q_values[-1] == row.reward
        assert all(0.0 <= value <= 1.0 for value in (*row.q_values, row.prompt_value))


def test_the_traces_hold_both_rewards(table):
    # Otherwise the tests of this module would look at half of the cases.
    assert set(table["reward"]) == {0.0, 1.0}


def test_q_values_and_prompt_values_are_best_of_k_of_what_was_sampled(chain, table, continuations):
    rewards = continuations.groupby(["problem", "sample", "step"])["reward"].sum()
    own = load_verified(chain["rollouts"], chain["verification"]).groupby("problem")["reward"]
    for row in table.itertuples(index=False):
        for step, q_value in enumerate(row.q_values[:-1]):
            # Best of two of two rollouts is right unless both are wrong.
            assert q_value == float(rewards[row.problem, row.sample, step] > 0)
        assert row.prompt_value == best_of_k(int(own.sum()[row.problem]), int(own.size()[row.problem]), 2)


def test_the_numbers_count_traces_prefixes_and_tokens(chain, table, continuations):
    numbers = chain.numbers["step_values"]
    assert numbers["num_traces"] == len(table)
    assert numbers["num_prefixes"] == sum(len(ends) - 1 for ends in table["step_ends"])
    assert numbers["num_generated_tokens"] == sum(map(len, continuations["tokens"])) and numbers["generation_flops"] > 0


def test_no_negative_leaves_an_empty_table_that_can_be_read(chain, tmp_path):
    inputs = by_hand(tmp_path, {0: ["# 6"] * 2, 1: ["# 4"] * 2, 2: ["# 2"] * 2})
    config = {"problems": PROBLEMS, **CONFIGS["step_values"], "traces": "negatives"}
    numbers = step_values.run(config, {**inputs, "policy": chain["sft"]}, tmp_path)
    assert numbers == {"num_traces": 0.0, "num_prefixes": 0.0, "num_generated_tokens": 0.0, "generation_flops": 0.0}
    assert len(load_step_values(tmp_path, load_verified(inputs["rollouts"], inputs["verification"]))) == 0
    config = {"problems": PROBLEMS, "pairs": {"pair_mode": "shared_prefix", "pit_rule": "lowest"}, "seed": 0}
    with pytest.raises(ValueError, match="none of 3 problems gives a pair, because no rollout is wrong"):
        pairs.run_at_pits(config, {**inputs, "step_values": tmp_path}, tmp_path)


def test_step_values_of_rollouts_that_are_not_there_are_an_error(chain, table):
    others = load_verified(chain["rollouts"], chain["verification"]).query("problem > 0")
    with pytest.raises(ValueError, match=r"rollouts has no row, but .*step_values\.parquet has one, for .* problem 0,"):
        load_step_values(chain["step_values"], others)


def test_a_best_of_more_than_m_is_an_error_with_its_cure(chain, tmp_path):
    with pytest.raises(ValueError, match="raise rollouts_per_prefix or lower best_of"):
        chain.rerun("step_values", tmp_path / "out", step_values={"rollouts_per_prefix": 2, "best_of": 5})


def test_a_best_of_more_than_a_problem_has_rollouts_is_an_error_before_sampling(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(step_values, "sampler_of", lambda *_: None)
    inputs = by_hand(tmp_path, {0: ["# 6", "# 1"], 1: ["# 4"]})
    config = {"problems": PROBLEMS, **CONFIGS["step_values"]}
    with pytest.raises(ValueError, match=r"best_of is 2, but .* 1 rollout.* raise rollouts\.samples_per_problem"):
        step_values.run(config, {**inputs, "policy": chain["sft"]}, tmp_path)
