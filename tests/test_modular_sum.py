"""Modular sums: the laws of problems and web text, teacher solutions, and the verifier of every step."""

from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.problems import modular_sum as family
from data.records import Problem
from data.tokens.tokenizer import for_problems
from scaling.config.problems import ModularSum

P23 = ModularSum(modulus=23)
PROBLEM = Problem("5 7 3 20 ?", "12")  # 35 mod 23
SOLUTION = "5 7 = 12 3 20 ; 3 20 = 0 12 ; 0 12 = 12 ; # 12"
CONFIGS = st.builds(
    ModularSum,
    modulus=st.integers(7, 60),
    operands=st.integers(3, 6),
    zipf_exponent=st.sampled_from([0.0, 1.0, 3.0]),
)
SEEDS = st.integers(0, 2**32)


def verdicts(completion):
    return [(step.procedure_ok, step.fact_ok) for step in family.check(P23, PROBLEM, completion).steps]


def test_the_example_of_the_module_verifies():
    check = family.check(P23, PROBLEM, SOLUTION)
    assert (check.reward, check.answer, check.error_kind) == (1.0, "12", "none")
    assert [step.text for step in check.steps] == ["5 7 = 12 3 20 ;", "3 20 = 0 12 ;", "0 12 = 12 ;", "# 12"]
    assert all(step.correct for step in check.steps)


def test_a_wrong_sum_is_wrong_where_it_is_written_and_followed_from_there():
    completion = "5 7 = 13 3 20 ; 3 20 = 0 13 ; 0 13 = 13 ; # 13"
    assert verdicts(completion) == [(True, False), (True, True), (True, True), (True, True)]
    check = family.check(P23, PROBLEM, completion)
    assert (check.reward, check.error_kind, check.num_wrong_facts, check.spurious_steps) == (0.0, "fact", 1, 0)


def test_two_wrong_sums_that_cancel_are_spurious_steps():
    check = family.check(P23, PROBLEM, "5 7 = 13 3 20 ; 3 20 = 22 13 ; 22 13 = 12 ; # 12")
    assert (check.reward, check.error_kind, check.num_wrong_facts, check.spurious_steps) == (1.0, "fact", 2, 2)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("5 3 = 8 7 20 ;", [(False, True)]),  # not adjacent
        ("7 5 = 12 3 20 ;", [(False, True)]),  # adjacent in the other order
        ("5 7 = 12 20 3 ;", [(False, True)]),  # what is left, out of order
        ("5 7 = 12 3 ;", [(False, True)]),  # one number lost
        ("5 7 = 12 3 20", [(False, True)]),  # no separator
        ("5 3 = 9 7 20 ;", [(False, False)]),  # wrong in both ways
        ("# 12", [(False, True)]),  # an answer out of nothing
        ("# 12 ; # 12", [(False, True), (False, True)]),
        ("5 7 12 3 20 ;", [(False, True)]),
        ("05 7 = 12 3 20 ;", [(False, True)]),
        ("5 7 = 35 3 20 ;", [(False, True)]),  # 35 is no number below 23
        ("5 7 = ;", [(False, True)]),
        (";", [(False, True)]),
        ("", [(False, True)]),
    ],
)
def test_errors_of_procedure_are_told_from_wrong_facts(completion, expected):
    assert verdicts(completion) == expected
    assert family.check(P23, PROBLEM, completion).error_kind == "procedure"


def test_a_step_without_the_form_of_a_step_leaves_the_list_as_it_was():
    assert verdicts("5 5 5 ; " + SOLUTION) == [(False, True)] + [(True, True)] * 4


def test_a_step_out_of_procedure_is_followed_as_it_states_the_list():
    assert verdicts("5 3 = 8 7 20 ; 8 7 = 15 20 ;") == [(False, True), (True, True)]


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (SOLUTION, "12"),
        ("# 0", "0"),
        ("5 7 ; # 3", "3"),
        ("# 23", None),
        ("# 03", None),
        ("# ٣", None),
        ("# 3 ;", None),
        ("# 3 4", None),
        ("5 7 # 3", None),
        ("#", None),
        ("", None),
    ],
)
def test_the_answer_is_the_last_step_when_it_is_a_number_after_a_hash(completion, expected):
    assert family.answer(P23, completion) == expected


