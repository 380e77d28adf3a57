"""RFT: which positives are kept, and that training on them is SFT on them."""

from itertools import combinations

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_config import whole
from test_pairs import levenshtein
from tiny_chain import OPTIMIZER, PROBLEMS, SYNTHETIC, Chain, by_hand, tokens_of, values_by_hand

from algorithms import rft
from algorithms.rft import most_distinct
from data.records import read_jsonl
from scaling.config.sweep import Cell
from scaling.model.policy import load_policy
from scaling.planning import recipes
from scaling.stage import in_order

COMPLETIONS = st.lists(st.lists(st.integers(3, 6), max_size=10), min_size=1, max_size=8, unique_by=tuple)
RIGHT = SYNTHETIC[0]["completion"]
OTHER_ORDER = "2 3 = 5 1 ; 5 1 = 6 ; # 6"
SPURIOUS = "1 2 = 4 3 ; 4 3 = 6 ; # 6"
POSITIVES = [RIGHT, OTHER_ORDER, SPURIOUS, "# 6"]  # all right: only the answer decides


def select(root, inputs, max_positives=4, keep="distinct", seed=0):
    """The kept positives as (problem, prompt, tokens), and the numbers."""
    out = root / f"positives-{max_positives}-{keep}-{seed}"
    out.mkdir()
    config = {"problems": PROBLEMS, "positives": {"max_positives": max_positives, "keep": keep}, "seed": seed}
    numbers = rft.select_positives(config, inputs, out)
    frame = pd.read_parquet(out / "positives.parquet")
    rows = [(problem, list(prompt), list(tokens)) for problem, prompt, tokens, *_ in frame.itertuples(index=False)]
    return rows, numbers


@pytest.fixture
def artifacts(tmp_path):
    return by_hand(tmp_path, {0: [*POSITIVES, RIGHT, "# 7"], 1: ["# 5"], 2: ["# 2", "# 2"]})


def test_positives_are_kept_without_duplicates_and_counted(tmp_path, artifacts):
    rows, numbers = select(tmp_path, artifacts)
    kept = [tokens for problem, _, tokens in rows if problem == 0]
    assert sorted(kept) == sorted(map(tokens_of, POSITIVES))
    assert [tokens for problem, _, tokens in rows if problem == 2] == [tokens_of("# 2")]
    assert {problem for problem, *_ in rows} == {0, 2}
    assert numbers == {
        "num_positives": 5.0,
        "num_positives_before_limit": 7.0,
        # Three of three steps, with two wrong sums in the spurious one; `# 6` and `# 2` are one step each, and wrong.
        "num_learned_steps": 11.0,
        "num_spurious_steps": 4.0,
        "num_spurious_traces": 3.0,
        "problems_without_data_fraction": pytest.approx(1 / 3),
    }


@pytest.mark.parametrize(
    ("keep", "kept"), [("low_value", [SPURIOUS, OTHER_ORDER]), ("high_value", [RIGHT, OTHER_ORDER])]
)
def test_positives_are_kept_by_their_worst_step_and_only_those_with_step_values(tmp_path, artifacts, keep, kept):
    values = {
        (0, 0): ([0.75, 0.75, 1.0], 0.5),  # no step lowers Q: 0 is the least advantage
        (0, 1): ([0.25, 1.0, 1.0], 0.5),  # -1/4
        (0, 2): ([0.5, 0.0, 1.0], 0.5),  # -1/2
        (0, 5): ([0.0], 1.0),  # wrong: never a positive, whatever its advantage
    }
    inputs = {**artifacts, "step_values": values_by_hand(tmp_path, artifacts, values)}
    rows, _ = select(tmp_path, inputs, 2, keep)
    assert [(problem, tokens) for problem, _, tokens in rows] == [(0, tokens_of(text)) for text in kept]
    everything, _ = select(tmp_path, inputs, 9, keep)
    assert {tuple(tokens) for *_, tokens in everything} == {
        tuple(map(int, tokens_of(t))) for t in (RIGHT, OTHER_ORDER, SPURIOUS)
    }


@pytest.mark.parametrize("keep", ["low_value", "high_value"])
def test_positives_kept_by_value_share_their_step_values_with_step_rft_and_no_others_need_them(keep):
    valued, plain, steps = (
        {stage.kind: stage for stage in in_order([recipes.evaluation(Cell.of(**settings), 0)])}
        for settings in ({"algorithm": "rft", "rft": {"keep": keep}}, {"algorithm": "rft"}, {"algorithm": "step_rft"})
    )
    assert valued["positives"].inputs["step_values"] == steps["step_values"]
    assert "step_values" not in plain


@pytest.mark.parametrize("keep", ["random", "distinct"])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_problem_keeps_more_than_max_positives(tmp_path, artifacts, keep, limit):
    rows, _ = select(tmp_path, artifacts, limit, keep)
    kept = [tuple(tokens) for problem, _, tokens in rows if problem == 0]
    assert len(kept) == len(set(kept)) == limit
    assert set(kept) <= set(map(tuple, map(tokens_of, POSITIVES)))


def test_a_smaller_limit_keeps_the_first_of_a_larger_one(tmp_path, artifacts):
    for keep in ("random", "distinct"):
        two, _ = select(tmp_path, artifacts, 2, keep)
        three, _ = select(tmp_path, artifacts, 3, keep)
        assert [row for row in three if row[0] == 0][:2] == [row for row in two if row[0] == 0]


