"""Requests as both sections with an endpoint make them: what passes, what is refused, and no error holds the key."""

import asyncio
import email.utils
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("httpx")
pytest.importorskip("tenacity")

import httpx

from data import http_requests
from data.http_requests import JsonServer, Passing, Refused, api_key, failure_of
from data.sampling.completion_server import CompletionServer
from data.sampling.server_answers import ServerError
from scaling.config.sampling import Sampler
from scaling.config.teacher import NamedTeacher

KEY = "sk-tests/1234567890+abcdef"
SECTIONS = {"sampler": Sampler, "teacher": NamedTeacher}

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def quick_and_keyed(monkeypatch):
    monkeypatch.setattr(http_requests, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setenv("TEST_KEY", KEY)


@pytest.fixture(params=SECTIONS)
def section(request):
    return request.param


class Script:
    """A server that gives one answer after the other, and the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers, self.arrivals, self.heads, self.tasks = list(answers), [], [], []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line.split()[1]) for line in head.splitlines() if line.lower().startswith("content-len")), 0)
        await reader.readexactly(length)
        self.heads.append(head)
        self.arrivals.append(time.monotonic())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(writer)
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            writer.close()  # the client is gone


def says(text: str, status: int = 200, **headers: str) -> bytes:
    """A whole response."""
    told = {"content-length": str(len(text.encode())), "connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in told.items())
    return f"HTTP/1.1 {status} So\r\n{lines}\r\n{text}".encode()


@asynccontextmanager
async def running(script: Script) -> AsyncIterator[str]:
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        await asyncio.gather(*script.tasks)


def settings_of(section: str, endpoint: str, **changes):
    return SECTIONS[section].model_validate({"model": "m", "endpoint": endpoint, "api_key_env": "TEST_KEY", **changes})


def read(response):
    if response.status != 200:
        raise failure_of(response)
    try:
        return json.loads(response.text)
    except ValueError as error:
        raise Passing(f"no JSON: {response.text}") from error


def ask(section: str, script: Script, **changes):
    """What a request gets from a server."""

    async def asked():
        async with running(script) as url:
            server = JsonServer(settings_of(section, url, **changes), section)
            try:
                return await server.ask("POST", f"{url}/it", read, {"a": 1})
            finally:
                await server.close()

    return asyncio.run(asked())


OK = says('{"fine": 1}')


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
def test_a_status_that_passes_is_tried_again(section, status):
    script = Script(says("busy", status), OK)
    assert ask(section, script) == {"fine": 1} and len(script.heads) == 2


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", says('{"fine"'), says("x", content_encoding="gzip")],
    ids=["dropped", "fewer bytes than told", "half of the JSON", "what does not decode"],
)
def test_a_response_that_is_cut_short_is_tried_again(section, answer):
    script = Script(answer, OK)
    assert ask(section, script) == {"fine": 1} and len(script.heads) == 2


@pytest.mark.parametrize("as_date", [False, True])
def test_no_try_comes_before_retry_after_in_seconds_or_as_a_date(section, as_date):
    after = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "0.6"
    script = Script(says("slow down", 429, retry_after=after), OK)
    ask(section, script)
    # A date has whole seconds: one that is two seconds ahead is at least one ahead.
    assert script.arrivals[1] - script.arrivals[0] >= (0.9 if as_date else 0.6)


def test_requests_that_wait_for_their_turn_also_wait_for_retry_after(section):
    script = Script(says("slow down", 429, retry_after="1"), OK)

    async def three():
        async with running(script) as url:
            server = JsonServer(settings_of(section, url, requests_per_minute=600), section)
            try:
                await asyncio.gather(*(server.ask("POST", f"{url}/it", read, {"a": 1}) for _ in range(3)))
            finally:
                await server.close()

    asyncio.run(three())
    assert len(script.arrivals) == 4  # turns are 0.1 s apart, and two of them were taken before the 429
    assert script.arrivals[1] - script.arrivals[0] >= 0.99


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says("slow down", 429, retry_after="86400"), "HTTP 429: slow down. It asks to wait 86400 s"),
        (says('{"error": {"message": "Pay.", "type": "insufficient_quota"}}', 429), r"HTTP 429: Pay\.$"),
        (says("", 403), "HTTP 403: no message"),
        (says("", 302, location="http://elsewhere/"), "HTTP 302"),
        (says("", 401), r"HTTP 401: the key in the variable TEST_KEY is not accepted"),
    ],
)
def test_what_every_try_would_meet_is_refused_after_one(section, answer, words):
    script = Script(answer)
    with pytest.raises(Refused, match=words):
        ask(section, script)
    assert len(script.heads) == 1


def test_a_server_that_wants_a_key_and_gets_none_names_the_setting(section):
    script = Script(says("", 401))
    with pytest.raises(Refused, match=rf"name the environment variable that holds it in {section}\.api_key_env"):
        ask(section, script, api_key_env=None)
    assert "authorization" not in script.heads[0].lower()


def test_the_last_try_is_told_with_how_many_there_were(section):
    script = Script(says("bad gateway", 502))
    words = (
        rf"^3 tries .* as many as {section}\.max_tries allows\. The last one: http.*/v1/it answers HTTP 502: bad gat"
    )
    with pytest.raises(Refused, match=words):
        ask(section, script, max_tries=3)
    assert len(script.heads) == 3


def test_the_time_limit_is_of_the_whole_answer_not_of_each_part(section):
    async def drips(writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        for _ in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)  # a tenth of the limit: no part is late, the whole takes ten limits

    began = time.monotonic()
    with pytest.raises(Refused, match=r"gives no complete answer within 0\.5 s"):
        ask(section, Script(drips), timeout_seconds=0.5, max_tries=1)
    assert 0.5 <= time.monotonic() - began < 3.0


def chain_of(error: BaseException | None) -> str:
    """All that an exception and those behind it say, also what a traceback would leave out."""
    if error is None:
        return ""
    return f"{error!r} {error} {chain_of(error.__cause__)} {chain_of(error.__context__)}"


@pytest.mark.parametrize(
    "answer",
    [
        says(f"no such key: {KEY}", 500),
        says(json.dumps({"error": {"message": f"Incorrect key {KEY}", "code": KEY}}), 400),
        says('{"error": {"message": "Incorrect key ' + KEY.replace("/", r"\/").replace("+", r"\u002b") + '"}}', 403),
        says(f"Incorrect key {KEY[:9]}***{KEY[-6:]}", 401),
        says(f"not JSON, but {KEY}"),
        f"HTTP/1.1 {KEY}\r\n\r\n".encode(),
        says("x", content_encoding="gzip", x_key=KEY),
    ],
    ids=["500", "400", "403 with escapes", "401 with parts", "no JSON", "no HTTP", "no gzip"],
)
def test_the_key_is_in_no_message_log_or_exception_behind_it(section, answer, caplog):
    caplog.set_level(logging.INFO)
    script = Script(answer)
    with pytest.raises(Refused) as caught:
        ask(section, script, max_tries=2)
    assert f"Bearer {KEY}" in script.heads[0]
    shown = chain_of(caught.value) + caplog.text
    assert KEY not in shown and KEY[-6:] not in shown


def test_a_dummy_key_that_is_a_word_changes_no_answer(section, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "not-needed")
    assert ask(section, Script(says('{"text": "change was not-needed"}'))) == {"text": "change was not-needed"}


@pytest.mark.parametrize("kind", ["LocalProtocolError", "InvalidURL", "ReadError"])
def test_what_httpx_says_of_a_request_is_shown_without_the_key(section, kind, monkeypatch):
    async def fails(*_, headers, **__):
        raise getattr(httpx, kind)(f"Illegal header value {headers['Authorization']!r}")

    monkeypatch.setattr(httpx.AsyncClient, "request", fails)
    with pytest.raises(Refused, match=kind) as caught:
        ask(section, Script(OK), max_tries=2)
    assert KEY not in chain_of(caught.value)


def test_a_completion_has_the_same_tries_and_its_error_is_the_samplers():
    async def completions(script, **changes):
        async with running(script) as url, CompletionServer(settings_of("sampler", url, **changes)) as server:
            return await server.complete({"prompt": [1]})

    assert asyncio.run(completions(Script(b"", says('{"choices"'), OK))) == {"fine": 1}
    with pytest.raises(ServerError, match=r"2 tries .* HTTP 503: \[key\]\. What was answered is kept") as caught:
        asyncio.run(completions(Script(says(KEY, 503)), max_tries=2))
    assert KEY not in chain_of(caught.value)


def test_a_page_where_models_should_be_listed_is_not_waited_for():
    async def models(script):
        async with running(script) as url, CompletionServer(settings_of("sampler", url)) as server:
            await server.served("m", False, "")

    with pytest.raises(ServerError, match="'<html>Hello'; expected a list of models"):
        asyncio.run(models(Script(says("<html>Hello"))))


def test_a_key_is_taken_without_the_blanks_around_it(monkeypatch):
    monkeypatch.setenv("KEY", " sk-secret\n")
    assert api_key("KEY", "sampler.api_key_env") == "sk-secret"


@pytest.mark.parametrize("value", ["sk secret", "sk-s\tecret", "sk-gehéim"])
def test_what_no_header_can_hold_is_refused_and_not_shown(monkeypatch, value):
    monkeypatch.setenv("KEY", value)
    with pytest.raises(Refused) as raised:
        api_key("KEY", "sampler.api_key_env")
    assert value not in str(raised.value)


def test_a_missing_or_empty_variable_is_named_with_its_setting(monkeypatch):
    monkeypatch.delenv("KEY", raising=False)
    with pytest.raises(Refused, match=r"sampler\.api_key_env is KEY"):
        api_key("KEY", "sampler.api_key_env")
