"""The budget: what all replies together may cost, checked before each request against the most that it can cost.

In: limits in USD and tokens, and the ledger, which knows what is spent. Out: `Budget`. A request reserves its most: a
token for each byte of the prompt, and as many tokens as its reply may have. So no reply can exceed the
budget, as long as the server keeps to max_tokens; reservations of pending requests count as spent.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from data.teacher.ledger import Ledger
from data.teacher.protocol import TeacherError, cost_usd, most_input_tokens
from scaling.config.teacher import NamedTeacher


@dataclass(frozen=True)
class Most:
    """The most that a request can cost."""

    usd: float
    tokens: int


class Budget:
    """What may still be spent."""

    def __init__(self, usd: float | None, tokens: int | None, ledger: Ledger) -> None:
        self._usd, self._tokens = usd, tokens
        self._ledger = ledger
        self._reserved: list[Most] = []
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def room_for(self, settings: NamedTeacher, prompt: str, check: Callable[[], None]) -> AsyncIterator[None]:
        """Reserve the most that a request can cost, once pending ones leave room, until its reply is in the ledger.

        check: raises if waiting is pointless. Raises TeacherError if there will never be room.
        """
        input_tokens = most_input_tokens(prompt)
        usd = cost_usd(settings, input_tokens, settings.max_tokens) or 0.0
        most = Most(usd, input_tokens + settings.max_tokens)
        async with self._changed:
            while not self._fits(most):
                check()
                if not self._reserved:
                    raise TeacherError(self._message(most))
                await self._changed.wait()
            self._reserved.append(most)
        try:
            yield
        finally:
            async with self._changed:
                self._reserved.remove(most)
                self._changed.notify_all()

    def _fits(self, most: Most) -> bool:
        planned = [*self._reserved, most]
        usd = self._ledger.spent.usd + sum(item.usd for item in planned)
        tokens = self._ledger.spent.tokens + sum(item.tokens for item in planned)
        return (self._usd is None or usd <= self._usd) and (self._tokens is None or tokens <= self._tokens)

    def _message(self, most: Most) -> str:
        spent = self._ledger.spent
        limits = [f"budget_usd: {self._usd:g}"] if self._usd is not None else []
        limits += [f"budget_tokens: {self._tokens}"] if self._tokens is not None else []
        return (
            f"teacher: {' and '.join(limits)} leaves no room for another request, which may take {most.tokens} tokens"
            f" and {most.usd:.4f} USD. Spent so far: {spent.usd:.4f} USD and {spent.tokens} tokens in {spent.requests}"
            f" requests ({self._ledger.path.parent}). Raise the budget and run the sweep again to go on: what is paid"
            " for is not asked for again. Or ask for a smaller data_size."
        )
