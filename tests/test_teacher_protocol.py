"""What a chat server's response says, and what it costs where its counts are not whole: never less than it may be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("httpx")
pytest.importorskip("tenacity")

from data.http_requests import Passing, Refused, Response
from data.teacher.protocol import most_input_tokens, read_response
from scaling.config.teacher import NamedTeacher

TEACHER = NamedTeacher(model="big", max_tokens=50, usd_per_million_input_tokens=2.0, usd_per_million_output_tokens=10.0)
MOST = most_input_tokens("word")


def read(usage=None, **changes) -> dict:
    choice = {"message": {"content": "I read it."}, "finish_reason": "stop"}
    body = {"model": "big-1", "choices": [choice], "usage": usage, **changes}
    return read_response(Response("http://x", 200, json.dumps(body), 0.0), TEACHER, "word")


@pytest.mark.parametrize(
    ("usage", "tokens", "estimated"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 9}, (7, 9), False),
        ({"prompt_tokens": 7, "completion_tokens": 9.0, "total_tokens": 16}, (7, 9), False),
        (None, (MOST, 50), True),
        ({}, (MOST, 50), True),
        ([], (MOST, 50), True),
        ({"prompt_tokens": 7}, (7, 50), True),
        ({"completion_tokens": 9}, (MOST, 9), True),
        ({"prompt_tokens": 7, "completion_tokens": None}, (7, 50), True),
        ({"prompt_tokens": 7, "completion_tokens": -1}, (7, 50), True),
        ({"prompt_tokens": 7, "completion_tokens": "9"}, (7, 50), True),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (MOST, 50), True),  # of a reply with text
        ({"prompt_tokens": 7, "total_tokens": 16}, (7, 9), False),
        ({"completion_tokens": 9, "total_tokens": 16}, (7, 9), False),
        ({"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 40}, (7, 33), False),  # reasoning left out
        (
            {"prompt_tokens": 7, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 24}},
            (7, 33),
            False,
        ),
        (
            {"prompt_tokens": 7, "completion_tokens": 33, "completion_tokens_details": {"reasoning_tokens": 24}},
            (7, 33),
            False,
        ),
        ({"prompt_tokens": 7, "completion_tokens": 9, "completion_tokens_details": None}, (7, 9), False),
        ({"prompt_tokens": 7, "completion_tokens": 9, "reasoning_tokens": 24}, (7, 33), False),
        ({"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 8}, (7, 9), False),
        ({"prompt_tokens": "7", "completion_tokens": "9", "total_tokens": "16"}, (MOST, 50), True),
        ({"prompt_tokens": float("nan"), "completion_tokens": 1e300}, (MOST, 50), True),
        ({"input_tokens": 7, "output_tokens": 9}, (MOST, 50), True),  # of another protocol
    ],
)
def test_a_reply_that_is_paid_for_is_kept_and_costs_no_less_than_it_may(usage, tokens, estimated):
    reply = read(usage)
    assert (reply["input_tokens"], reply["output_tokens"]) == tokens
    assert reply["tokens_are_estimated"] == estimated
    assert reply["cost_usd"] == pytest.approx((2.0 * tokens[0] + 10.0 * tokens[1]) / 1e6)
    assert reply["content"] == "I read it."


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=5), inner, max_size=2)),
    max_leaves=4,
)
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens", "completion_tokens_details")


@given(st.one_of(ANYTHING, st.dictionaries(st.sampled_from(COUNTS), ANYTHING)), ANYTHING, ANYTHING)
def test_no_usage_refusal_or_model_loses_a_reply_or_makes_it_free(usage, model, finish):
    choice = {"message": {"content": "I read it."}, "finish_reason": finish}
    reply = read(usage, model=model, choices=[choice])
    assert reply["content"] == "I read it." and isinstance(reply["model"], str)
    assert reply["input_tokens"] > 0 and reply["output_tokens"] > 0 and reply["cost_usd"] > 0
    json.dumps(reply, allow_nan=False)


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": [{"type": "text", "text": "I read "}, {"type": "text", "text": "it."}]}, "I read it."),
        ({"content": None, "reasoning_content": "Hm."}, None),
        ({"content": [{"type": "image_url"}]}, None),
        (None, None),
    ],
)
def test_a_message_in_parts_or_without_text_is_kept(message, content):
    reply = read({"prompt_tokens": 7, "completion_tokens": 9}, choices=[{"message": message}])
    assert reply["content"] == content and reply["output_tokens"] == 9


def test_a_reply_without_choices_is_kept_when_it_was_paid_for_and_else_asked_again():
    assert read({"prompt_tokens": 7, "completion_tokens": 9}, choices=[])["output_tokens"] == 9
    with pytest.raises(Passing, match="answers without choices"):
        read(choices=[])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "overloaded", "code": 529}, Passing),
        ({"message": "later"}, Passing),
        ({"message": "no credit", "code": "insufficient_quota"}, Refused),
        ({"message": "no such model", "code": 404}, Refused),
    ],
)
def test_an_error_under_status_200_is_the_error_that_it_says(error, kind):
    with pytest.raises(kind, match="answers HTTP 200: " + error["message"]):
        read(choices=None, error=error)
