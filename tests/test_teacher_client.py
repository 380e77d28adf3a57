"""Asking a real server on loopback: retries, pace, budget and keys, with every request counted."""

import asyncio
import logging
import time

import pytest

pytest.importorskip("httpx")
pytest.importorskip("tenacity")

from chat_server import KEY, ChatServer, Fault

from data import http_requests
from data.teacher.budget import Budget
from data.teacher.client import ChatClient
from data.teacher.ledger import opened
from data.teacher.protocol import TeacherError, most_input_tokens
from scaling.config.teacher import Teacher

PRICES = {"usd_per_million_input_tokens": 2.0, "usd_per_million_output_tokens": 10.0}


@pytest.fixture(autouse=True)
def quick_and_keyed(monkeypatch):
    monkeypatch.setattr(http_requests, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setenv("TEST_KEY", KEY)


def settings(server: ChatServer, **changes) -> Teacher:
    plain = {"model": "big", "endpoint": server.url, "api_key_env": "TEST_KEY", "max_tokens": 50, **PRICES, **changes}
    return Teacher.model_validate(plain)


def ask(teacher: Teacher, folder, prompts=("Hello?",), seed=0):
    """The replies to some prompts asked at once, or the exception of the first that has one."""

    async def all_of(ledger):
        budget = Budget(teacher.budget_usd, teacher.budget_tokens, ledger)
        async with ChatClient(teacher, ledger, budget, seed) as client:
            name = next(iter(teacher.named))
            asked = (client.ask(name, prompt, {"attempt": number}) for number, prompt in enumerate(prompts))
            return await asyncio.gather(*asked, return_exceptions=True)

    with opened(folder, seed) as ledger:
        replies = asyncio.run(all_of(ledger))
    errors = [reply for reply in replies if isinstance(reply, Exception)]
    if errors:
        raise errors[0]
    return replies


def echo(body) -> str:
    return f"I read {body['messages'][0]['content']}"


def test_a_reply_comes_with_its_tokens_and_its_price(tmp_path):
    with ChatServer(echo) as server:
        (reply,) = ask(settings(server), tmp_path, ["one two three"])
    assert reply.content == "I read one two three" and reply.model == "big-2026-11-24"
    assert (reply.input_tokens, reply.output_tokens, reply.tokens_are_estimated) == (3, 5, False)
    assert reply.cost_usd == pytest.approx((3 * 2.0 + 5 * 10.0) / 1e6)
    assert server.violations == []
    assert server.bodies[0]["max_tokens"] == 50 and server.bodies[0]["temperature"] == 1.0


def test_what_is_in_the_ledger_is_not_asked_again_and_needs_no_key(tmp_path, monkeypatch):
    with ChatServer(echo) as server:
        first = ask(settings(server), tmp_path, ["a", "b"])
        monkeypatch.delenv("TEST_KEY")
        assert ask(settings(server), tmp_path, ["a", "b"]) == first
        assert len(server.bodies) == 2
        with pytest.raises(TeacherError, match=r"api_key_env is TEST_KEY.*export it"):
            ask(settings(server), tmp_path, ["a", "b", "c"])


def test_another_temperature_seed_or_use_is_another_request(tmp_path):
    with ChatServer(echo) as server:
        ask(settings(server), tmp_path, ["a", "a"])
        ask(settings(server, temperature=0.5), tmp_path, ["a"])
        ask(settings(server), tmp_path, ["a"], seed=1)
        assert len({body["seed"] for body in server.bodies}) == len(server.bodies) == 4


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, error={"error": {"message": "slow down", "type": "requests"}}),
        Fault(500, error="<html>oops</html>"),
        Fault(drop=True),
        Fault(hang_seconds=1.0),
        Fault(raw=b'{"choices": [{"mess'),
        Fault(raw=b'{"object": "chat.completion", "choices": []}'),
        Fault(raw=b""),
    ],
    ids=["429", "500", "dropped", "hanging", "cut short", "no choices", "no body"],
)
def test_an_error_that_passes_is_tried_again(tmp_path, fault):
    with ChatServer(echo, {0: fault, 1: fault}) as server:
        (reply,) = ask(settings(server, timeout_seconds=0.3), tmp_path)
        assert reply.content == "I read Hello?" and len(server.bodies) == 3
        assert server.bodies[0] == server.bodies[2]


