"""What an on-policy learner samples: which problems, which completions, and what dynamic sampling replaces."""

from collections import Counter

import numpy as np
import pytest
from tiny_chain import SETTINGS, TOKENIZER

from data import groups
from data.continuations import Source
from data.groups import Draws, draw, have_gradient, problems_of_attempt
from data.records import Problem
from scaling.config.sampling import Verifier
from scaling.model.sizes import model_config
from scaling.model.transformer import architecture

SYNTHETIC = [Problem(f"{number} 2 3 ?", str((number + 5) % 11)) for number in range(6)]
SHAPE = model_config("xxs", TOKENIZER.vocab_size)


@pytest.fixture(scope="module")
def params():
    import jax

    return jax.jit(architecture(SHAPE).init)(jax.random.key(0))


def draws(num_groups=6, num_samples=3, num_replacing=0, seed=0):
    source = Source(SETTINGS, TOKENIZER, SYNTHETIC, seed, 14, Verifier())
    return Draws(source, SHAPE, num_groups, num_samples, num_replacing, 1.0)


def by_key(table):
    return {(row.problem, row.sample): tuple(row.tokens) for row in table.itertuples()}


def test_problems_come_in_shuffled_passes_over_all_of_them():
    asked = draws(num_groups=4)
    drawn = [problem for iteration in range(6) for problem in problems_of_attempt(asked, iteration, 0)]
    passes = [drawn[start : start + 6] for start in range(0, 24, 6)]
    assert all(sorted(part) == list(range(6)) for part in passes) and len({*map(tuple, passes)}) > 1
    with_more = draws(num_groups=4, num_replacing=2)
    drawn = [
        problem for at in range(4) for attempt in range(3) for problem in problems_of_attempt(with_more, at, attempt)
    ]
    assert all(sorted(drawn[start : start + 6]) == list(range(6)) for start in range(0, 48, 6))


def test_a_completion_depends_on_seed_iteration_problem_and_sample_alone(params):
    few, many = (by_key(draw(draws(num_groups=count), params, 0)) for count in (4, 6))
    assert len(few) == 12 and few.items() <= many.items()
    for other in (draw(draws(), params, 1), draw(draws(seed=1), params, 0)):
        assert sum(by_key(other)[key] == many[key] for key in many) < len(many) / 2


def test_a_problem_that_comes_twice_in_an_iteration_has_other_samples(params):
    table = draw(draws(num_groups=9), params, 0)
    assert Counter(Counter(table["problem"]).values()) == {6: 3, 3: 3}
    twice = table[table["problem"] == table["problem"].iloc[-1]]
    assert twice["sample"].tolist() == list(range(6)) and twice["tokens"].map(tuple).nunique() > 3
    assert table["slot"].tolist() == np.repeat(np.arange(9), 3).tolist()


def judged(monkeypatch, rewards_of_groups):
    """Rewards by the order in which groups are drawn, in place of the verifier's."""
    left = iter(rewards_of_groups)
    monkeypatch.setattr(
        groups, "rewards", lambda source, problems, tokens: [r for _ in range(len(tokens) // 3) for r in next(left)]
    )


MIXED, WRONG, RIGHT = [1.0, 0.0, 0.0], [0.0] * 3, [1.0] * 3


def test_groups_of_equal_rewards_are_replaced_until_the_attempts_are_used_up(params, monkeypatch):
    first, second, third = [MIXED, WRONG, RIGHT, WRONG], [WRONG, MIXED, RIGHT], [MIXED, WRONG]
    judged(monkeypatch, [*first, *second, *third])
    table = draw(draws(num_groups=4, num_replacing=2), params, 0)
    assert table["slot"].tolist()[::3] == [0, -1, -1, 3, -1, 2, -1, 1, -1]
    learned = table[table["slot"] >= 0].sort_values("slot", kind="stable")
    assert learned["reward"].tolist() == [*MIXED, *MIXED, *MIXED, *WRONG]


def test_nothing_more_is_drawn_once_every_group_has_a_gradient(params, monkeypatch):
    judged(monkeypatch, [MIXED, WRONG, MIXED])
    assert draw(draws(num_groups=2, num_replacing=5), params, 0)["slot"].tolist()[::3] == [0, -1, 1]


def test_a_group_has_a_gradient_where_rewards_differ():
    assert have_gradient(np.array([MIXED, WRONG, RIGHT])).tolist() == [True, False, False]
