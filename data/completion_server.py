"""Talk to an OpenAI-compatible server: find the model that it serves, and ask it, again where that can help.

In: the settings of `sampler`, and requests. Out: the server's JSON. What passes by itself (a refused or dropped
connection, a time-out, 408, 409, 425, 429 and 5xx) is tried again with growing pauses, or after as long as the server
asks for; everything else is an error that says what the server said. A key is read from the environment and goes
nowhere but into the request.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from data.api_key import ApiKeyError, api_key
from data.server_answers import ServerError
from scaling.data_config import Sampler

logger = logging.getLogger(__name__)

PASSING = (408, 409, 425, 429)  # and 5xx
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0  # before a request is tried again
POLL_SECONDS = 5.0  # while no server serves the policy


class PassingError(ServerError):
    """A request failed in a way that may not last."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds, where the server asks for them


@dataclass(frozen=True)
class Served:
    """A model as its server lists it."""

    name: str  # what requests call it
    max_model_len: int | None  # tokens of prompt and completion, where the server says
    told: Mapping[str, object]  # what the record keeps of the server


def host_of(endpoint: str) -> str:
    """The server's host and port, without anything that could be a secret."""
    parts = urlsplit(endpoint)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


class CompletionServer:
    """A connection to a server, as an async context."""

    def __init__(self, settings: Sampler) -> None:
        headers = {}
        if settings.api_key_variable is not None:
            try:
                headers["Authorization"] = f"Bearer {api_key(settings.api_key_variable, 'sampler.api_key_variable')}"
            except ApiKeyError as error:
                raise ServerError(str(error)) from None
        self._settings = settings
        self._host = host_of(settings.endpoint)
        limits = httpx.Limits(max_connections=settings.concurrency + 1)
        self._client = httpx.AsyncClient(
            base_url=settings.endpoint.rstrip("/") + "/",
            headers=headers,
            timeout=settings.timeout_seconds,
            limits=limits,
        )
        self._next_turn = 0.0

    async def __aenter__(self) -> "CompletionServer":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    async def complete(self, body: Mapping[str, object]) -> Any:
        """The JSON that /completions answers, after as many tries as the settings allow."""
        tries = AsyncRetrying(
            retry=retry_if_exception_type(PassingError),
            stop=stop_after_attempt(self._settings.max_tries),
            wait=_pause,
            before_sleep=self._note_retry,
            reraise=True,
        )
        try:
            return await tries(self._try, "POST", "completions", body)
        except PassingError as error:
            raise ServerError(
                f"{error} This was the last of {self._settings.max_tries} tries. What was answered is kept: run the"
                " sweep again when the server is well, or raise sampler.max_tries or timeout_seconds."
            ) from error

    async def served(self, name: str, exported: bool, hint: str) -> Served:
        """The server's own entry of a policy, waited for as long as the settings say. hint: how to serve it."""
        deadline = time.monotonic() + 60.0 * self._settings.wait_minutes
        before = ""
        while True:
            try:
                cards = _cards(await self._try("GET", "models"))
                found = next((card for card in cards if self._is(card, name, exported)), None)
                if found is not None:
                    return await self._described(found)
                names = ", ".join(str(card.get("id")) for card in cards) or "nothing"
                problem = f"{self._host} serves {names}, not {name}."
            except PassingError as error:
                problem = str(error)
            if time.monotonic() >= deadline:
                raise ServerError(f"{problem} {hint}")
            if problem != before:
                logger.warning("%s %s Waiting for it.", problem, hint)
                before = problem
            await asyncio.sleep(POLL_SECONDS)

    def _is(self, card: Mapping, name: str, exported: bool) -> bool:
        """Whether an entry is the policy: by its name, or, exported, by the folder that it was loaded from."""
        if exported and self._settings.model is not None:
            return card.get("id") == self._settings.model and PurePath(str(card.get("root"))).name == name
        return card.get("id") == name or (exported and PurePath(str(card.get("root"))).name == name)

    async def _described(self, card: Mapping) -> Served:
        told: dict[str, object] = {"host": self._host, "model": card["id"]}
        told |= {key: card[key] for key in ("owned_by", "max_model_len") if card.get(key) is not None}
        version = await self._version()
        return Served(card["id"], card.get("max_model_len"), told | ({} if version is None else {"version": version}))

    async def _version(self) -> str | None:
        """What vLLM tells beside its API; None where a server tells nothing there."""
        parts = urlsplit(self._settings.endpoint)
        try:
            response = await self._client.get(f"{parts.scheme}://{parts.netloc}/version")
            return str(response.json()["version"]) if response.status_code == 200 else None
        except (httpx.TransportError, ValueError, KeyError, TypeError):
            return None

    async def _try(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        await self._turn()
        try:
            response = await self._client.request(method, path, json=body)
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:  # its text may hold the key
            raise ServerError(
                f"{method} {path} cannot be sent to {self._host} ({type(error).__name__}); look at sampler.endpoint and"
                " the variable of its key."
            ) from None
        except httpx.TransportError as error:
            what = "took too long" if isinstance(error, httpx.TimeoutException) else "failed"
            raise PassingError(f"{method} {path} to {self._host} {what} ({type(error).__name__}: {error}).") from error
        if response.status_code in PASSING or response.status_code >= 500:
            raise PassingError(_said(self._host, path, response), _retry_after(response))
        if response.status_code in (401, 403):
            raise ServerError(
                f"{_said(self._host, path, response)} Name the environment variable with its key in"
                " sampler.api_key_variable."
            )
        if response.status_code != 200:
            raise ServerError(_said(self._host, path, response))
        try:
            return response.json()
        except ValueError as error:
            raise ServerError(f"{self._host} answered {path} with {response.text[:200]!r}; expected JSON.") from error

    async def _turn(self) -> None:
        """Wait until the next request may start."""
        if self._settings.requests_per_second is not None:
            now = time.monotonic()
            start = max(now, self._next_turn)
            self._next_turn = start + 1.0 / self._settings.requests_per_second
            await asyncio.sleep(start - now)

    def _note_retry(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        logger.warning("%s Try %d of %d.", state.outcome.exception(), state.attempt_number, self._settings.max_tries)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, PassingError) and error.retry_after is not None:
        return min(error.retry_after, LONGEST_PAUSE_SECONDS)
    return wait_random_exponential(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)(state)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds; None where the header is absent or is a date."""
    stated = response.headers.get("retry-after", "")
    return float(stated) if stated.isdigit() else None


def _cards(listed: Any) -> list[Mapping]:
    match listed:
        case {"data": [*cards]} if all(isinstance(card, Mapping) and "id" in card for card in cards):
            return cards
    raise ServerError(
        f"/models answered {str(listed)[:200]!r}; expected a list of models. Does sampler.endpoint end in /v1?"
    )


def _said(host: str, path: str, response: httpx.Response) -> str:
    text = " ".join(response.text.split())[:400]
    return f"{host} answered {path} with status {response.status_code}: {text or response.reason_phrase}."