def test_random_keeping_reaches_every_pair_of_positives(tmp_path, artifacts):
    found = set()
    for seed in range(40):
        rows, _ = select(tmp_path, artifacts, 2, "random", seed)
        found.add(frozenset(tuple(tokens) for problem, _, tokens in rows if problem == 0))
    # Six pairs are equally likely: one is missed in 40 draws with chance 6 (5/6)^40 = 0.004.
    assert len(found) == 6


def test_distinct_keeping_takes_the_positive_farthest_from_the_first(tmp_path, artifacts):
    for seed in range(5):
        rows, _ = select(tmp_path, artifacts, 2, "distinct", seed)
        first, second = [tokens for problem, _, tokens in rows if problem == 0]
        assert levenshtein(first, second) == max(levenshtein(first, tokens_of(text)) for text in POSITIVES)


def test_what_is_kept_depends_on_the_seed_and_its_problem_alone(tmp_path, artifacts):
    alone = by_hand(tmp_path / "alone", {0: [*POSITIVES, RIGHT, "# 7"]})
    for seed in range(4):
        rows, _ = select(tmp_path, artifacts, 2, "distinct", seed)
        assert [row for row in rows if row[0] == 0] == select(tmp_path / "alone", alone, 2, "distinct", seed)[0]


@given(COMPLETIONS, st.integers(1, 9))
def test_each_distinct_completion_is_the_farthest_from_those_before_it(completions, count):
    chosen = most_distinct(completions, count)
    assert len(chosen) == min(count, len(completions)) and len({*map(tuple, chosen)}) == len(chosen)
    assert chosen[0] == completions[0]
    for place in range(1, len(chosen)):
        nearest = [min(levenshtein(item, other) for other in chosen[:place]) for item in completions]
        assert chosen[place] == completions[nearest.index(max(nearest))]


@given(COMPLETIONS)
def test_the_spread_of_the_distinct_is_at_least_half_the_best_possible(completions):
    def spread(items):
        return min(levenshtein(a, b) for a, b in combinations(items, 2))

    if len(completions) >= 3:
        chosen = most_distinct(completions, 3)
        # Farthest-first traversal is a 2-approximation of the largest minimal distance (Gonzalez 1985).
        assert 2 * spread(chosen) >= max(spread(trio) for trio in combinations(completions, 3))


# Training.


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("chain"), "sft")


@pytest.fixture(scope="module")
def every_rollout_positive(chain, tmp_path_factory):
    """Rollouts that are the teacher's solutions, one a problem, and the positives chosen from them."""
    root = tmp_path_factory.mktemp("positive")
    synthetic = read_jsonl(chain["synthetic"] / "synthetic.jsonl")
    inputs = by_hand(root, {problem: [row["completion"]] for problem, row in enumerate(synthetic)}, synthetic)
    select(root, inputs)
    return {"start": chain["base"], "synthetic": chain["synthetic"], "positives": root / "positives-4-distinct-0"}


def train(out, inputs, **settings):
    out.mkdir()
    return rft.run(whole({"problems": PROBLEMS, "rft": {**OPTIMIZER, **settings}, "seed": 0}), inputs, out)


def test_with_every_rollout_positive_rft_is_sft_on_them(chain, every_rollout_positive, tmp_path):
    numbers = train(tmp_path / "rft", every_rollout_positive, include_synthetic=False)
    assert numbers == chain.numbers["sft"]
    assert (tmp_path / "rft" / "metrics.jsonl").read_text() == (chain["sft"] / "metrics.jsonl").read_text()
    ours, theirs = (load_policy(path).params for path in (tmp_path / "rft", chain["sft"]))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_mixing_d_syn_in_adds_its_rows(chain, every_rollout_positive, tmp_path):
    numbers = train(tmp_path / "rft", every_rollout_positive, include_synthetic=True, epochs=1)
    assert numbers["num_sequences"] == 2 * chain.numbers["sft"]["num_sequences"]
    assert numbers["num_learned_tokens"] == 2 * chain.numbers["sft"]["num_learned_tokens"]


def test_training_starts_from_the_policy_that_is_given(chain, every_rollout_positive, tmp_path):
    numbers = train(tmp_path / "base", every_rollout_positive, epochs=1)
    after = train(tmp_path / "sft", {**every_rollout_positive, "start": chain["sft"]}, epochs=1)
    assert after["train/loss"] < numbers["train/loss"] / 2


def test_no_positive_and_no_d_syn_is_an_error_with_its_cure(chain, tmp_path):
    inputs = by_hand(tmp_path, {0: ["# 7"], 1: ["# 5"]})
    _, numbers = select(tmp_path, inputs)
    assert (numbers["num_positives"], numbers["problems_without_data_fraction"]) == (0.0, 1.0)
    inputs = {"start": chain["base"], **inputs, "positives": tmp_path / "positives-4-distinct-0"}
    with pytest.raises(ValueError, match=r"no positives to train on.*include_synthetic: true"):
        train(tmp_path / "out", inputs, include_synthetic=False)
    assert train(tmp_path / "mixed", inputs, include_synthetic=True, epochs=1)["num_sequences"] == 3.0


def test_a_setting_of_another_stage_is_an_error(chain, every_rollout_positive, tmp_path):
    with pytest.raises(ValueError, match="beta"):
        train(tmp_path / "out", every_rollout_positive, beta=0.1)
