"""Soft labels: which steps are compared, after which prefix, and with what chance the better one is preferred."""

import math

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from tiny_chain import PROBLEMS, SYNTHETIC, TOKENIZER, by_hand, tokens_of, values_by_hand

from data import advantage_pairs
from data.advantage_pairs import compared
from scaling.config.training import StepDpo

RIGHT = SYNTHETIC[0]["completion"]  # steps end after 6, 11 and 14 tokens
PARTING = "1 2 = 3 3 ; 3 3 = 7 ; # 7"  # from RIGHT, in its second step
PROMPT = TOKENIZER.encode_prompt(SYNTHETIC[0]["prompt"])


def pairs_of(root, completions, values, scale=0.5, **config):
    inputs = by_hand(root, completions)
    inputs["step_values"] = values_by_hand(root, inputs, values)
    (root / "pairs").mkdir()
    config = {"problems": PROBLEMS, "labels": {"scale": scale}, "seed": 0, **config}
    numbers = advantage_pairs.run(config, inputs, root / "pairs")
    frame = pd.read_parquet(root / "pairs/pairs.parquet")
    return [(list(row.context), list(row.chosen), list(row.rejected), row.label) for row in frame.itertuples()], numbers


def test_two_traces_are_compared_where_they_part_and_nowhere_else(tmp_path):
    values = {(0, 0): ([0.5, 0.75, 1.0], 0.5), (0, 1): ([0.5, 0.25, 0.0], 0.5)}
    rows, numbers = pairs_of(tmp_path, {0: [RIGHT, PARTING]}, values)
    right, wrong = tokens_of(RIGHT), tokens_of(PARTING)
    label = 1 / (1 + math.exp(-(0.75 - 0.25) / 0.5))
    # Once for the step of each trace. After it their prefixes differ, before it their steps are alike.
    assert rows == [([*PROMPT, *right[:6]], right[6:11], wrong[6:11], pytest.approx(label))] * 2
    assert numbers == {"num_pairs": 2, "problems_without_data_fraction": pytest.approx(2 / 3)}


def test_equal_steps_of_equal_value_have_a_label_of_one_half(tmp_path):
    values = {(0, 0): ([0.5, 0.5, 1.0], 0.5), (0, 1): ([0.5, 0.5, 0.0], 0.5)}
    rows, _ = pairs_of(tmp_path, {0: [RIGHT, PARTING]}, values)
    assert [row[3] for row in rows] == [0.5, 0.5]


def test_a_step_has_a_partner_that_differs_and_the_larger_q_is_chosen():
    taken = [((4,), 0.5), ((4,), 0.5), ((5,), 0.25), ((6,), 0.75)]
    found = list(compared({(): taken}, np.random.default_rng(0)))
    assert len(found) == 4
    for (tokens, _), (_, chosen, rejected) in zip(taken, found, strict=True):
        assert tokens in (chosen[0], rejected[0]) and chosen[0] != rejected[0] and chosen[1] > rejected[1]


def test_traces_that_never_part_are_an_error_in_the_first_round_only(tmp_path):
    values = {(0, 0): ([0.5, 0.75, 1.0], 0.5)}
    with pytest.raises(ValueError, match=r"no two traces of any of 3 problems.*raise step_dpo.traces_per_problem"):
        pairs_of(tmp_path / "first", {0: [RIGHT]}, values)
    assert pairs_of(tmp_path / "later", {0: [RIGHT]}, values, round=2)[1]["num_pairs"] == 0


def test_an_unknown_q_is_an_error_with_its_cure(tmp_path):
    values = {(0, 0): ([0.5, None, 1.0], 0.5), (0, 1): ([0.5, 0.25, 0.0], 0.5)}
    with pytest.raises(ValueError, match=r"set step_values\.adaptive: false"):
        pairs_of(tmp_path, {0: [RIGHT, PARTING]}, values)


def test_soft_labels_need_a_shared_prefix():
    assert StepDpo(labels="advantage", pair_mode="shared_prefix").label_scale == 1.0
    for settings in ({}, {"pair_mode": "shared_prefix", "chosen": "highest_value"}):
        with pytest.raises(ValidationError, match="set pair_mode: shared_prefix and leave chosen out"):
            StepDpo(labels="advantage", **settings)