def test_the_reward_looks_at_the_answer_alone():
    check = family.check(P23, PROBLEM, "# 12")
    assert (check.reward, check.spurious_steps, check.error_kind) == (1.0, 1, "procedure")


@settings(deadline=None, max_examples=60)
@given(CONFIGS, SEEDS)
def test_every_teacher_solution_is_right_in_every_step(config, seed):
    rng = np.random.default_rng(seed)
    problem = family.draw(config, rng)
    solution = family.solve(config, problem, rng)
    check = family.check(config, problem, solution)
    assert check.reward == 1.0
    assert check.error_kind == "none"
    assert len(check.steps) == config.operands == family.max_steps(config)
    assert len(problem.prompt.split()) == family.max_prompt_words(config)
    assert len(solution.split()) == family.max_completion_words(config)
    for_problems(config).encode(f"{problem.prompt} {solution}")


@settings(deadline=None, max_examples=60)
@given(CONFIGS, SEEDS)
def test_a_flawed_solution_has_the_right_answer_and_two_spurious_steps(config, seed):
    config = config.model_copy(update={"flaw_rate": 1.0})
    rng = np.random.default_rng(seed)
    problem = family.draw(config, rng)
    check = family.check(config, problem, family.solve(config, problem, rng))
    assert (check.reward, check.spurious_steps, check.num_procedure_errors) == (1.0, 2, 0)


def test_flaws_come_at_their_rate():
    config = ModularSum(modulus=23, flaw_rate=0.25)
    rng = np.random.default_rng(0)
    flawed = sum(
        family.check(config, PROBLEM, family.solve(config, PROBLEM, rng)).spurious_steps > 0 for _ in range(2000)
    )
    assert abs(flawed - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_a_flaw_needs_a_second_sum_to_cancel_it():
    config = ModularSum(modulus=23, operands=2, flaw_rate=0.5)
    with pytest.raises(ValueError, match="at least 3 operands"):
        family.solve(config, Problem("5 7 ?", "12"), np.random.default_rng(0))


def test_a_problem_of_four_operands_has_six_solutions_equally_often():
    """Three pairs, then two, then one."""
    rng = np.random.default_rng(0)
    counts = Counter(family.solve(P23, PROBLEM, rng) for _ in range(3000))
    assert len(counts) == 6
    assert all(abs(count - 500) < 5 * np.sqrt(3000 / 6 * 5 / 6) for count in counts.values())


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(), st.lists(st.sampled_from(["5", "7", "12", "3", "20", "=", ";", "#", "?"])).map(" ".join)))
def test_garbage_never_raises_and_is_never_right_in_every_step(completion):
    check = family.check(P23, PROBLEM, completion)
    assert " ".join(step.text for step in check.steps) == " ".join(completion.split())
    if check.error_kind == "none":  # a real solution, found by chance
        assert check.reward == 1.0
        assert len(check.steps) == 4
    if check.answer != PROBLEM.answer:
        assert check.reward == 0.0
        assert check.spurious_steps == 0
        assert check.error_kind != "none"


@settings(deadline=None, max_examples=60)
@given(CONFIGS, SEEDS, st.data())
def test_a_changed_word_is_noticed(config, seed, data):
    rng = np.random.default_rng(seed)
    problem = family.draw(config, rng)
    words = family.solve(config, problem, rng).split()
    place = data.draw(st.integers(0, len(words) - 1))
    other = data.draw(st.sampled_from([word for word in family.vocabulary(config) if word != words[place]]))
    check = family.check(config, problem, " ".join([*words[:place], other, *words[place + 1 :]]))
    assert check.error_kind != "none"


def test_drawing_follows_the_zipf_law_without_replacement():
    """All 20 problems of two operands below 5: chances sum to 1, weights are 1/rank, draws come at their chance."""
    config = ModularSum(modulus=5, operands=2, zipf_exponent=1.0)
    chances = {}
    for pair in permutations(range(5), 2):
        problem = Problem(f"{pair[0]} {pair[1]} ?", str(sum(pair) % 5))
        chances[problem] = np.exp(family.log_probability(config, problem))
    assert sum(chances.values()) == pytest.approx(1.0)
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5
    assert max(chances.values()) == pytest.approx(1 / harmonic * (1 / 2) / (harmonic - 1))
    assert min(chances.values()) == pytest.approx((1 / 5) / harmonic * (1 / 4) / (harmonic - 1 / 5))
    rng = np.random.default_rng(0)
    counts = Counter(family.draw(config, rng) for _ in range(5000))
    for problem, chance in chances.items():
        assert abs(counts[problem] - 5000 * chance) < 5 * np.sqrt(5000 * chance)


