"""Asking a chat model over HTTP: paced, retried while errors pass, within the budget, and kept before it is used.

In: a teacher's name, a prompt and what it is for. Out: a `Reply`, from the ledger where it was paid for before. The
endpoint speaks OpenAI's chat protocol. Errors that pass (429, 5xx, time-outs, lost connections, bodies cut short) are
tried again, not before the server's Retry-After; any other is one TeacherError. After the first TeacherError nothing
new is sent, but what is under way is awaited and kept. Keys come from the environment and are in no message.
"""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Mapping
from functools import cache
from types import TracebackType

from data.api_key import ApiKeyError, api_key
from data.teacher_budget import Budget
from data.teacher_ledger import Ledger, Reply, request_key
from data.teacher_protocol import Passing, Refused, TeacherError, body_of, read_response
from scaling.teacher_config import NamedTeacher, Teacher

try:
    import httpx
    import tenacity
except ImportError as missing:
    raise ImportError(
        f"asking a chat model needs the package {missing.name}, which is not installed; install the project with its"
        " extra: pip install --editable '.[teacher]'."
    ) from missing

logger = logging.getLogger(__name__)

BACKOFF_SECONDS = 1.0  # of the first retry, doubled with each, up to the longest
LONGEST_BACKOFF_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 3600.0  # a server that asks for more is out of quota


