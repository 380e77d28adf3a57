"""Requests to chat models: within the budget, with replies kept before use, and stopped by the first error.

In: a teacher's name, a prompt and what it is for. Out: a `Reply`, from the ledger if it was paid for before. The
endpoint speaks OpenAI's chat protocol; data.http_requests sends and retries. After the first TeacherError nothing new
is sent, but pending replies are awaited and kept.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping

from data.http_requests import JsonServer, Refused
from data.teacher.budget import Budget
from data.teacher.ledger import Ledger, Reply, request_key
from data.teacher.protocol import TeacherError, body_of, read_response
from scaling.config.teacher import NamedTeacher, Teacher


class ChatClient:
    """The connections to all teachers of a stage. Use as an async context manager."""

    def __init__(self, teacher: Teacher, ledger: Ledger, budget: Budget, seed: int) -> None:
        self._ledger = ledger
        self._budget = budget
        self._seed = seed
        self._settings = teacher.named
        self._servers = {
            name: JsonServer(settings, f"teacher.teachers.{name}" if teacher.teachers else "teacher", self._pause)
            for name, settings in self._settings.items()
        }
        self._slots = {name: asyncio.Semaphore(one.max_concurrency) for name, one in self._settings.items()}
        self._stopped: TeacherError | None = None
        self._stopping = asyncio.Event()  # ends every pause
        self.num_paid = 0  # replies that were not in the ledger before

    async def __aenter__(self) -> "ChatClient":
        return self

    async def __aexit__(self, *error: object) -> None:
        for server in self._servers.values():
            await server.close()

    @property
    def num_sent(self) -> int:
        """Requests that were sent, retries included."""
        return sum(server.num_sent for server in self._servers.values())

    async def ask(self, name: str, prompt: str, use: Mapping[str, object]) -> Reply:
        """The reply of a teacher to a prompt; use: distinguishes equal prompts whose replies should differ."""
        settings = self._settings[name]
        written = {key: getattr(settings, key) for key in ("model", "temperature", "max_tokens", "request")}
        key = request_key({**written, "prompt": prompt, "seed": self._seed, "use": use})
        found = self._ledger.find(key)
        if found is not None:
            return found
        async with self._slots[name]:
            try:
                async with self._budget.room_for(settings, prompt, self._stop_if_stopped):
                    return await self._paid(name, settings, key, prompt)
            except TeacherError as error:
                self.stop(error)
                raise

    def stop(self, reason: TeacherError) -> None:
        """Send nothing new, retries included; pending replies are kept."""
        self._stopped = self._stopped or reason
        self._stopping.set()

    async def _paid(self, name: str, settings: NamedTeacher, key: str, prompt: str) -> Reply:
        self._stop_if_stopped()
        try:
            fields = await self._servers[name].ask(
                "POST",
                f"{settings.endpoint}/chat/completions",
                lambda response: read_response(response, settings, prompt),
                body_of(settings, prompt, int(key[:7], 16)),
            )
        except Refused as error:
            raise TeacherError(f"teacher {name}: {error} {self._kept()}") from error
        reply = Reply(key=key, teacher=name, endpoint=settings.endpoint, time=time.time(), **fields)
        self._ledger.add(reply)
        self.num_paid += 1
        return reply

    async def _pause(self, seconds: float) -> None:
        """Wait before a try; raises the reason once nothing new may be sent."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        self._stop_if_stopped()

    def _stop_if_stopped(self) -> None:
        if self._stopped is not None:
            raise TeacherError(str(self._stopped)) from self._stopped

    def _kept(self) -> str:
        return (
            f"The {len(self._ledger)} replies that were paid for are in {self._ledger.path}; run the sweep again to go"
            " on, none of them is asked for again."
        )
