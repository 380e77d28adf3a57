"""Verification: rewards, counts of wrong steps, and what a record says of them."""

import pandas as pd
import pytest
from tiny_chain import PROBLEMS, SYNTHETIC, by_hand

from data import verifier

RIGHT = SYNTHETIC[0]["completion"]
OTHER_ORDER = "2 3 = 5 1 ; 5 1 = 6 ; # 6"
SPURIOUS = "1 2 = 4 3 ; 4 3 = 6 ; # 6"  # 4 for 3, then 6 for 7: two wrong sums, right answer
WRONG_SUM = "1 2 = 3 3 ; 3 3 = 7 ; # 7"
NO_ANSWER = "1 2 = 3 3 ;"


def frame_of(inputs):
    return pd.read_parquet(inputs["verification"] / "verification.parquet")


def test_every_rollout_gets_its_reward_and_counts_of_wrong_steps(tmp_path):
    frame = frame_of(by_hand(tmp_path, {0: [RIGHT, OTHER_ORDER, SPURIOUS, WRONG_SUM, NO_ANSWER, "# 6 ; # 6"]}))
    assert frame["reward"].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    assert frame["answer"].fillna("none").tolist() == ["6", "6", "6", "7", "none", "6"]
    assert frame["num_steps"].tolist() == [3, 3, 3, 3, 1, 2]
    assert frame["num_wrong_facts"].tolist() == [0, 0, 2, 1, 0, 0]
    assert frame["num_procedure_errors"].tolist() == [0, 0, 0, 0, 0, 2]
    assert frame["spurious_steps"].tolist() == [0, 0, 2, 0, 0, 2]


def test_a_rollout_is_checked_against_its_own_problem(tmp_path):
    completions = {problem: [row["completion"] for row in SYNTHETIC] for problem in range(3)}
    frame = frame_of(by_hand(tmp_path, completions))
    right = frame[frame["reward"] == 1.0]
    assert list(zip(right["problem"], right["sample"], strict=True)) == [(0, 0), (1, 1), (2, 2)]


def test_the_record_tells_problems_without_a_positive_from_those_without_a_negative(tmp_path):
    completions = {0: [RIGHT, SPURIOUS], 1: [WRONG_SUM, NO_ANSWER], 2: [SYNTHETIC[2]["completion"], WRONG_SUM]}
    inputs = by_hand(tmp_path, completions)
    numbers = verifier.run({"problems": PROBLEMS}, inputs, inputs["verification"])
    assert numbers == {
        "mean_reward": pytest.approx(3 / 6),
        "problems_without_positive_fraction": pytest.approx(1 / 3),
        "problems_without_negative_fraction": pytest.approx(1 / 3),
        "spurious_positive_fraction": pytest.approx(1 / 3),
    }


def test_the_share_of_spurious_among_no_positives_is_absent(tmp_path):
    inputs = by_hand(tmp_path, {0: [WRONG_SUM], 1: [NO_ANSWER]})
    numbers = verifier.run({"problems": PROBLEMS}, inputs, inputs["verification"])
    assert numbers["mean_reward"] == 0.0 and "spurious_positive_fraction" not in numbers


def test_synthetic_problems_without_an_answer_are_an_error_that_names_the_line(tmp_path):
    inputs = by_hand(tmp_path, {0: [RIGHT]})
    (inputs["synthetic"] / "synthetic.jsonl").write_text('{"prompt": "1 2 3 ?"}\n')
    with pytest.raises(ValueError, match=r"synthetic\.jsonl, line 1 is .* without 'answer'"):
        verifier.run({"problems": PROBLEMS}, inputs, inputs["verification"])
