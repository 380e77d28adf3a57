"""Tables of rollouts: read back as they were written, and refused where two of them hold other rollouts."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_chain import SYNTHETIC, by_hand, tokens_of

from data.rollout_tables import different, load_rollouts, load_verified

RIGHT = SYNTHETIC[0]["completion"]
WRONG_SUM = "1 2 = 3 3 ; 3 3 = 7 ; # 7"
NO_ANSWER = "1 2 = 3 3 ;"


def test_rollouts_come_back_with_plain_integers(tmp_path):
    frame = pd.DataFrame({"problem": [0], "sample": [0], "tokens": [[3, 2]], "logp": [-1.0]})
    frame.to_parquet(tmp_path / "rollouts.parquet")
    (tokens,) = load_rollouts(tmp_path)["tokens"]
    assert tokens == [3, 2] and all(type(token) is int for token in tokens)


def test_verified_rollouts_carry_tokens_and_verdicts_in_the_rollouts_order(tmp_path):
    inputs = by_hand(tmp_path, {0: [RIGHT, WRONG_SUM], 2: [NO_ANSWER]})
    verified = load_verified(inputs["rollouts"], inputs["verification"])
    assert verified["tokens"].tolist() == [tokens_of(RIGHT), tokens_of(WRONG_SUM), tokens_of(NO_ANSWER)]
    assert verified["reward"].tolist() == [1.0, 0.0, 0.0] and verified["problem"].tolist() == [0, 0, 2]


@pytest.mark.parametrize("name", ["rollouts", "verification"])
@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([0, 2], "has no row, but .* has one, for 1 rollouts, the first of them problem 0, sample 1"),
        ([], "has no row, but .* has one, for 3 rollouts, the first of them problem 0, sample 0"),
        ([0, 1, 2, 2], "has more than one row for 1 rollouts, the first of them problem 4, sample 0"),
    ],
)
def test_rollouts_and_verdicts_that_do_not_match_are_an_error_that_names_the_file_and_the_row(
    tmp_path, name, rows, part
):
    inputs = by_hand(tmp_path, {0: [RIGHT, WRONG_SUM], 4: [NO_ANSWER]}, [*SYNTHETIC, *SYNTHETIC])
    path = inputs[name] / f"{name}.parquet"
    pd.read_parquet(path).iloc[rows].to_parquet(path)
    with pytest.raises(ValueError, match=f"^{path} {part}; .* delete both artifacts"):
        load_verified(inputs["rollouts"], inputs["verification"])


@given(st.lists(st.lists(st.integers(0, 2), max_size=3)))
def test_different_keeps_the_first_of_equal_completions_in_order(completions):
    expected = [item for index, item in enumerate(completions) if item not in completions[:index]]
    assert different(completions) == expected
