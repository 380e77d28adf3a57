"""Step values: estimates and pits against brute force, the choice of traces, and the stage on a tiny policy."""

from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_chain import (
    CONFIGS,
    NUM_PROBLEMS,
    PROBLEMS,
    SYNTHETIC,
    TOKENIZER,
    TRACES_PER_PROBLEM,
    by_hand,
)

from data import pairs, step_values
from data.step_values import (
    advantages,
    best_of_k,
    choose_traces,
    first_pit,
    load_step_values,
    with_prompt_value,
    with_q_values,
)
from data.tokens.steps import split_steps
from data.verifier import load_verified
from scaling.config.sampling import StepValues

CHANCES = st.floats(0.0, 1.0)
Q_VALUES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=8)


# Best of K.


@given(st.integers(1, 7), st.data())
def test_best_of_k_is_the_share_of_k_subsets_with_a_correct_rollout(num_rollouts, data):
    rewards = data.draw(st.lists(st.booleans(), min_size=num_rollouts, max_size=num_rollouts))
    k = data.draw(st.integers(1, num_rollouts))
    brute_force = np.mean([any(subset) for subset in combinations(rewards, k)])
    assert best_of_k(sum(rewards), num_rollouts, k) == pytest.approx(brute_force)


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_best_of_k_is_unbiased(chance, k):
    num_rollouts = 8
    mean = sum(
        comb(num_rollouts, c) * chance**c * (1 - chance) ** (num_rollouts - c) * best_of_k(c, num_rollouts, k)
        for c in range(num_rollouts + 1)
    )
    assert mean == pytest.approx(1 - (1 - chance) ** k)


@given(st.integers(1, 20), st.data())
def test_best_of_k_rises_with_k_and_is_the_mean_at_one(num_rollouts, data):
    num_correct = data.draw(st.integers(0, num_rollouts))
    values = [best_of_k(num_correct, num_rollouts, k) for k in range(1, num_rollouts + 1)]
    assert values[0] == pytest.approx(num_correct / num_rollouts) and values == sorted(values)
    assert values[-1] == (num_correct > 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 5), "k is 5; best-of-k needs 1 to 4"),
        ((0, 4, 0), "k is 0"),
        ((5, 4, 1), "num_correct is 5 of 4"),
        ((-1, 4, 1), "num_correct is -1 of 4"),
    ],
)
def test_best_of_more_rollouts_than_there_are_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        best_of_k(*arguments)


# Advantages and pits.


@given(st.lists(CHANCES, min_size=1, max_size=12), CHANCES)
def test_advantages_telescope_to_reward_minus_prompt_value(q_values, prompt_value):
    gains = advantages(q_values, prompt_value)
    assert len(gains) == len(q_values)
    assert sum(gains) == pytest.approx(q_values[-1] - prompt_value, abs=1e-12)


@given(Q_VALUES, CHANCES)
def test_advantages_are_differences_in_numpy(q_values, prompt_value):
    assert advantages(q_values, prompt_value) == np.diff(q_values, prepend=prompt_value).tolist()


@given(Q_VALUES, CHANCES)
def test_the_first_pit_is_the_first_step_with_the_lowest_q(q_values, prompt_value):
    pit = first_pit(q_values, prompt_value)
    assert pit == first_pit(q_values, prompt_value, "lowest") == q_values.index(min(q_values))


@given(Q_VALUES, CHANCES)
def test_in_a_negative_the_first_pit_is_the_first_step_with_no_correct_rollout(q_values, prompt_value):
    negative = [*q_values, 0.0]  # after the last step of a negative nothing can be right
    assert first_pit(negative, prompt_value) == next(i for i, q_value in enumerate(negative) if q_value == 0.0)


@given(Q_VALUES, CHANCES)
def test_the_largest_drop_is_the_first_step_with_the_least_advantage(q_values, prompt_value):
    drops = [before - after for before, after in zip([prompt_value, *q_values], q_values, strict=False)]
    assert first_pit(q_values, prompt_value, "largest_drop") == drops.index(max(drops))


@pytest.mark.parametrize(
    ("q_values", "prompt_value", "lowest", "largest_drop"),
    [
        ([0.75, 0.5, 0.0, 0.0], 1.0, 2, 2),
        ([0.0, 0.0, 0.0], 0.5, 0, 0),  # wrong at once: ties go to the first
        ([0.25, 0.0], 1.0, 1, 0),  # the rules differ
        ([0.5, 0.0, 0.5, 0.0], 0.5, 1, 1),  # two equal drops
        ([0.0], 0.0, 0, 0),  # one step, which no rollout could save
        ([0.5, 0.5, 1.0], 0.5, 0, 0),  # a positive that never falls still has a lowest step
    ],
)
def test_known_pits(q_values, prompt_value, lowest, largest_drop):
    assert first_pit(q_values, prompt_value, "lowest") == lowest
    assert first_pit(q_values, prompt_value, "largest_drop") == largest_drop


@given(Q_VALUES)
def test_the_k_of_best_of_k_does_not_move_the_lowest_pit_of_a_negative(counts):
    num_correct = [round(4 * chance) for chance in counts]
    pits = {first_pit([*(best_of_k(c, 4, k) for c in num_correct), 0.0], 1.0) for k in (1, 2, 4)}
    assert len(pits) == 1


def test_no_steps_and_unknown_rules_are_errors():
    with pytest.raises(ValueError, match="a trace without steps has no pit"):
        first_pit([], 0.5)
    with pytest.raises(ValueError, match="'first' is unknown; use 'lowest' or 'largest_drop'"):
        first_pit([0.0], 0.5, "first")


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
