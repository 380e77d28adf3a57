"""The count of beliefs that predicts algorithms before they are trained: its parts against known answers."""

import numpy as np
import pytest

from benchmarks import beliefs
from benchmarks.beliefs import Setting, base_table, counted, error, pushed, rft, sample, step_dpo, taught
from data.problems import modular_sum
from scaling.config.problems import ModularSum

PROBLEMS = ModularSum(modulus=11, operands=3)
ALL = np.array([(a, b, c) for a in range(11) for b in range(11) for c in range(11) if len({a, b, c}) == 3])


def certain(wrong=()):
    """A table that is sure of every sum, of those of `wrong` (a, b, c) in their wrong value."""
    table = np.full((11, 11, 11), 1e-9)
    a, b = np.indices((11, 11))
    table[a, b, (a + b) % 11] = 1.0
    for a, b, c in wrong:
        table[a, b] = 1e-9
        table[a, b, c] = 1.0
    return table / table.sum(axis=2, keepdims=True)


def rng():
    return np.random.default_rng(0)


def test_a_policy_that_knows_every_sum_solves_every_problem_and_its_steps_are_those_sums():
    found = sample(certain(), ALL, rng())
    assert np.all(found.answers == ALL.sum(axis=1) % 11) and error(certain(), ALL, rng()) == 0.0
    a, b, c = found.facts.reshape(-1, 3).T
    assert np.all((a + b) % 11 == c)


def test_the_base_policy_states_sums_as_its_text_does():
    facts = modular_sum.web_facts(PROBLEMS, 0)
    table = base_table(PROBLEMS)
    assert table[2, 3, 5] == pytest.approx(facts.confidence[2, 3], abs=0.002)
    assert table[2, 3, facts.wrong[2, 3]] == pytest.approx(1 - facts.confidence[2, 3], abs=0.002)


def test_two_right_sums_outvote_a_flaw_and_count_with_their_numbers_swapped():
    shown = np.array([(2, 3, 5), (2, 3, 5), (2, 3, 7)])
    table = counted(certain([(2, 3, 9), (3, 2, 9)]), shown)
    assert table[2, 3].argmax() == table[3, 2].argmax() == 5
    assert table[2, 3, 5] == pytest.approx(2 / (3 + beliefs.PRIOR), abs=1e-6)
    assert table[4, 4].argmax() == 8


def test_a_pair_raises_one_sum_and_lowers_the_other_up_to_a_limit():
    table = np.full((11, 11, 11), 1 / 11)
    one, many = ((np.array([(2, 3, 5)] * n), np.array([(2, 3, 7)] * n)) for n in (1, 1000))
    gap = np.log(np.divide(*pushed(table, *one)[2, 3, [5, 7]]))
    assert gap == pytest.approx(2 * beliefs.MOST * np.tanh(beliefs.PUSH / beliefs.MOST))
    assert np.log(np.divide(*pushed(table, *many)[2, 3, [5, 7]])) == pytest.approx(2 * beliefs.MOST)
    assert np.allclose(pushed(table, *one)[4, 4], 1 / 11)


def test_a_flawed_teacher_shows_wrong_sums_whose_solution_is_right():
    flawed = PROBLEMS.model_copy(update={"flaw_rate": 1.0})
    facts = taught(flawed, ALL[:50], rng()).reshape(50, 2, 3)
    wrong = (facts[:, :, 0] + facts[:, :, 1] - facts[:, :, 2]) % 11 != 0
    assert wrong.all() and np.all(facts[:, 1, 2] == ALL[:50].sum(axis=1) % 11)


def test_rft_keeps_what_the_verifier_accepts_and_a_coarse_one_accepts_more():
    base = base_table(PROBLEMS)
    exact, coarse = ([], [])
    learned = rft(Setting(), base, base, ALL[:20], rng(), exact)
    rft(Setting(classes=2), base, base, ALL[:20], rng(), coarse)
    assert error(learned, ALL, rng()) < error(base, ALL, rng())
    answers = [row[-1] for row in exact]
    assert answers == [ALL[row[0]].sum() % 11 for row in exact]
    assert {(row[-1] - ALL[row[0]].sum() % 11) % 2 for row in coarse} == {0}
    assert any(row[-1] != ALL[row[0]].sum() % 11 for row in coarse)


def test_per_step_dpo_lowers_a_wrong_sum_where_another_is_known():
    """2 + 3 is 9 in one order of numbers more often than not: negatives are repaired, the rest stays."""
    table = certain()
    table[2, 3] = table[3, 2] = np.eye(11)[9] * 0.6 + np.eye(11)[5] * 0.4
    problems = np.array([numbers for numbers in ALL if {2, 3} <= set(numbers)])
    after = step_dpo(Setting(samples=32), table, problems, rng())
    assert after[2, 3].argmax() == 5 and table[2, 3].argmax() == 9
    assert np.allclose(after[7, 8], table[7, 8], atol=1e-6)
    assert np.array_equal(step_dpo(Setting(samples=4), certain(), problems, rng()), certain())  # no negatives


def test_a_prediction_has_every_algorithm_and_falls_with_data():
    small = ModularSum(modulus=23, operands=3)
    found = beliefs.predict(small, Setting(samples=8, negatives=2), [16, 256], [16], 2, 0)
    assert set(found) == {"sft", "rft, 1", "rft, 2", "step_dpo, 1", "step_dpo, 2"}
    assert found["sft"][0] > found["sft"][1] and all(0 <= value <= 1 for values in found.values() for value in values)
