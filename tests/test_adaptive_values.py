"""Adaptive step values: the pits of the exhaustive estimate, from fewer continuations, and nothing claimed beyond."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_config import whole
from tiny_chain import CONFIGS, NUM_PROBLEMS, PROBLEMS, by_hand

from data import pairs, step_values
from data.adaptive_values import scan, with_known_values
from data.q_values import advantages, best_of_k, first_pit
from data.rollout_tables import load_step_values, load_verified
from scaling.config.sweep import Cell
from scaling.planning import recipes

NEGATIVES = {"traces": "negatives", "traces_per_problem": 4}
M = 6


@st.composite
def reward_tables(draw):
    """For each trace bool [steps, M]: the rewards of all keyed continuations of its proper prefixes."""
    num_rollouts = draw(st.integers(1, 6))
    row = st.lists(st.booleans(), min_size=num_rollouts, max_size=num_rollouts)
    steps = st.lists(row, max_size=5).map(lambda rows: np.array(rows, bool).reshape(-1, num_rollouts))
    return draw(st.lists(steps, max_size=6)), num_rollouts


def scanned(tables, num_rollouts):
    """The rounds of a scan, and its step values as a table with a row a trace."""
    rounds = []

    def rewards_of(asked):
        rounds.append(asked)
        return [float(tables[trace][step, index]) for trace, step, index in asked]

    scan([len(table) for table in tables], num_rollouts, rewards_of)
    rows = [
        (trace, 0, step, index, float(tables[trace][step, index])) for asked in rounds for trace, step, index in asked
    ]
    continuations = pd.DataFrame(rows, columns=["problem", "sample", "step", "index", "reward"])
    traces = pd.DataFrame({"problem": range(len(tables)), "sample": 0, "reward": 0.0})
    traces["step_ends"] = [list(range(1, len(table) + 2)) for table in tables]
    return rounds, with_known_values(traces, continuations, num_rollouts)


@given(reward_tables())
def test_the_pits_are_those_of_all_continuations_for_any_rewards(case):
    tables, num_rollouts = case
    _, found = scanned(tables, num_rollouts)
    for table, q_values in zip(tables, found["q_values"], strict=True):
        for k in {1, num_rollouts}:
            exhaustive = [*(best_of_k(int(row.sum()), num_rollouts, k) for row in table), 0.0]
            assert first_pit(q_values, 1.0) == first_pit(exhaustive, 1.0)


@given(reward_tables())
def test_a_step_is_left_at_its_first_correct_continuation_and_nothing_follows_the_pit(case):
    tables, num_rollouts = case
    rounds, found = scanned(tables, num_rollouts)
    asked = [request for requests in rounds for request in requests]
    assert len(asked) == len(set(asked))
    for trace, (table, row) in enumerate(zip(tables, found.itertuples(index=False), strict=True)):
        pit = first_pit(row.q_values, 1.0)
        first_correct = [int(np.argmax(rewards)) + 1 for rewards in table[:pit]]
        at_pit = [num_rollouts] if pit < len(table) else [0]  # nothing continues the last step
        assert row.num_continuations == [*first_correct, *at_pit, *[0] * (len(table) - pit)]
        assert row.num_correct == [1] * pit + [0] * (len(table) + 1 - pit)
        expected = {(trace, step, i) for step, n in enumerate(row.num_continuations) for i in range(n)}
        assert {request for request in asked if request[0] == trace} == expected


@given(reward_tables())
def test_a_round_asks_each_undecided_trace_for_one_continuation(case):
    rounds, _ = scanned(*case)
    for requests in rounds:
        assert len({trace for trace, _, _ in requests}) == len(requests) > 0
    undecided = [{trace for trace, _, _ in requests} for requests in rounds]
    assert all(later <= earlier for earlier, later in pairwise(undecided))


def test_q_is_told_only_where_all_continuations_were_drawn_and_none_was_correct():
    # Correct at once; correct at the last of two, where 1 of 2 looks like a full estimate but is a stopped one; none.
    (q_values,) = scanned([np.array([[1, 0], [0, 1], [0, 0], [1, 1]], bool)], 2)[1]["q_values"]
    assert q_values == [None, None, 0.0, None, 0.0]


def test_unknown_values_have_a_lowest_pit_but_no_advantages_and_no_largest_drop():
    assert first_pit([None, 0.0, None, 0.0], 0.5) == 1 and first_pit([None, 0.0], 0.5) == 1
    with pytest.raises(ValueError, match=r"adaptive estimate leaves some unknown; set step_values\.adaptive: false"):
        advantages([None, 0.0], 0.5)
    with pytest.raises(ValueError, match="adaptive estimate leaves some unknown"):
        first_pit([None, 0.0], 0.5, "largest_drop")


def test_the_share_of_steps_left_after_one_continuation_estimates_q_and_the_share_of_correct_ones_is_too_high():
    chance, generator = 0.5, np.random.default_rng(0)
    tables = [generator.random((1, 64)) < chance for _ in range(4000)]
    counts = np.array([row[0] for row in scanned(tables, 64)[1]["num_continuations"]])
    assert np.mean(counts == 1) == pytest.approx(chance, abs=4 * 0.5 / 4000**0.5)
    # The mean of 1 / n is Q ln(1 / Q) / (1 - Q), which is ln 2 here; its spread is below 0.33.
    assert np.mean(1 / counts) == pytest.approx(np.log(2), abs=4 * 0.33 / 4000**0.5)


# The stage, on the tiny chain.


@pytest.fixture(scope="module")
def both(values_chain, tmp_path_factory):
    """Exhaustive and adaptive: directory, numbers, table of the traces, continuations by key."""
    root = tmp_path_factory.mktemp("both")
    verified = load_verified(values_chain["rollouts"], values_chain["verification"])
    found = {}
    for name, adaptive in (("exhaustive", False), ("adaptive", True)):
        settings = {"rollouts_per_prefix": M, "adaptive": adaptive}
        numbers = values_chain.rerun("step_values", root / name, step_values=settings, **NEGATIVES)
        frame = pd.read_parquet(root / name / "continuations.parquet")
        by_key = {
            (row.problem, row.sample, row.step, row.index): (list(row.tokens), row.reward)
            for row in frame.itertuples(index=False)
        }
        found[name] = (root / name, numbers, load_step_values(root / name, verified), by_key)
    return found


def test_pits_and_continuations_are_those_of_the_exhaustive_estimate(both):
    (_, _, exhaustive, all_of_them), (_, _, adaptive, some) = both["exhaustive"], both["adaptive"]
    assert adaptive[["problem", "sample"]].equals(exhaustive[["problem", "sample"]]) and len(adaptive) > NUM_PROBLEMS
    pits = [
        [first_pit(row.q_values, row.prompt_value) for row in table.itertuples()] for table in (exhaustive, adaptive)
    ]
    assert pits[0] == pits[1] and len(set(pits[0])) > 1
    assert 0 < len(some) < len(all_of_them) and all(all_of_them[key] == found for key, found in some.items())
    for before, after in zip(exhaustive["q_values"], adaptive["q_values"], strict=True):
        assert all(now in (None, then) for then, now in zip(before, after, strict=True))


def test_a_third_of_the_tokens_is_enough(both):
    exhaustive, adaptive = both["exhaustive"][1], both["adaptive"][1]
    assert 3 * adaptive["num_generated_tokens"] <= exhaustive["num_generated_tokens"]
    assert 0 < 3 * adaptive["generation_flops"] <= exhaustive["generation_flops"]


def test_the_numbers_tell_what_was_sampled_replayed_and_spared(both):
    (_, exhaustive, _, all_of_them), (_, numbers, table, some) = both["exhaustive"], both["adaptive"]
    tokens = sum(len(tokens) for tokens, _ in some.values())
    assert numbers["num_generated_tokens"] + numbers["num_replayed_tokens"] == tokens
    assert numbers["num_continuations"] == len(some) == sum(map(sum, table["num_continuations"]))
    assert numbers["num_exhaustive_continuations"] == len(all_of_them)
    assert numbers["num_prefixes"] == sum(count > 0 for counts in table["num_continuations"] for count in counts)
    assert numbers["num_traces"] == exhaustive["num_traces"] == len(table)


@pytest.mark.parametrize("mode", ["full_vs_prefix", "full_vs_full", "shared_prefix"])
def test_pairs_have_the_same_contexts_and_rejected_sides(values_chain, both, tmp_path, mode):
    found = {}
    for name, (directory, *_) in both.items():
        inputs = values_chain.inputs(synthetic="synthetic", rollouts="rollouts", verification="verification")
        config = {"problems": PROBLEMS, "pairs": {"pair_mode": mode, "pit_rule": "lowest"}, "seed": 0}
        (tmp_path / name).mkdir()
        numbers = pairs.run_at_pits(config, {**inputs, "step_values": directory}, tmp_path / name)
        frame = pd.read_parquet(tmp_path / name / "pairs.parquet").map(
            lambda cell: list(cell) if isinstance(cell, np.ndarray) else cell
        )
        found[name] = numbers, frame
    (numbers, exhaustive), (other_numbers, adaptive) = found["exhaustive"], found["adaptive"]
    same = ["problem", "context", "rejected"] if mode == "shared_prefix" else list(exhaustive.columns)
    assert numbers == other_numbers and exhaustive[same].equals(adaptive[same])


def test_positives_are_refused(values_chain, tmp_path):
    settings = {"rollouts_per_prefix": M, "adaptive": True}
    with pytest.raises(ValueError, match=r"some traces are positive; set step_values\.adaptive: false"):
        values_chain.rerun("step_values", tmp_path / "out", step_values=settings, traces="all")


def test_no_negative_leaves_an_empty_table(values_chain, tmp_path):
    inputs = by_hand(tmp_path, {0: ["# 6"] * 2, 1: ["# 4"] * 2, 2: ["# 2"] * 2})
    settings = {"rollouts_per_prefix": 2, "adaptive": True}
    config = whole({"problems": PROBLEMS, **CONFIGS["step_values"], "step_values": settings, "traces": "negatives"})
    numbers = step_values.run(config, {**inputs, "policy": values_chain["sft"]}, tmp_path)
    assert set(numbers.values()) == {0.0}
    assert len(load_step_values(tmp_path, load_verified(inputs["rollouts"], inputs["verification"]))) == 0


def test_an_exhaustive_stage_has_the_config_it_had_before_there_was_a_choice():
    """So artifacts that are stored keep their digests."""
    cell = Cell.of(algorithm="step_dpo")
    adaptive = cell.model_copy(update={"step_values": cell.step_values.model_copy(update={"adaptive": True})})
    before, after = (recipes.step_values(each, 0, "negatives", 2).config["step_values"] for each in (cell, adaptive))
    assert before == {"rollouts_per_prefix": 4, "best_of": 1, "temperature": 1.0}
    assert after == {**before, "adaptive": True}
