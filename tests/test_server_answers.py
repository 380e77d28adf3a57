"""What a server is sent, and which of its answers count as a completion of the prompt."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sampling.server_answers import Answer, ServerError, Wanted, read_answer
from data.tokens.tokenizer import Tokenizer

TOKENIZER = Tokenizer(("a", "b", "c", "d"))  # ids 3 to 6
WANTED = Wanted(prompt=(1, 3), limit=3, seed=5, temperature=1.0, top_p=0.9, stop_tokens=(2, 6))


def answer(finish="stop", usage=None, **choice):
    return {"choices": [{"text": "a b", "finish_reason": finish, **choice}], "usage": usage}


def read(response):
    return read_answer(WANTED, response, TOKENIZER)


def test_the_request_states_everything_that_changes_the_distribution():
    body = WANTED.body("m")
    assert body["prompt"] == [1, 3] and body["seed"] == 5 and body["max_tokens"] == 3 and body["model"] == "m"
    neutral = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    assert {key: body[key] for key in neutral} == neutral
    assert (body["temperature"], body["top_p"], body["stop_token_ids"]) == (1.0, 0.9, [2, 6])


def test_ids_come_from_token_ids_or_from_tokens_written_as_ids():
    logprobs = {"tokens": ["token_id:3", "token_id:2"], "token_logprobs": [-0.25, -0.5]}
    for told in ({"token_ids": [3, 2], "logprobs": logprobs}, {"logprobs": logprobs}):
        assert read(answer(**told)) == Answer([3, 2], -0.75)
    assert read(answer(token_ids=[3, 2])) == Answer([3, 2], None)


def test_a_completion_ends_at_its_first_stop_token_whatever_the_server_added():
    logprobs = {"token_logprobs": [-1.0, -2.0, -4.0]}
    assert read(answer("length", token_ids=[3, 6, 4], logprobs=logprobs)) == Answer([3, 6], -3.0)


def test_a_completion_as_long_as_the_limit_needs_no_stop_token():
    assert read(answer("length", token_ids=[3, 4, 5])).tokens == [3, 4, 5]


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (answer("length", token_ids=[3, 4]), r"cut at 2 tokens where 3 were asked .* at least 5 tokens"),
        (answer("stop", token_ids=[3, 4]), r"ended by itself at token \[4\], which is not one of .* \[2, 6\]"),
        (answer("stop", token_ids=[]), r"ended by itself at token \[\]"),
        (answer("length", token_ids=[3, 4, 5, 3]), r"has 4 tokens; at most 3"),
        (answer("length", token_ids=[3, 4, 7]), r"token 7, outside the policy's vocabulary of 7"),
        (answer("abort"), r"finish_reason 'abort'"),
        (answer(None), r"finish_reason None"),
        (answer(token_ids=[2], prompt_token_ids=[3]), r"prompt of 1 tokens, not the one of 2"),
        (answer(token_ids=[2], usage={"prompt_tokens": 3}), r"counts 3 tokens in a prompt of 2"),
        (answer("length", {"completion_tokens": 2}), r"cut at 2 tokens"),
        ({"choices": []}, r"an answer is .*expected one choice"),
        ({"choices": [{}, {}]}, r"expected one choice"),
        ("oops", r"an answer is 'oops'"),
    ],
)
def test_what_is_no_whole_completion_of_the_prompt_is_refused(response, words):
    with pytest.raises(ServerError, match=words):
        read(response)


def test_a_text_is_encoded_again_and_told_from_one_with_ids():
    assert read(answer("stop")) == Answer([3, 4, 2], None, from_text=True)
    assert read(answer("stop", {"completion_tokens": 3})).round_trip  # a server counts the stop token, or does not
    assert read(answer("stop", {"completion_tokens": 2})).round_trip


@pytest.mark.parametrize(
    "response",
    [
        answer("stop", {"completion_tokens": 1}),  # the policy wrote it with fewer tokens
        answer("length", {"completion_tokens": 3}),
        answer("length", text="a b c d"),  # more tokens than were asked for
        answer("stop", text="a  b"),  # decodes to another text
    ],
)
def test_a_text_that_surely_has_other_tokens_is_marked(response):
    told = read(response)
    assert told.from_text and not told.round_trip and len(told.tokens) <= WANTED.limit


@given(
    st.lists(st.sampled_from((-0.5, -1, None, float("-inf"), float("inf"), float("nan"), "-1")), min_size=2, max_size=2)
)
def test_log_probabilities_that_are_none_are_not_told_and_never_break_the_journal(logps):
    told = read(answer(token_ids=[3, 2], logprobs={"token_logprobs": logps}))
    assert told.tokens == [3, 2]
    assert told.logp == (sum(logps) if all(item in (-0.5, -1) for item in logps) else None)
    json.dumps(told.as_json(), allow_nan=False)
