"""Completions up to their answers: what is behind an answer is neither learned nor searched for pits."""

import pandas as pd
import pytest
from test_text_steps import TOKENIZER

from data.problems.text_problems import answer_end, check
from data.records import Problem
from data.rollout_tables import load_step_values
from data.tokens import answer_end as module
from data.tokens.answer_end import up_to_answer
from scaling.config.problems import ModularSum
from scaling.config.text_problems import Gsm8k, Jsonl


@pytest.mark.parametrize(
    ("forms", "text", "kept"),
    [
        (("hashes",), "6 x 12 = 72\n#### 72\n\nQuestion: Tom has 4.\n#### 72", "6 x 12 = 72\n#### 72"),
        (("hashes",), "#### 71\nNo, wait.\n#### 72\nQuestion", "#### 71\nNo, wait.\n#### 72"),  # the last one counts
        (("boxed",), "So it is \\boxed{72}. Thus he sold 72. Good.", "So it is \\boxed{72}."),
        (("phrase",), "The answer is 72. I am sure.", "The answer is 72."),
        (("hashes", "last_number"), "She has 72.\n#### 72\nMore", "She has 72.\n#### 72"),
        (("last_number",), "72 of 72. And 72 more.", "72 of 72. And 72 more."),
        (("hashes",), "no answer. None.", "no answer. None."),
        (("hashes",), "", ""),
    ],
)
def test_a_completion_ends_with_the_sentence_that_first_states_the_answer_that_counts(forms, text, kept):
    assert text[: answer_end(Gsm8k(answer_forms=forms), text)] == kept


def test_a_users_verifier_decides_what_to_read():
    text = "#### 72\nand more"
    assert answer_end(Jsonl(verifier="mine:check"), text) == len(text)


def test_tokens_end_there_with_a_stop_token(monkeypatch):
    monkeypatch.setattr(module, "HfTokenizer", type(TOKENIZER))
    cut = up_to_answer(Gsm8k(), TOKENIZER)
    answered = TOKENIZER.encode("48/2 = 24\n#### 24")
    assert cut([*answered, *TOKENIZER.encode("\n\nQuestion: 5. So"), 0]) == [*answered, 0]
    assert cut([*answered, 0]) == [*answered, 0] and cut(answered) == answered
    unstated = TOKENIZER.encode("So 5. So 6.")
    assert cut(unstated) == unstated
    assert up_to_answer(ModularSum(), TOKENIZER)([4, 5]) == [4, 5]


def test_a_token_that_goes_on_behind_the_answer_and_changes_it_is_not_cut_in_two(monkeypatch):
    monkeypatch.setattr(module, "HfTokenizer", type(TOKENIZER))
    joined = type("Joined", (type(TOKENIZER),), {"merges": (b"4\nSo",)})()
    monkeypatch.setattr(module, "HfTokenizer", type(joined))
    tokens = joined.encode("#### 24\nSo on")
    assert up_to_answer(Gsm8k(), joined)(tokens) == [*tokens[:7], 0]  # the whole token: its answer is the same


def test_the_steps_of_a_judged_completion_end_there_too():
    problem = Problem(prompt="?", answer="24", solution=None)
    found = check(Gsm8k(), problem, "48/2 = 24\n#### 24\nQuestion\nMore")
    assert [step.text for step in found.steps] == ["48/2 = 24\n", "#### 24"] and found.reward == 1.0


def test_traces_that_were_cut_bring_their_own_tokens(tmp_path):
    values = {"problem": [0], "sample": [1], "reward": [0.0], "step_ends": [[2]], "q_values": [[0.0]]}
    pd.DataFrame({**values, "prompt_value": [0.5]}).to_parquet(tmp_path / "step_values.parquet")
    rollouts = pd.DataFrame({"problem": [0], "sample": [1], "tokens": [[5, 6, 7]]})
    assert load_step_values(tmp_path, rollouts)["tokens"].tolist() == [[5, 6, 7]]
    pd.DataFrame({**values, "prompt_value": [0.5], "tokens": [[5, 6]]}).to_parquet(tmp_path / "step_values.parquet")
    assert load_step_values(tmp_path, rollouts)["tokens"].tolist() == [[5, 6]]