class ChatClient:
    """The connections to all teachers of a stage. Use as an async context manager."""

    def __init__(self, teacher: Teacher, ledger: Ledger, budget: Budget, seed: int) -> None:
        self._ledger = ledger
        self._budget = budget
        self._seed = seed
        self._lines = {name: _Line(settings) for name, settings in teacher.named.items()}
        self._stopped: TeacherError | None = None
        self._stopping = asyncio.Event()  # ends every pause
        self.num_sent = 0  # requests that were sent, retries included
        self.num_paid = 0  # replies that were not in the ledger before

    async def __aenter__(self) -> "ChatClient":
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for line in self._lines.values():
            await line.http.aclose()

    async def ask(self, name: str, prompt: str, use: Mapping[str, object]) -> Reply:
        """The reply of a teacher to a prompt; use: tells apart equal prompts whose replies should differ."""
        line = self._lines[name]
        written = {key: getattr(line.settings, key) for key in ("model", "temperature", "max_tokens", "request")}
        key = request_key({**written, "prompt": prompt, "seed": self._seed, "use": use})
        found = self._ledger.find(key)
        if found is not None:
            return found
        async with line.slots:
            try:
                return await self._within_budget(line, name, key, prompt)
            except TeacherError as error:
                self.stop(error)
                raise

    def stop(self, reason: TeacherError) -> None:
        """Send nothing new, retries included; what is under way is answered and kept."""
        self._stopped = self._stopped or reason
        self._stopping.set()

    async def _within_budget(self, line: "_Line", name: str, key: str, prompt: str) -> Reply:
        most = self._budget.most(line.settings, prompt)
        await self._budget.reserve(most, self._stop_if_stopped)
        try:
            return await self._paid(line, name, key, prompt)
        finally:
            await self._budget.release(most)

    async def _paid(self, line: "_Line", name: str, key: str, prompt: str) -> Reply:
        self._stop_if_stopped()
        body = body_of(line.settings, prompt, int(key[:7], 16))
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Passing),
            stop=tenacity.stop_after_attempt(line.settings.max_tries),
            wait=_wait,
            sleep=self._pause,
            before_sleep=lambda state: _tell(name, state),
            reraise=True,
        )
        try:
            response = await retrying(self._send, line, body)
        except Passing as error:
            raise TeacherError(
                f"teacher {name}: {line.settings.max_tries} tries of a request to {line.settings.endpoint} failed, the"
                f" last one with {error}. {self._kept()}"
            ) from error
        except Refused as error:
            raise TeacherError(f"teacher {name}: {line.settings.endpoint} answers {error}. {self._kept()}") from error
        reply = Reply(key=key, teacher=name, endpoint=line.settings.endpoint, time=time.time(), **response)
        self._ledger.add(reply)
        self.num_paid += 1
        return reply

    async def _send(self, line: "_Line", body: Mapping[str, object]) -> dict[str, object]:
        """One try: what the server says, as fields of a Reply."""
        await self._pause(line.seconds_to_turn())
        self._stop_if_stopped()
        self.num_sent += 1
        url, headers = f"{line.settings.endpoint}/chat/completions", line.headers()
        try:
            async with asyncio.timeout(line.settings.timeout_seconds):  # of the whole: httpx limits each read
                response = await line.http.post(url, json=body, headers=headers)
        except TimeoutError as error:
            raise Passing(f"no answer within {line.settings.timeout_seconds:g} s") from error
        except httpx.UnsupportedProtocol as error:
            raise Refused(f"{error}") from error
        except httpx.TransportError as error:
            raise Passing(f"{type(error).__name__} ({str(error) or 'no answer'})") from error
        except httpx.DecodingError as error:
            raise Passing(f"a body that cannot be decoded ({error})") from error
        try:
            return read_response(response.status_code, response.headers, response.text, line.settings, body, line.key)
        except Passing as error:
            if error.retry_after_seconds > LONGEST_RETRY_AFTER_SECONDS:
                raise Refused(f"{error}, and asks to wait {error.retry_after_seconds:.0f} s") from error
            line.hold(error.retry_after_seconds)
            raise

    async def _pause(self, seconds: float) -> None:
        """Wait, but not when there is nothing left to wait for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _stop_if_stopped(self) -> None:
        if self._stopped is not None:
            raise TeacherError(str(self._stopped)) from self._stopped

    def _kept(self) -> str:
        return (
            f"The {len(self._ledger)} replies that were paid for are in {self._ledger.path}; run the sweep again to go"
            " on, none of them is asked for again."
        )


class _Line:
    """The connection to one teacher, with its key, its free slots and its pace."""

    def __init__(self, settings: NamedTeacher) -> None:
        self.settings = settings
        self.slots = asyncio.Semaphore(settings.max_concurrency)
        limits = httpx.Limits(max_connections=settings.max_concurrency)
        self.http = httpx.AsyncClient(timeout=None, limits=limits, verify=_certificates())
        self.key: str | None = None  # read with the first request: replies of the ledger need none
        self._seconds_apart = 60.0 / settings.requests_per_minute if settings.requests_per_minute else 0.0
        self._free_at = 0.0

    def seconds_to_turn(self) -> float:
        """How long to wait until the pace allows another request; that turn is taken."""
        now = time.monotonic()
        at = max(now, self._free_at)
        self._free_at = at + self._seconds_apart
        return at - now

    def hold(self, seconds: float) -> None:
        """Send nothing for some seconds."""
        self._free_at = max(self._free_at, time.monotonic() + seconds)

    def headers(self) -> dict[str, str]:
        if self.settings.api_key_env is None:
            return {}
        if self.key is None:
            self.key = _key(self.settings.api_key_env)
        return {"Authorization": f"Bearer {self.key}"}


@cache  # takes half a second to read
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _key(variable: str) -> str:
    try:
        return api_key(variable, "teacher.api_key_env")
    except ApiKeyError as error:
        raise TeacherError(str(error)) from None


def _wait(state: tenacity.RetryCallState) -> float:
    backoff = tenacity.wait_random_exponential(multiplier=BACKOFF_SECONDS, max=LONGEST_BACKOFF_SECONDS)(state)
    return max(backoff, state.outcome.exception().retry_after_seconds)


def _tell(name: str, state: tenacity.RetryCallState) -> None:
    error, seconds = state.outcome.exception(), state.next_action.sleep
    logger.info("%s: %s; try %d follows in %.1f s.", name, error, state.attempt_number + 1, seconds)