def test_an_error_that_does_not_pass_stops_after_max_tries_and_says_so(tmp_path):
    with ChatServer(echo, dict.fromkeys(range(9), Fault(502, error="bad gateway"))) as server:
        with pytest.raises(TeacherError, match=r"teacher big: 3 tries .* HTTP 502: bad gateway\. The 0 replies"):
            ask(settings(server, max_tries=3), tmp_path)
        assert len(server.bodies) == 3


def test_retry_after_holds_back_other_requests_too(tmp_path):
    with ChatServer(echo, {0: Fault(429, {"Retry-After": "0.5"})}) as server:
        ask(settings(server, max_concurrency=1), tmp_path, ["a", "b"])
        assert server.arrivals[1] - server.arrivals[0] >= 0.5


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(400, error={"error": {"message": "no such parameter"}}), "HTTP 400: no such parameter"),
        (Fault(404, error={"error": {"message": "no model big"}}), "HTTP 404: no model big"),
        (Fault(429, error={"error": {"message": "pay first", "code": "insufficient_quota"}}), "HTTP 429: pay first"),
        (Fault(302, {"Location": "http://elsewhere/"}), "HTTP 302"),
    ],
)
def test_an_error_that_every_try_meets_is_one_error_after_one_try(tmp_path, fault, message):
    with ChatServer(echo, {0: fault}) as server:
        with pytest.raises(TeacherError, match=message):
            ask(settings(server), tmp_path)
        assert len(server.bodies) == 1


def test_after_an_error_nothing_new_is_sent_but_what_is_under_way_is_kept(tmp_path):
    def script(body):
        first = body["messages"][0]["content"] == "a"
        return Fault(403, error="forbidden", hang_seconds=0.1) if first else Fault(hang_seconds=0.4)

    with ChatServer(echo, script) as server:
        with pytest.raises(TeacherError, match="HTTP 403: forbidden"):
            ask(settings(server, max_concurrency=2), tmp_path, ["a", "b", "c", "d"])
        assert len(server.bodies) == 2
    with opened(tmp_path, 0) as ledger:
        assert len(ledger) == 1


def test_after_an_error_nobody_waits_for_a_retry(tmp_path):
    def script(body):
        waits = Fault(429, {"Retry-After": "60"})
        return waits if body["messages"][0]["content"] == "a" else Fault(403, error="forbidden", hang_seconds=0.2)

    with ChatServer(echo, script) as server:
        began = time.monotonic()
        with pytest.raises(TeacherError, match="HTTP 403: forbidden"):
            ask(settings(server, max_concurrency=2), tmp_path, ["b", "a", "c"])
        assert time.monotonic() - began < 10 and len(server.bodies) == 2


def test_a_filtered_prompt_is_kept_as_such_and_not_asked_again(tmp_path):
    fault = Fault(400, error={"error": {"message": "filtered", "code": "content_filter"}})
    with ChatServer(echo, {0: fault}) as server:
        for _ in range(2):
            (reply,) = ask(settings(server), tmp_path)
            assert (reply.finish_reason, reply.content, reply.cost_usd) == ("content_filter", None, 0.0)
        assert len(server.bodies) == 1


def test_no_more_than_max_concurrency_requests_are_under_way(tmp_path):
    with ChatServer(echo) as server:
        server.delay_seconds = 0.1
        ask(settings(server, max_concurrency=3), tmp_path, [str(number) for number in range(9)])
        assert server.peak == 3


def test_requests_keep_the_pace(tmp_path):
    with ChatServer(echo) as server:
        ask(settings(server, requests_per_minute=200), tmp_path, list("abcdef"))  # one in 0.3 s
        # 1.5 s apart where they leave; on a busy machine the first may arrive a little late.
        assert server.arrivals[-1] - server.arrivals[0] >= 1.4


