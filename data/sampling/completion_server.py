"""The completion server of `sampler`: find the model that it serves, and ask that for completions.

In: the settings of `sampler`, and requests. Out: the server's JSON; if it refuses a request, or fails in as many
tries as the settings allow, the error quotes the server (data.http_requests).
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from data.http_requests import JsonServer, Passing, Refused, Response, failure_of, json_of, start_of
from data.sampling.server_answers import ServerError
from scaling.config.sampling import Sampler

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0  # while no server serves the policy


@dataclass(frozen=True)
class Served:
    """A model as its server lists it."""

    name: str  # what requests call it
    max_model_len: int | None  # tokens of prompt and completion, if the server says
    described: Mapping[str, object]  # description of the server for the record


def host_of(endpoint: str) -> str:
    """The server's host and port, without anything that could be a secret."""
    parts = urlsplit(endpoint)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


class CompletionServer:
    """A connection to a server, as an async context."""

    def __init__(self, settings: Sampler) -> None:
        self._settings = settings
        self._host = host_of(settings.endpoint)
        self._server = JsonServer(settings, "sampler")

    async def __aenter__(self) -> "CompletionServer":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.close()

    async def complete(self, body: Mapping[str, object]) -> Any:
        """The JSON that /completions answers, after as many tries as the settings allow."""
        try:
            return await self._server.ask("POST", f"{self._settings.endpoint}/completions", json_of, body)
        except Refused as error:
            raise ServerError(
                f"{error} What was answered is kept: run the sweep again when the server is well."
            ) from error

    async def served(self, name: str, exported: bool, hint: str) -> Served:
        """The server's entry of a policy, after waiting as long as the settings allow. hint: how to serve it."""
        deadline = time.monotonic() + 60.0 * self._settings.wait_minutes
        before = ""
        while True:
            pause = POLL_SECONDS
            try:
                cards = await self._server.try_once("GET", f"{self._settings.endpoint}/models", _cards)
                found = next((card for card in cards if self._is(card, name, exported)), None)
                if found is not None:
                    return await self._described(found)
                names = ", ".join(str(card.get("id")) for card in cards) or "nothing"
                problem = f"{self._host} serves {names}, not {name}."
            except Passing as error:
                problem, pause = str(error), max(pause, error.retry_after_seconds)
            except Refused as error:
                raise ServerError(str(error)) from error
            if time.monotonic() + pause > deadline:
                raise ServerError(f"{problem} {hint}")
            if problem != before:
                logger.warning("%s %s Waiting for it.", problem, hint)
                before = problem
            await asyncio.sleep(pause)

    def _is(self, card: Mapping[str, Any], name: str, exported: bool) -> bool:
        """Whether an entry is the policy: by its name, or, exported, by the folder that it was loaded from."""
        if exported and self._settings.model is not None:
            return card.get("id") == self._settings.model and PurePath(str(card.get("root"))).name == name
        return card.get("id") == name or (exported and PurePath(str(card.get("root"))).name == name)

    async def _described(self, card: Mapping[str, Any]) -> Served:
        described: dict[str, object] = {"host": self._host, "model": card["id"]}
        described |= {key: card[key] for key in ("owned_by", "max_model_len") if card.get(key) is not None}
        version = await self._version()
        return Served(
            card["id"], card.get("max_model_len"), described | ({} if version is None else {"version": version})
        )

    async def _version(self) -> str | None:
        """The version from vLLM's own endpoint; None for other servers."""
        parts = urlsplit(self._settings.endpoint)
        try:
            answer = await self._server.try_once("GET", f"{parts.scheme}://{parts.netloc}/version", json_of)
            return str(answer["version"])
        except (Passing, Refused, KeyError, TypeError):
            return None


def _cards(response: Response) -> list[Mapping[str, Any]]:
    if response.status != 200:
        raise failure_of(response)
    try:
        listed = json.loads(response.text)
    except ValueError:
        listed = response.text  # a page of another server
    match listed:
        case {"data": [*cards]} if all(isinstance(card, Mapping) and "id" in card for card in cards):
            return cards
    raise Refused(
        f"{response.url} answers {start_of(str(listed))!r}; expected a list of models. Does sampler.endpoint end in"
        " /v1?"
    )
