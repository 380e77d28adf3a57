"""JSON requests to an HTTP server: paced, retried after transient errors, and limited in time.

In: the settings of a section with an endpoint; for each request its URL, its body and a function that reads the
response. Out: that function's result, or one of two errors: `Passing`, which may not recur, and `Refused`, which every
retry would meet. Lost connections, responses cut short or late, 408, 409, 425, 429 and 5xx are retried, and nothing is
sent before the server's Retry-After is over. The key is read from the environment with the first request; no message,
log or chain of exceptions contains it, even if the server repeats it.
"""

import asyncio
import email.utils
import json
import logging
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from scaling.config.server import Server

try:
    import httpx
    import tenacity
except ImportError as missing:
    raise ImportError(
        f"requests to a server need the package {missing.name}, which is not installed; install the project with an"
        " extra that has it: pip install --editable '.[teacher]' to ask a chat model, '.[remote]' to sample on a"
        " server."
    ) from missing

logger = logging.getLogger(__name__)

PASSING_STATUS = frozenset({408, 409, 425, 429})  # and 5xx
NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached"})  # status 429, but waiting does not help
_REFUSALS = frozenset({"invalid_request_error", "authentication_error", "permission_error", "not_found_error"})
_REFUSALS |= {"BadRequestError", "NotFoundError", "AuthenticationError", "model_not_found", "invalid_api_key"}
BACKOFF_SECONDS = 1.0  # of the first retry, doubled with each, up to the longest
LONGEST_BACKOFF_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 3600.0  # a server that asks for more is out of quota
_SHOWN_CHARACTERS = 400
_SHORTEST_KEY = 16  # shorter ones, such as EMPTY or not-needed, are no secret and may stand in an answer

T = TypeVar("T")


class Passing(RuntimeError):
    """An error that a retry may not meet."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Refused(RuntimeError):
    """An error that every retry would meet."""


@dataclass(frozen=True)
class Response:
    """A server's response, without the key."""

    url: str
    status: int
    text: str
    retry_after_seconds: float  # that the server asks to wait, or 0


