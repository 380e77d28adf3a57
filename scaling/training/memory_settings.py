"""The memory settings of this worker, which no stage's config holds: they change no result.

In: the section `memory` of the sweep, from the worker around a stage. Out: what the training loop and the batches ask
for, the defaults where the sweep states none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from scaling.config.memory import Memory

_memory: ContextVar[Memory] = ContextVar("memory", default=Memory())  # noqa: B039 - frozen


def current_memory() -> Memory:
    """The settings that hold here."""
    return _memory.get()


@contextmanager
def using_memory(memory: Memory) -> Iterator[None]:
    """Let the settings hold for what is called inside."""
    token = _memory.set(memory)
    try:
        yield
    finally:
        _memory.reset(token)