def test_the_budget_is_never_exceeded_and_its_error_says_what_is_spent_and_how_to_go_on(tmp_path):
    # A request reserves a token for each byte, 64 for the template, and 50 to answer; it then takes 1 + 3.
    most = most_input_tokens("a") + 50
    with ChatServer(echo) as server:
        teacher = settings(server, budget_tokens=most + 8)
        with pytest.raises(
            TeacherError, match=r"budget_tokens: \d+ leaves no room .* 12 tokens in 3 req.*Raise the budget"
        ):
            ask(teacher, tmp_path, list("abcdef"))
        assert len(server.bodies) == 3
        assert len(ask(settings(server), tmp_path, list("abcdef"))) == 6
        assert len(server.bodies) == 6


def test_the_budget_in_usd_counts_both_prices(tmp_path):
    most = (most_input_tokens("a") * 2.0 + 50 * 10.0) / 1e6
    with ChatServer(echo) as server:
        with pytest.raises(TeacherError, match="budget_usd"):
            ask(settings(server, budget_usd=most * 0.99), tmp_path, ["a"])
        assert server.bodies == []
        ask(settings(server, budget_usd=most * 1.01), tmp_path, ["a"])


def test_the_budget_counts_what_other_seeds_have_spent(tmp_path):
    with ChatServer(echo) as server:
        teacher = settings(server, budget_tokens=most_input_tokens("a") + 50 + 3)
        ask(teacher, tmp_path, ["a"], seed=0)
        with pytest.raises(TeacherError, match="4 tokens in 1 requests"):
            ask(teacher, tmp_path, ["a"], seed=1)


def test_tokens_that_the_server_does_not_count_are_taken_for_the_most_they_can_be(tmp_path):
    with ChatServer(echo, {0: Fault(without_usage=True)}) as server:
        (reply,) = ask(settings(server), tmp_path, ["word"])
    assert reply.tokens_are_estimated
    assert reply.input_tokens == most_input_tokens("word") and reply.output_tokens == 50  # max_tokens


def test_the_key_is_in_no_ledger_log_or_error_even_if_the_server_says_it(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    said = f"Incorrect API key provided: {KEY}"
    faults = {
        0: Fault(500, error=said),
        1: Fault(content=f"your key is {KEY}"),
        2: Fault(400, error={"error": {"message": said}}),
        3: Fault(401, error={"error": {"message": said}}),
    }
    shown = []
    with ChatServer(echo, faults) as server:
        ask(settings(server), tmp_path, ["a"])
        for prompt in ("b", "c"):
            with pytest.raises(TeacherError) as caught:
                ask(settings(server), tmp_path, [prompt])
            shown.append(f"{caught.value!r} {caught.value.__cause__!r}")
        assert server.violations == [] and len(server.bodies) == 4
    kept = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "your key is [key]" in kept and "TEST_KEY is not accepted" in shown[1]
    assert KEY not in kept + caplog.text + "".join(shown)


@pytest.mark.parametrize("key", ["sk-two lines\nsk-second-line", "sk-\u00fcml\u00e4ut-key"])
def test_a_key_that_cannot_be_sent_is_an_error_that_does_not_show_it(tmp_path, monkeypatch, key):
    monkeypatch.setenv("TEST_KEY", key)
    with ChatServer(echo) as server, pytest.raises(TeacherError, match="variable TEST_KEY holds") as caught:
        ask(settings(server), tmp_path)
    assert key.split()[0] not in str(caught.value) and server.bodies == []


def test_a_server_without_keys_gets_none_and_the_other_name_of_the_limit_is_sent(tmp_path):
    with ChatServer(echo) as server:
        changes = {"max_tokens_key": "max_completion_tokens", "request": {"reasoning_effort": "low"}}
        ask(settings(server, api_key_env=None, **changes), tmp_path)
        assert server.violations == []
        assert server.bodies[0]["max_completion_tokens"] == 50 and server.bodies[0]["reasoning_effort"] == "low"


def test_a_server_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with ChatServer(echo) as server:
        pass
    with pytest.raises(TeacherError, match=rf"2 tries of a request to {server.url} failed.*ConnectError"):
        ask(settings(server, max_tries=2), tmp_path)
