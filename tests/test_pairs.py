"""Preference pairs: who is paired with whom, in each mode, and what is counted when nobody can be."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_chain import PROBLEMS, SYNTHETIC, TOKENIZER, by_hand, tokens_of, values_by_hand

from data import pairs
from data.pairs import best_begun
from data.rollout_tables import positives_by_problem, read_verified, right_rollouts

TEACHERS = [tokens_of(row["completion"]) for row in SYNTHETIC]
PROMPTS = [TOKENIZER.encode_prompt(row["prompt"]) for row in SYNTHETIC]
ANOTHER = "2 3 = 5 1 ; 5 1 = 6 ; # 6"  # problem 0 in the other order
SHORT = "# 6"  # right answer to problem 0, without the sums
WRONG = "1 2 = 3 3 ; 3 3 = 7 ; # 7"  # problem 0, wrong in its second step
WRONG_AT_ONCE = "1 2 = 9 3 ; 9 3 = 1 ; # 1"  # wrong in its first step


def make(root, inputs, pairing="random", pairs_per_problem=2, seed=0):
    """The pairs of DPO and their numbers."""
    out = root / f"pairs-{pairing}-{pairs_per_problem}-{seed}"
    out.mkdir()
    chosen = {"pairing": pairing, "pairs_per_problem": pairs_per_problem}
    numbers = pairs.run({"problems": PROBLEMS, "pairs": chosen, "seed": seed}, inputs, out)
    return rows_of(out), numbers


def make_at_pits(root, inputs, mode="full_vs_prefix", rule="lowest", seed=0):
    """The pairs of per-step DPO and their numbers."""
    out = root / f"pairs-{mode}-{rule}-{seed}"
    out.mkdir()
    chosen = {"pair_mode": mode, "pit_rule": rule}
    numbers = pairs.run_at_pits({"problems": PROBLEMS, "pairs": chosen, "seed": seed}, inputs, out)
    return rows_of(out), numbers


def rows_of(out):
    """Pairs as (problem, context, chosen, rejected) with plain lists."""
    frame = pd.read_parquet(out / "pairs.parquet")
    assert list(frame.columns) == ["problem", "context", "chosen", "rejected"]
    return [(row.problem, *(list(map(int, part)) for part in row[1:])) for row in frame.itertuples(index=False)]


def levenshtein(a, b):
    """Edit distance by the textbook recurrence."""
    above = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        row = [i]
        for j, right in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (left != right)))
        above = row
    return above[-1]


# Full completions: the pairs of DPO.


def test_every_pair_is_a_positive_and_a_negative_of_one_problem_after_its_prompt(tmp_path):
    wrong = "4 5 = 9 6 ; 9 6 = 5 ; # 5"
    inputs = by_hand(tmp_path, {0: [ANOTHER, WRONG, WRONG_AT_ONCE, SHORT], 1: [wrong], 2: ["# 3", "# 4"]})
    rows, numbers = make(tmp_path, inputs)
    allowed = {0: [tokens_of(ANOTHER), tokens_of(SHORT), TEACHERS[0]], 1: [TEACHERS[1]], 2: [TEACHERS[2]]}
    assert sorted((problem, rejected) for problem, _, _, rejected in rows) == sorted(
        [(0, tokens_of(WRONG)), (0, tokens_of(WRONG_AT_ONCE)), (1, tokens_of(wrong))]
        + [(2, tokens_of(text)) for text in ("# 3", "# 4")]
    )
    assert all(context == PROMPTS[problem] and chosen in allowed[problem] for problem, context, chosen, _ in rows)
    assert numbers == {"num_pairs": 5.0, "problems_without_data_fraction": 0.0}


def test_a_problem_gives_at_most_pairs_per_problem_pairs_with_different_negatives(tmp_path):
    inputs = by_hand(tmp_path, {0: [f"# {value}" for value in (0, 1, 1, 2, 2, 2)]})
    for limit, expected in ((1, 1), (2, 2), (5, 3)):
        rows, _ = make(tmp_path, inputs, pairs_per_problem=limit)
        assert len(rows) == len({tuple(rejected) for *_, rejected in rows}) == expected


def test_random_pairing_takes_every_positive_about_equally_often(tmp_path):
    prompts = [(a, b, c) for a in range(6) for b in range(6) for c in range(6) if len({a, b, c}) == 3]
    synthetic, completions = [], {}
    for index, (a, b, c) in enumerate(prompts):
        first, total = (a + b) % 11, (a + b + c) % 11
        teachers = f"{a} {b} = {first} {c} ; {first} {c} = {total} ; # {total}"
        synthetic.append({"prompt": f"{a} {b} {c} ?", "answer": str(total), "completion": teachers})
        completions[index] = [f"# {total}", f"# {(total + 1) % 11}"]
    rows, _ = make(tmp_path, by_hand(tmp_path, completions, synthetic), pairs_per_problem=1)
    num_own = sum(len(chosen) == 3 for _, _, chosen, _ in rows)  # `# c` and EOS, or the teacher's
    assert len(rows) == 120 and abs(num_own - 60) < 4 * (120 / 4) ** 0.5  # four standard deviations of fair coins


def test_edit_distance_pairing_takes_the_farthest_positive(tmp_path):
    inputs = by_hand(tmp_path, {0: [ANOTHER, SHORT, WRONG, WRONG_AT_ONCE]})
    positives = [tokens_of(ANOTHER), tokens_of(SHORT), TEACHERS[0]]
    rows, _ = make(tmp_path, inputs, pairing="edit_distance")
    for _, _, chosen, rejected in rows:
        distances = [levenshtein(rejected, positive) for positive in positives]
        assert levenshtein(rejected, chosen) == max(distances)


@given(
    st.lists(st.integers(3, 6), max_size=12),
    st.lists(st.lists(st.integers(3, 6), max_size=12), min_size=1, max_size=6),
)
def test_the_farthest_positive_is_that_of_a_plain_edit_distance_the_earlier_of_equals(rejected, positives):
    distances = [levenshtein(rejected, positive) for positive in positives]
    assert pairs._partner(rejected, positives, "edit_distance", None) is positives[distances.index(max(distances))]


def test_a_problem_without_a_negative_gives_no_pair_and_is_counted(tmp_path):
    inputs = by_hand(tmp_path, {0: [ANOTHER, SHORT], 1: ["# 5"], 2: [SYNTHETIC[2]["completion"]]})
    rows, numbers = make(tmp_path, inputs)
    assert [problem for problem, *_ in rows] == [1]
    assert numbers["problems_without_data_fraction"] == pytest.approx(2 / 3)


def test_a_problem_without_a_positive_gives_no_pair_and_is_counted(tmp_path):
    unverified = ({**SYNTHETIC[0], "completion": WRONG}, SYNTHETIC[1], SYNTHETIC[2])
    inputs = by_hand(tmp_path, {0: [WRONG_AT_ONCE], 1: ["# 5"], 2: ["# 3"]}, unverified)
    rows, numbers = make(tmp_path, inputs)
    assert [problem for problem, *_ in rows] == [1, 2]
    assert numbers["problems_without_data_fraction"] == pytest.approx(1 / 3)


def test_no_negative_at_all_is_an_error_with_its_cure(tmp_path):
    inputs = by_hand(tmp_path, {0: [ANOTHER], 1: [SYNTHETIC[1]["completion"]]})
    with pytest.raises(ValueError, match=r"none of 3 problems gives a pair.*raise rollouts\.samples_per_problem"):
        make(tmp_path, inputs)


def test_pairs_depend_on_the_seed_and_their_problem_alone(tmp_path):
    wrong = [f"# {value}" for value in (0, 1, 2, 3, 5)]
    one = by_hand(tmp_path / "one", {0: [ANOTHER, SHORT, *wrong]})
    two = by_hand(tmp_path / "two", {0: [ANOTHER, SHORT, *wrong], 1: wrong, 2: ["# 3"]})
    drawn = [[row for row in make(tmp_path / "two", two, seed=seed)[0] if row[0] == 0] for seed in range(6)]
    assert [make(tmp_path / "one", one, seed=seed)[0] for seed in range(6)] == drawn
    assert len({str(rows) for rows in drawn}) > 1


def test_positives_are_different_correct_rollouts_and_the_teachers_solution_where_it_verifies(tmp_path):
    synthetic = (*SYNTHETIC[:2], {**SYNTHETIC[2], "completion": "# 5"})
    completions = {0: [SHORT, WRONG, ANOTHER, SHORT], 1: [SYNTHETIC[1]["completion"]], 2: ["# 1"]}
    inputs = by_hand(tmp_path, completions, synthetic)
    verified = read_verified({"problems": {"family": "modular_sum", "modulus": 11, "operands": 3}}, inputs)
    assert right_rollouts(verified.rollouts) == {0: [tokens_of(SHORT), tokens_of(ANOTHER)], 1: [TEACHERS[1]]}
    positives = positives_by_problem(verified)
    assert positives == [[tokens_of(SHORT), tokens_of(ANOTHER), TEACHERS[0]], [TEACHERS[1]], []]
    positives = positives_by_problem(verified, with_teachers=False)
    assert positives == [[tokens_of(SHORT), tokens_of(ANOTHER)], [TEACHERS[1]], []]


def test_pairs_without_teachers_compare_with_own_completions_alone(tmp_path):
    inputs = by_hand(tmp_path, {0: [ANOTHER, WRONG], 1: ["# 0"]})
    (tmp_path / "out").mkdir()
    chosen = {"pairing": "random", "pairs_per_problem": 2, "teacher_positives": False}
    pairs.run({"problems": PROBLEMS, "pairs": chosen, "seed": 0}, inputs, tmp_path / "out")
    assert [(problem, right) for problem, _, right, _ in rows_of(tmp_path / "out")] == [(0, tokens_of(ANOTHER))]


# At the first pit: the pairs of per-step DPO.


@pytest.fixture
def one_negative(tmp_path):
    """Problem 0: a positive in the other order and a negative whose second step is its first pit."""
    inputs = by_hand(tmp_path, {0: [ANOTHER, WRONG]})
    continuations = {(0, 1, 0): [("3 3 = 6 ; # 6", 1.0), ("# 3", 0.0)], (0, 1, 1): [("# 7", 0.0), ("# 1", 0.0)]}
    return {**inputs, "step_values": values_by_hand(tmp_path, inputs, {(0, 1): ([0.5, 0.0, 0.0], 0.5)}, continuations)}


def test_the_step_of_the_highest_value_is_chosen_although_others_are_rewarded_too(tmp_path):
    """After the first step: 7 0 is right once of three times, as by a coarse verifier, 6 0 twice of three."""
    inputs = by_hand(tmp_path, {0: [ANOTHER, WRONG]})
    lucky, good = "3 3 = 7 ; # 7", "3 3 = 6 ; # 6"
    after = [(lucky, 1.0), (lucky, 0.0), (lucky, 0.0), (good, 1.0), (good, 0.0), (good, 1.0)]
    values = values_by_hand(tmp_path, inputs, {(0, 1): ([0.5, 0.0, 0.0], 0.5)}, {(0, 1, 0): after})
    for seed in range(8):
        out = tmp_path / f"highest-{seed}"
        out.mkdir()
        settings = {"pair_mode": "shared_prefix", "pit_rule": "lowest", "chosen": "highest_value"}
        config = {"problems": PROBLEMS, "pairs": settings, "seed": seed}
        pairs.run_at_pits(config, {**inputs, "step_values": values}, out)
        assert [chosen for _, _, chosen, _ in rows_of(out)] == [tokens_of(good)]


def test_one_lucky_completion_does_not_beat_most_of_many_and_a_step_that_never_ends_right_is_passed_over():
    def rows(*found):
        return pd.DataFrame({"tokens": [list(step) for step, _ in found], "reward": [reward for _, reward in found]})

    def first(tokens):
        return [1, len(tokens)]

    many = [((2, 9), 1.0)] * 7 + [((2, 8), 0.0)]
    assert best_begun(rows(((1, 9), 1.0), *many), first) == [[2, 9]]
    assert best_begun(rows(((1, 9), 0.0), ((2, 9), 0.0), ((2, 8), 1.0), ((2, 7), 0.0)), first) == [[2, 8]]
    assert best_begun(rows(((1, 9), 0.0)), first) == []


def test_full_vs_prefix_compares_a_positive_with_the_negative_up_to_its_first_pit(tmp_path, one_negative):
    (row,), numbers = make_at_pits(tmp_path, one_negative, "full_vs_prefix")
    problem, context, chosen, rejected = row
    assert (problem, context) == (0, PROMPTS[0]) and chosen in (tokens_of(ANOTHER), TEACHERS[0])
    assert rejected == TOKENIZER.encode("1 2 = 3 3 ; 3 3 = 7 ;")
    assert numbers == {
        "num_pairs": 1.0,
        "problems_without_data_fraction": pytest.approx(2 / 3),
        "num_negatives_without_partner": 0.0,
        "mean_pit": 1.0,
    }


def test_shared_prefix_compares_a_correct_continuation_with_the_pit_step(tmp_path, one_negative):
    (row,), _ = make_at_pits(tmp_path, one_negative, "shared_prefix")
    assert row == (
        0,
        PROMPTS[0] + TOKENIZER.encode("1 2 = 3 3 ;"),
        tokens_of("3 3 = 6 ; # 6"),
        TOKENIZER.encode("3 3 = 7 ;"),
    )


def test_full_vs_full_compares_a_positive_with_the_whole_negative(tmp_path, one_negative):
    (row,), _ = make_at_pits(tmp_path, one_negative, "full_vs_full")
    assert row[1] == PROMPTS[0] and row[3] == tokens_of(WRONG) and row[2] in (tokens_of(ANOTHER), TEACHERS[0])


def test_context_and_rejected_join_to_the_same_tokens_with_or_without_a_shared_prefix(tmp_path, one_negative):
    (shared,), _ = make_at_pits(tmp_path, one_negative, "shared_prefix")
    (full,), _ = make_at_pits(tmp_path, one_negative, "full_vs_prefix")
    assert shared[1] + shared[3] == full[1] + full[3]


@pytest.mark.parametrize("mode", ["full_vs_prefix", "shared_prefix"])
def test_a_pit_in_the_first_step_leaves_the_prompt_as_the_context(tmp_path, mode):
    inputs = by_hand(tmp_path, {0: [WRONG_AT_ONCE, ANOTHER]})
    inputs["step_values"] = values_by_hand(tmp_path, inputs, {(0, 0): ([0.0, 0.0, 0.0], 0.5)})
    for seed in range(8):
        (row,), numbers = make_at_pits(tmp_path, inputs, mode, seed=seed)
        assert (row[1], row[3]) == (PROMPTS[0], TOKENIZER.encode("1 2 = 9 3 ;")) and numbers["mean_pit"] == 0.0
        # Only with a shared prefix must the chosen completion come from the rollout policy.
        assert row[2] == tokens_of(ANOTHER) or (mode == "full_vs_prefix" and row[2] == TEACHERS[0])


def test_a_pit_in_the_last_step_rejects_the_end_of_the_completion_too(tmp_path):
    inputs = by_hand(tmp_path, {0: ["1 2 = 3 3 ; 3 3 = 6 ; # 7"]})
    continuations = {(0, 0, 1): [("# 6", 1.0)]}
    values = values_by_hand(tmp_path, inputs, {(0, 0): ([1.0, 1.0, 0.0], 1.0)}, continuations)
    (row,), _ = make_at_pits(tmp_path, {**inputs, "step_values": values}, "shared_prefix")
    assert (row[2], row[3]) == (tokens_of("# 6"), tokens_of("# 7"))


def test_the_pit_rule_moves_the_pit(tmp_path):
    inputs = by_hand(tmp_path, {0: [WRONG, ANOTHER]})
    inputs["step_values"] = values_by_hand(tmp_path, inputs, {(0, 0): ([0.25, 0.0, 0.0], 1.0)})
    lowest, _ = make_at_pits(tmp_path, inputs, rule="lowest")
    drop, _ = make_at_pits(tmp_path, inputs, rule="largest_drop")
    assert lowest[0][3] == TOKENIZER.encode("1 2 = 3 3 ; 3 3 = 7 ;") and drop[0][3] == TOKENIZER.encode("1 2 = 3 3 ;")


def test_a_negative_without_a_correct_continuation_is_left_out_and_counted(tmp_path):
    inputs = by_hand(tmp_path, {0: [WRONG], 1: ["4 5 = 1 6 ; 1 6 = 7 ; # 7"], 2: [SYNTHETIC[2]["completion"]]})
    values = {(0, 0): ([0.5, 0.0, 0.0], 0.5), (1, 0): ([0.0, 0.0, 0.0], 0.0)}  # problem 1: no correct rollout at all
    continuations = {(0, 0, 0): [("3 3 = 6 ; # 6", 1.0)]}
    inputs["step_values"] = values_by_hand(tmp_path, inputs, values, continuations)
    rows, numbers = make_at_pits(tmp_path, inputs, "shared_prefix")
    assert [problem for problem, *_ in rows] == [0]
    assert numbers["num_negatives_without_partner"] == 1.0
    assert numbers["problems_without_data_fraction"] == pytest.approx(2 / 3)


def test_traces_that_are_positive_give_no_pair(tmp_path):
    inputs = by_hand(tmp_path, {0: [ANOTHER, WRONG]})
    values = {(0, 0): ([0.5, 1.0, 1.0], 0.5), (0, 1): ([0.5, 0.0, 0.0], 0.5)}
    rows, _ = make_at_pits(tmp_path, {**inputs, "step_values": values_by_hand(tmp_path, inputs, values)})
    assert len(rows) == 1


def test_no_pair_at_any_pit_is_an_error_that_names_both_causes(tmp_path):
    inputs = by_hand(tmp_path, {0: [WRONG]})
    inputs["step_values"] = values_by_hand(tmp_path, inputs, {(0, 0): ([0.0, 0.0, 0.0], 0.0)})
    with pytest.raises(ValueError, match="no rollout is wrong or no wrong one has a correct one"):
        make_at_pits(tmp_path, inputs, "shared_prefix")


def test_pairs_at_pits_of_one_trace_do_not_depend_on_other_traces(tmp_path):
    def rows_with(name, completions, values):
        root = tmp_path / name
        inputs = by_hand(root, completions)
        inputs["step_values"] = values_by_hand(root, inputs, values)
        return [make_at_pits(root, inputs, seed=seed)[0] for seed in range(6)]

    zero = ([0.5, 0.0, 0.0], 0.5)
    alone = rows_with("one", {0: [ANOTHER, SHORT, WRONG]}, {(0, 2): zero})
    more = {0: [ANOTHER, SHORT, WRONG, WRONG_AT_ONCE], 1: ["# 5"]}
    among = rows_with("two", more, {(0, 2): zero, (0, 3): ([0.0] * 3, 0.5), (1, 0): ([0.0], 0.0)})
    assert [rows[0] for rows in among] == [row for (row,) in alone]
