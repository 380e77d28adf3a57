"""What q_values say: estimates and pits against brute force."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.q_values import advantages, best_of_k, first_pit

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
