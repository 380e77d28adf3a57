"""Continuations: which are asked for, how they are rewarded, and that each depends on its key alone."""

import pandas as pd
import pytest
from tiny_chain import ROLLOUTS_PER_PREFIX, SETTINGS, TOKENIZER

from data.problems import modular_sum
from data.records import read_problems
from data.rollout_tables import load_step_values, load_verified


@pytest.fixture
def table(values_chain):
    verified = load_verified(values_chain["rollouts"], values_chain["verification"])
    return load_step_values(values_chain["step_values"], verified)


@pytest.fixture
def continuations(values_chain):
    return read(values_chain["step_values"])


def read(directory):
    return pd.read_parquet(directory / "continuations.parquet")


def by_key(frame):
    return {(row.problem, row.sample, row.step, row.index): list(row.tokens) for row in frame.itertuples(index=False)}


def test_every_proper_prefix_of_steps_is_continued_by_m_rollouts(table, continuations):
    expected = {
        (row.problem, row.sample, step, index)
        for row in table.itertuples(index=False)
        for step in range(len(row.step_ends) - 1)
        for index in range(ROLLOUTS_PER_PREFIX)
    }
    assert by_key(continuations).keys() == expected


def test_a_continuation_is_rewarded_for_the_prefix_and_itself_together(values_chain, table, continuations):
    problems = read_problems(values_chain["synthetic"] / "synthetic.jsonl")
    tokens_of = {(row.problem, row.sample): row.tokens for row in table.itertuples(index=False)}
    limit = modular_sum.max_completion_words(SETTINGS) + 1
    for row in continuations.itertuples(index=False):
        whole = tokens_of[row.problem, row.sample][: row.end] + list(row.tokens)
        check = modular_sum.check(SETTINGS, problems[row.problem], TOKENIZER.decode(whole))
        assert check.reward == row.reward and len(whole) <= max(limit, row.end + 1)


def test_a_continuation_does_not_depend_on_the_other_traces_or_on_m(values_chain, continuations, tmp_path):
    def rerun(name, **changes):
        values_chain.rerun("step_values", tmp_path / name, **changes)
        return by_key(read(tmp_path / name))

    whole = by_key(continuations)
    fewer, single = rerun("fewer", traces_per_problem=1), rerun("single", step_values={"rollouts_per_prefix": 1})
    assert 0 < len(fewer) < len(whole) and all(whole[key] == tokens for key, tokens in fewer.items())
    assert single == {key: tokens for key, tokens in whole.items() if key[3] == 0}
    other = rerun("other", seed=1)
    assert any(other[key] != whole[key] for key in other.keys() & whole.keys())
