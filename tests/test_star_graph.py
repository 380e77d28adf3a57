"""Star graphs: prompts, teacher solutions, web text, and the verifier of every node."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.problems import star_graph as family
from data.records import Problem
from data.tokens.tokenizer import for_problems
from scaling.config.problems import StarGraph

SMALL = StarGraph(degree=2, path_length=3, num_nodes=10)
PROBLEM = Problem("4 7 | 2 9 | 4 2 | 7 1 / 4 9 =", "4 2 9")
CONFIGS = st.builds(StarGraph, degree=st.integers(2, 4), path_length=st.integers(2, 6), num_nodes=st.integers(21, 40))
SEEDS = st.integers(0, 2**32)


def verdicts(completion):
    return [(step.procedure_ok, step.fact_ok) for step in family.check(SMALL, PROBLEM, completion).steps]


def test_the_example_of_the_module_verifies():
    check = family.check(SMALL, PROBLEM, "4 2 9")
    assert (check.reward, check.answer, check.error_kind) == (1.0, "4 2 9", "none")
    assert [step.text for step in check.steps] == ["4", "2", "9"]


@pytest.mark.parametrize(
    ("completion", "expected", "kind"),
    [
        ("4 7 1", [(True, True), (True, False), (True, False)], "fact"),  # the wrong arm, along its edges
        ("4 2 1", [(True, True), (True, True), (False, False)], "procedure"),  # no such edge
        ("2 2 9", [(False, False), (False, True), (True, True)], "procedure"),  # starts elsewhere
        ("4 2", [(True, True), (True, True)], "procedure"),  # stops short
        ("4 2 9 9", [(True, True), (True, True), (True, True), (False, False)], "procedure"),
        ("9 2 4", [(False, False), (False, True), (False, False)], "procedure"),  # edges point outward
        ("4 | 9", [(True, True), (False, False), (False, True)], "procedure"),
        ("", [(False, True)], "procedure"),
    ],
)
def test_the_procedure_follows_edges_and_the_facts_are_the_path(completion, expected, kind):
    assert verdicts(completion) == expected
    check = family.check(SMALL, PROBLEM, completion)
    assert (check.reward, check.error_kind) == (0.0, kind)


@pytest.mark.parametrize("completion", ["4 2", "4 2 9 9", "4 2 |", "4 2 09", "4 2 10", ""])
def test_an_answer_is_as_many_labels_as_a_path_has(completion):
    assert family.answer(SMALL, completion) is None


@settings(deadline=None, max_examples=60)
@given(CONFIGS, SEEDS)
def test_every_teacher_solution_is_the_path_and_fits_the_limits(config, seed):
    rng = np.random.default_rng(seed)
    problem = family.draw(config, rng)
    solution = family.solve(config, problem, rng)
    check = family.check(config, problem, solution)
    assert (check.reward, check.error_kind) == (1.0, "none")
    assert len(problem.prompt.split()) == family.max_prompt_words(config)
    assert len(solution.split()) == family.max_completion_words(config) == config.path_length
    *_, slash, start, goal, equals = problem.prompt.split()
    assert (slash, start, goal, equals) == ("/", solution.split()[0], solution.split()[-1], "=")
    for_problems(config).encode(f"{problem.prompt} {solution}")


@settings(deadline=None, max_examples=60)
@given(CONFIGS, SEEDS)
def test_a_flawed_solution_takes_a_wrong_arm_and_does_not_verify(config, seed):
    config = config.model_copy(update={"flaw_rate": 1.0})
    rng = np.random.default_rng(seed)
    problem = family.draw(config, rng)
    check = family.check(config, problem, family.solve(config, problem, rng))
    assert (check.reward, check.error_kind) == (0.0, "fact")
    assert [step.correct for step in check.steps] == [True] + [False] * (config.path_length - 1)


def test_web_text_walks_down_any_arm_along_its_edges():
    config = StarGraph(degree=4, path_length=3, num_nodes=20)
    rng = np.random.default_rng(0)
    rewards = Counter()
    for _ in range(1000):
        prompt, completion = family.web_text(config, rng, family.web_facts(config, 0))
        start, goal = prompt.split()[-3:-1]
        path = _path(prompt, start, goal)
        check = family.check(config, Problem(prompt, path), completion)
        assert check.num_procedure_errors == 0
        rewards[check.reward] += 1
    assert abs(rewards[1.0] - 250) < 5 * np.sqrt(1000 * 0.25 * 0.75)


def test_the_order_of_edges_says_nothing_about_the_goal():
    """The first edge of the prompt is on the goal's arm in half of the problems."""
    rng = np.random.default_rng(0)
    problems = [family.draw(SMALL, rng) for _ in range(2000)]
    on_path = sum(problem.prompt.split()[1] in problem.answer.split() for problem in problems)
    assert abs(on_path - 1000) < 5 * np.sqrt(2000 / 4)


def test_the_number_of_problems_is_that_of_all_prompts():
    """Two arms of one node each, three labels: 3 centres, 2 orders of the 2 edges, 2 goals."""
    config = StarGraph(degree=2, path_length=2, num_nodes=4)
    assert family.num_distinct(StarGraph(degree=2, path_length=2, num_nodes=4)) == 4 * 3 * 2 * 2
    rng = np.random.default_rng(0)
    counts = Counter(family.draw(config, rng).prompt for _ in range(4800))
    assert len(counts) == 48
    assert all(abs(count - 100) < 5 * np.sqrt(100) for count in counts.values())


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(), st.lists(st.sampled_from(["4", "2", "9", "7", "1", "|", "/", "="])).map(" ".join)))
def test_garbage_never_raises_and_only_the_path_is_right(completion):
    check = family.check(SMALL, PROBLEM, completion)
    assert check.steps
    assert (check.reward == 1.0) == (completion.split() == ["4", "2", "9"]) == (check.error_kind == "none")


def _path(prompt, start, goal):
    """The path found backwards from the goal: every node but the start has one edge that leads to it."""
    inward = {edge.split()[1]: edge.split()[0] for edge in prompt.split(" / ")[0].split(" | ")}
    path = [goal]
    while path[-1] != start:
        path.append(inward[path[-1]])
    return " ".join(reversed(path))


def test_the_web_texts_entropy_is_that_of_the_arm():
    assert family.web_entropy(StarGraph(degree=3, path_length=4, num_nodes=20), None) == pytest.approx(np.log(3))