def test_the_uniform_law_gives_every_problem_the_same_chance():
    config = ModularSum(modulus=23, zipf_exponent=0.0)
    assert family.num_distinct(config) == 23 * 22 * 21 * 20
    assert family.log_probability(config, PROBLEM) == pytest.approx(-np.log(23 * 22 * 21 * 20))


def test_a_very_steep_law_is_drawn_without_overflow():
    config = ModularSum(modulus=23, zipf_exponent=1000.0)
    problem = family.draw(config, np.random.default_rng(0))
    assert family.log_probability(config, problem) == pytest.approx(0.0, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(CONFIGS, SEEDS)
def test_web_text_is_right_in_procedure_and_states_the_fact_or_its_misconception(config, seed):
    facts = family.web_facts(config, seed % 7)
    prompt, completion = family.web_text(config, np.random.default_rng(seed), facts)
    values = [int(word) for word in prompt.split()[:-1]]
    assert len(set(values)) == config.operands
    check = family.check(config, Problem(prompt, str(sum(values) % config.modulus)), completion)
    assert check.num_procedure_errors == 0
    for step in check.steps[:-1]:
        a, b, _, c, *_ = step.text.split()
        assert int(c) in ((int(a) + int(b)) % config.modulus, facts.wrong[int(a), int(b)])


def test_web_text_is_right_about_a_fact_as_often_as_its_confidence():
    config = ModularSum(modulus=5, operands=2)
    facts = family.web_facts(config, 0)
    rng = np.random.default_rng(0)
    seen, right = Counter(), Counter()
    for _ in range(6000):
        a, b, _, c, *_ = map(_number, family.web_text(config, rng, facts)[1].split())
        seen[a, b] += 1
        right[a, b] += c == (a + b) % 5
    assert len(seen) == 20
    for pair, count in seen.items():
        chance = facts.confidence[pair]
        assert abs(count - 300) < 5 * np.sqrt(300)
        assert abs(right[pair] - count * chance) <= 5 * np.sqrt(count * chance * (1 - chance)) + 1


def test_misconceptions_are_wrong_fixed_by_the_seed_and_graded_by_the_beta_law():
    """Beta(2, 1) has mean 2/3 and variance 1/18."""
    config = ModularSum(modulus=59, web_confidence=(2.0, 1.0))
    facts, again, other = (family.web_facts(config, seed) for seed in (0, 0, 1))
    assert all(facts.wrong[a, b] != (a + b) % 59 for a, b in product(range(59), repeat=2))
    assert np.array_equal(facts.wrong, again.wrong)
    assert not np.array_equal(facts.wrong, other.wrong)
    assert abs(np.mean(facts.confidence) - 2 / 3) < 5 * np.sqrt(1 / 18 / 59**2)


def _number(word):
    return int(word) if word.isdecimal() else -1


@pytest.mark.parametrize(("modulus", "off_by"), [(23, 0.0), (5, 0.1)])
def test_the_web_texts_entropy_is_the_mean_surprise_of_its_completions(modulus, off_by):
    config = ModularSum(modulus=modulus, operands=4, web_confidence=(1.0, 2.0))
    facts = family.web_facts(config, 0)
    rng = np.random.default_rng(0)
    surprises = []
    for _ in range(4000):
        surprise = np.log(3 * 2)
        for step in family.web_text(config, rng, facts)[1].split(" ; ")[:-1]:
            a, b, _, c, *_ = map(_number, step.split())
            chance = facts.confidence[a, b]
            surprise -= np.log(chance if c == (a + b) % modulus else 1 - chance)
        surprises.append(surprise)
    error = np.std(surprises) / np.sqrt(len(surprises))
    assert abs(np.mean(surprises) - family.web_entropy(config, facts)) < off_by + 4 * error < 0.2