class JsonServer:
    """The connection to one server, with its key and its pace."""

    def __init__(self, settings: Server, section: str, pause: Callable[[float], Awaitable[None]] = asyncio.sleep):
        """section: dotted key of the settings. pause: waits so many seconds before a try; may raise to prevent it."""
        self.num_sent = 0  # requests, retries included
        self._settings, self._section, self._pause = settings, section, pause
        limits = httpx.Limits(max_connections=settings.max_concurrency)
        self._http = httpx.AsyncClient(timeout=None, limits=limits, verify=_certificates())
        self._key: str | None = None  # read with the first request: a stage whose answers are all kept needs no key
        self._seconds_apart = 60.0 / settings.requests_per_minute if settings.requests_per_minute else 0.0
        self._free_at = 0.0  # when the pace allows the next request
        self._held_until = 0.0  # when the server's Retry-After is over

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(
        self, method: str, url: str, read: Callable[[Response], T], body: Mapping[str, object] | None = None
    ) -> T:
        """The result of `read` for the response, after as many tries as the settings allow; raises Refused."""
        tries = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Passing),
            stop=tenacity.stop_after_attempt(self._settings.max_tries),
            wait=_wait,
            sleep=self._pause,
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return await tries(self.try_once, method, url, read, body)
        except Passing as error:
            raise Refused(
                f"{self._settings.max_tries} tries of a request to {self._settings.endpoint} failed, as many as"
                f" {self._section}.max_tries allows. The last one: {error}"
            ) from error

    async def try_once(
        self, method: str, url: str, read: Callable[[Response], T], body: Mapping[str, object] | None = None
    ) -> T:
        """One try, as soon as the pace allows it; raises Passing or Refused."""
        await self._pause(self._seconds_to_turn())
        while time.monotonic() < self._held_until:  # the server asked to wait after this turn was taken
            await self._pause(self._seconds_to_turn())
        headers = self._headers()
        self.num_sent += 1
        response = await self._sent(method, url, headers, body)
        if not isinstance(response, Response):
            raise response
        if response.status == 401:  # its text may show parts of the key
            raise Refused(f"{url} answers HTTP 401: {self._which_key()}")
        failure: Passing | Refused
        try:
            return read(response)
        except (Passing, Refused) as error:  # raised again below: its context here would hold the text with the key
            failure = error
        said = self._without_key(str(failure))
        if isinstance(failure, Refused):
            raise Refused(said)
        if failure.retry_after_seconds > LONGEST_RETRY_AFTER_SECONDS:
            raise Refused(f"{said} It asks to wait {failure.retry_after_seconds:.0f} s.")
        self._held_until = max(self._held_until, time.monotonic() + failure.retry_after_seconds)
        self._free_at = max(self._free_at, self._held_until)
        raise Passing(said, failure.retry_after_seconds)

    async def _sent(
        self, method: str, url: str, headers: Mapping[str, str], body: Mapping[str, object] | None
    ) -> Response | Passing | Refused:
        """The response, or an error: returned, since an exception raised here would keep httpx's text with the key."""
        seconds = self._settings.timeout_seconds
        try:
            async with asyncio.timeout(seconds):  # of the whole response: httpx limits each read
                response = await self._http.request(method, url, json=body, headers=headers)
        except TimeoutError:
            return Passing(f"{url} gives no complete answer within {seconds:g} s.")
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:  # may show the key
            return Refused(
                f"a request cannot be sent to {url} ({type(error).__name__}); look at {self._section}.endpoint and the"
                " variable of its key."
            )
        except httpx.RequestError as error:
            why = self._without_key(str(error)) or "no answer"
            return Passing(f"{method} {url} fails: {type(error).__name__} ({why}).")
        after = _seconds_of(response.headers.get("retry-after", "").strip())
        text = response.text if response.status_code == 200 else _plain(response.text)
        return Response(url, response.status_code, self._without_key(text), after)

    def _headers(self) -> dict[str, str]:
        if self._settings.api_key_env is None:
            return {}
        if self._key is None:
            self._key = api_key(self._settings.api_key_env, f"{self._section}.api_key_env")
        return {"Authorization": f"Bearer {self._key}"}

    def _which_key(self) -> str:
        if self._settings.api_key_env is None:
            return f"it requires a key; name the environment variable that holds it in {self._section}.api_key_env."
        return f"the key in the variable {self._settings.api_key_env} is not accepted."

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key and len(self._key) >= _SHORTEST_KEY else text

    def _seconds_to_turn(self) -> float:
        """How long to wait until the pace allows another request; that turn is taken."""
        now = time.monotonic()
        at = max(now, self._free_at)
        self._free_at = at + self._seconds_apart
        return at - now

    def _tell(self, state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None and state.next_action is not None  # this is between two tries
        error, seconds = state.outcome.exception(), state.next_action.sleep
        logger.info(
            "%s Try %d of %d follows in %.1f s.", error, state.attempt_number + 1, self._settings.max_tries, seconds
        )


def api_key(variable: str, setting: str) -> str:
    """The key that a variable of the environment holds. setting: its dotted key in the sweep file."""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise Refused(
            f"{setting} is {variable}, and the environment has no such variable or an empty one; export it (on every"
            f" node), or set {setting}: null for a server that needs no key."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Refused(
            f"the variable {variable} holds spaces or special characters, which no key contains; set it again."
        )
    return key


def _plain(text: str) -> str:
    """JSON without escapes, which could hide a key; other text unchanged."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        return text


def failure_of(response: Response, status: int | None = None) -> Passing | Refused:
    """The error for a response, from its status or one in its body."""
    codes, message = error_in(response.text)
    said = f"{response.url} answers HTTP {response.status}: {message.rstrip('.')}."
    status = status or response.status
    if (status in PASSING_STATUS and not codes & NO_QUOTA) or status >= 500:
        return Passing(said, response.retry_after_seconds)
    return Refused(said)


def json_of(response: Response) -> Any:
    """The JSON of a response. Raises Passing or Refused for a failure, also one in a body with status 200, as gateways
    send it; without a status of its own that one is retried.
    """
    if response.status != 200:
        raise failure_of(response)
    try:
        body = json.loads(response.text)
    except ValueError as invalid:
        raise Passing(f"{response.url} answers {start_of(response.text)!r}; expected JSON.") from invalid
    if not isinstance(body, dict) or body.get("choices") or not (body.get("error") or body.get("object") == "error"):
        return body
    error = body.get("error") or body
    stated = [str(error.get(key)) for key in ("code", "status", "type")] if isinstance(error, dict) else []
    statuses = [int(item) for item in stated if item.isdecimal() and 400 <= int(item) < 600]
    refused = 429 if NO_QUOTA & set(stated) else 400 if _REFUSALS & set(stated) else 500
    raise failure_of(response, statuses[0] if statuses else refused)


def error_in(text: str) -> tuple[frozenset[str], str]:
    """The codes and the message of an error's body, in any form."""
    try:
        body = json.loads(text)
    except ValueError:
        return frozenset(), start_of(text) or "no message"
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return frozenset(), start_of(str(error))
    codes = frozenset(value for value in (error.get("code"), error.get("type")) if isinstance(value, str))
    return codes, start_of(str(error.get("message") or text))


def start_of(text: str) -> str:
    """The start of a text, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


@cache  # takes half a second to read
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _wait(state: tenacity.RetryCallState) -> float:
    backoff = float(tenacity.wait_random_exponential(multiplier=BACKOFF_SECONDS, max=LONGEST_BACKOFF_SECONDS)(state))
    error = None if state.outcome is None else state.outcome.exception()
    return max(backoff, error.retry_after_seconds) if isinstance(error, Passing) else backoff


def _seconds_of(retry_after: str) -> float:
    """Seconds from a number or a date; 0 for anything else."""
    try:
        return max(0.0, min(float(retry_after), 1e9))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, IndexError):
        return 0.0
